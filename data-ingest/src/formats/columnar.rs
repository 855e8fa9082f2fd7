//! What Parquet and Arrow IPC have in common: columns of arrays, and their rows.

mod cells;
mod iso8601;
mod media;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray as _;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Schema};
use parquet::errors::ParquetError;

use crate::Error;
use crate::documents::field::Field;
use crate::documents::mapping::Mapping;
use crate::documents::rejection::At;
use cells::Cells;

/// Bytes of rows that are passed on together. Heuristic, not measured.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A part of a table, or a problem with it.
pub(crate) enum TablePart {
    /// Rows: the number of the first, from 1, and the requested columns.
    Rows(u64, RecordBatch),
    /// A part that cannot be decoded.
    Damaged(At, String),
    /// The table lacks a column.
    NoColumn { column: String, header: Vec<String> },
    /// The text column has another type.
    WrongType { column: String, found: String },
    /// The table, or a requested column, is written in a way that is not supported: "it is …", "column `x` is …", and
    /// what to do.
    Unsupported(String),
    /// An I/O error.
    Unreadable(io::Error),
}

/// Reads a column's value in a row.
type ReadField<'a> = Box<dyn Fn(usize) -> Field + 'a>;

pub(crate) type Visit<'a> = dyn FnMut(TablePart) -> Result<(), Error> + 'a;

/// Returns the values of each row in the columns of `mapping`.
pub(crate) fn rows<'a>(batch: &'a RecordBatch, mapping: &Mapping<'_>) -> impl Iterator<Item = Vec<Option<Field>>> {
    let schema = batch.schema_ref();
    let cells = |name: &str| {
        let (place, field) = schema.column_with_name(name)?;
        let array = batch.column(place).as_ref();
        let read: ReadField<'a> = if mapping.is_media(name) {
            media::fields(array, mapping.max_bytes())
        } else {
            let cells = Cells::of(field, array, mapping.max_bytes());
            Box::new(move |row| cells.field(row))
        };
        Some(read)
    };
    let cells: Vec<Option<ReadField<'a>>> = mapping.names().map(cells).collect();
    (0..batch.num_rows()).map(move |i| cells.iter().map(|read| read.as_ref().map(|read| read(i))).collect())
}

/// Returns the places of the columns to read, in the order of the table; reports a missing column and returns none.
pub(crate) fn wanted(
    header: &[String],
    mapping: &Mapping<'_>,
    visit: &mut Visit<'_>,
) -> Result<Option<Vec<usize>>, Error> {
    if let Some(column) = mapping.missing_in(header) {
        visit(TablePart::NoColumn { column: column.to_owned(), header: header.to_vec() })?;
        return Ok(None);
    }
    let place = |wanted: &str| header.iter().position(|name| name == wanted);
    let mut places: Vec<usize> = mapping.names().filter_map(place).collect();
    places.sort_unstable();
    places.dedup();
    Ok(Some(places))
}

/// Returns false, and reports it, if the text column has another type.
pub(crate) fn has_text(schema: &Schema, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<bool, Error> {
    let wrong = mapping.text().and_then(|name| schema.column_with_name(name)).map(|(_, field)| field);
    let Some(field) = wrong.filter(|field| !cells::is_text(field.data_type())) else { return Ok(true) };
    visit(TablePart::WrongType { column: field.name().clone(), found: field.data_type().to_string() })?;
    Ok(false)
}

/// Passes rows on in pieces of about [`PIECE_BYTES`].
pub(crate) fn pass_on(number: u64, batch: &RecordBatch, visit: &mut Visit<'_>) -> Result<(), Error> {
    let rows = batch.num_rows();
    let bytes: usize = batch.columns().iter().map(|column| value_bytes(column.as_ref())).sum();
    let step = (rows.saturating_mul(PIECE_BYTES) / bytes.max(1)).clamp(1, rows.max(1));
    for start in (0..rows).step_by(step) {
        visit(TablePart::Rows(number + start as u64, batch.slice(start, step.min(rows - start))))?;
    }
    Ok(())
}

/// Estimates the bytes of an array's values. Those that several rows share are counted for each of them.
fn value_bytes(array: &dyn Array) -> usize {
    /// Bytes of a number, a view, or an offset.
    const OWN_BYTES: usize = 16;
    let length = array.len();
    let shared = |values: &dyn Array, used: usize| {
        let each = value_bytes(values).div_ceil(values.len().max(1));
        used.saturating_mul(each)
    };
    let values = match array.data_type() {
        DataType::Utf8View => array.as_string_view().lengths().map(|length| length as usize).sum(),
        DataType::BinaryView => array.as_binary_view().lengths().map(|length| length as usize).sum(),
        DataType::Utf8 => between(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => between(array.as_string::<i64>().value_offsets()),
        DataType::Binary => between(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => between(array.as_binary::<i64>().value_offsets()),
        DataType::FixedSizeBinary(width) => length.saturating_mul(usize::try_from(*width).unwrap_or(0)),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            shared(list.values(), between(list.value_offsets()))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            shared(list.values(), between(list.value_offsets()))
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            shared(map.entries(), between(map.value_offsets()))
        }
        DataType::ListView(_) => {
            let list = array.as_list_view::<i32>();
            shared(list.values(), list.value_sizes().iter().map(|size| *size as usize).sum())
        }
        DataType::LargeListView(_) => {
            let list = array.as_list_view::<i64>();
            shared(list.values(), list.value_sizes().iter().map(|size| *size as usize).sum())
        }
        DataType::FixedSizeList(_, _) => value_bytes(array.as_fixed_size_list().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| value_bytes(column)).sum(),
        DataType::Union(fields, _) => fields.iter().map(|(id, _)| value_bytes(array.as_union().child(id))).sum(),
        DataType::Dictionary(_, _) => length.saturating_mul(largest(array.as_any_dictionary().values().as_ref())),
        DataType::RunEndEncoded(_, _) => length.saturating_mul(largest(array.as_any_ree().values().as_ref())),
        _ => 0,
    };
    length.saturating_mul(OWN_BYTES).saturating_add(values)
}

/// Estimates the bytes of an array's largest value.
fn largest(array: &dyn Array) -> usize {
    fn of<O: arrow_array::OffsetSizeTrait>(offsets: &[O]) -> usize {
        offsets.windows(2).map(|pair| (pair[1] - pair[0]).as_usize()).max().unwrap_or(0)
    }
    match array.data_type() {
        DataType::Utf8View => array.as_string_view().lengths().max().unwrap_or(0) as usize,
        DataType::BinaryView => array.as_binary_view().lengths().max().unwrap_or(0) as usize,
        DataType::Utf8 => of(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => of(array.as_string::<i64>().value_offsets()),
        DataType::Binary => of(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => of(array.as_binary::<i64>().value_offsets()),
        _ => value_bytes(array).div_ceil(array.len().max(1)),
    }
}

fn between<O: arrow_array::OffsetSizeTrait>(offsets: &[O]) -> usize {
    offsets.first().zip(offsets.last()).map_or(0, |(first, last)| (*last - *first).as_usize())
}

/// Decodes, and turns a panic into an error: the decoders may panic on damaged files, which must not end the run.
pub(crate) fn caught<T>(decode: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // Partial results are dropped with `decode`, so no state after a panic is observed.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(Fault::Damaged("the decoder panicked".to_owned())))
}

/// Why a part of a table cannot be decoded.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is damaged.
    Damaged(String),
    /// It cannot be read from the disk.
    Io(io::Error),
}

impl Fault {
    /// Returns the part, at its place.
    pub fn at(self, at: At) -> TablePart {
        match self {
            Self::Damaged(message) => TablePart::Damaged(at, message.replace('\n', " ")),
            Self::Io(error) => TablePart::Unreadable(error),
        }
    }
}

impl From<io::Error> for Fault {
    /// Distinguishes an I/O error from a damaged file: only the former has an error number of the operating system.
    fn from(error: io::Error) -> Self {
        if error.raw_os_error().is_some() { Self::Io(error) } else { Self::Damaged(error.to_string()) }
    }
}

impl From<ArrowError> for Fault {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => error.into(),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<ParquetError> for Fault {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(error) => (*error).into(),
                Err(cause) => Self::Damaged(cause.to_string()),
            },
            error => Self::Damaged(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
