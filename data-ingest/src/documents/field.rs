//! The values of a row.

use serde_json::Value;

use crate::documents::document::MediaBytes;
use crate::documents::rejection::Reason;

/// The value of a row in a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    /// A value.
    Value(Value),
    /// Bytes, which need not be UTF-8.
    Bytes(Vec<u8>),
    /// A picture or sound, or a list of them.
    Media(MediaField),
    /// A value that cannot be used, and why: "is …", "contains …".
    Unusable(Reason, &'static str),
}

/// The pictures and sounds in a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MediaField {
    /// The bytes of each.
    pub items: Vec<MediaBytes>,
    /// Whether the column has lists of them.
    pub is_list: bool,
}

/// Returns the kind of a value, with an article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
