//! Columnar tables: Parquet and Arrow IPC.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use polars::prelude::{
    AnyValue, BinaryChunked, Column, DataFrame, DataType, ParquetReader, PolarsError, PolarsResult, SerReader, Series,
    StringChunked,
};
use polars_arrow::io::ipc::read::{StreamReader, StreamState, read_stream_metadata};
use serde_json::{Map, Value};

use crate::Error;
use crate::documents::mapping::{Field, Mapping};
use crate::documents::rejection::At;
use crate::formats::arrow;
use crate::formats::parquet;

/// Bytes of a row group that are decompressed at a time. Heuristic, not measured.
const SLICE_BYTES: i64 = 32 << 20;
/// Bytes of rows that are passed on together. Heuristic, not measured.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// A columnar format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow IPC, the file or the stream format.
    Arrow,
}

/// A part of a table, or a problem with it.
pub(crate) enum TablePart {
    /// Rows: the number of the first, from 1, and the requested columns.
    Rows(u64, DataFrame),
    /// A part that cannot be decoded.
    Damaged(At, String),
    /// The table lacks a column.
    NoColumn { column: String, header: Vec<String> },
    /// The text column has another type.
    WrongType { column: String, found: String },
    /// An I/O error.
    Unreadable(io::Error),
}

type Visit<'a> = dyn FnMut(TablePart) -> Result<(), Error> + 'a;

/// Reads the columns of `mapping`, some rows at a time.
pub(crate) fn read(file: &File, table: Table, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    match table {
        Table::Parquet => row_groups(file, mapping, visit),
        Table::Arrow => arrow(file, mapping, visit),
    }
}

/// Returns the values of each row in the columns `names`.
pub(crate) fn rows<'a>(
    frame: &'a DataFrame,
    names: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = Vec<Option<Field>>> {
    let cells: Vec<Option<Cells<'_>>> = names.map(|name| frame.column(name).ok().map(Cells::of)).collect();
    (0..frame.height()).map(move |i| cells.iter().map(|cells| cells.as_ref().map(|cells| cells.field(i))).collect())
}

fn row_groups(file: &File, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut reader = match file.try_clone() {
        Ok(file) => ParquetReader::new(file),
        Err(error) => return visit(TablePart::Unreadable(error)),
    };
    let known = caught(|| reader.schema().and_then(|schema| Ok((schema, reader.get_metadata()?.clone()))));
    let (schema, metadata) = match known {
        Ok(known) => known,
        Err(error) => return visit(damaged(At::File, error)),
    };
    let header: Vec<String> = schema.iter_names().map(ToString::to_string).collect();
    let Some(wanted) = wanted(&header, mapping, visit)? else { return Ok(()) };
    let mut first = 0;
    for group in &metadata.row_groups {
        let height = group.num_rows();
        let chunks = || wanted.iter().filter_map(|name| group.columns_under_root_iter(name)).flatten();
        let validated = caught(|| Ok(chunks().try_for_each(|chunk| parquet::validate(file, height, chunk))?));
        if let Err(error) = validated {
            visit(damaged(At::Rows(first as u64 + 1, (first + height) as u64), error))?;
            first += height;
            continue;
        }
        let bytes: i64 = chunks().fold(0_i64, |sum, chunk| sum.saturating_add(chunk.uncompressed_size()));
        // Each slice decodes the dictionaries again, so a small group is read whole.
        let slices = usize::try_from(bytes / SLICE_BYTES).unwrap_or(0) + 1;
        let step = height.div_ceil(slices).max(1);
        for start in (0..height).step_by(step) {
            let length = step.min(height - start);
            let read = || {
                let mut reader = ParquetReader::new(file.try_clone()?);
                reader.set_metadata(metadata.clone());
                let slice = Some((first + start, length));
                reader.with_columns(Some(wanted.clone())).with_slice(slice).finish()
            };
            let number = (first + start) as u64 + 1;
            match caught(read) {
                Ok(frame) => hand_on(number, &frame, mapping, visit)?,
                Err(error) => visit(damaged(At::Rows(number, number + length as u64 - 1), error))?,
            }
        }
        first += height;
    }
    Ok(())
}

fn arrow(file: &File, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut reader = match arrow::open(file) {
        Ok(reader) => reader,
        Err(error) => return visit(damaged(At::File, error.into())),
    };
    let metadata = match caught(|| read_stream_metadata(&mut reader)) {
        Ok(metadata) => metadata,
        Err(error) => return visit(damaged(At::File, error)),
    };
    let header: Vec<String> = metadata.schema.iter_names().map(ToString::to_string).collect();
    let Some(wanted) = wanted(&header, mapping, visit)? else { return Ok(()) };
    let places = (0..header.len()).filter(|place| wanted.contains(&header[*place])).collect();
    let stream = StreamReader::new(reader, metadata, Some(places));
    let ready = stream.map_while(|state| match state {
        Ok(StreamState::Some(batch)) => Some(Ok(batch)),
        // A file is complete: without an end marker, it ends here.
        Ok(StreamState::Waiting) => None,
        Err(error) => Some(Err(error)),
    });
    batches(ready, mapping, visit)
}

/// Passes record batches on, up to the first that cannot be decoded: after it, row numbers are unknown.
fn batches<B: Into<DataFrame>>(
    mut batches: impl Iterator<Item = PolarsResult<B>>,
    mapping: &Mapping<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let mut number = 1;
    while let Some(frame) = caught(|| batches.next().map(|batch| Ok(batch?.into())).transpose()).transpose() {
        match frame {
            Ok(frame) => {
                hand_on(number, &frame, mapping, visit)?;
                number += frame.height() as u64;
            }
            Err(error) => return visit(damaged(At::Row(number), error)),
        }
    }
    Ok(())
}

/// Returns the columns to read; reports a missing column and returns none.
fn wanted(header: &[String], mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<Option<Vec<String>>, Error> {
    if let Some(column) = mapping.missing_in(header) {
        visit(TablePart::NoColumn { column: column.to_owned(), header: header.to_vec() })?;
        return Ok(None);
    }
    let mut wanted: Vec<String> = mapping.names().map(str::to_owned).filter(|name| header.contains(name)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    Ok(Some(wanted))
}

fn hand_on(number: u64, frame: &DataFrame, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    if let Some(column) = mapping.text().and_then(|name| frame.column(name).ok()) {
        let dtype = column.dtype();
        if !matches!(dtype, DataType::String | DataType::Binary) {
            return visit(TablePart::WrongType { column: column.name().to_string(), found: dtype.to_string() });
        }
    }
    let height = frame.height();
    if frame.columns().iter().any(|column| column.len() != height) {
        let message = "its columns are of different lengths".to_owned();
        return visit(TablePart::Damaged(At::Row(number), message));
    }
    let step = (height * PIECE_BYTES / frame.estimated_size().max(1)).clamp(1, height.max(1));
    for start in (0..height).step_by(step) {
        visit(TablePart::Rows(number + start as u64, frame.slice(start as i64, step)))?;
    }
    Ok(())
}

/// Decodes, and turns a panic into an error: polars panics on some damaged files, which must not end the run.
fn caught<T>(decode: impl FnOnce() -> PolarsResult<T>) -> PolarsResult<T> {
    // Partial results are dropped with `decode`, so no state after a panic is observed.
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(PolarsError::ComputeError("the decoder panicked".into())))
}

/// Distinguishes an I/O error from a damaged file: only the former has an error number of the operating system.
fn damaged(at: At, error: PolarsError) -> TablePart {
    match error {
        PolarsError::IO { error, .. } if error.raw_os_error().is_some() => {
            let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            TablePart::Unreadable(copy)
        }
        error => TablePart::Damaged(at, error.to_string().replace('\n', " ")),
    }
}

/// A column with access by row.
enum Cells<'a> {
    Text(&'a StringChunked),
    Bytes(&'a BinaryChunked),
    Values(Vec<Value>),
}

impl<'a> Cells<'a> {
    fn of(column: &'a Column) -> Self {
        match (column.str(), column.binary()) {
            (Ok(text), _) => Self::Text(text),
            (_, Ok(bytes)) => Self::Bytes(bytes),
            _ => Self::Values(values(column.as_materialized_series())),
        }
    }

    fn field(&self, row: usize) -> Field {
        let value = match self {
            Self::Text(text) => text.get(row).map(|text| Field::Value(Value::from(text))),
            Self::Bytes(bytes) => bytes.get(row).map(|bytes| Field::Bytes(bytes.to_vec())),
            Self::Values(values) => values.get(row).map(|value| Field::Value(value.clone())),
        };
        value.unwrap_or(Field::Value(Value::Null))
    }
}

/// Returns a column's values as JSON; dates and similar types as text.
fn values(series: &Series) -> Vec<Value> {
    let is_null = series.is_null();
    let or_null = |(i, value)| if is_null.get(i) == Some(true) { Value::Null } else { value };
    if let Ok(fields) = series.struct_() {
        let fields = fields.fields_as_series();
        let mut objects = vec![Map::new(); series.len()];
        for field in &fields {
            for (object, value) in objects.iter_mut().zip(values(field)) {
                object.insert(field.name().to_string(), value);
            }
        }
        return objects.into_iter().map(Value::Object).enumerate().map(or_null).collect();
    }
    let value = |value: AnyValue<'_>| match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => value.into(),
        AnyValue::List(items) => values(&items).into(),
        AnyValue::Int8(_) | AnyValue::Int16(_) | AnyValue::Int32(_) | AnyValue::Int64(_) => {
            value.extract::<i64>().into()
        }
        AnyValue::UInt8(_) | AnyValue::UInt16(_) | AnyValue::UInt32(_) | AnyValue::UInt64(_) => {
            value.extract::<u64>().into()
        }
        AnyValue::Float32(_) | AnyValue::Float64(_) => value.extract::<f64>().into(),
        other => other.get_str().map_or_else(|| Value::from(other.to_string()), Value::from),
    };
    series.iter().map(value).collect()
}
