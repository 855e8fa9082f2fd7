//! Columns of pictures and sounds: bytes, structs with `bytes` (Hugging Face `datasets`), or lists of these.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray as _;
use arrow_schema::DataType;
use serde_json::Value;

use super::ReadField;
use super::cells::{ReadBytes, bytes};
use crate::documents::field::{Field, MediaField};
use crate::documents::rejection::Reason;

/// Returns the items of a row.
type ItemRange<'a> = Box<dyn Fn(usize) -> Range<usize> + 'a>;

/// Returns access to the pictures and sounds of a column, of which those of a row may have `max_bytes` together.
pub(super) fn fields(array: &dyn Array, max_bytes: u64) -> ReadField<'_> {
    let unusable =
        |_| Field::Unusable(Reason::WrongType, "is neither bytes nor a struct with `bytes`, nor a list of these");
    let (values, range): (&dyn Array, Option<ItemRange<'_>>) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            (list.values(), Some(Box::new(move |row| offsets[row] as usize..offsets[row + 1] as usize)))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.value_offsets();
            (list.values(), Some(Box::new(move |row| offsets[row] as usize..offsets[row + 1] as usize)))
        }
        _ => (array, None),
    };
    let Some(read) = items(values) else { return Box::new(unusable) };
    Box::new(move |row| {
        if array.is_null(row) {
            return Field::Value(Value::Null);
        }
        let rows = range.as_ref().map_or(row..row + 1, |range| range(row));
        let (mut items, mut left) = (Vec::new(), max_bytes);
        for at in rows {
            let Some(bytes) = read(at) else {
                let why = "has no bytes: its pictures or sounds are files elsewhere; write them into the table";
                return Field::Unusable(Reason::NoColumn, why);
            };
            let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                return Field::Unusable(Reason::TooLong, "has more bytes than max_file_bytes");
            };
            left = rest;
            items.push(Arc::new(bytes.to_vec()));
        }
        Field::Media(MediaField { items, is_list: range.is_some() })
    })
}

/// Returns access to the bytes of an array of bytes, or of structs with `bytes`.
fn items(array: &dyn Array) -> Option<ReadBytes<'_>> {
    let DataType::Struct(_) = array.data_type() else { return bytes(array) };
    let structs = array.as_struct();
    let read = bytes(structs.column_by_name("bytes")?.as_ref())?;
    Some(Box::new(move |row| structs.is_valid(row).then(|| read(row)).flatten()))
}
