//! Arrow IPC: each message is validated before it is decoded.
//!
//! The decoder allocates the sizes that a file claims, and a claim of some terabytes aborts the process. So the claims
//! of a message are compared with the file first. The file format is the stream format between a magic and a footer,
//! which has the schema and the place of each message (Arrow Columnar Format, version 1.5). Some writers, polars among
//! them, leave a first message that only the footer makes sense of; a file without a footer is read as a stream.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch as Rows};
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{Block, Endianness, Message, MetadataVersion, RecordBatch, root_as_footer, root_as_message};
use arrow_schema::{Schema, SchemaRef};

use crate::Error;
use crate::documents::mapping::Mapping;
use crate::documents::rejection::At;
use crate::formats::columnar::{Fault, TablePart, Visit, caught, has_text, pass_on, wanted};

/// The magic of a file, which a stream does not have; zeros follow, up to a multiple of 8 or of the writer's alignment.
const MAGIC: &[u8; 6] = b"ARROW1";
/// The largest alignment of writers.
const MAX_ALIGNMENT: u64 = 64;
/// The magic of Feather before it became Arrow IPC.
const FEATHER_1: &[u8; 4] = b"FEA1";
/// The marker before the length of a message; older writers omit it.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Bytes that a buffer may unpack to, whatever its size. Heuristic, as for compressed files.
const HARMLESS_BYTES: u64 = 64 << 20;
/// How many times its size a buffer may unpack to beyond that.
const MAX_RATIO: u64 = 1000;
/// Rows that a batch may have without data. Heuristic, not measured.
const HARMLESS_ROWS: u64 = 1 << 16;

/// Reads the columns of `mapping`, some rows at a time.
pub(crate) fn read(file: &File, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut messages = match Messages::open(file) {
        Ok(Some(messages)) => messages,
        Ok(None) => {
            let what = "it is Feather version 1; write it as version 2, which is Arrow IPC, or as Parquet";
            return visit(TablePart::Unsupported(what.to_owned()));
        }
        Err(error) => return visit(Fault::from(error).at(At::File)),
    };
    let (schema, is_little) = match caught(|| messages.schema()) {
        Ok(read) => read,
        Err(fault) => return visit(fault.at(At::File)),
    };
    if !is_little {
        let what = "its numbers are big-endian, which is not supported; write it again on a little-endian machine";
        return visit(TablePart::Unsupported(what.to_owned()));
    }
    let header: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let Some(places) = wanted(&header, mapping, visit)? else { return Ok(()) };
    let projected = match schema.project(&places) {
        Ok(projected) => projected,
        Err(error) => return visit(Fault::from(error).at(At::File)),
    };
    if !has_text(&projected, mapping, visit)? {
        return Ok(());
    }
    let mut decoder = Decoder { schema, places, projected, dictionaries: HashMap::new() };
    let mut number = 1;
    loop {
        let message = match caught(|| Ok(messages.next()?)) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            // Without its length, the next message cannot be found.
            Err(fault) => return visit(fault.at(At::Row(number))),
        };
        match caught(|| decoder.decode(&message)) {
            Ok(Some(rows)) => {
                pass_on(number, &rows, visit)?;
                number += rows.num_rows() as u64;
            }
            Ok(None) => {}
            Err(fault) => match message.rows() {
                Some(rows) if rows > 0 => {
                    visit(fault.at(At::Rows(number, number + rows - 1)))?;
                    number += rows;
                }
                // Without a dictionary, no later row can be decoded.
                _ => return visit(fault.at(At::Row(number))),
            },
        }
    }
}

/// The messages of a file or a stream, with their claims validated.
struct Messages<R> {
    reader: R,
    length: u64,
    /// The footer of a file.
    footer: Option<Vec<u8>>,
    /// The places of the messages that the footer names, dictionaries first.
    places: VecDeque<i64>,
}

/// A message, and the bytes that come with it.
struct Received {
    header: Vec<u8>,
    body: Buffer,
}

impl Received {
    fn parse(&self) -> io::Result<Message<'_>> {
        root_as_message(&self.header).map_err(|e| wrong(e.to_string()))
    }

    /// Returns the number of rows, if it is a batch of rows.
    fn rows(&self) -> Option<u64> {
        u64::try_from(self.parse().ok()?.header_as_record_batch()?.length()).ok()
    }
}

impl Messages<BufReader<File>> {
    /// Opens a file or a stream at its first message; none if it is neither, but Feather version 1.
    fn open(file: &File) -> io::Result<Option<Self>> {
        let mut reader = BufReader::with_capacity(1 << 16, file.try_clone()?);
        let length = reader.seek(SeekFrom::End(0))?;
        reader.rewind()?;
        let mut start = [0; 8];
        let has_start = reader.read_exact(&mut start).is_ok();
        if has_start && start.starts_with(FEATHER_1) {
            return Ok(None);
        }
        let (mut first, mut footer) = (0, None);
        if has_start && start.starts_with(MAGIC) {
            first = 8;
            while first < MAX_ALIGNMENT && reader.read_exact(&mut start).is_ok() && start == [0; 8] {
                first += 8;
            }
            footer = read_footer(&mut reader, length)?;
        }
        reader.seek(SeekFrom::Start(first))?;
        Ok(Some(Self { reader, length, footer, places: VecDeque::new() }))
    }
}

/// Reads the footer of a file, which a truncated one does not have.
fn read_footer(reader: &mut (impl Read + Seek), length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut tail = [0; 10];
    let Some(end) = length.checked_sub(10) else { return Ok(None) };
    reader.seek(SeekFrom::Start(end))?;
    reader.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    let bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    let Some(start) = end.checked_sub(bytes).filter(|_| magic == *MAGIC) else { return Ok(None) };
    reader.seek(SeekFrom::Start(start))?;
    let mut footer = Vec::new();
    reader.take(bytes).read_to_end(&mut footer)?;
    Ok(Some(footer))
}

impl<R: Read + Seek> Messages<R> {
    /// Returns the schema, and whether numbers are little-endian.
    fn schema(&mut self) -> Result<(SchemaRef, bool), Fault> {
        let read = |written: arrow_ipc::Schema<'_>| {
            let is_little = written.endianness() == Endianness::Little;
            Ok((Arc::new(try_fb_to_schema(written)?), is_little))
        };
        if let Some(footer) = &self.footer {
            let footer = root_as_footer(footer).map_err(|e| wrong(e.to_string()))?;
            let blocks =
                footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
            self.places = blocks.map(Block::offset).collect();
            return read(footer.schema().ok_or_else(|| wrong("its footer has no schema"))?);
        }
        let message = self.next()?.ok_or_else(|| wrong("the file is empty"))?;
        let message = message.parse()?;
        read(message.header_as_schema().ok_or_else(|| wrong("it does not begin with a schema"))?)
    }

    /// Returns the next message; none at the end.
    fn next(&mut self) -> io::Result<Option<Received>> {
        if self.footer.is_some() {
            let Some(place) = self.places.pop_front() else { return Ok(None) };
            self.reader.seek(SeekFrom::Start(u64::try_from(place).map_err(wrong)?))?;
        }
        let Some(bytes) = self.message_length()? else { return Ok(None) };
        let start = self.reader.stream_position()?;
        if bytes > self.length.saturating_sub(start) {
            return Err(wrong("a message is longer than the file"));
        }
        let mut header = Vec::new();
        self.reader.by_ref().take(bytes).read_to_end(&mut header)?;
        let message = root_as_message(&header).map_err(|e| wrong(e.to_string()))?;
        let body_bytes = u64::try_from(message.bodyLength()).map_err(wrong)?;
        if body_bytes > self.length.saturating_sub(start + bytes) {
            return Err(wrong("the file ends inside a batch"));
        }
        let length = usize::try_from(body_bytes).map_err(wrong)?;
        let mut body = MutableBuffer::try_from_len_zeroed(length).map_err(wrong)?;
        self.reader.read_exact(&mut body)?;
        let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
        if let Some(batch) = message.header_as_record_batch().or(dictionary) {
            validate(batch, &body)?;
        }
        Ok(Some(Received { header, body: body.into() }))
    }

    /// Returns the length of the next message; none at the end.
    fn message_length(&mut self) -> io::Result<Option<u64>> {
        let mut length = [0; 4];
        match self.reader.read_exact(&mut length) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        if length == CONTINUATION {
            self.reader.read_exact(&mut length)?;
        }
        let length = u64::try_from(i32::from_le_bytes(length)).map_err(wrong)?;
        Ok((length > 0).then_some(length))
    }
}

/// Validates the claims of a batch whose buffers are in `body`.
fn validate(batch: RecordBatch<'_>, body: &[u8]) -> io::Result<()> {
    let is_packed = batch.compression().is_some();
    let mut unpacked_bytes = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let offset = usize::try_from(buffer.offset()).map_err(wrong)?;
        let bytes = usize::try_from(buffer.length()).map_err(wrong)?;
        let Some(buffer) = offset.checked_add(bytes).and_then(|end| body.get(offset..end)) else {
            return Err(wrong("a buffer is longer than its batch"));
        };
        let unpacked = match buffer.split_first_chunk::<8>() {
            None if is_packed && bytes > 0 => return Err(wrong("a packed buffer without its length")),
            Some((length, _)) if is_packed => match i64::from_le_bytes(*length) {
                -1 => bytes as u64,
                unpacked => u64::try_from(unpacked).map_err(wrong)?,
            },
            _ => bytes as u64,
        };
        if unpacked > HARMLESS_BYTES && unpacked / MAX_RATIO > bytes as u64 {
            return Err(wrong("a buffer unpacks to more than 1000 times its size"));
        }
        unpacked_bytes = unpacked_bytes.saturating_add(unpacked);
    }
    // A row takes at least a bit, unless its column has no data.
    let rows = u64::try_from(batch.length()).map_err(wrong)?;
    if rows > unpacked_bytes.saturating_mul(8).saturating_add(HARMLESS_ROWS) {
        return Err(wrong("a batch has more rows than its bytes can hold"));
    }
    Ok(())
}

/// The state that messages are decoded with.
struct Decoder {
    schema: SchemaRef,
    /// The places of the requested columns.
    places: Vec<usize>,
    /// The schema of the requested columns.
    projected: Schema,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl Decoder {
    /// Decodes a message; returns rows if it has some.
    fn decode(&mut self, message: &Received) -> Result<Option<Rows>, Fault> {
        let parsed = message.parse()?;
        let version: MetadataVersion = parsed.version();
        if let Some(dictionary) = parsed.header_as_dictionary_batch() {
            if self.is_requested(dictionary.id()) {
                read_dictionary(&message.body, dictionary, &self.schema, &mut self.dictionaries, &version)?;
            }
            return Ok(None);
        }
        let Some(batch) = parsed.header_as_record_batch() else { return Ok(None) };
        let (schema, places) = (Arc::clone(&self.schema), Some(&self.places[..]));
        Ok(Some(read_record_batch(&message.body, batch, schema, &self.dictionaries, places, &version)?))
    }

    /// Returns true if a requested column has values in this dictionary.
    fn is_requested(&self, dictionary: i64) -> bool {
        #[expect(deprecated, reason = "nothing else says which columns share a dictionary")]
        let fields = self.projected.fields_with_dict_id(dictionary);
        !fields.is_empty()
    }
}

fn wrong(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
