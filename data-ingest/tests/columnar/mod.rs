//! Shared by the tests: columns, and tables as files.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::Field;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

/// Returns a table of these columns.
pub fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// Returns a column of texts.
pub fn texts<T: Into<Option<&'static str>>>(texts: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(texts.into_iter().map(Into::into).collect::<StringArray>())
}

/// Returns conversations as a column of lists of structs with two keys.
pub fn chats(keys: [&str; 2], chats: &[Vec<(String, String)>]) -> ArrayRef {
    let all = || chats.iter().flatten();
    let [first, second] = [
        StringArray::from_iter_values(all().map(|turn| &turn.0)),
        StringArray::from_iter_values(all().map(|turn| &turn.1)),
    ]
    .map(|array| Arc::new(array) as ArrayRef);
    let turns = StructArray::try_from(vec![(keys[0], first), (keys[1], second)]).unwrap();
    let item = Arc::new(Field::new_list_field(arrow_array::Array::data_type(&turns).clone(), true));
    let lengths = OffsetBuffer::from_lengths(chats.iter().map(Vec::len));
    Arc::new(arrow_array::ListArray::new(item, lengths, Arc::new(turns), None))
}

/// Writes a table as Parquet with row groups of this many rows.
pub fn parquet(table: &RecordBatch, group_rows: usize, compression: Compression) -> Vec<u8> {
    let properties =
        WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(group_rows)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), Some(properties)).unwrap();
    writer.write(table).unwrap();
    writer.close().unwrap();
    bytes
}

/// Writes a table as an Arrow file.
pub fn arrow_file(table: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new(&mut bytes, table.schema_ref()).unwrap();
    writer.write(table).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Writes a table as an Arrow stream.
pub fn arrow_stream(table: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, table.schema_ref()).unwrap();
    writer.write(table).unwrap();
    writer.finish().unwrap();
    bytes
}
