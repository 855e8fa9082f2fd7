//! Reads the corpus by row groups.

use std::ops::Range;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray, Float64Array, ListArray, StringArray};
use arrow_schema::DataType;
use artifact::Sealed;
use serde_json::{Map, Value};
use tokenizer::{Conversation, Message};

use crate::Error;
use crate::engine::parquet::{self, Table};
use crate::engine::record::{Body, Document};

/// Rows that are decoded at a time: with few, the offsets of their texts fit 32 bits.
const BATCH: usize = 1 << 10;

/// The columns that are read.
const COLUMNS: [&str; 9] = ["id", "text", "raw", "messages", "tools", "weight", "source", "path", "licence"];

/// Returns the names of the files with documents, in the corpus's order.
pub(crate) fn files(corpus: &Sealed) -> Vec<String> {
    let mut names = corpus.files("documents-");
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "parquet"));
    names
}

/// Returns an error if the corpus has pictures or sounds, which nothing here turns into tokens.
pub(crate) fn check_text_only(corpus: &Sealed) -> Result<(), Error> {
    let has = |prefix| !corpus.files(prefix).is_empty();
    if has("images-") || has("sounds-") { Err(Error::Media { path: corpus.folder().to_owned() }) } else { Ok(()) }
}

/// A file of the corpus.
pub(crate) struct Reader {
    file: parquet::Reader,
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
        Ok(Self { file: parquet::Reader::open(corpus.verified(name)?)? })
    }

    /// Returns the file.
    pub fn file(&self) -> &parquet::Reader {
        &self.file
    }

    /// Returns the first row and the number of rows of each row group.
    pub fn row_groups(&self) -> Vec<(usize, usize)> {
        self.file.row_groups().collect()
    }

    /// Reads rows, given as `(first, count)`.
    pub fn rows(&self, rows: (usize, usize)) -> Result<Vec<Row>, Error> {
        // Only the id must be there: a document has one of the contents, and the rest has defaults.
        let columns: Vec<&str> = COLUMNS.into_iter().filter(|name| *name == "id" || self.file.has(name)).collect();
        let mut all = Vec::with_capacity(rows.1);
        for table in self.file.tables(Some(&columns), rows, BATCH)? {
            let table = table?;
            let columns = Columns::new(self.file.path(), &table)?;
            for at in 0..table.len() {
                all.push(columns.row(at)?);
            }
        }
        Ok(all)
    }
}

/// The columns of a table of the corpus; those that the file does not have are null.
struct Columns<'a> {
    path: &'a Path,
    ids: StringArray,
    texts: StringArray,
    raws: BinaryArray,
    chats: Option<Chats>,
    tools: StringArray,
    weights: Float64Array,
    sources: StringArray,
    paths: StringArray,
    licences: StringArray,
}

/// The column `messages`: lists of structs of `role`, `content`, `weight` and `fields`, all but the first of which may
/// be absent.
struct Chats {
    lists: ListArray,
    roles: StringArray,
    contents: StringArray,
    weights: Float64Array,
    fields: StringArray,
}

impl<'a> Columns<'a> {
    fn new(path: &'a Path, table: &Table) -> Result<Self, Error> {
        let rows = table.len();
        let texts = |name: &str| match table.column(name) {
            Some(_) => table.texts(name),
            None => Ok(StringArray::new_null(rows)),
        };
        Ok(Self {
            path,
            ids: texts("id")?,
            texts: texts("text")?,
            raws: if table.column("raw").is_some() { table.bytes("raw")? } else { BinaryArray::new_null(rows) },
            chats: table.column("messages").map_or(Ok(None), |messages| Chats::new(path, messages))?,
            tools: texts("tools")?,
            weights: match table.column("weight") {
                Some(_) => table.numbers("weight")?,
                None => Float64Array::new_null(rows),
            },
            sources: texts("source")?,
            paths: texts("path")?,
            licences: texts("licence")?,
        })
    }

    fn row(&self, at: usize) -> Result<Row, Error> {
        let owned = |texts: &StringArray| if texts.is_null(at) { String::new() } else { texts.value(at).to_owned() };
        let (id, is_raw) = (owned(&self.ids), self.raws.is_valid(at));
        let content = if self.texts.is_valid(at) {
            Content::Body(Body::Text(owned(&self.texts)))
        } else if is_raw {
            Content::Raw(self.raws.value(at).to_vec())
        } else {
            match self.chat(at, &id)? {
                Some(chat) => Content::Body(Body::Chat(chat)),
                None => return Err(Error::NoContent { path: self.path.to_owned(), id }),
            }
        };
        let (bytes, invalid_utf8) = match &content {
            Content::Body(body) => (body.bytes(), false),
            Content::Raw(raw) => (raw.len() as u64, std::str::from_utf8(raw).is_err()),
        };
        let licence = if self.licences.is_null(at) { "unknown".to_owned() } else { owned(&self.licences) };
        let document =
            Document { id, source: owned(&self.sources), path: owned(&self.paths), licence, bytes, invalid_utf8 };
        Ok(Row { document, content })
    }

    fn chat(&self, at: usize, id: &str) -> Result<Option<Conversation>, Error> {
        let Some(chats) = self.chats.as_ref().filter(|chats| chats.lists.is_valid(at)) else { return Ok(None) };
        let invalid = |column: &str, problem: &str| Error::Column {
            path: self.path.to_owned(),
            column: column.to_owned(),
            problem: format!("of document {id} {problem}"),
        };
        let json = |column: &str, texts: &StringArray, at: usize| {
            let parse = |text| serde_json::from_str(text).map_err(|e| invalid(column, &format!("is not JSON: {e}")));
            texts.is_valid(at).then(|| parse(texts.value(at))).transpose()
        };
        let mut messages = Vec::new();
        for message in chats.range(at) {
            let mut fields = match json("messages.fields", &chats.fields, message)? {
                None => Map::new(),
                Some(Value::Object(fields)) => fields,
                Some(_) => return Err(invalid("messages.fields", "is not a JSON object")),
            };
            let text = |texts: &StringArray| texts.is_valid(message).then(|| texts.value(message).to_owned());
            let content = match fields.remove("content") {
                Some(Value::Array(parts)) => Some(tokenizer::Content::Parts(parts)),
                _ => text(&chats.contents).map(tokenizer::Content::Text),
            };
            let weight = chats.weights.is_valid(message).then(|| chats.weights.value(message));
            messages.push(Message { role: text(&chats.roles).unwrap_or_default(), content, weight, fields });
        }
        let weight = self.weights.is_valid(at).then(|| self.weights.value(at));
        if let Some(weight) = weight.filter(|weight| !(0.0..=Conversation::MAX_WEIGHT).contains(weight)) {
            let problem = format!("is {weight}; a weight is a number from 0 to {}", Conversation::MAX_WEIGHT);
            return Err(invalid("weight", &problem));
        }
        Ok(Some(Conversation { messages, tools: json("tools", &self.tools, at)?, weight }))
    }
}

impl Chats {
    /// Returns `None` if no row has messages.
    fn new(path: &Path, messages: &dyn Array) -> Result<Option<Self>, Error> {
        let structs = match messages.data_type() {
            DataType::Null => return Ok(None),
            DataType::List(_) => messages.as_list::<i32>().values().as_struct_opt(),
            _ => None,
        };
        let Some(structs) = structs else {
            return Err(Error::Column {
                path: path.to_owned(),
                column: "messages".to_owned(),
                problem: format!("is {}, not a list of structs", messages.data_type()),
            });
        };
        let texts = |name: &str| match structs.column_by_name(name) {
            Some(values) => parquet::texts(path, &format!("messages.{name}"), values),
            None => Ok(StringArray::new_null(structs.len())),
        };
        Ok(Some(Self {
            lists: messages.as_list().clone(),
            roles: texts("role")?,
            contents: texts("content")?,
            weights: match structs.column_by_name("weight") {
                Some(values) => parquet::numbers(path, "messages.weight", values)?,
                None => Float64Array::new_null(structs.len()),
            },
            fields: texts("fields")?,
        }))
    }

    /// Returns the range of the messages of a conversation.
    fn range(&self, at: usize) -> Range<usize> {
        let offsets = self.lists.value_offsets();
        offsets[at] as usize..offsets[at + 1] as usize
    }
}

#[cfg(test)]
mod tests;
