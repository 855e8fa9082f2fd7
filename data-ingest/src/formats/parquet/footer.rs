//! What is read of a footer before crate `parquet` reads it: whether the file is encrypted, and how deeply its columns
//! are nested.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::thrift::{Compact, Kind};
use super::wrong;

/// The magic at the end of a file whose footer is encrypted.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// Levels of groups in a schema, each of which is a level of recursion in the decoder. Arrow has the same limit.
const MAX_DEPTH: usize = 64;
/// Fields of `FileMetaData` and of `SchemaElement`.
const SCHEMA: i16 = 2;
const ENCRYPTION_ALGORITHM: i16 = 8;
const CHILDREN: i16 = 5;

/// Whether a file is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Nothing is.
    None,
    /// Some columns are.
    Columns,
    /// The footer is, and perhaps columns.
    Footer,
}

/// Reads whether the file is encrypted, and validates the depth of its schema.
///
/// # Errors
/// Returns an error if there is no footer, or the schema is nested too deeply.
pub(crate) fn inspect(file: &File) -> io::Result<Encryption> {
    let mut reader = BufReader::new(file.try_clone()?);
    let length = reader.seek(SeekFrom::End(0))?;
    if length < 12 {
        return Err(wrong("the file is too short"));
    }
    reader.seek(SeekFrom::Start(length - 8))?;
    let mut tail = [0; 8];
    reader.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic == *ENCRYPTED {
        return Ok(Encryption::Footer);
    }
    let bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
    // Without the magic, the reader says so.
    if magic != *b"PAR1" || bytes + 8 > length {
        return Ok(Encryption::None);
    }
    reader.seek(SeekFrom::Start(length - 8 - bytes))?;
    let mut encryption = Encryption::None;
    Compact::new(reader.take(bytes)).fields(|compact, number, kind| {
        if number == ENCRYPTION_ALGORITHM {
            encryption = Encryption::Columns;
        }
        if (number, kind) != (SCHEMA, Kind::List) {
            return Ok(false);
        }
        validate_depth(compact)?;
        Ok(true)
    })?;
    Ok(encryption)
}

/// Validates the depth of a schema, whose elements are in depth-first order.
fn validate_depth<R: Read>(compact: &mut Compact<R>) -> io::Result<()> {
    let (elements, kind) = compact.list()?;
    if elements > 0 && kind != Kind::Struct {
        return Err(wrong("the schema is not a list of columns"));
    }
    // The number of columns that each open group still lacks.
    let mut open: Vec<i64> = Vec::new();
    for _ in 0..elements {
        let mut children = 0;
        compact.fields(|compact, number, kind| {
            let is_count = (number, kind) == (CHILDREN, Kind::Integer);
            if is_count {
                children = compact.integer()?;
            }
            Ok(is_count)
        })?;
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        while open.last() == Some(&0) {
            open.pop();
        }
        if open.len() > MAX_DEPTH {
            return Err(wrong(format!("its columns are nested more than {MAX_DEPTH} levels deep")));
        }
    }
    Ok(())
}
