//! Rows of Parquet files as JSON.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::Value;

use crate::tasks::template::Item;

/// Returns the rows of a file.
///
/// # Errors
/// Returns the problem if it is damaged, or has values that JSON does not have.
pub(super) fn rows(file: File) -> Result<Vec<Item>, String> {
    // Some damaged files panic in the decoders.
    let read = || {
        let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
        let rows = reader.get_row_iter(None).map_err(|error| error.to_string())?;
        rows.map(|row| item(&row.map_err(|error| error.to_string())?)).collect()
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the file is damaged".to_owned()))
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
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_have_texts_numbers_and_lists() {
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
        let rows = rows(file).unwrap();
        assert_eq!(
            json!(rows),
            json!([
                {"text": "a", "label": 1, "choices": ["x", "y"]},
                {"text": "é", "label": null, "choices": ["z"]},
            ])
        );
        assert!(super::rows(tempfile::tempfile().unwrap()).is_err());
    }
}
