//! Parquet files: some rows and columns of one as a table, and a writer in batches.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, BinaryArray, Float64Array, RecordBatch, RecordBatchReader, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use arrow_select::concat::concat_batches;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::Error;

/// Rows of a row group that is written, and of the signals in memory at a time.
pub(crate) const ROWS: usize = 1 << 15;

/// A file to read.
pub(crate) struct Reader {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
}

impl Reader {
    /// Opens a file and reads its metadata.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        // The Arrow schema that some writers embed only says how they had the values in memory: without it, a column of
        // texts has one type instead of four.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata =
            ArrowReaderMetadata::load(&open(&path)?, options).map_err(|error| failed("read", &path, error))?;
        Ok(Self { path, metadata })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns true if the file has a column of this name.
    pub fn has(&self, column: &str) -> bool {
        self.metadata.schema().index_of(column).is_ok()
    }

    /// Returns the first row and the number of rows of each row group.
    pub fn row_groups(&self) -> impl Iterator<Item = (usize, usize)> {
        self.metadata.metadata().row_groups().iter().scan(0, |first, group| {
            let rows = usize::try_from(group.num_rows()).unwrap_or(0);
            *first += rows;
            Some((*first - rows, rows))
        })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.row_groups().map(|(_, rows)| rows).sum()
    }

    /// Reads some columns, or all, of the rows `(first, count)`.
    pub fn read(&self, columns: Option<&[&str]>, rows: (usize, usize)) -> Result<Table, Error> {
        let batches = self.batches(columns, rows, rows.1)?;
        let schema = batches.schema();
        let batches = batches.collect::<Result<Vec<RecordBatch>, ArrowError>>();
        let rows = batches.and_then(|batches| concat_batches(&schema, &batches));
        let rows = rows.map_err(|error| failed("read", &self.path, error.into()))?;
        Ok(Table { path: self.path.clone(), rows })
    }

    /// Reads some columns, or all, of the rows `(first, count)`, in tables of up to `size` rows.
    pub fn tables(
        &self,
        columns: Option<&[&str]>,
        rows: (usize, usize),
        size: usize,
    ) -> Result<impl Iterator<Item = Result<Table, Error>>, Error> {
        Ok(self.batches(columns, rows, size)?.map(|rows| match rows {
            Ok(rows) => Ok(Table { path: self.path.clone(), rows }),
            Err(error) => Err(failed("read", &self.path, error.into())),
        }))
    }

    /// Only the row groups and pages with the rows are decoded.
    fn batches(
        &self,
        columns: Option<&[&str]>,
        (first, count): (usize, usize),
        size: usize,
    ) -> Result<ParquetRecordBatchReader, Error> {
        let root = |name: &&str| self.metadata.schema().index_of(name).map_err(|_| missing(&self.path, name));
        let mask = match columns {
            None => ProjectionMask::all(),
            Some(columns) => {
                let roots = columns.iter().map(root).collect::<Result<Vec<usize>, Error>>()?;
                ProjectionMask::roots(self.metadata.parquet_schema(), roots)
            }
        };
        let (mut groups, mut skipped) = (Vec::new(), 0);
        for (group, (start, rows)) in self.row_groups().enumerate() {
            if start + rows <= first {
                skipped = start + rows;
            } else if start < first + count {
                groups.push(group);
            }
        }
        ParquetRecordBatchReaderBuilder::new_with_metadata(open(&self.path)?, self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(groups)
            .with_offset(first - skipped)
            .with_limit(count)
            .with_batch_size(size)
            .build()
            .map_err(|error| failed("read", &self.path, error))
    }
}

/// Some rows and columns of a file.
pub(crate) struct Table {
    path: PathBuf,
    rows: RecordBatch,
}

impl Table {
    /// Returns a table that is to be written to `path`, with columns that may have nulls.
    pub fn new<'a>(path: &Path, columns: impl Iterator<Item = (&'a str, ArrayRef)>) -> Result<Self, Error> {
        let columns = columns.map(|(name, values)| (name, values, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns);
        let rows = rows.map_err(|error| failed("write", path, error.into()))?;
        Ok(Self { path: path.to_owned(), rows })
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Returns the columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &ArrayRef)> {
        self.rows.schema_ref().fields().iter().map(|field| field.name().as_str()).zip(self.rows.columns())
    }

    /// Returns a column of any type, or `None` if the file has no such column.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.rows.column_by_name(name)
    }

    /// Returns a column as texts: other values are formatted.
    pub fn texts(&self, name: &str) -> Result<StringArray, Error> {
        texts(&self.path, name, self.expect(name)?)
    }

    /// Returns a column as numbers: true is 1, and texts are parsed.
    pub fn numbers(&self, name: &str) -> Result<Float64Array, Error> {
        numbers(&self.path, name, self.expect(name)?)
    }

    /// Returns a column as bytes.
    pub fn bytes(&self, name: &str) -> Result<BinaryArray, Error> {
        Ok(cast(&self.path, name, self.expect(name)?, &DataType::Binary)?.as_binary().clone())
    }

    fn expect(&self, name: &str) -> Result<&ArrayRef, Error> {
        self.column(name).ok_or_else(|| missing(&self.path, name))
    }
}

/// Returns `values`, which are column `name` of `path`, as texts.
pub(crate) fn texts(path: &Path, name: &str, values: &dyn Array) -> Result<StringArray, Error> {
    Ok(cast(path, name, values, &DataType::Utf8)?.as_string().clone())
}

/// Returns `values`, which are column `name` of `path`, as numbers.
pub(crate) fn numbers(path: &Path, name: &str, values: &dyn Array) -> Result<Float64Array, Error> {
    Ok(cast(path, name, values, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

fn cast(path: &Path, name: &str, values: &dyn Array, to: &DataType) -> Result<ArrayRef, Error> {
    let from = values.data_type();
    let fail = |why: &str| Error::Column {
        path: path.to_owned(),
        column: name.to_owned(),
        problem: format!("is {from}, which cannot be read as {to}{why}"),
    };
    if from.is_nested() {
        return Err(fail(""));
    }
    // A value that cannot be converted is an error instead of a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(values, to, &options).map_err(|error| fail(&format!(": {error}")))
}

/// Writes a file in batches of rows.
pub(crate) struct Writer {
    path: PathBuf,
    writer: ArrowWriter<File>,
}

impl Writer {
    /// Creates a file with columns that may have nulls.
    pub fn create(path: &Path, schema: SchemaRef) -> Result<Self, Error> {
        let file = File::create(path).map_err(|e| artifact::Error::io("create", path, e))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(ROWS))
            // The minimum and maximum of a column of texts are of no use.
            .set_statistics_enabled(EnabledStatistics::None)
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(file, schema, options);
        Ok(Self { path: path.to_owned(), writer: writer.map_err(|error| failed("write", path, error))? })
    }

    /// Creates a file with the columns of `table`.
    pub fn like(path: &Path, table: &Table) -> Result<Self, Error> {
        Self::create(path, Arc::clone(table.rows.schema_ref()))
    }

    /// Adds rows.
    pub fn write(&mut self, table: &Table) -> Result<(), Error> {
        self.writer.write(&table.rows).map_err(|error| failed("write", &self.path, error))
    }

    /// Writes the end of the file.
    pub fn finish(self) -> Result<(), Error> {
        self.writer.close().map_err(|error| failed("write", &self.path, error))?;
        Ok(artifact::file::sync(&self.path)?)
    }
}

fn open(path: &Path) -> Result<File, Error> {
    Ok(File::open(path).map_err(|e| artifact::Error::io("open", path, e))?)
}

fn missing(path: &Path, column: &str) -> Error {
    Error::Column { path: path.to_owned(), column: column.to_owned(), problem: "is missing".to_owned() }
}

/// Returns the error of a failed operation. I/O errors, which the Parquet library wraps, are unwrapped, so that a full
/// disk is recognised.
fn failed(operation: &'static str, path: &Path, error: ParquetError) -> Error {
    let source = match error {
        ParquetError::External(source) => source,
        error => error.into(),
    };
    match source.downcast::<io::Error>() {
        Ok(source) => artifact::Error::io(operation, path, *source).into(),
        Err(source) => Error::Parquet { operation, path: path.to_owned(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::types::Int64Type;
    use arrow_array::{BooleanArray, Int64Array, ListArray, UInt64Array};

    fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
        let table = Table::new(path, columns.into_iter()).unwrap();
        let mut writer = Writer::like(path, &table).unwrap();
        writer.write(&table).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn rows_and_columns_are_selected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signals.parquet");
        let rows = 2 * ROWS + 100;
        let texts: StringArray = (0..rows).map(|row| (row % 3 > 0).then(|| format!("row {row}"))).collect();
        let numbers = UInt64Array::from_iter_values(0..rows as u64);
        write(&path, vec![("step.text", Arc::new(texts.clone())), ("step.number", Arc::new(numbers))]);
        let reader = Reader::open(path).unwrap();
        let groups: Vec<(usize, usize)> = reader.row_groups().collect();
        assert_eq!(groups, [(0, ROWS), (ROWS, ROWS), (2 * ROWS, 100)]);
        for (first, count) in [(0, 0), (0, 1), (5, 20), (ROWS - 3, 6), (ROWS, ROWS), (10, 2 * ROWS), (rows - 1, 1)] {
            let table = reader.read(Some(&["step.text"]), (first, count)).unwrap();
            assert_eq!(table.texts("step.text").unwrap(), texts.slice(first, count), "{first} {count}");
            assert!(table.column("step.number").is_none());
            let sizes: Vec<usize> =
                reader.tables(None, (first, count), 1000).unwrap().map(|table| table.unwrap().len()).collect();
            assert!(sizes.iter().all(|size| *size <= 1000));
            assert_eq!(sizes.iter().sum::<usize>(), count);
        }
        let all = reader.read(None, (0, reader.rows())).unwrap();
        assert_eq!(all.columns().map(|(name, _)| name).collect::<Vec<_>>(), ["step.text", "step.number"]);
        assert_eq!(all.texts("step.number").unwrap().value(rows - 1), (rows - 1).to_string());
    }

    #[test]
    fn values_are_converted_or_the_error_names_the_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)]), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("numbers", Arc::new(Int64Array::from(vec![Some(-7), None]))),
            ("bools", Arc::new(BooleanArray::from(vec![true, false]))),
            ("bytes", Arc::new(BinaryArray::from_vec(vec![b"caf\xe9", b"a"]))),
            ("texts", Arc::new(StringArray::from(vec!["0.5", "half"]))),
            ("lists", Arc::new(list)),
        ];
        write(&path, columns);
        let reader = Reader::open(path.clone()).unwrap();
        let table = reader.read(None, (0, 2)).unwrap();
        assert_eq!(table.texts("numbers").unwrap(), StringArray::from(vec![Some("-7"), None]));
        assert_eq!(table.numbers("bools").unwrap(), Float64Array::from(vec![1.0, 0.0]));
        assert_eq!(table.bytes("texts").unwrap(), BinaryArray::from_vec(vec![b"0.5", b"half"]));
        let check = |error: Error, expected: &str| {
            let expected = format!("column {}", expected.replacen(' ', &format!(" of {} ", path.display()), 1));
            assert!(error.to_string().starts_with(&expected), "{error}");
        };
        check(table.texts("words").unwrap_err(), "words is missing");
        check(reader.read(Some(&["numbers", "words"]), (0, 2)).err().unwrap(), "words is missing");
        check(table.texts("lists").unwrap_err(), "lists is List(Int64), which cannot be read as Utf8");
        check(table.numbers("texts").unwrap_err(), "texts is Utf8, which cannot be read as Float64: ");
        check(table.texts("bytes").unwrap_err(), "bytes is Binary, which cannot be read as Utf8: ");
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        for bytes in [&b""[..], b"PAR1", b"not a Parquet file"] {
            std::fs::write(&path, bytes).unwrap();
            let error = Reader::open(path.clone()).err().unwrap().to_string();
            assert_eq!(error, format!("cannot read {}", path.display()));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_recognised() {
        let path = Path::new("/dev/full");
        let table = Table::new(path, [("a", Arc::new(UInt64Array::from_iter_values(0..9)) as ArrayRef)].into_iter());
        let table = table.unwrap();
        let mut writer = Writer::like(path, &table).unwrap();
        let error = writer.write(&table).and_then(|()| writer.finish()).unwrap_err();
        assert!(matches!(error, Error::Artifact(artifact::Error::DiskFull { .. })), "{error:?}");
    }
}
