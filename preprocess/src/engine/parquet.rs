//! Signals as Parquet files, written in batches.

use std::fs::File;
use std::path::{Path, PathBuf};

use polars::io::parquet::write::BatchedWriter;
use polars::prelude::{
    Column, DataFrame, DataType, ParquetCompression, ParquetReader, ParquetWriter, PlSmallStr, PolarsError,
    PolarsResult, Schema, SerReader, StatisticsOptions,
};

use crate::Error;
use crate::engine::record::{ColumnKind, Record, Signal};

/// Writes a file of signals.
pub(crate) struct Table {
    path: PathBuf,
    writer: BatchedWriter<File>,
    columns: Vec<(String, ColumnKind)>,
    with_identity: bool,
}

/// The columns that identify a document.
const IDENTITY: [(&str, DataType); 7] = [
    ("id", DataType::String),
    ("piece", DataType::UInt32),
    ("source", DataType::String),
    ("path", DataType::String),
    ("licence", DataType::String),
    ("bytes_in", DataType::UInt64),
    ("invalid_utf8", DataType::Boolean),
];

impl Table {
    /// Creates a table of the steps' signals, in `columns`, and of the identity of records if `with_identity`.
    pub fn create(path: PathBuf, columns: Vec<(String, ColumnKind)>, with_identity: bool) -> Result<Self, Error> {
        let named = |(name, kind): &(String, ColumnKind)| {
            let dtype = match kind {
                ColumnKind::Number => DataType::Float64,
                ColumnKind::Text => DataType::String,
            };
            (PlSmallStr::from(name.as_str()), dtype)
        };
        let identity = if with_identity { &IDENTITY[..] } else { &[] };
        let identity = identity.iter().cloned().map(|(name, dtype)| (PlSmallStr::from(name), dtype));
        let schema: Schema = identity.chain(columns.iter().map(named)).collect();
        let writer = writer(&path, &schema)?;
        Ok(Self { path, writer, columns, with_identity })
    }

    /// Adds records.
    pub fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let written =
            frame(records, &self.columns, self.with_identity).and_then(|frame| self.writer.write_batch(&frame));
        written.map_err(|source| failed(&self.path, source))
    }

    /// Writes the end of the file.
    pub fn finish(self) -> Result<(), Error> {
        self.writer.finish().map_err(|source| failed(&self.path, source))?;
        Ok(artifact::file::sync(&self.path)?)
    }
}

/// Opens a Parquet file for writing in batches.
pub(crate) fn writer(path: &Path, schema: &Schema) -> Result<BatchedWriter<File>, Error> {
    let file = File::create(path).map_err(|e| artifact::Error::io("create", path, e))?;
    // The minimum and maximum of a column of texts are of no use.
    let statistics = StatisticsOptions { min_value: false, max_value: false, ..StatisticsOptions::default() };
    let writer = ParquetWriter::new(file)
        .with_compression(ParquetCompression::Zstd(None))
        .with_statistics(statistics)
        .batched(schema);
    writer.map_err(|source| failed(path, source))
}

/// Reads a whole table, or some of its columns.
pub(crate) fn read(path: &Path, columns: Option<&[&str]>) -> Result<DataFrame, Error> {
    let columns = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let file = File::open(path).map_err(|e| artifact::Error::io("open", path, e))?;
    let read = ParquetReader::new(file).with_columns(columns).finish();
    read.map_err(|source| Error::Signals { operation: "read", path: path.to_owned(), source })
}

/// Returns the error of a failed write. polars wraps I/O errors; their kind still identifies a full disk.
pub(crate) fn failed(path: &Path, source: PolarsError) -> Error {
    match source {
        PolarsError::IO { error, .. } => artifact::Error::io("write", path, std::io::Error::from(error.kind())).into(),
        source => Error::Signals { operation: "write", path: path.to_owned(), source },
    }
}

fn frame(records: &[Record], columns: &[(String, ColumnKind)], with_identity: bool) -> PolarsResult<DataFrame> {
    let column = |name: &str, of: &dyn Fn(&Record) -> String| -> Column {
        Column::new(name.into(), records.iter().map(of).collect::<Vec<String>>())
    };
    let identity = || {
        vec![
            column("id", &|r| r.document.id.clone()),
            Column::new("piece".into(), records.iter().map(|r| r.piece).collect::<Vec<u32>>()),
            column("source", &|r| r.document.source.clone()),
            column("path", &|r| r.document.path.clone()),
            column("licence", &|r| r.document.licence.clone()),
            Column::new("bytes_in".into(), records.iter().map(|r| r.document.bytes).collect::<Vec<u64>>()),
            Column::new("invalid_utf8".into(), records.iter().map(|r| r.document.invalid_utf8).collect::<Vec<bool>>()),
        ]
    };
    let mut all = if with_identity { identity() } else { Vec::new() };
    for (i, (name, kind)) in columns.iter().enumerate() {
        let name = name.as_str().into();
        all.push(match kind {
            ColumnKind::Number => {
                let number = |r: &Record| match r.signals[i] {
                    Signal::Number(number) => Some(number),
                    _ => None,
                };
                Column::new(name, records.iter().map(number).collect::<Vec<Option<f64>>>())
            }
            ColumnKind::Text => {
                let text = |r: &Record| match &r.signals[i] {
                    Signal::Text(text) => Some(text.to_string()),
                    _ => None,
                };
                Column::new(name, records.iter().map(text).collect::<Vec<Option<String>>>())
            }
        });
    }
    DataFrame::new(records.len(), all)
}

/// Reads some rows of a table: `(first, count)`.
pub(crate) fn read_rows(path: &Path, rows: (usize, usize)) -> Result<DataFrame, Error> {
    let file = File::open(path).map_err(|e| artifact::Error::io("open", path, e))?;
    let read = ParquetReader::new(file).with_slice(Some(rows)).finish();
    read.map_err(|source| Error::Signals { operation: "read", path: path.to_owned(), source })
}

/// Returns the number of rows of a table.
pub(crate) fn height(path: &Path) -> Result<usize, Error> {
    let file = File::open(path).map_err(|e| artifact::Error::io("open", path, e))?;
    let rows = ParquetReader::new(file).num_rows();
    rows.map_err(|source| Error::Signals { operation: "read", path: path.to_owned(), source })
}

/// Returns a column of texts.
pub(crate) fn texts(frame: &DataFrame, name: &str) -> PolarsResult<Vec<Option<String>>> {
    Ok(frame.column(name)?.str()?.iter().map(|value| value.map(str::to_owned)).collect())
}

/// Returns a column of numbers of any type.
pub(crate) fn numbers(frame: &DataFrame, name: &str) -> PolarsResult<Vec<Option<f64>>> {
    Ok(frame.column(name)?.cast(&DataType::Float64)?.f64()?.iter().collect())
}
