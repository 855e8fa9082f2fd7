//! `order.parquet`: which documents the shards have, in their order.
//!
//! One row for each document of the shards: its split, and its row in `signals.parquet`, from 0. Both answers of a
//! preference, and the copies of a document that is repeated, have the same.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema};

use crate::Error;
use crate::engine::parquet::{ROWS, Table, Writer};
use crate::engine::split::Split;

/// Writes the order of the documents.
pub(crate) struct OrderWriter<'a> {
    path: &'a Path,
    writer: Writer,
    rows: Vec<(Split, u32)>,
}

impl<'a> OrderWriter<'a> {
    /// Creates the file at `path`.
    pub fn create(path: &'a Path) -> Result<Self, Error> {
        let columns = [Field::new("split", DataType::Utf8, true), Field::new("row", DataType::UInt32, true)];
        let writer = Writer::create(path, Arc::new(Schema::new(columns.to_vec())))?;
        Ok(Self { path, writer, rows: Vec::new() })
    }

    /// Adds the next document of a split, by its number among all documents.
    pub fn push(&mut self, split: Split, number: u32) -> Result<(), Error> {
        self.rows.push((split, number));
        if self.rows.len() < ROWS { Ok(()) } else { self.write() }
    }

    /// Writes the end of the file.
    pub fn finish(mut self) -> Result<(), Error> {
        self.write()?;
        self.writer.finish()
    }

    fn write(&mut self) -> Result<(), Error> {
        let splits: ArrayRef = Arc::new(StringArray::from_iter_values(self.rows.iter().map(|(split, _)| split.name())));
        let rows: ArrayRef = Arc::new(UInt32Array::from_iter_values(self.rows.drain(..).map(|(_, row)| row)));
        self.writer.write(&Table::new(self.path, [("split", splits), ("row", rows)].into_iter())?)
    }
}
