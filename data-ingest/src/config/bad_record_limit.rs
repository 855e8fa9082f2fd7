//! The limit of bad records.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Bad records that a fraction always allows: one in a small file says nothing about the rest.
const ALWAYS_ALLOWED: u64 = 10;

/// The limit of bad records of a source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum BadRecordLimit {
    /// A count.
    Count(u64),
    /// A fraction of all its records, from 0 to 1; at least 10 are allowed.
    Fraction(f64),
}

impl BadRecordLimit {
    /// Returns true if `bad` of `records` records are allowed to be bad.
    pub(crate) fn allows(self, bad: u64, records: u64) -> bool {
        match self {
            Self::Count(limit) => bad <= limit,
            Self::Fraction(fraction) => bad <= ALWAYS_ALLOWED || bad as f64 <= fraction * records as f64,
        }
    }
}

impl fmt::Display for BadRecordLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(limit) => write!(f, "{limit}"),
            Self::Fraction(fraction) => write!(f, "{fraction:?}"),
        }
    }
}

impl JsonSchema for BadRecordLimit {
    fn schema_name() -> Cow<'static, str> {
        "BadRecordLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

impl<'de> Deserialize<'de> for BadRecordLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = BadRecordLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of records (100) or a fraction of them (0.01)")
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Self::Value, E> {
                Ok(BadRecordLimit::Count(count))
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Self::Value, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Signed(count), &self);
                u64::try_from(count).map(BadRecordLimit::Count).map_err(wrong)
            }

            fn visit_f64<E: serde::de::Error>(self, fraction: f64) -> Result<Self::Value, E> {
                if (0.0..=1.0).contains(&fraction) {
                    return Ok(BadRecordLimit::Fraction(fraction));
                }
                Err(E::invalid_value(serde::de::Unexpected::Float(fraction), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
