//! Converts raw input into documents, on all cores, in the order of reading.

mod decoded;

use std::sync::Arc;

use arrow_array::RecordBatch;
use csv::ByteRecord;
use media::Decoder;
use rayon::prelude::*;

use crate::Error;
use crate::documents::document::{Content, Document, MediaBytes, Medium, digest_with_media};
use crate::documents::field::Field;
use crate::documents::mapping::{Mapping, MappingError};
use crate::documents::rejection::{At, BadRecord, Reason, Rejection, Skip};
use crate::formats::captions::{self, Caption};
use crate::formats::columnar::{self, PIECE_BYTES};
use crate::formats::encoding::{self, FileEncoding, Text};
use crate::formats::format;
use crate::formats::html::{self, Html, MAX_PAGE_BYTES, NoText};
use crate::formats::json::{self, Fields, FieldsError, Records};
use crate::inventory::ListedSource;

/// Bytes read before they are turned into documents. Heuristic, not measured: enough to keep all cores busy.
const BATCH_BYTES: usize = 8 << 20;

/// Receives what is found in the files of a source.
pub(crate) type Sink<'a> = dyn FnMut(Found) -> Result<(), Error> + 'a;

/// Something found in a file.
pub(crate) enum Found {
    /// A document.
    Document(Document),
    /// A file or record that gave no document.
    Rejected(Rejection),
    /// A file that is not plain UTF-8.
    Encoding(FileEncoding),
    /// A file of rows, and where they are in it, if that was not obvious.
    Rows(Arc<str>, Option<String>),
    /// A file of JSON that is a document although it begins as a table does.
    TableAsText(Arc<str>),
    /// A record in which halves of surrogate pairs were replaced.
    Replaced,
    /// A web page.
    Page,
}

impl From<Result<Document, Rejection>> for Found {
    fn from(read: Result<Document, Rejection>) -> Self {
        read.map_or_else(Self::Rejected, Self::Document)
    }
}

/// A piece of input from which documents can be made without reading anything else.
pub(crate) enum Raw {
    /// A document.
    Document(RawDocument),
    /// JSON records.
    Json(Arc<str>, Unit, Records),
    /// Records of a delimited file.
    Delimited(Arc<str>, Arc<Places>, Vec<(u64, ByteRecord)>),
    /// Rows of a table: the number of the first, and the wanted columns.
    Rows(Arc<str>, u64, RecordBatch),
    /// A file that may be a picture or a sound.
    Media(RawMedia),
    /// Something that is not a document.
    Found(Found),
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

/// A file that may be a picture or a sound, as read.
pub(crate) struct RawMedia {
    /// The path of its file inside the source.
    pub file: Arc<str>,
    /// Its content.
    pub bytes: MediaBytes,
    /// The columns of each of its captions.
    pub captions: Vec<Caption>,
}

/// Input that is not turned into documents yet.
pub(crate) struct Batch<'a> {
    source: &'a ListedSource,
    mapping: &'a Mapping<'a>,
    decoder: Decoder,
    sink: &'a mut Sink<'a>,
    raws: Vec<Raw>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    /// Returns a batch that passes its documents to `sink`.
    pub fn new(source: &'a ListedSource, mapping: &'a Mapping<'a>, sink: &'a mut Sink<'a>) -> Self {
        Self { source, mapping, decoder: Decoder::default(), sink, raws: Vec::new(), bytes: 0 }
    }

    /// Adds input, and makes documents once there is enough.
    pub fn push(&mut self, raw: Raw) -> Result<(), Error> {
        self.bytes += raw.bytes();
        self.raws.push(raw);
        if self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a rejection.
    pub fn skip(&mut self, skip: Skip) -> Result<(), Error> {
        self.push(Raw::Found(Found::Rejected(Rejection::Skipped(skip))))
    }

    /// Adds the encoding of a file, unless it is plain UTF-8.
    pub fn encoding(&mut self, encoding: Option<FileEncoding>) -> Result<(), Error> {
        encoding.map_or(Ok(()), |encoding| self.push(Raw::Found(Found::Encoding(encoding))))
    }

    /// Adds that a file has rows; `place` describes where they are in it, if that was not obvious.
    pub fn rows(&mut self, file: &Arc<str>, place: Option<String>) -> Result<(), Error> {
        self.push(Raw::Found(Found::Rows(Arc::clone(file), place)))
    }

    /// Adds a bad record.
    pub fn bad(&mut self, file: &str, at: At, reason: Reason, message: String) -> Result<(), Error> {
        let file = file.to_owned();
        self.push(Raw::Found(Found::Rejected(Rejection::Bad(BadRecord { file, at, reason, message }))))
    }

    /// Makes documents of all input.
    pub fn flush(&mut self) -> Result<(), Error> {
        let raws = std::mem::take(&mut self.raws);
        self.bytes = 0;
        let convert = Convert { source: self.source, mapping: self.mapping, decoder: &self.decoder };
        let converted: Vec<_> = raws.into_par_iter().map(|raw| convert.found(raw)).collect();
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
                Self::Media(media) => media.bytes.len(),
                Self::Json(_, _, records) => records.bytes.len(),
                Self::Delimited(_, _, records) => {
                    records.iter().map(|(_, record)| record.as_slice().len() + OWN_BYTES).sum()
                }
                // A piece of a table is cut to about this size.
                Self::Rows(..) => PIECE_BYTES,
                Self::Found(_) => 0,
            }
    }
}

/// Returns true if JSON begins with an array of objects.
fn is_table(json: &[u8]) -> bool {
    let mut tokens = json.iter().filter(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    tokens.next() == Some(&b'[') && tokens.next() == Some(&b'{')
}

/// Everything needed to convert raw input into documents.
#[derive(Clone, Copy)]
struct Convert<'a> {
    source: &'a ListedSource,
    mapping: &'a Mapping<'a>,
    decoder: &'a Decoder,
}

impl Convert<'_> {
    fn found(self, raw: Raw) -> Vec<Found> {
        let rows: Vec<Result<Document, Rejection>> = match raw {
            Raw::Found(found) => return vec![found],
            Raw::Document(whole) => return self.whole(whole),
            Raw::Media(media) => return self.media(&media),
            Raw::Json(file, unit, records) => return self.json(&file, unit, &records),
            Raw::Delimited(file, places, records) => {
                let row = |(number, record): (u64, ByteRecord)| {
                    let field = |place: &Option<usize>| Some(Field::Bytes(record.get((*place)?)?.to_vec()));
                    let fields = places.iter().map(field).collect();
                    self.row((&file, Some(number), At::Row(number)), fields, None, String::new)
                };
                records.into_iter().map(row).collect()
            }
            Raw::Rows(file, first, rows) => {
                let rows = columnar::rows(&rows, self.mapping);
                let row =
                    |(number, fields)| self.row((&file, Some(number), At::Row(number)), fields, None, String::new);
                (first..).zip(rows).map(row).collect()
            }
        };
        rows.into_iter().map(Found::from).collect()
    }

    fn whole(self, whole: RawDocument) -> Vec<Found> {
        let mut found = Vec::with_capacity(2);
        found.extend(whole.is_html.then_some(Found::Page));
        if whole.number.is_none() && format::is_json(&whole.file) && is_table(&whole.bytes) {
            found.push(Found::TableAsText(Arc::clone(&whole.file)));
        }
        let mut note = |encoding: Option<FileEncoding>| found.extend(encoding.map(Found::Encoding));
        let document = self.document(whole, &mut note).into();
        found.push(document);
        found
    }

    fn document(self, whole: RawDocument, note: &mut dyn FnMut(Option<FileEncoding>)) -> Result<Document, Rejection> {
        let RawDocument { number, file, address, is_html, charset, bytes } = whole;
        let charset = charset.or_else(|| self.source.encoding.clone());
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
        } else {
            match encoding::decode(bytes, charset.as_deref()) {
                Text::Binary => return skip(Skip::Binary),
                // A file of nothing but a mark.
                Text::Decoded(text, _) if text.is_empty() => return skip(Skip::Empty),
                Text::Decoded(text, encoding) => {
                    note(encoding);
                    Content::Text(text)
                }
                Text::Unknown(bytes, encoding) => {
                    note(Some(encoding));
                    Content::Raw(bytes)
                }
            }
        };
        let (sha256, bytes) = content.measure();
        let number = number.map_or_else(String::new, |number| format!("#{number}"));
        let id = format!("{}/{file}{number}", self.source.name);
        let path = address.map_or_else(|| file.to_string(), |address| format!("{file}!{address}"));
        Ok(Document { id, path, content, media: Vec::new(), sha256, bytes, licence: None, source: None })
    }

    /// Makes a document for each caption of a file that may be a picture or a sound: a row of its own columns and those
    /// of the caption.
    fn media(self, media: &RawMedia) -> Vec<Found> {
        let RawMedia { file, bytes, captions } = media;
        if bytes.is_empty() {
            return vec![Found::Rejected(Rejection::Skipped(Skip::Empty))];
        }
        if media::Kind::of(bytes).is_none() && captions::extension_kind(file).is_none() {
            return vec![Found::Rejected(Rejection::NotSelected)];
        }
        // It is decoded once, whatever the number of its captions.
        let known = match decoded::medium(bytes, self.decoder) {
            Ok(known) => known,
            Err((reason, message)) => {
                let (file, at) = (file.to_string(), At::File);
                return vec![Found::Rejected(Rejection::Bad(BadRecord { file, at, reason, message }))];
            }
        };
        let document = |number, caption: Option<&Caption>| {
            let fields = captions::fields(file, bytes, caption.map(|caption| &**caption), self.mapping.names());
            let available = || if caption.is_none() { "; it has no caption".to_owned() } else { String::new() };
            self.row((file, number, At::File), fields, Some(&known), available).into()
        };
        match &captions[..] {
            [] => vec![document(None, None)],
            [caption] => vec![document(None, Some(caption))],
            several => (1..).zip(several).map(|(number, caption)| document(Some(number), Some(caption))).collect(),
        }
    }

    fn json(self, file: &str, unit: Unit, records: &Records) -> Vec<Found> {
        let mut found = Vec::new();
        let mut record = |number: u64, bytes: &[u8]| {
            let at = if unit == Unit::Line { At::Line(number) } else { At::Record(number) };
            let bad = |reason, message| Err(Rejection::Bad(BadRecord { file: file.to_owned(), at, reason, message }));
            let fields = || json::fields(bytes, self.mapping.names());
            let is_too_long = bytes.len() as u64 > self.source.max_file_bytes;
            let read = match (!is_too_long).then(fields) {
                None => bad(Reason::TooLong, "longer than max_file_bytes".to_owned()),
                Some(Ok(Fields { values, has_replaced })) => {
                    let read =
                        self.row((file, Some(number), at), values, None, || format!("; it has {}", json::keys(bytes)));
                    found.extend((has_replaced && read.is_ok()).then_some(Found::Replaced));
                    read
                }
                Some(Err(FieldsError::Malformed(message))) => bad(Reason::Malformed, message),
                Some(Err(FieldsError::Value(message))) => bad(Reason::WrongType, message),
            };
            found.push(read.into());
        };
        match unit {
            Unit::Object => record(records.first, &records.bytes),
            Unit::Line => (records.first..)
                .zip(records.bytes.split(|byte| *byte == b'\n'))
                // Files that were joined have marks in the middle.
                .map(|(number, line)| (number, line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)))
                .filter(|(_, line)| !line.trim_ascii().is_empty())
                .for_each(|(number, line)| record(number, line)),
        }
        found
    }

    /// Makes a document of a row, given its file, its number there and its place, and the fields; `known` is decoded.
    fn row(
        self,
        (file, number, at): (&str, Option<u64>, At),
        fields: Vec<Option<Field>>,
        known: Option<&Arc<Medium>>,
        available: impl Fn() -> String,
    ) -> Result<Document, Rejection> {
        let mapped = self.mapping.map(fields).map_err(|unfit| {
            let (reason, message) = match unfit {
                MappingError::Skipped(skip) => return Rejection::Skipped(skip),
                MappingError::Missing(columns) => {
                    let quoted: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
                    let keys = self.mapping.naming_keys();
                    (Reason::NoColumn, format!("no {}{} (see {keys})", quoted.join(", "), available()))
                }
                MappingError::Bad(reason, message) => (reason, message),
            };
            Rejection::Bad(BadRecord { file: file.to_owned(), at, reason, message })
        })?;
        let bad = |(reason, message)| Rejection::Bad(BadRecord { file: file.to_owned(), at, reason, message });
        let media = decoded::media(&mapped.media, known, self.decoder).map_err(bad)?;
        let (mut sha256, bytes) = mapped.content.measure();
        if let (Content::Text(text), false) = (&mapped.content, media.is_empty()) {
            sha256 = digest_with_media(text.as_bytes(), &media);
        }
        let name = &self.source.name;
        let number = || number.map_or_else(String::new, |number| format!("#{number}"));
        let id = mapped.id.map_or_else(|| format!("{name}/{file}{}", number()), |id| format!("{name}/{id}"));
        let (content, licence, source) = (mapped.content, mapped.licence, mapped.source);
        Ok(Document { id, path: file.to_owned(), content, media, sha256, bytes, licence, source })
    }
}
