//! Parquet: the requested columns of each row group, validated before they are decoded.
//!
//! Only these columns are converted to Arrow, so a type that cannot be read matters only if it is asked for. A row
//! group is decoded a few thousand rows at a time, page by page; a damaged one costs its rows and no others.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, PoisonError};

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema_by_columns};
use parquet::basic::Compression;
use parquet::column::page::PageIterator;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy, RowGroupMetaData,
};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::{SchemaDescriptor, Type};
use parquet_validation::{Encryption, HARMLESS_BYTES, IoErrorSlot, OneGroup, Pages};

use crate::Error;
use crate::documents::mapping::Mapping;
use crate::documents::rejection::At;
use crate::formats::columnar::{Fault, TablePart, Visit, caught, has_text, pass_on, wanted};

/// Bytes that are decoded at a time. Heuristic, not measured.
const BATCH_BYTES: u64 = 8 << 20;
/// Rows that are decoded at a time, for short ones. Heuristic, not measured.
const MAX_BATCH_ROWS: u64 = 1 << 14;

/// Reads the columns of `mapping`, some rows at a time.
pub(crate) fn read(file: &File, mapping: &Mapping<'_>, visit: &mut Visit<'_>) -> Result<(), Error> {
    let encrypted = match caught(|| Ok(parquet_validation::inspect(file)?)) {
        Ok(Encryption::Footer) => {
            return visit(TablePart::Unsupported(
                "it is encrypted; decrypt it, or leave it out with `exclude`".to_owned(),
            ));
        }
        Ok(Encryption::Leaves(encrypted)) => encrypted,
        Err(fault) => return visit(fault.at(At::File)),
    };
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let metadata = || {
        let mut reader = ParquetMetaDataReader::new().with_metadata_options(Some(options));
        reader.try_parse(file)?;
        Ok(reader.finish()?)
    };
    let metadata = match caught(metadata) {
        Ok(metadata) => metadata,
        Err(_) if !encrypted.is_empty() => {
            return visit(TablePart::Unsupported(
                "some of its columns are encrypted; decrypt it, or leave it out with `exclude`".to_owned(),
            ));
        }
        Err(fault) => return visit(fault.at(At::File)),
    };
    let header: Vec<String> = metadata
        .file_metadata()
        .schema_descr()
        .root_schema()
        .get_fields()
        .iter()
        .map(|field| field.name().to_owned())
        .collect();
    let Some(places) = wanted(&header, mapping, visit)? else { return Ok(()) };
    let columns = match caught(|| Ok(Columns::of(&metadata, &places, &encrypted))) {
        Ok(Ok(columns)) => columns,
        Ok(Err(unsupported)) => return visit(TablePart::Unsupported(unsupported)),
        Err(fault) => return visit(fault.at(At::File)),
    };
    if !has_text(&columns.schema, mapping, visit)? {
        return Ok(());
    }
    let file = match file.try_clone() {
        Ok(file) => Arc::new(file),
        Err(error) => return visit(TablePart::Unreadable(error)),
    };
    let mut number = 1;
    for group in metadata.row_groups() {
        let Ok(rows) = u64::try_from(group.num_rows()) else {
            let message = format!("a row group claims {} rows", group.num_rows());
            return visit(TablePart::Damaged(At::Row(number), message));
        };
        if rows > 0 {
            let part = GroupReader { file: &file, metadata: &metadata, group, columns: &columns, rows };
            if let Err((at, fault)) = part.read(number, visit)? {
                visit(fault.at(At::Rows(at, number + rows - 1)))?;
            }
        }
        number += rows;
    }
    Ok(())
}

/// The requested columns, as they are read.
struct Columns {
    levels: FieldLevels,
    schema: Schema,
    /// The place of each of their leaves in the file.
    leaves: Vec<usize>,
    /// The bytes of a value of each row whose size is fixed by its type, all together.
    fixed_bytes: u64,
}

impl Columns {
    /// Returns the columns at `places`, or why one of them cannot be read; the leaves `encrypted` cannot.
    fn of(metadata: &ParquetMetaData, places: &[usize], encrypted: &BTreeSet<usize>) -> Result<Self, String> {
        let descriptor = metadata.file_metadata().schema_descr();
        let roots = descriptor.root_schema().get_fields();
        let only = |places: &[usize]| {
            let fields = places.iter().map(|place| Arc::clone(&roots[*place])).collect();
            let root = Type::group_type_builder("schema").with_fields(fields).build();
            root.map(|root| SchemaDescriptor::new(Arc::new(root)))
        };
        let mut fields = Vec::with_capacity(places.len());
        let mut leaves = Vec::new();
        let mut fixed_bytes = 0_u64;
        for &place in places {
            let unsupported =
                |what: String| format!("column `{}` {what}, or leave the file out with `exclude`", roots[place].name());
            let own = (0..descriptor.num_columns()).filter(|leaf| descriptor.get_column_root_idx(*leaf) == place);
            for leaf in own {
                if encrypted.contains(&leaf) {
                    return Err(unsupported("is encrypted; decrypt it".to_owned()));
                }
                let packed = metadata.row_groups().iter().map(|group| group.column(leaf).compression());
                if packed.clone().any(|compression| compression == Compression::LZO) {
                    let what = "is compressed with LZO, which is not supported; write the file again with zstd";
                    return Err(unsupported(what.to_owned()));
                }
                leaves.push(leaf);
            }
            // With the types of the Arrow schema that the writer left, else without.
            let mask = ProjectionMask::roots(descriptor, [place]);
            let written = metadata.file_metadata().key_value_metadata();
            let hinted = parquet_to_arrow_schema_by_columns(descriptor, mask, written);
            let field = hinted.ok().and_then(|schema| schema.fields().first().cloned());
            let plain = || {
                let schema = parquet_to_arrow_schema_by_columns(&only(&[place])?, ProjectionMask::all(), None)?;
                schema.fields().first().cloned().ok_or_else(|| ParquetError::General("it has no values".to_owned()))
            };
            let field = field.map_or_else(plain, Ok).map_err(|error| {
                unsupported(format!("has a type that is not supported ({error}); write it with another type"))
            })?;
            let field = readable(&field);
            let bytes = fixed_bytes_of(field.data_type());
            if bytes > HARMLESS_BYTES {
                return Err(unsupported(format!(
                    "holds {}, of which each takes {bytes} bytes; write it as a list or as binary",
                    field.data_type()
                )));
            }
            fixed_bytes += bytes;
            fields.push(field);
        }
        let fields = Fields::from(fields);
        let levels = only(places)
            .and_then(|schema| parquet_to_arrow_field_levels(&schema, ProjectionMask::all(), Some(&fields)));
        let levels = levels.map_err(|error| format!("its columns cannot be read ({error}); write them again"))?;
        Ok(Self { levels, schema: Schema::new(fields), leaves, fixed_bytes })
    }
}

/// Returns the type in which a column is read: text and bytes as views, which share the memory of a dictionary's
/// values, and dictionaries and runs as their values.
fn readable(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, values) => {
            return readable(&Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone())));
        }
        DataType::RunEndEncoded(_, values) => {
            return readable(&Arc::new(field.as_ref().clone().with_data_type(values.data_type().clone())));
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            DataType::List(readable(item))
        }
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(readable(item), *length),
        DataType::Map(entries, is_sorted) => DataType::Map(readable(entries), *is_sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(readable).collect()),
        other => other.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// Returns the bytes of a value whose size is fixed by its type; a null takes as many.
fn fixed_bytes_of(data_type: &DataType) -> u64 {
    let positive = |length: i32| u64::try_from(length).unwrap_or(0);
    match data_type {
        DataType::FixedSizeBinary(width) => positive(*width),
        DataType::FixedSizeList(item, length) => {
            positive(*length).saturating_mul(fixed_bytes_of(item.data_type()).max(1))
        }
        DataType::Struct(fields) => {
            fields.iter().fold(0, |sum, field| sum.saturating_add(fixed_bytes_of(field.data_type())))
        }
        DataType::List(item) | DataType::Map(item, _) => fixed_bytes_of(item.data_type()),
        _ => 16,
    }
}

/// The requested columns of one row group.
struct GroupReader<'a> {
    file: &'a Arc<File>,
    metadata: &'a ParquetMetaData,
    group: &'a RowGroupMetaData,
    columns: &'a Columns,
    rows: u64,
}

impl GroupReader<'_> {
    /// Passes on the rows of the group, the first of which has this number. Returns the row from which on they cannot
    /// be decoded, and why.
    fn read(&self, first: u64, visit: &mut Visit<'_>) -> Result<Result<(), (u64, Fault)>, Error> {
        let chunks = || self.columns.leaves.iter().map(|leaf| self.group.column(*leaf));
        let validate = || Ok(chunks().try_for_each(|chunk| parquet_validation::validate(self.file, self.rows, chunk))?);
        if let Err(fault) = caught(validate) {
            return Ok(Err((first, fault)));
        }
        let unpacked = chunks()
            .fold(0_u64, |sum, chunk| sum.saturating_add(u64::try_from(chunk.uncompressed_size()).unwrap_or(u64::MAX)));
        let row_bytes = (unpacked / self.rows).max(self.columns.fixed_bytes);
        let step = (BATCH_BYTES / row_bytes.max(1)).clamp(1, MAX_BATCH_ROWS);
        let io_error = IoErrorSlot::default();
        let chunks = Chunks { part: self, io_error: Arc::clone(&io_error) };
        // The I/O error if there was one, else that of the decoder.
        let cause = |fault| match io_error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Fault::Io(error),
            None => fault,
        };
        let open = || {
            let levels = &self.columns.levels;
            Ok(ParquetRecordBatchReader::try_new_with_row_groups(levels, &chunks, step as usize, None)?)
        };
        let mut reader = match caught(open) {
            Ok(reader) => reader,
            Err(fault) => return Ok(Err((first, cause(fault)))),
        };
        let mut number = first;
        let end = first + self.rows;
        while number < end {
            match caught(|| Ok(reader.next().transpose()?)) {
                Ok(Some(batch)) if batch.num_rows() > 0 && batch.num_rows() as u64 <= end - number => {
                    pass_on(number, &batch, visit)?;
                    number += batch.num_rows() as u64;
                }
                Ok(_) => {
                    let message = format!("its columns do not have the {} rows of the row group", self.rows);
                    return Ok(Err((number, Fault::Damaged(message))));
                }
                Err(fault) => return Ok(Err((number, cause(fault)))),
            }
        }
        Ok(Ok(()))
    }
}

/// The pages of a row group's requested columns, in the order of their leaves.
struct Chunks<'a> {
    part: &'a GroupReader<'a>,
    io_error: IoErrorSlot,
}

impl RowGroups for Chunks<'_> {
    fn num_rows(&self) -> usize {
        self.part.rows as usize
    }

    fn column_chunks(&self, leaf: usize) -> parquet::errors::Result<Box<dyn PageIterator>> {
        let chunk = self.part.group.column(self.part.columns.leaves[leaf]);
        let description = chunk.column_descr();
        let levels = [description.max_rep_level(), description.max_def_level()];
        let pages = SerializedPageReader::new(Arc::clone(self.part.file), chunk, self.num_rows(), None)?;
        Ok(Box::new(OneGroup(Some(Pages::new(pages, levels, Arc::clone(&self.io_error))))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.part.group))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.part.metadata
    }
}

#[cfg(test)]
mod tests;
