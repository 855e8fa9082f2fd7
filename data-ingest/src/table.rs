//! Tables: one column holds the text, every row is a document.
//!
//! Rows are numbered from 1: lines of a JSONL file, records after the header of a CSV file, rows of a Parquet file.

use std::fs::File;
use std::io::BufRead;
use std::path::Path;

use polars::prelude::{DataType, ParquetReader, PolarsError, SerReader};
use serde_json::Value;

use crate::Error;
use crate::read::Content;

/// Where rows are handed to: the row's number, and what the text column holds there.
type Row<'a> = dyn FnMut(u64, Option<Content>) -> Result<(), Error> + 'a;

/// Reads lines that are JSON objects; blank ones are passed over.
pub(crate) fn json_lines(mut reader: impl BufRead, path: &Path, column: &str, row: &mut Row<'_>) -> Result<(), Error> {
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(|e| artifact::Error::io("read", path, e))?;
        if read == 0 {
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |message: String| Error::Line { path: path.to_owned(), line, message };
        let mut value: Value = serde_json::from_slice(&text).map_err(|e| wrong(describe(&e)))?;
        let Some(object) = value.as_object_mut() else {
            return Err(wrong(format!("a JSON object is needed, and this is {}", kind(&value))));
        };
        match object.get_mut(column).map(Value::take) {
            Some(Value::String(text)) => row(line, Some(Content::Text(text)))?,
            Some(Value::Null) => row(line, None)?,
            Some(other) => return Err(wrong(format!("key `{column}` holds {}, not text", kind(&other)))),
            None => {
                let available = list(object.keys().map(String::as_str));
                return Err(wrong(format!("no key `{column}`; it has {available}: set the source's `text_column`")));
            }
        }
    }
    Ok(())
}

/// Reads values separated by `delimiter`, with a header.
pub(crate) fn delimited(
    reader: impl BufRead,
    path: &Path,
    delimiter: u8,
    column: &str,
    row: &mut Row<'_>,
) -> Result<(), Error> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
    let wrong = |e: csv::Error| unreadable_record(e, path);
    let header = reader.byte_headers().map_err(wrong)?.clone();
    // A byte order mark in front of the first name is no part of it.
    let name = |i: usize, bytes: &[u8]| {
        let name = String::from_utf8_lossy(bytes).into_owned();
        if i == 0 { name.trim_start_matches('\u{feff}').to_owned() } else { name }
    };
    let names: Vec<String> = header.iter().enumerate().map(|(i, bytes)| name(i, bytes)).collect();
    let index = names.iter().position(|name| name == column).ok_or_else(|| no_column(path, column, &names))?;
    let mut record = csv::ByteRecord::new();
    let mut number = 0;
    while reader.read_byte_record(&mut record).map_err(wrong)? {
        number += 1;
        row(number, record.get(index).map(|bytes| Content::of(bytes.to_vec())))?;
    }
    Ok(())
}

/// Reads a Parquet file, one row group in memory at a time.
pub(crate) fn parquet(path: &Path, column: &str, row: &mut Row<'_>) -> Result<(), Error> {
    let wrong = |source: PolarsError| Error::Parquet { operation: "read", path: path.to_owned(), source };
    let open = || File::open(path).map_err(|e| artifact::Error::io("read", path, e));
    let mut reader = ParquetReader::new(open()?);
    let schema = reader.schema().map_err(wrong)?;
    if !schema.contains(column) {
        let names: Vec<String> = schema.iter_names().map(ToString::to_string).collect();
        return Err(no_column(path, column, &names));
    }
    let metadata = reader.get_metadata().map_err(wrong)?.clone();
    let mut first = 0;
    for group in &metadata.row_groups {
        let rows = group.num_rows();
        let mut reader = ParquetReader::new(open()?);
        reader.set_metadata(metadata.clone());
        let frame = reader
            .with_columns(Some(vec![column.to_owned()]))
            .with_slice(Some((first, rows)))
            .finish()
            .map_err(wrong)?;
        let values = frame.column(column).map_err(wrong)?;
        // Number 1 is the first row, as in a text file.
        let mut number = first as u64;
        match values.dtype() {
            DataType::String => {
                for value in values.str().map_err(wrong)?.iter() {
                    number += 1;
                    row(number, value.map(|text| Content::Text(text.to_owned())))?;
                }
            }
            DataType::Binary => {
                for value in values.binary().map_err(wrong)?.iter() {
                    number += 1;
                    row(number, value.map(|bytes| Content::of(bytes.to_vec())))?;
                }
            }
            other => {
                let (column, found) = (column.to_owned(), other.to_string());
                return Err(Error::ColumnType { path: path.to_owned(), column, found });
            }
        }
        first += rows;
    }
    Ok(())
}

fn no_column(path: &Path, column: &str, names: &[String]) -> Error {
    let available = list(names.iter().map(String::as_str));
    Error::Column { path: path.to_owned(), column: column.to_owned(), available }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

fn unreadable_record(error: csv::Error, path: &Path) -> Error {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(source) => artifact::Error::io("read", path, source).into(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let message = format!("{len} fields, and the header has {expected_len}");
            Error::Line { path: path.to_owned(), line, message }
        }
        other => Error::Line { path: path.to_owned(), line, message: format!("{other:?}") },
    }
}

/// Returns what serde says about a line, without the line number that it counts from this line alone.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or(&text);
    format!("column {}: {cause}", error.column())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
