//! A column, and its values.

use serde_json::Value;

use super::MappingError;
use crate::documents::field::{Field, kind};
use crate::documents::rejection::Reason;

/// A column of a table, and what it is for.
pub(super) struct Column {
    pub name: String,
    pub part: Part,
}

/// The part of the document that a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Content,
    OptionalContent,
    /// Pictures or sounds of a template.
    Media,
    /// The tools of a conversation; may be missing.
    Tools,
    /// The weight of a conversation; may be missing.
    Weight,
    Id,
    Licence,
    Source,
}

impl Column {
    pub fn wrong_type(&self, field: &Field) -> MappingError {
        let found = match field {
            Field::Bytes(_) => "bytes that are not UTF-8",
            Field::Media(_) => "pictures or sounds",
            Field::Value(value) => kind(value),
            Field::Unusable(reason, why) => return MappingError::Bad(*reason, format!("`{}` {why}", self.name)),
        };
        MappingError::Bad(Reason::WrongType, format!("`{}` holds {found}, not text", self.name))
    }

    pub fn value(&self, field: Field) -> Result<Value, MappingError> {
        match field {
            Field::Value(value) => Ok(value),
            Field::Unusable(..) | Field::Media(_) => Err(self.wrong_type(&field)),
            Field::Bytes(bytes) => {
                String::from_utf8(bytes).map(Value::String).map_err(|e| self.wrong_type(&Field::Bytes(e.into_bytes())))
            }
        }
    }

    /// Returns text, empty if there is none.
    pub fn text(&self, field: Field) -> Result<String, MappingError> {
        match self.value(field)? {
            Value::String(text) => Ok(text),
            Value::Null => Ok(String::new()),
            other => Err(self.wrong_type(&Field::Value(other))),
        }
    }

    /// Returns a name, if there is one.
    pub fn name_of(&self, field: Option<Field>) -> Result<Option<String>, MappingError> {
        let name = field.map(|field| self.text(field)).transpose()?;
        Ok(name.filter(|name| !name.trim().is_empty()))
    }

    /// Returns the identifier, which must exist.
    pub fn id(&self, field: Option<Field>) -> Result<String, MappingError> {
        match field.map(|field| self.value(field)).transpose()? {
            None => Err(MappingError::Missing(vec![self.name.clone()])),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::String(_) | Value::Null) => {
                Err(MappingError::Bad(Reason::WrongType, format!("`{}` is empty; an id is needed", self.name)))
            }
            Some(other) => Err(self.wrong_type(&Field::Value(other))),
        }
    }
}
