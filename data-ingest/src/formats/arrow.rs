//! Arrow IPC, validated before it is decoded.
//!
//! The decoder allocates the sizes that a file claims before it reads the data, and a claim of some terabytes aborts
//! the process. So all claims are compared with the file first, by a walk over its messages that skips their bodies.
//! The file format is the stream format between a magic and a footer (Arrow Columnar Format, version 1.5); it is read
//! as a stream, so that the validated bytes are those that are decoded.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use polars_arrow_format::ipc::planus::ReadAsRoot;
use polars_arrow_format::ipc::{MessageHeaderRef, MessageRef, RecordBatchRef};

/// The magic of a file, which a stream does not have; two bytes of padding follow.
const MAGIC: &[u8; 6] = b"ARROW1";
/// The marker before the length of a message; older writers omit it.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Bytes that a buffer may unpack to, whatever its size. Heuristic, as for compressed files.
const HARMLESS_BYTES: u64 = 64 << 20;
/// How many times its size a buffer may unpack to beyond that.
const MAX_RATIO: u64 = 1000;
/// Rows that a batch may have without data. Heuristic, not measured.
const HARMLESS_ROWS: u64 = 1 << 16;
/// Consecutive dictionaries, each of which adds a level of recursion in the decoder. Heuristic, not measured.
const MAX_DICTIONARIES: u32 = 1000;

/// Opens a file or a stream at its first message, after validating all.
pub(crate) fn open(file: &File) -> io::Result<BufReader<File>> {
    let mut reader = BufReader::with_capacity(1 << 16, file.try_clone()?);
    let length = reader.seek(SeekFrom::End(0))?;
    reader.rewind()?;
    let mut start = [0; 8];
    let is_file = reader.read_exact(&mut start).is_ok() && start.starts_with(MAGIC);
    let first = if is_file { 8 } else { 0 };
    reader.seek(SeekFrom::Start(first))?;
    look_over(&mut reader, length)?;
    reader.seek(SeekFrom::Start(first))?;
    Ok(reader)
}

fn look_over(reader: &mut (impl Read + Seek), length: u64) -> io::Result<()> {
    let mut message = Vec::new();
    let mut dictionaries = 0;
    while let Some(bytes) = message_length(reader)? {
        let start = reader.stream_position()?;
        if bytes > length.saturating_sub(start) {
            return Err(wrong("a message is longer than the file"));
        }
        message.clear();
        reader.by_ref().take(bytes).read_to_end(&mut message)?;
        let parsed = MessageRef::read_as_root(&message).map_err(wrong)?;
        let body = start + bytes;
        let body_bytes = u64::try_from(parsed.body_length().map_err(wrong)?).map_err(wrong)?;
        if body_bytes > length.saturating_sub(body) {
            return Err(wrong("the file ends inside a batch"));
        }
        match parsed.header().map_err(wrong)? {
            Some(MessageHeaderRef::RecordBatch(batch)) => {
                dictionaries = 0;
                look_over_batch(reader, batch, body, body_bytes)?;
            }
            Some(MessageHeaderRef::DictionaryBatch(dictionary)) => {
                dictionaries += 1;
                if dictionaries > MAX_DICTIONARIES {
                    return Err(wrong("more than 1000 dictionaries follow one another"));
                }
                if let Some(batch) = dictionary.data().map_err(wrong)? {
                    look_over_batch(reader, batch, body, body_bytes)?;
                }
            }
            _ => {}
        }
        reader.seek(SeekFrom::Start(body + body_bytes))?;
    }
    Ok(())
}

/// Returns the length of the next message; none at the end.
fn message_length(reader: &mut impl Read) -> io::Result<Option<u64>> {
    let mut length = [0; 4];
    match reader.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    if length == CONTINUATION {
        reader.read_exact(&mut length)?;
    }
    let length = u64::try_from(i32::from_le_bytes(length)).map_err(wrong)?;
    Ok((length > 0).then_some(length))
}

fn look_over_batch(
    reader: &mut (impl Read + Seek),
    batch: RecordBatchRef<'_>,
    body: u64,
    body_bytes: u64,
) -> io::Result<()> {
    let is_packed = batch.compression().map_err(wrong)?.is_some();
    let mut unpacked_bytes = 0_u64;
    for buffer in batch.buffers().map_err(wrong)?.into_iter().flatten() {
        let offset = u64::try_from(buffer.offset()).map_err(wrong)?;
        let bytes = u64::try_from(buffer.length()).map_err(wrong)?;
        if offset.checked_add(bytes).is_none_or(|end| end > body_bytes) {
            return Err(wrong("a buffer is longer than its batch"));
        }
        let unpacked = match bytes {
            0 => 0,
            1..8 if is_packed => return Err(wrong("a packed buffer without its length")),
            _ if is_packed => {
                let mut unpacked = [0; 8];
                reader.seek(SeekFrom::Start(body + offset))?;
                reader.read_exact(&mut unpacked)?;
                match i64::from_le_bytes(unpacked) {
                    -1 => bytes,
                    unpacked => u64::try_from(unpacked).map_err(wrong)?,
                }
            }
            _ => bytes,
        };
        if unpacked > HARMLESS_BYTES && unpacked / MAX_RATIO > bytes {
            return Err(wrong("a buffer unpacks to more than 1000 times its size"));
        }
        unpacked_bytes = unpacked_bytes.saturating_add(unpacked);
    }
    // A row takes at least a bit, unless its column has no data.
    let rows = u64::try_from(batch.length().map_err(wrong)?).map_err(wrong)?;
    if rows > unpacked_bytes.saturating_mul(8).saturating_add(HARMLESS_ROWS) {
        return Err(wrong("a batch has more rows than its bytes can hold"));
    }
    Ok(())
}

fn wrong(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use polars_arrow_format::ipc::planus::Builder;
    use polars_arrow_format::ipc::{
        BodyCompression, BodyCompressionMethod, Buffer, CompressionType, FieldNode, Message, MessageHeader,
        MetadataVersion, RecordBatch,
    };

    use super::*;

    /// Returns a message with the given claims, and the bytes of its batch.
    fn batch(rows: i64, (offset, length): (i64, i64), is_packed: bool, body: &[u8], body_length: i64) -> Vec<u8> {
        let compression = BodyCompression { codec: CompressionType::Zstd, method: BodyCompressionMethod::Buffer };
        let batch = RecordBatch {
            length: rows,
            nodes: Some(vec![FieldNode { length: rows, null_count: 0 }]),
            buffers: Some(vec![Buffer { offset, length }]),
            compression: is_packed.then(|| Box::new(compression)),
            variadic_buffer_counts: None,
        };
        let message = Message {
            version: MetadataVersion::V5,
            header: Some(MessageHeader::RecordBatch(Box::new(batch))),
            body_length,
            custom_metadata: None,
        };
        let mut builder = Builder::new();
        let message = builder.finish(&message, None);
        let length = (message.len() as i32).to_le_bytes();
        [&CONTINUATION[..], &length, message, body].concat()
    }

    fn check(bytes: &[u8], expected: Result<(), &str>) {
        let found = look_over(&mut Cursor::new(bytes), bytes.len() as u64).map_err(|e| e.to_string());
        assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|e| *e));
    }

    #[test]
    fn sizes_are_checked_against_the_file() {
        let body = [0; 64];
        let packed = |length: i64| [&length.to_le_bytes()[..], &[0; 56]].concat();
        check(b"", Ok(()));
        check(&[&CONTINUATION[..], &[0; 4]].concat(), Ok(()));
        check(&batch(8, (0, 64), false, &body, 64), Ok(()));
        check(&batch(8, (0, 64), true, &packed(1 << 20), 64), Ok(()));
        check(&batch(8, (0, 64), true, &packed(-1), 64), Ok(()));
        check(&[&CONTINUATION[..], &[0xff, 0xff, 0xff, 0x7f]].concat(), Err("a message is longer than the file"));
        check(&batch(8, (0, 64), false, &body[..60], 64), Err("the file ends inside a batch"));
        check(&batch(8, (0, 65), false, &body, 64), Err("a buffer is longer than its batch"));
        check(&batch(8, (8, i64::MAX), false, &body, 64), Err("a buffer is longer than its batch"));
        check(&batch(8, (0, 7), true, &body, 64), Err("a packed buffer without its length"));
        let bomb = "a buffer unpacks to more than 1000 times its size";
        check(&batch(8, (0, 64), true, &packed(1 << 43), 64), Err(bomb));
        let rows = "a batch has more rows than its bytes can hold";
        check(&batch(1 << 40, (0, 64), false, &body, 64), Err(rows));
        let negative = "out of range integral type conversion attempted";
        check(&batch(8, (-1, 64), false, &body, 64), Err(negative));
        check(&batch(8, (0, 64), false, &body, -1), Err(negative));
    }
}
