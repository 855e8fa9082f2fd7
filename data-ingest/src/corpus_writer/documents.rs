//! The rows of `documents-*.parquet`.

use std::sync::Arc;

use arrow_array::builder::{LargeListBuilder, LargeStringBuilder};
use arrow_array::{
    Array, ArrayRef, Float64Array, LargeBinaryArray, LargeListArray, LargeStringArray, RecordBatch, StructArray,
    UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};

use super::Row;
use crate::documents::chat::{Conversation, Message};
use crate::documents::document::Content;

/// Returns the columns: exactly one of `text`, `raw` and `messages` is set; `bytes` and `sha256` are of that one, and
/// of `messages` as compact JSON; `weight` is of a conversation. The column `media` is only in a corpus that may have
/// pictures and sounds: their digests, in the order of their places in `text`.
pub(super) fn schema(has_media: bool) -> Schema {
    let messages = DataType::LargeList(Arc::new(Field::new("element", DataType::Struct(message_fields()), true)));
    let columns = [
        ("id", DataType::LargeUtf8),
        ("text", DataType::LargeUtf8),
        ("raw", DataType::LargeBinary),
        ("messages", messages),
        ("tools", DataType::LargeUtf8),
        ("weight", DataType::Float64),
        ("source", DataType::LargeUtf8),
        ("path", DataType::LargeUtf8),
        ("licence", DataType::LargeUtf8),
        ("bytes", DataType::UInt64),
        ("sha256", DataType::LargeUtf8),
    ];
    let mut columns = columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec();
    if has_media {
        columns.push(Field::new("media", DataType::LargeList(digest_field()), true));
    }
    Schema::new(columns)
}

fn digest_field() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::LargeUtf8, true))
}

fn message_fields() -> Fields {
    let fields = [
        ("role", DataType::LargeUtf8),
        ("content", DataType::LargeUtf8),
        ("weight", DataType::Float64),
        ("fields", DataType::LargeUtf8),
    ];
    fields.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec().into()
}

/// Returns rows as columns.
pub(super) fn batch(rows: &[Row], has_media: bool) -> Result<RecordBatch, ArrowError> {
    let text =
        |of: &dyn Fn(&Row) -> String| -> ArrayRef { Arc::new(LargeStringArray::from_iter_values(rows.iter().map(of))) };
    let texts: LargeStringArray = rows
        .iter()
        .map(|row| match &row.document.content {
            Content::Text(text) => Some(text),
            Content::Raw(_) | Content::Chat(_) => None,
        })
        .collect();
    let raws: LargeBinaryArray = rows
        .iter()
        .map(|row| match &row.document.content {
            Content::Raw(bytes) => Some(bytes),
            Content::Text(_) | Content::Chat(_) => None,
        })
        .collect();
    let chats: Vec<Option<&Conversation>> = rows
        .iter()
        .map(|row| match &row.document.content {
            Content::Chat(chat) => Some(chat),
            Content::Text(_) | Content::Raw(_) => None,
        })
        .collect();
    let tools: LargeStringArray =
        chats.iter().map(|chat| chat.as_ref()?.tools.as_ref().map(ToString::to_string)).collect();
    let weights: Float64Array = chats.iter().map(|chat| chat.as_ref()?.weight).collect();
    let mut columns: Vec<ArrayRef> = vec![
        text(&|row| row.document.id.clone()),
        Arc::new(texts),
        Arc::new(raws),
        messages(&chats)?,
        Arc::new(tools),
        Arc::new(weights),
        text(&|row| row.source.clone()),
        text(&|row| row.document.path.clone()),
        text(&|row| row.licence.clone()),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.document.bytes))),
        text(&|row| row.document.sha256.to_string()),
    ];
    if has_media {
        columns.push(Arc::new(media(rows)));
    }
    RecordBatch::try_new(Arc::new(schema(has_media)), columns)
}

/// Returns the digests of each row's pictures and sounds; null for a row without.
fn media(rows: &[Row]) -> LargeListArray {
    let mut lists = LargeListBuilder::new(LargeStringBuilder::new()).with_field(digest_field());
    for row in rows {
        row.media.iter().for_each(|digest| lists.values().append_value(digest.to_string()));
        lists.append(!row.media.is_empty());
    }
    lists.finish()
}

/// Returns conversations as a column of lists of structs: `role`, `content`, `weight`, and the other keys of a message
/// as a JSON object in `fields`.
fn messages(chats: &[Option<&Conversation>]) -> Result<ArrayRef, ArrowError> {
    let all = || chats.iter().flatten().flat_map(|chat| &chat.messages);
    let fields = |message: &Message| {
        // Strings and JSON values always serialize.
        (!message.fields.is_empty()).then(|| serde_json::to_string(&message.fields).unwrap_or_default())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(LargeStringArray::from_iter_values(all().map(|message| &message.role))),
        Arc::new(all().map(|message| message.content.as_ref()).collect::<LargeStringArray>()),
        Arc::new(all().map(|message| message.weight).collect::<Float64Array>()),
        Arc::new(all().map(fields).collect::<LargeStringArray>()),
    ];
    let turns = StructArray::try_new(message_fields(), columns, None)?;
    let lengths = chats.iter().map(|chat| chat.map_or(0, |chat| chat.messages.len()));
    let nulls: NullBuffer = chats.iter().map(Option::is_some).collect::<Vec<_>>().into();
    let element = Arc::new(Field::new("element", turns.data_type().clone(), true));
    let lists = LargeListArray::try_new(element, OffsetBuffer::from_lengths(lengths), Arc::new(turns), Some(nulls))?;
    Ok(Arc::new(lists))
}
