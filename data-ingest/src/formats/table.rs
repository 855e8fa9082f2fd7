//! Tables in a columnar format.

use std::fs::File;

use crate::Error;
use crate::documents::mapping::Mapping;
use crate::formats::columnar::Visit;
use crate::formats::{arrow, parquet};

/// A columnar format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow IPC, the file or the stream format.
    Arrow,
}

/// Reads the columns of `mapping`, some rows at a time.
pub(crate) fn read(file: &File, table: Table, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    match table {
        Table::Parquet => parquet::read(file, mapping, visit),
        Table::Arrow => arrow::read(file, mapping, visit),
    }
}
