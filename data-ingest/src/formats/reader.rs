//! Reads files, decompresses them, and splits them into records.

mod media;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact::Context;

use crate::Error;
use crate::documents::batch::{Batch, Found, Places, Raw, RawDocument, Unit};
use crate::documents::mapping::Mapping;
use crate::documents::rejection::{At, Reason, Rejection, Skip};
use crate::formats::archive::{self, Entry};
use crate::formats::columnar::TablePart;
use crate::formats::decompress::unpack;
use crate::formats::delimited::{self, DelimitedPiece};
use crate::formats::encoding::TextReader;
use crate::formats::format::{self, Archive, Format, Kind, Packing};
use crate::formats::json::{self, JsonPiece};
use crate::formats::json_rows;
use crate::formats::limits::{CountingReader, InputFile, ReadError};
use crate::formats::table::{self, Table};
use crate::formats::warc::{self, Record};
use crate::inventory::{HashedFile, ListedSource};

use media::SourceCaptions;

/// Rows of a delimited file that are passed on together. Heuristic, not measured.
const ROWS_BYTES: usize = 256 << 10;

/// Everything needed to read the files of a source.
pub(crate) struct Job<'a> {
    /// The source.
    pub source: &'a ListedSource,
    /// The meaning of columns.
    pub mapping: &'a Mapping<'a>,
    /// The most that a compressed file may unpack to.
    pub max_unpacked_bytes: u64,
    /// The folder for decompressed tables, which need random access.
    pub spill: &'a Path,
    /// The stage's context.
    pub context: &'a Context,
    /// The captions of its pictures and sounds.
    captions: SourceCaptions,
}

impl<'a> Job<'a> {
    /// Returns a job of which nothing is read.
    pub fn new(
        source: &'a ListedSource,
        mapping: &'a Mapping<'a>,
        max_unpacked_bytes: u64,
        spill: &'a Path,
        context: &'a Context,
    ) -> Self {
        Self { source, mapping, max_unpacked_bytes, spill, context, captions: SourceCaptions::default() }
    }

    /// Reads a file of the source, and checks that it has not changed since it was listed; `done_bytes` were read
    /// before.
    pub fn file(&self, file: &HashedFile, done_bytes: u64, batch: &mut Batch<'_>) -> Result<(), Error> {
        let input = InputFile::new(file.place.path(), self.max_unpacked_bytes, done_bytes, self.context);
        let relative: Arc<str> = file.relative.as_str().into();
        let packing = format::packing(&file.relative).0;
        if let (true, Kind::Archive(archive)) = (self.source.is_media, file.kind) {
            self.member_captions(file, archive, batch)?;
        }
        let digest = match file.kind {
            // They are read before.
            Kind::Captions => return Ok(()),
            Kind::Archive(Archive::Zip) => {
                let seekable = input.open_seekable()?;
                archive::zip(seekable, &input, |entry| self.entry(&relative, entry, &input, batch))?;
                input.digest()
            }
            Kind::File(Format::Parquet | Format::Arrow) if packing == Packing::Plain => {
                let seekable = input.open_seekable()?.into_file();
                self.table(&seekable, file.kind, &relative, &input, batch)?;
                input.digest()
            }
            kind => {
                let mut opened = input.open()?;
                match unpack(&mut opened, packing, input.read_bytes(), &input) {
                    Err(error) => report(ReadError::Input(error), &relative, &input, batch)?,
                    Ok(stream) => match kind {
                        Kind::Archive(_) => {
                            archive::tar(stream, &input, |entry| self.entry(&relative, entry, &input, batch))?;
                        }
                        Kind::File(format) => self.stream(format, stream, &relative, &input, batch)?,
                        Kind::Captions => {}
                    },
                }
                input.finish(opened)?
            }
        };
        if digest == file.sha256 {
            return Ok(());
        }
        Err(Error::Changed { name: self.source.name.clone(), path: input.path.to_owned() })
    }

    /// Reads a member of the archive `archive`.
    fn entry(
        &self,
        archive: &str,
        entry: Entry<'_>,
        input: &InputFile<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<(), Error> {
        let (path, reader) = match entry {
            Entry::File(path, reader) => (path, reader),
            Entry::Skipped(skip) => return batch.skip(skip),
            Entry::Damaged(path, error) => {
                let name = path.map_or_else(|| archive.to_owned(), |path| format!("{archive}!/{path}"));
                return report(ReadError::Input(error), &name, input, batch);
            }
        };
        let name: Arc<str> = format!("{archive}!/{path}").into();
        match self.source.filter.member(archive, &path) {
            None => batch.push(Raw::Found(Found::Rejected(Rejection::NotSelected))),
            Some(Kind::Archive(_)) => batch.skip(Skip::NestedArchive),
            Some(Kind::Captions) => Ok(()),
            Some(Kind::File(format)) => match format::packing(&path).0 {
                Packing::Plain => self.stream(format, reader, &name, input, batch),
                packing => {
                    let (reader, packed_bytes) = CountingReader::new(reader);
                    match unpack(reader, packing, packed_bytes, input) {
                        Ok(stream) => self.stream(format, stream, &name, input, batch),
                        Err(error) => report(ReadError::Input(error), &name, input, batch),
                    }
                }
            },
        }
    }

    /// Reads a decompressed file.
    fn stream(
        &self,
        format: Format,
        reader: impl Read,
        name: &Arc<str>,
        input: &InputFile<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<(), Error> {
        let read = match format {
            Format::Text | Format::Html => self.whole(format == Format::Html, reader, name, batch),
            Format::Jsonl | Format::Json | Format::Csv | Format::Tsv => {
                let mut text = TextReader::new(reader, self.source.encoding.as_deref());
                let read = match format {
                    Format::Jsonl => self.json_lines(&mut text, name, batch),
                    Format::Json => self.json(&mut text, name, batch),
                    Format::Csv => self.delimited(&mut text, b',', name, input, batch),
                    _ => self.delimited(&mut text, b'\t', name, input, batch),
                };
                batch.encoding(text.encoding())?;
                read
            }
            Format::Warc => self.warc(reader, name, batch),
            Format::Media => self.media(reader, name, batch),
            Format::Parquet | Format::Arrow => {
                self.spilled(reader).and_then(|file| Ok(self.table(&file, Kind::File(format), name, input, batch)?))
            }
        };
        read.or_else(|why| report(why, name, input, batch))
    }

    fn json_lines(&self, mut reader: impl Read, name: &Arc<str>, batch: &mut Batch<'_>) -> Result<(), ReadError> {
        /// Bytes in which an array is told from lines.
        const HEAD_BYTES: u64 = 4 << 10;
        let mut head = Vec::new();
        let failed = reader.by_ref().take(HEAD_BYTES).read_to_end(&mut head).err();
        let mut tokens = head.iter().filter(|byte| !byte.is_ascii_whitespace());
        let place = if tokens.next() == Some(&b'[') && tokens.next() == Some(&b'{') {
            Some("the objects of an array, not of lines")
        } else if head
            .trim_ascii_start()
            .split(|byte| *byte == b'\n')
            .next()
            .is_some_and(|line| line.trim_ascii() == b"{")
        {
            Some("objects over several lines")
        } else {
            None
        };
        let reader = head.chain(FailedReader { failed, inner: reader });
        batch.rows(name, place.map(str::to_owned))?;
        let max_bytes = self.source.max_file_bytes;
        if place.is_some() {
            return json::objects(reader, max_bytes, |piece| json_piece(piece, Unit::Object, name, batch));
        }
        json::lines(reader, max_bytes, |piece| json_piece(piece, Unit::Line, name, batch))
    }

    fn json(&self, mut reader: impl Read, name: &Arc<str>, batch: &mut Batch<'_>) -> Result<(), ReadError> {
        let wanted = self.mapping.wanted();
        let (path, max_bytes) = (self.source.columns.json_path.as_deref(), self.source.max_file_bytes);
        let (head, layout, failed) = json_rows::find(&mut reader, path, &wanted, max_bytes);
        let layout = layout.map_err(|places| {
            let key = format!("source {}: json_path", self.source.name);
            let message = format!("missing: the rows of {name} may be {places}; set the path of those that are meant");
            ReadError::Fatal(Error::value(&key, &message))
        })?;
        batch.rows(name, layout.described())?;
        let reader = head.chain(FailedReader { failed, inner: reader });
        layout.rows(reader, &wanted, max_bytes, |piece| json_piece(piece, Unit::Object, name, batch))
    }

    fn whole(&self, is_html: bool, reader: impl Read, name: &Arc<str>, batch: &mut Batch<'_>) -> Result<(), ReadError> {
        let mut bytes = Vec::new();
        // One byte beyond the limit shows that a file is too large without reading all of it.
        reader.take(self.source.max_file_bytes + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > self.source.max_file_bytes {
            return Ok(batch.skip(Skip::TooLarge)?);
        }
        let file = Arc::clone(name);
        Ok(batch.push(Raw::Document(RawDocument {
            number: None,
            file,
            address: None,
            is_html,
            charset: None,
            bytes,
        }))?)
    }

    fn delimited(
        &self,
        reader: impl Read,
        delimiter: u8,
        name: &Arc<str>,
        input: &InputFile<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<(), ReadError> {
        let mut places = Arc::new(Places::new());
        let (mut rows, mut rows_bytes) = (Vec::new(), 0);
        let result = delimited::records(reader, delimiter, self.source.max_file_bytes, |piece| {
            let row = match piece {
                DelimitedPiece::Header(header) => {
                    if let Some(column) = self.mapping.missing_in(&header) {
                        return Err(ReadError::Fatal(no_column(name, column, &header, self.mapping, input)));
                    }
                    let place = |wanted: &str| header.iter().position(|name| name == wanted);
                    places = Arc::new(self.mapping.names().map(place).collect());
                    return Ok(());
                }
                DelimitedPiece::Record(number, record) => Ok((number, record)),
                DelimitedPiece::Malformed(line, message) => Err((At::Line(line), Reason::Malformed, message)),
                DelimitedPiece::TooLong(line) => {
                    let message = "no end within max_file_bytes (an unclosed quote?); the rest of it is skipped";
                    Err((At::Line(line), Reason::TooLong, message.to_owned()))
                }
            };
            match row {
                Ok((number, record)) => {
                    rows_bytes += record.as_slice().len();
                    rows.push((number, record));
                }
                Err((at, reason, message)) => {
                    let before = Raw::Delimited(Arc::clone(name), Arc::clone(&places), std::mem::take(&mut rows));
                    batch.push(before)?;
                    batch.bad(name, at, reason, message)?;
                }
            }
            if rows_bytes >= ROWS_BYTES || rows.len() >= 1 << 12 {
                rows_bytes = 0;
                batch.push(Raw::Delimited(Arc::clone(name), Arc::clone(&places), std::mem::take(&mut rows)))?;
            }
            Ok(())
        });
        batch.push(Raw::Delimited(Arc::clone(name), places, rows))?;
        batch.rows(name, None)?;
        result
    }

    fn warc(&self, reader: impl Read, name: &Arc<str>, batch: &mut Batch<'_>) -> Result<(), ReadError> {
        let reader = BufReader::with_capacity(1 << 16, reader);
        warc::records(reader, self.source.max_file_bytes, |number, record| {
            match record {
                Record::Page(page) => batch.push(Raw::Document(RawDocument {
                    number: Some(number),
                    file: Arc::clone(name),
                    address: Some(page.address),
                    is_html: page.is_html,
                    charset: page.charset,
                    bytes: page.bytes,
                }))?,
                Record::Other => batch.skip(Skip::NotAPage)?,
                Record::TooLong => batch.skip(Skip::TooLarge)?,
                Record::Corrupt(why) => batch.bad(name, At::Record(number), Reason::Corrupt, why)?,
            }
            Ok(())
        })
    }

    /// Reads a table in a file of its own.
    fn table(
        &self,
        file: &File,
        kind: Kind,
        name: &Arc<str>,
        input: &InputFile<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<(), Error> {
        let format = match kind {
            Kind::File(Format::Arrow) => Table::Arrow,
            _ => Table::Parquet,
        };
        batch.rows(name, None)?;
        table::read(file, format, self.mapping, &mut |found| match found {
            TablePart::NoColumn { column, header } => Err(no_column(name, &column, &header, self.mapping, input)),
            TablePart::WrongType { column, found } => {
                Err(Error::ColumnType { path: table_path(name, input), column, found })
            }
            TablePart::Unsupported(what) => Err(Error::Unsupported { path: table_path(name, input), what }),
            TablePart::Rows(first, rows) => {
                if self.context.cancel.is_requested() {
                    return Err(Error::Interrupted);
                }
                batch.push(Raw::Rows(Arc::clone(name), first, rows))
            }
            TablePart::Damaged(at, message) => batch.bad(name, at, Reason::Corrupt, message),
            TablePart::Unreadable(error) => Err(artifact::Error::io("read", input.path, error).into()),
        })
    }

    /// Copies a table to an unnamed file, which is deleted when it is closed.
    fn spilled(&self, mut reader: impl Read) -> Result<File, ReadError> {
        let failed = |e| ReadError::Fatal(artifact::Error::io("write a temporary file in", self.spill, e).into());
        let mut file = tempfile::tempfile_in(self.spill).map_err(failed)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => file.write_all(&buffer[..read]).map_err(failed)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ReadError::Input(e)),
            }
        }
        file.rewind().map_err(failed)?;
        Ok(file)
    }
}

/// The rest of a stream whose beginning has been read, with the error that ended the beginning.
struct FailedReader<R> {
    failed: Option<io::Error>,
    inner: R,
}

impl<R: Read> Read for FailedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.failed.take().map_or_else(|| self.inner.read(buffer), Err)
    }
}

/// Ends the run, or counts the rest of a file as a bad record.
fn report(why: ReadError, name: &str, input: &InputFile<'_>, batch: &mut Batch<'_>) -> Result<(), Error> {
    let error = match why {
        ReadError::Fatal(error) => return Err(error),
        ReadError::Input(error) => error,
    };
    let (reason, message) = input.fault(&error)?;
    batch.bad(name, At::File, reason, format!("{message}; the rest of it is skipped"))
}

fn json_piece(piece: JsonPiece, unit: Unit, name: &Arc<str>, batch: &mut Batch<'_>) -> Result<(), ReadError> {
    let at = |number| if unit == Unit::Line { At::Line(number) } else { At::Record(number) };
    match piece {
        JsonPiece::Records(records) => batch.push(Raw::Json(Arc::clone(name), unit, records))?,
        JsonPiece::TooLong(number) => {
            batch.bad(name, at(number), Reason::TooLong, "longer than max_file_bytes".to_owned())?;
        }
        JsonPiece::NoObject(number) => {
            batch.bad(name, at(number), Reason::Malformed, "expected a JSON object".to_owned())?;
        }
        JsonPiece::Unended(number) => {
            batch.bad(name, at(number), Reason::Malformed, "the file ends inside this object".to_owned())?;
        }
        JsonPiece::Broken(number) => {
            let message = "a bracket, comma or colon is in the wrong place; the rest of the file is skipped";
            batch.bad(name, at(number), Reason::Malformed, message.to_owned())?;
        }
    }
    Ok(())
}

fn no_column(name: &str, column: &str, header: &[String], mapping: &Mapping<'_>, input: &InputFile<'_>) -> Error {
    let quoted: Vec<String> = header.iter().map(|name| format!("`{name}`")).collect();
    let available = if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") };
    let is_word = |name: &&String| name.chars().all(|c| c == '_' || c.is_alphanumeric());
    let hint = header.iter().find(|name| mapping.is_template() && !is_word(name)).map_or_else(String::new, |name| {
        let quoted = serde_json::Value::from(name.as_str());
        format!(" (in a template, a column of any name is written {{{{ row[{quoted}] }}}})")
    });
    let available = format!("{available}{hint}");
    Error::Column { path: table_path(name, input), column: column.to_owned(), available, keys: mapping.naming_keys() }
}

/// Returns the path of a table; that of an archive does not identify the table in it.
fn table_path(name: &str, input: &InputFile<'_>) -> PathBuf {
    let member = name.split_once("!/").map_or_else(String::new, |(_, member)| format!("!/{member}"));
    format!("{}{member}", input.path.display()).into()
}
