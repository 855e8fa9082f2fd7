//! The signals that a pass writes for each file of the corpus.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema};

use crate::Error;
use crate::engine::parquet::{self, Table};
use crate::engine::record::{ColumnKind, Record, Signal};

/// Records that become a table at a time: with few, the offsets of their texts fit 32 bits.
const BATCH: usize = 1 << 10;

/// The columns that identify a document.
const IDENTITY: [(&str, DataType); 7] = [
    ("id", DataType::Utf8),
    ("piece", DataType::UInt32),
    ("source", DataType::Utf8),
    ("path", DataType::Utf8),
    ("licence", DataType::Utf8),
    ("bytes_in", DataType::UInt64),
    ("invalid_utf8", DataType::Boolean),
];

/// Writes the signals of records.
pub(crate) struct Writer {
    path: PathBuf,
    file: parquet::Writer,
    columns: Vec<(String, ColumnKind)>,
    with_identity: bool,
}

impl Writer {
    /// Creates a file of the steps' signals, in `columns`, and of the identity of records if `with_identity`.
    pub fn create(path: &Path, columns: Vec<(String, ColumnKind)>, with_identity: bool) -> Result<Self, Error> {
        let identity = if with_identity { &IDENTITY[..] } else { &[] };
        let identity = identity.iter().map(|(name, dtype)| Field::new(*name, dtype.clone(), true));
        let signals = columns.iter().map(|(name, kind)| {
            let dtype = match kind {
                ColumnKind::Number => DataType::Float64,
                ColumnKind::Text => DataType::Utf8,
            };
            Field::new(name, dtype, true)
        });
        let schema = Schema::new(identity.chain(signals).collect::<Vec<_>>());
        let file = parquet::Writer::create(path, Arc::new(schema))?;
        Ok(Self { path: path.to_owned(), file, columns, with_identity })
    }

    /// Adds records.
    pub fn write(&mut self, records: &[Record]) -> Result<(), Error> {
        for records in records.chunks(BATCH) {
            let identity = if self.with_identity { identity(records) } else { Vec::new() };
            let signals =
                self.columns.iter().enumerate().map(|(at, (name, kind))| (&**name, signals(records, at, *kind)));
            let table = Table::new(&self.path, identity.into_iter().chain(signals))?;
            self.file.write(&table)?;
        }
        Ok(())
    }

    /// Writes the end of the file.
    pub fn finish(self) -> Result<(), Error> {
        self.file.finish()
    }
}

fn identity(records: &[Record]) -> Vec<(&'static str, ArrayRef)> {
    let texts =
        |of: fn(&Record) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(records.iter().map(of))) };
    let values: [ArrayRef; 7] = [
        texts(|record| &record.document.id),
        Arc::new(UInt32Array::from_iter_values(records.iter().map(|record| record.piece))),
        texts(|record| &record.document.source),
        texts(|record| &record.document.path),
        texts(|record| &record.document.licence),
        Arc::new(UInt64Array::from_iter_values(records.iter().map(|record| record.document.bytes))),
        Arc::new(records.iter().map(|record| Some(record.document.invalid_utf8)).collect::<BooleanArray>()),
    ];
    IDENTITY.iter().map(|(name, _)| *name).zip(values).collect()
}

/// Returns column `at` of the signals.
fn signals(records: &[Record], at: usize, kind: ColumnKind) -> ArrayRef {
    let signals = records.iter().map(|record| &record.signals[at]);
    match kind {
        ColumnKind::Number => Arc::new(
            signals
                .map(|signal| match signal {
                    Signal::Number(number) => Some(*number),
                    _ => None,
                })
                .collect::<Float64Array>(),
        ),
        ColumnKind::Text => Arc::new(
            signals
                .map(|signal| match signal {
                    Signal::Text(text) => Some(&**text),
                    _ => None,
                })
                .collect::<StringArray>(),
        ),
    }
}
