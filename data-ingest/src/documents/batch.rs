//! Converts raw input into documents, on all cores, in the order of reading.

use std::sync::Arc;

use csv::ByteRecord;
use polars::prelude::DataFrame;
use rayon::prelude::*;

use crate::Error;
use crate::documents::document::{Content, Document};
use crate::documents::mapping::{Field, Mapping, MappingError};
use crate::documents::rejection::{At, BadRecord, Reason, Rejection, Skip};
use crate::formats::columnar::{self, PIECE_BYTES};
use crate::formats::html::{self, Html, MAX_PAGE_BYTES, NoText};
use crate::formats::json::{self, Records};
use crate::inventory::ListedSource;

/// Bytes read before they are turned into documents. Heuristic, not measured: enough to keep all cores busy.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of a file that are inspected to tell text from binary, as in git.
const SNIFFED_BYTES: usize = 8000;

/// Receives documents and rejections.
pub(crate) type Sink<'a> = dyn FnMut(Result<Document, Rejection>) -> Result<(), Error> + 'a;

/// A piece of input from which documents can be made without reading anything else.
pub(crate) enum Raw {
    /// A document.
    Document(RawDocument),
    /// JSON records.
    Json(Arc<str>, Unit, Records),
    /// Records of a delimited file.
    Delimited(Arc<str>, Arc<Places>, Vec<(u64, ByteRecord)>),
    /// Rows of a table: the number of the first, and the wanted columns.
    Rows(Arc<str>, u64, DataFrame),
    /// Nothing.
    Rejected(Rejection),
}

/// How the records of a JSON file are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// By line; empty lines have no record.
    Line,
    /// By object.
    Object,
}

/// The index of each requested column in a record.
pub(crate) type Places = Vec<Option<usize>>;

/// One document as read.
pub(crate) struct RawDocument {
    /// Its number, if its file holds several.
    pub number: Option<u64>,
    /// The path of its file inside the source.
    pub file: Arc<str>,
    /// The address of a page.
    pub address: Option<String>,
    /// Whether it is a web page.
    pub is_html: bool,
    /// Its encoding, if a server named it.
    pub charset: Option<String>,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Input that is not turned into documents yet.
pub(crate) struct Batch<'a> {
    source: &'a ListedSource,
    mapping: &'a Mapping<'a>,
    sink: &'a mut Sink<'a>,
    raws: Vec<Raw>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    /// Returns a batch that passes its documents to `sink`.
    pub fn new(source: &'a ListedSource, mapping: &'a Mapping<'a>, sink: &'a mut Sink<'a>) -> Self {
        Self { source, mapping, sink, raws: Vec::new(), bytes: 0 }
    }

    /// Adds input, and makes documents once there is enough.
    pub fn push(&mut self, raw: Raw) -> Result<(), Error> {
        self.bytes += raw.bytes();
        self.raws.push(raw);
        if self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a rejection.
    pub fn skip(&mut self, skip: Skip) -> Result<(), Error> {
        self.push(Raw::Rejected(Rejection::Skipped(skip)))
    }

    /// Adds a bad record.
    pub fn bad(&mut self, file: &str, at: At, reason: Reason, message: String) -> Result<(), Error> {
        let file = file.to_owned();
        self.push(Raw::Rejected(Rejection::Bad(BadRecord { file, at, reason, message })))
    }

    /// Makes documents of all input.
    pub fn flush(&mut self) -> Result<(), Error> {
        let raws = std::mem::take(&mut self.raws);
        self.bytes = 0;
        let convert = Convert { source: self.source, mapping: self.mapping };
        let converted: Vec<_> = raws.into_par_iter().map(|raw| convert.documents(raw)).collect();
        converted.into_iter().flatten().try_for_each(&mut *self.sink)
    }
}

impl Raw {
    /// Returns its approximate memory.
    fn bytes(&self) -> usize {
        /// The memory of an item besides its content.
        const OWN_BYTES: usize = 128;
        OWN_BYTES
            + match self {
                Self::Document(whole) => whole.bytes.len(),
                Self::Json(_, _, records) => records.bytes.len(),
                Self::Delimited(_, _, records) => {
                    records.iter().map(|(_, record)| record.as_slice().len() + OWN_BYTES).sum()
                }
                // A piece of a table is cut to about this size.
                Self::Rows(..) => PIECE_BYTES,
                Self::Rejected(_) => 0,
            }
    }
}

/// Everything needed to convert raw input into documents.
#[derive(Clone, Copy)]
struct Convert<'a> {
    source: &'a ListedSource,
    mapping: &'a Mapping<'a>,
}

impl Convert<'_> {
    fn documents(self, raw: Raw) -> Vec<Result<Document, Rejection>> {
        match raw {
            Raw::Document(whole) => vec![self.whole(whole)],
            Raw::Json(file, unit, records) => self.json(&file, unit, &records),
            Raw::Delimited(file, places, records) => {
                let row = |(number, record): (u64, ByteRecord)| {
                    let field = |place: &Option<usize>| Some(Field::Bytes(record.get((*place)?)?.to_vec()));
                    self.row(&file, number, At::Row(number), places.iter().map(field).collect(), String::new)
                };
                records.into_iter().map(row).collect()
            }
            Raw::Rows(file, first, frame) => {
                let rows = columnar::rows(&frame, self.mapping.names());
                let row = |(number, fields)| self.row(&file, number, At::Row(number), fields, String::new);
                (first..).zip(rows).map(row).collect()
            }
            Raw::Rejected(rejection) => vec![Err(rejection)],
        }
    }

    fn whole(self, whole: RawDocument) -> Result<Document, Rejection> {
        let RawDocument { number, file, address, is_html, charset, bytes } = whole;
        let skip = |skip| Err(Rejection::Skipped(skip));
        let content = if bytes.is_empty() {
            return skip(Skip::Empty);
        } else if is_html && self.source.html != Html::Source {
            if bytes.len() > MAX_PAGE_BYTES {
                return skip(Skip::TooLarge);
            }
            match html::text(&bytes, charset.as_deref(), self.source.html) {
                Ok(text) => Content::Text(text),
                Err(NoText::NoMainText) => return skip(Skip::NoMainText),
                Err(NoText::Hostile(what)) => {
                    let at = number.map_or(At::File, At::Record);
                    let (file, message) = (file.to_string(), what.to_owned());
                    return Err(Rejection::Bad(BadRecord { file, at, reason: Reason::Hostile, message }));
                }
            }
        } else if bytes[..bytes.len().min(SNIFFED_BYTES)].contains(&0) {
            return skip(Skip::Binary);
        } else {
            Content::of(bytes)
        };
        let (sha256, bytes) = content.measure();
        let number = number.map_or_else(String::new, |number| format!("#{number}"));
        let id = format!("{}/{file}{number}", self.source.name);
        let path = address.map_or_else(|| file.to_string(), |address| format!("{file}!{address}"));
        Ok(Document { id, path, content, sha256, bytes, licence: None, source: None })
    }

    fn json(self, file: &str, unit: Unit, records: &Records) -> Vec<Result<Document, Rejection>> {
        let record = |number: u64, bytes: &[u8]| {
            let at = if unit == Unit::Line { At::Line(number) } else { At::Record(number) };
            let bad = |reason, message| Err(Rejection::Bad(BadRecord { file: file.to_owned(), at, reason, message }));
            if bytes.len() as u64 > self.source.max_file_bytes {
                return bad(Reason::TooLong, "longer than max_file_bytes".to_owned());
            }
            match json::fields(bytes, self.mapping.names()) {
                Ok(fields) => self.row(file, number, at, fields, || format!("; it has {}", json::keys(bytes))),
                Err(message) => bad(Reason::Malformed, message),
            }
        };
        match unit {
            Unit::Object => vec![record(records.first, &records.bytes)],
            Unit::Line => (records.first..)
                .zip(records.bytes.split(|byte| *byte == b'\n'))
                .filter(|(_, line)| !line.trim_ascii().is_empty())
                .map(|(number, line)| record(number, line))
                .collect(),
        }
    }

    fn row(
        self,
        file: &str,
        number: u64,
        at: At,
        fields: Vec<Option<Field>>,
        available: impl Fn() -> String,
    ) -> Result<Document, Rejection> {
        let mapped = self.mapping.map(fields).map_err(|unfit| {
            let (reason, message) = match unfit {
                MappingError::Skipped(skip) => return Rejection::Skipped(skip),
                MappingError::Missing(columns) => {
                    let quoted: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
                    (Reason::NoColumn, format!("no {}{}", quoted.join(", "), available()))
                }
                MappingError::Bad(reason, message) => (reason, message),
            };
            Rejection::Bad(BadRecord { file: file.to_owned(), at, reason, message })
        })?;
        let (sha256, bytes) = mapped.content.measure();
        let name = &self.source.name;
        let id = mapped.id.map_or_else(|| format!("{name}/{file}#{number}"), |id| format!("{name}/{id}"));
        let (content, licence, source) = (mapped.content, mapped.licence, mapped.source);
        Ok(Document { id, path: file.to_owned(), content, sha256, bytes, licence, source })
    }
}
