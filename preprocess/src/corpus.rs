//! Reading the corpus: every document cleaned, and those that are too short, too long or not UTF-8 marked.

use std::fs::File;
use std::path::Path;

use artifact::{Context, Digest, Sealed};
use polars::prelude::{DataFrame, DataType, ParquetReader, PolarsError, PolarsResult, SerReader};
use rayon::prelude::*;

use crate::selection::{Fate, Reason};
use crate::{Config, Error, InvalidUtf8, LongDocuments, text};

/// The documents of a corpus and what becomes of them.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    /// Every document, in the corpus's order.
    pub(crate) documents: Vec<Document>,
    /// What each document came to, in the same order: one entry, or one for each piece where a long one is cut.
    pub(crate) entries: Vec<Entry>,
}

/// A document as the corpus has it.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) source: String,
    pub(crate) path: String,
    pub(crate) licence: String,
    /// Its length before cleaning.
    pub(crate) bytes: u64,
    pub(crate) invalid_utf8: bool,
}

/// A document, or a piece of one, after cleaning.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The document's place in [`Collection::documents`].
    pub(crate) document: usize,
    /// The piece's number where the document is cut, else 0.
    pub(crate) piece: u32,
    /// The clean text; empty once it is dropped.
    pub(crate) text: String,
    /// The text's length.
    pub(crate) bytes: u64,
    /// The text's digest, which decides everything else.
    pub(crate) digest: Digest,
    pub(crate) fate: Fate,
    /// How many tokens it became, the end-of-text token included.
    pub(crate) tokens: u64,
}

impl Collection {
    /// Returns the document that an entry belongs to.
    pub(crate) fn document(&self, entry: &Entry) -> &Document {
        &self.documents[entry.document]
    }
}

/// Reads and cleans all documents of `corpus`, one of its files at a time.
pub(crate) fn read(config: &Config, corpus: &Sealed, context: &Context) -> Result<Collection, Error> {
    let mut names = corpus.files("documents-");
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "parquet"));
    let bytes_of = |name: &String| corpus.manifest().files.get(name).map_or(0, |entry| entry.bytes);
    context.progress.begin("reading and cleaning", names.iter().map(bytes_of).sum(), "bytes");
    let mut collection = Collection::default();
    let mut done = 0;
    for name in &names {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        let path = corpus.verified(name)?;
        let frame = open(&path).map_err(|source| Error::Corpus { path: path.clone(), source })?;
        let rows = rows(&frame).map_err(|source| Error::Corpus { path: path.clone(), source })?;
        let first = collection.documents.len();
        let read: Vec<(Document, Vec<Entry>)> = rows
            .into_par_iter()
            .enumerate()
            .map(|(i, row)| {
                let no_content = || Error::NoContent { path: path.clone(), id: row.id.to_owned() };
                let content = row.content.ok_or_else(no_content)?;
                let document = Document {
                    id: row.id.to_owned(),
                    source: row.source.to_owned(),
                    path: row.path.to_owned(),
                    licence: row.licence.to_owned(),
                    bytes: content.len() as u64,
                    invalid_utf8: row.is_raw && std::str::from_utf8(content).is_err(),
                };
                let entries = entries(config, &document, first + i, content);
                Ok((document, entries))
            })
            .collect::<Result<_, Error>>()?;
        for (document, entries) in read {
            collection.documents.push(document);
            collection.entries.extend(entries);
        }
        done += bytes_of(name);
        context.progress.position(done);
    }
    if collection.documents.is_empty() {
        return Err(Error::EmptyCorpus { path: corpus.folder().to_owned() });
    }
    Ok(collection)
}

fn entries(config: &Config, document: &Document, index: usize, content: &[u8]) -> Vec<Entry> {
    let text = text::clean(content);
    let entry = |piece, text: &str, fate| Entry {
        document: index,
        piece,
        bytes: text.len() as u64,
        digest: Digest::of(text.as_bytes()),
        // What is dropped here needs no text any more.
        text: if matches!(fate, Fate::Dropped(_)) { String::new() } else { text.to_owned() },
        fate,
        tokens: 0,
    };
    if document.invalid_utf8 && config.invalid_utf8 == InvalidUtf8::Reject {
        return vec![entry(0, &text, Fate::Dropped(Reason::InvalidUtf8))];
    }
    let pieces = match config.long_documents {
        LongDocuments::Drop => vec![&*text],
        LongDocuments::Cut => text::cut(&text, usize::try_from(config.max_bytes).unwrap_or(usize::MAX)),
    };
    let entries = pieces.into_iter().zip(0..).map(|(text, piece)| {
        let bytes = text.len() as u64;
        let fate = if bytes < config.min_bytes {
            Fate::Dropped(Reason::TooShort)
        } else if bytes > config.max_bytes {
            Fate::Dropped(Reason::TooLong)
        } else {
            Fate::Undecided
        };
        entry(piece, text, fate)
    });
    entries.collect()
}

/// A row of the corpus.
struct Row<'f> {
    id: &'f str,
    source: &'f str,
    path: &'f str,
    licence: &'f str,
    content: Option<&'f [u8]>,
    /// Whether the content is what stage collect could not read as UTF-8.
    is_raw: bool,
}

fn open(path: &Path) -> PolarsResult<DataFrame> {
    let columns = ["id", "text", "raw", "source", "path", "licence"].map(str::to_owned).to_vec();
    let mut frame = ParquetReader::new(File::open(path)?).with_columns(Some(columns)).finish()?;
    // Numbers for ids, or a column without any value, are read like the rest.
    for name in ["id", "text", "source", "path", "licence"] {
        let column = frame.column(name)?.cast(&DataType::String)?;
        frame.with_column(column)?;
    }
    let raw = frame.column("raw")?.cast(&DataType::Binary)?;
    frame.with_column(raw)?;
    Ok(frame)
}

fn rows(frame: &DataFrame) -> PolarsResult<Vec<Row<'_>>> {
    let text = |name| Ok::<_, PolarsError>(frame.column(name)?.str()?.iter());
    let (mut ids, mut sources, mut paths) = (text("id")?, text("source")?, text("path")?);
    let (mut licences, mut texts) = (text("licence")?, text("text")?);
    let raws = frame.column("raw")?.binary()?.iter();
    let rows = raws.map(|raw| {
        let text = texts.next().flatten();
        Row {
            id: ids.next().flatten().unwrap_or_default(),
            source: sources.next().flatten().unwrap_or_default(),
            path: paths.next().flatten().unwrap_or_default(),
            licence: licences.next().flatten().unwrap_or("unknown"),
            content: text.map(str::as_bytes).or(raw),
            is_raw: text.is_none(),
        }
    });
    Ok(rows.collect())
}
