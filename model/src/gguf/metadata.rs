//! The metadata of a file: keys and typed values.

use std::path::{Path, PathBuf};

use crate::Error;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer of 8 bits.
    U8(u8),
    /// An integer of 8 bits.
    I8(i8),
    /// An unsigned integer of 16 bits.
    U16(u16),
    /// An integer of 16 bits.
    I16(i16),
    /// An unsigned integer of 32 bits.
    U32(u32),
    /// An integer of 32 bits.
    I32(i32),
    /// A number of 32 bits.
    F32(f32),
    /// True or false.
    Bool(bool),
    /// A text.
    String(String),
    /// Values of one type.
    Array(Array),
    /// An unsigned integer of 64 bits.
    U64(u64),
    /// An integer of 64 bits.
    I64(i64),
    /// A number of 64 bits.
    F64(f64),
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned integers of 8 bits.
    U8(Vec<u8>),
    /// Integers of 8 bits.
    I8(Vec<i8>),
    /// Unsigned integers of 16 bits.
    U16(Vec<u16>),
    /// Integers of 16 bits.
    I16(Vec<i16>),
    /// Unsigned integers of 32 bits.
    U32(Vec<u32>),
    /// Integers of 32 bits.
    I32(Vec<i32>),
    /// Numbers of 32 bits.
    F32(Vec<f32>),
    /// True or false.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Unsigned integers of 64 bits.
    U64(Vec<u64>),
    /// Integers of 64 bits.
    I64(Vec<i64>),
    /// Numbers of 64 bits.
    F64(Vec<f64>),
}

impl Value {
    /// Returns the value as an integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::U32(x) => Some(x.into()),
            Self::U64(x) => Some(x),
            Self::I8(x) => x.try_into().ok(),
            Self::I16(x) => x.try_into().ok(),
            Self::I32(x) => x.try_into().ok(),
            Self::I64(x) => x.try_into().ok(),
            _ => None,
        }
    }

    /// Returns the value as a number. One of 32 bits becomes the number with the same shortest decimal form, so that
    /// 1e-6 is 1e-6.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => x.to_string().parse().ok(),
            Self::F64(x) => Some(x),
            _ => None,
        }
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

/// The metadata of a file, in order, with the file's path for errors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    path: PathBuf,
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// Returns empty metadata of the file at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), entries: Vec::new() }
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the entries.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.entries
    }

    /// Adds an entry, or replaces its value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Replaces all entries; the keys must differ.
    pub(super) fn replace_entries(&mut self, entries: Vec<(String, Value)>) {
        self.entries = entries;
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// Returns the text of a key, if there is one.
    ///
    /// # Errors
    /// Returns an error if the value is of another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "is not a text")),
        }
    }

    /// Returns the texts of a key, if there are any.
    ///
    /// # Errors
    /// Returns an error if the value is of another type.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::String(texts))) => Ok(Some(texts)),
            Some(_) => Err(self.wrong(key, "is not an array of texts")),
        }
    }

    /// Returns the flag of a key, if there is one.
    ///
    /// # Errors
    /// Returns an error if the value is of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "is not true or false")),
        }
    }

    /// Returns the number of a key, if there is one.
    ///
    /// # Errors
    /// Returns an error if the value is of another type.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "is not a number with a fraction")),
        }
    }

    /// Returns the integer of a key, if there is one.
    ///
    /// # Errors
    /// Returns an error if the value is not an integer from 0 to the largest size.
    pub fn usize(&self, key: &str) -> Result<Option<usize>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => {
                let size = value.as_u64().and_then(|value| value.try_into().ok());
                size.map(Some).ok_or_else(|| self.wrong(key, "is not one integer from 0"))
            }
        }
    }

    /// Returns an error about a key.
    pub fn wrong(&self, key: &str, reason: impl Into<String>) -> Error {
        Error::GgufKey { path: self.path.clone(), key: key.to_owned(), reason: reason.into() }
    }
}
