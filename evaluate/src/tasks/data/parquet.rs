//! Rows of Parquet files as JSON, validated before they are decoded.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::bloom_filter::Sbbf;
use parquet::column::page::PageReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::RowGroupReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use parquet_validation::{Encryption, IoErrorSlot, Pages};
use serde_json::Value;

use crate::tasks::template::Item;

/// Returns the rows of a file.
///
/// # Errors
/// Returns the problem if it is damaged or encrypted, or has values that JSON does not have.
pub(super) fn rows(file: File) -> Result<Vec<Item>, String> {
    // The decoders may panic on damaged files.
    catch_unwind(AssertUnwindSafe(|| read(file))).unwrap_or_else(|_| Err("the file is damaged".to_owned()))
}

fn read(file: File) -> Result<Vec<Item>, String> {
    match parquet_validation::inspect(&file).map_err(|error| error.to_string())? {
        Encryption::Leaves(leaves) if leaves.is_empty() => {}
        _ => return Err("it is encrypted".to_owned()),
    }
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| error.to_string())?;
    let file = Arc::new(file);
    let mut items = Vec::new();
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows()).map_err(|_| "a row group claims less than no rows".to_owned())?;
        for column in group.columns() {
            parquet_validation::validate(&file, rows, column).map_err(|error| error.to_string())?;
        }
        let group = Group { file: Arc::clone(&file), metadata: group };
        for row in RowIter::from_row_group(None, &group).map_err(|error| error.to_string())? {
            items.push(item(&row.map_err(|error| error.to_string())?)?);
        }
    }
    Ok(items)
}

/// A row group whose pages are validated.
struct Group<'a> {
    file: Arc<File>,
    metadata: &'a RowGroupMetaData,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> ParquetResult<Box<dyn PageReader>> {
        let chunk = self.metadata.column(i);
        let description = chunk.column_descr();
        let levels = [description.max_rep_level(), description.max_def_level()];
        let rows = usize::try_from(self.metadata.num_rows())?;
        let pages = SerializedPageReader::new(Arc::clone(&self.file), chunk, rows, None)?;
        Ok(Box::new(Pages::new(pages, levels, IoErrorSlot::default())))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> ParquetResult<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

fn item(row: &Row) -> Result<Item, String> {
    row.get_column_iter().map(|(name, field)| Ok((name.clone(), value(field)?))).collect()
}

fn value(field: &Field) -> Result<Value, String> {
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => (*flag).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float16(number) => f32::from(*number).into(),
        Field::Float(number) => (*number).into(),
        Field::Double(number) => (*number).into(),
        Field::Str(text) => text.as_str().into(),
        Field::Group(row) => Value::Object(item(row)?),
        Field::ListInternal(list) => list.elements().iter().map(value).collect::<Result<_, _>>().map(Value::Array)?,
        Field::MapInternal(map) => {
            let entry = |(key, field): &(Field, Field)| match key {
                Field::Str(key) => Ok((key.clone(), value(field)?)),
                other => Err(format!("the key {other} of a map is not a text")),
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_, _>>()?)
        }
        // Rare in tasks, and none is a text: an error in the template that uses it would be worse to read.
        Field::Decimal(_)
        | Field::Bytes(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::String(field.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::*;

    /// Returns a file of two rows.
    fn file() -> File {
        let schema = "message items {
            required binary text (UTF8); optional int64 label;
            required group choices (LIST) { repeated group list { required binary element (UTF8); } }
        }";
        let file = tempfile::tempfile().unwrap();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::default());
        let mut writer = SerializedFileWriter::new(file.try_clone().unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|text| ByteArray::from(*text)).collect::<Vec<_>>();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&texts(&["a", "é"]), None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1], Some(&[1, 0]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&texts(&["x", "y", "z"]), Some(&[1, 1, 1]), Some(&[0, 1, 0]))
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    #[test]
    fn rows_have_texts_numbers_and_lists() {
        let rows = rows(file()).unwrap();
        assert_eq!(
            json!(rows),
            json!([
                {"text": "a", "label": 1, "choices": ["x", "y"]},
                {"text": "é", "label": null, "choices": ["z"]},
            ])
        );
        assert!(super::rows(tempfile::tempfile().unwrap()).is_err());
    }

    #[test]
    fn changed_bytes_do_not_abort_the_process() {
        let mut whole = Vec::new();
        let mut written = file();
        written.rewind().unwrap();
        written.read_to_end(&mut whole).unwrap();
        let read = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            rows(file)
        };
        assert_eq!(read(&whole).unwrap().len(), 2);
        for at in 0..whole.len() {
            for change in [0x01, 0x40, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                assert!(read(&bytes).is_err() || read(&bytes).unwrap().len() <= 4, "byte {at} changed by {change:x}");
            }
        }
        // The number of values in a page, of which the decoder would allocate as many.
        let mut claims = whole.clone();
        let at = claims.windows(3).position(|window| window == [0x2c, 0x15, 4]).unwrap();
        claims[at + 2] = 0x7f;
        assert!(read(&claims).unwrap_err().contains("claims"), "{:?}", read(&claims));
        let length = whole.len();
        whole[length - 1] = b'E';
        assert_eq!(read(&whole).unwrap_err(), "it is encrypted");
    }
}
