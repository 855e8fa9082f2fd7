//! Reads the corpus by row groups.

use std::fs::File;
use std::path::{Path, PathBuf};

use artifact::Sealed;
use polars::prelude::{
    AnyValue, DataFrame, DataType, FileMetadataRef, ParquetReader, PolarsError, PolarsResult, SerReader,
};
use serde_json::{Map, Value};
use tokenizer::{Conversation, Message};

use crate::Error;
use crate::engine::record::{Body, Document};

/// Returns the names of the files with documents, in the corpus's order.
pub(crate) fn files(corpus: &Sealed) -> Vec<String> {
    let mut names = corpus.files("documents-");
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "parquet"));
    names
}

/// A file of the corpus.
pub(crate) struct Reader {
    path: PathBuf,
    metadata: FileMetadataRef,
}

/// A row of the corpus.
#[derive(Debug)]
pub(crate) struct Row {
    pub document: Document,
    pub content: Content,
}

/// The content of a row.
#[derive(Debug)]
pub(crate) enum Content {
    /// Text, or a conversation.
    Body(Body),
    /// Bytes that are not valid UTF-8.
    Raw(Vec<u8>),
}

impl Reader {
    /// Opens the file `name` of `corpus` after verifying its digest.
    pub fn open(corpus: &Sealed, name: &str) -> Result<Self, Error> {
        let path = corpus.verified(name)?;
        let metadata = File::open(&path)
            .map_err(PolarsError::from)
            .and_then(|file| ParquetReader::new(file).get_metadata().cloned())
            .map_err(|source| Error::Corpus { path: path.clone(), source })?;
        Ok(Self { path, metadata })
    }

    /// Returns the first row and the number of rows of each row group.
    pub fn row_groups(&self) -> Vec<(usize, usize)> {
        let mut first = 0;
        let groups = self.metadata.row_groups.iter().map(|group| {
            let rows = group.num_rows();
            first += rows;
            (first - rows, rows)
        });
        groups.collect()
    }

    /// Reads rows, given as `(first, count)`.
    pub fn rows(&self, (first, count): (usize, usize)) -> Result<Vec<Row>, Error> {
        let frame = self.frame(first, count).map_err(|source| Error::Corpus { path: self.path.clone(), source })?;
        let rows = rows(&frame).map_err(|source| Error::Corpus { path: self.path.clone(), source })?;
        let named = |(document, content): (Document, Option<Content>)| match content {
            Some(content) => Ok(Row { document, content }),
            None => Err(Error::NoContent { path: self.path.clone(), id: document.id }),
        };
        rows.into_iter().map(named).collect()
    }

    fn frame(&self, first: usize, count: usize) -> PolarsResult<DataFrame> {
        let mut reader = ParquetReader::new(File::open(&self.path)?);
        reader.set_metadata(self.metadata.clone());
        let schema = reader.schema()?;
        let mut columns = ["id", "text", "raw", "source", "path", "licence"].map(str::to_owned).to_vec();
        // Older corpora have neither.
        columns.extend(["messages", "tools"].into_iter().filter(|name| schema.contains(name)).map(str::to_owned));
        let mut frame = reader.with_columns(Some(columns)).with_slice(Some((first, count))).finish()?;
        // Ids may be numbers, and a column without values may have another type.
        for name in ["id", "text", "source", "path", "licence"] {
            let column = frame.column(name)?.cast(&DataType::String)?;
            frame.with_column(column)?;
        }
        let raw = frame.column("raw")?.cast(&DataType::Binary)?;
        frame.with_column(raw)?;
        Ok(frame)
    }
}

fn rows(frame: &DataFrame) -> PolarsResult<Vec<(Document, Option<Content>)>> {
    let text = |name| Ok::<_, PolarsError>(frame.column(name)?.str()?.iter());
    let (mut ids, mut sources, mut paths) = (text("id")?, text("source")?, text("path")?);
    let (mut licences, mut texts) = (text("licence")?, text("text")?);
    let (messages, tools) = (frame.column("messages").ok(), frame.column("tools").ok());
    let mut rows = Vec::with_capacity(frame.height());
    for (i, raw) in frame.column("raw")?.binary()?.iter().enumerate() {
        let owned = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let text = texts.next().flatten();
        let chat = match messages {
            Some(column) if text.is_none() && raw.is_none() => {
                let tools = tools.as_ref().map(|tools| tools.get(i)).transpose()?;
                let tools = tools.as_ref().and_then(AnyValue::get_str).map(str::to_owned);
                chat(&column.get(i)?, tools.as_deref())?
            }
            _ => None,
        };
        let (bytes, content) = match (text, raw, chat) {
            (Some(text), ..) => (text.len(), Some(Content::Body(Body::Text(text.to_owned())))),
            (None, Some(raw), _) => (raw.len(), Some(Content::Raw(raw.to_vec()))),
            (None, None, Some(chat)) => {
                let body = Body::Chat(chat);
                (body.bytes() as usize, Some(Content::Body(body)))
            }
            (None, None, None) => (0, None),
        };
        let document = Document {
            id: owned(ids.next().flatten()),
            source: owned(sources.next().flatten()),
            path: owned(paths.next().flatten()),
            licence: licences.next().flatten().unwrap_or("unknown").to_owned(),
            bytes: bytes as u64,
            invalid_utf8: text.is_none() && raw.is_some_and(|raw| std::str::from_utf8(raw).is_err()),
        };
        rows.push((document, content));
    }
    Ok(rows)
}

/// Returns the conversation in a cell of the column `messages`: a list of structs of `role`, `content`, `weight` and
/// `fields`, the last two of which older corpora do not have.
fn chat(value: &AnyValue<'_>, tools: Option<&str>) -> PolarsResult<Option<Conversation>> {
    let AnyValue::List(series) = value else { return Ok(None) };
    let columns = series.struct_()?;
    let text = |name: &str| match columns.field_by_name(name) {
        Ok(column) => Ok(column.str()?.iter().map(|text| text.map(str::to_owned)).collect()),
        Err(_) => Ok::<_, PolarsError>(vec![None; columns.len()]),
    };
    let weights = match columns.field_by_name("weight") {
        Ok(column) => column.cast(&DataType::Float64)?.f64()?.iter().collect(),
        Err(_) => vec![None; columns.len()],
    };
    let (roles, contents, fields) = (text("role")?, text("content")?, text("fields")?);
    let parse = |text: &str, name: &str| {
        serde_json::from_str(text).map_err(|e| PolarsError::ComputeError(format!("{name} is not JSON: {e}").into()))
    };
    let mut messages = Vec::with_capacity(roles.len());
    for (((role, content), weight), fields) in roles.into_iter().zip(contents).zip(weights).zip(fields) {
        let fields: Option<Value> = fields.map(|fields| parse(&fields, "fields")).transpose()?;
        let mut fields = match fields {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let content = match fields.remove("content") {
            Some(Value::Array(parts)) => Some(tokenizer::Content::Parts(parts)),
            _ => content.map(tokenizer::Content::Text),
        };
        messages.push(Message { role: role.unwrap_or_default(), content, weight, fields });
    }
    let tools = tools.map(|tools| parse(tools, "tools")).transpose()?;
    Ok(Some(Conversation { messages, tools, weight: None }))
}
