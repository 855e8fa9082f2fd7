//! What is read of a footer before crate `parquet` reads it: what is encrypted, and how deeply the columns are nested.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::thrift::{Compact, Kind};
use crate::wrong;

/// The magic at the end of a file whose footer is encrypted.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// Levels of groups in a schema, each of which is a level of recursion in the decoder. Arrow has the same limit.
const MAX_DEPTH: usize = 64;
/// Fields of `FileMetaData`.
const SCHEMA: i16 = 2;
const ROW_GROUPS: i16 = 4;
/// A field of `SchemaElement`.
const CHILDREN: i16 = 5;
/// A field of `RowGroup`.
const COLUMNS: i16 = 1;
/// A field of `ColumnChunk`.
const CRYPTO_METADATA: i16 = 8;

/// What of a file is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// Leaves of columns, by their places; none in an ordinary file.
    Leaves(BTreeSet<usize>),
    /// The footer, and perhaps columns.
    Footer,
}

/// Reads what of a file is encrypted, and validates the depth of its schema.
///
/// # Errors
/// Returns an error if there is no footer, or the schema is nested too deeply.
pub fn inspect(file: &File) -> io::Result<Encryption> {
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
        return Ok(Encryption::Leaves(BTreeSet::new()));
    }
    reader.seek(SeekFrom::Start(length - 8 - bytes))?;
    let mut encrypted = BTreeSet::new();
    Compact::new(reader.take(bytes)).fields(|compact, number, kind| {
        match (number, kind) {
            (SCHEMA, Kind::List) => validate_depth(compact)?,
            (ROW_GROUPS, Kind::List) => {
                structs(compact, |compact, _| {
                    compact.fields(|compact, number, kind| {
                        let are_columns = (number, kind) == (COLUMNS, Kind::List);
                        if are_columns {
                            structs(compact, |compact, leaf| find_encryption(compact, leaf, &mut encrypted))?;
                        }
                        Ok(are_columns)
                    })
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(Encryption::Leaves(encrypted))
}

/// Reads a list of structs, each of which `read` reads.
fn structs<R: Read>(
    compact: &mut Compact<R>,
    mut read: impl FnMut(&mut Compact<R>, usize) -> io::Result<()>,
) -> io::Result<()> {
    let (count, kind) = compact.list()?;
    if count > 0 && kind != Kind::Struct {
        return Err(wrong("a list in the footer is not one of structures"));
    }
    (0..count).try_for_each(|place| read(compact, usize::try_from(place).unwrap_or(usize::MAX)))
}

/// Adds the leaf whose column chunk comes next, if that is encrypted.
fn find_encryption<R: Read>(compact: &mut Compact<R>, leaf: usize, to: &mut BTreeSet<usize>) -> io::Result<()> {
    compact.fields(|_, number, _| {
        if number == CRYPTO_METADATA {
            to.insert(leaf);
        }
        Ok(false)
    })
}

/// Validates the depth of a schema, whose elements are in depth-first order.
fn validate_depth<R: Read>(compact: &mut Compact<R>) -> io::Result<()> {
    // The number of columns that each open group still lacks.
    let mut open: Vec<i64> = Vec::new();
    structs(compact, |compact, _| {
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
        Ok(())
    })
}
