//! Thresholds that can be disabled, and the criteria that use them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A limit: a number, or `false` to disable it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold(Option<f64>);

/// One criterion of a rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Criterion {
    /// The key of the threshold.
    pub key: &'static str,
    /// The name of the signal.
    pub signal: &'static str,
    /// The threshold.
    pub threshold: Threshold,
    is_minimum: bool,
    is_fraction: bool,
}

/// Why a document is dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// The key of the threshold.
    pub criterion: &'static str,
    /// The name of the signal.
    pub signal: &'static str,
    /// The value of the signal.
    pub value: f64,
    /// The threshold.
    pub limit: f64,
}

impl Threshold {
    /// No limit.
    pub const OFF: Self = Self(None);

    /// Returns the limit `value`.
    pub const fn new(value: f64) -> Self {
        Self(Some(value))
    }

    /// Returns the limit, if there is one.
    pub fn limit(self) -> Option<f64> {
        self.0
    }
}

impl Criterion {
    /// Returns the criterion that `signal` is at least `threshold`.
    pub(crate) fn at_least(key: &'static str, signal: &'static str, threshold: Threshold) -> Self {
        Self { key, signal, threshold, is_minimum: true, is_fraction: false }
    }

    /// Returns the criterion that `signal` is at most `threshold`.
    pub(crate) fn at_most(key: &'static str, signal: &'static str, threshold: Threshold) -> Self {
        Self { key, signal, threshold, is_minimum: false, is_fraction: false }
    }

    /// Returns the criterion for a signal that is a fraction, between 0 and 1.
    pub(crate) fn fraction(self) -> Self {
        Self { is_fraction: true, ..self }
    }

    /// Returns the failure of a document whose signal is `value`, or `None` if it meets the criterion.
    pub fn failure(&self, value: f64) -> Option<Failure> {
        let limit = self.threshold.limit()?;
        let fails = if self.is_minimum { value < limit } else { value > limit };
        fails.then_some(Failure { criterion: self.key, signal: self.signal, value, limit })
    }

    fn validate(&self) -> Result<(), String> {
        let Some(limit) = self.threshold.limit() else { return Ok(()) };
        let key = self.key;
        if !limit.is_finite() || limit < 0.0 {
            return Err(format!("{key} is {limit}, but must be false or a non-negative number"));
        }
        if self.is_fraction && limit > 1.0 {
            return Err(format!("{key} is {limit}, but a fraction must be false or between 0 and 1"));
        }
        Ok(())
    }
}

/// Returns the first of `criteria` that `signals`, named `names`, do not meet.
pub(crate) fn first_failure(criteria: &[Criterion], names: &[&'static str], signals: &[f64]) -> Option<Failure> {
    assert_eq!(names.len(), signals.len(), "signals of another rule");
    let value = |name| names.iter().position(|known| *known == name).map(|at| signals[at]);
    criteria.iter().find_map(|criterion| criterion.failure(value(criterion.signal)?))
}

/// Checks each threshold, and that no minimum exceeds the maximum of the same signal.
pub(crate) fn validate(criteria: &[Criterion]) -> Result<(), String> {
    criteria.iter().try_for_each(Criterion::validate)?;
    for least in criteria.iter().filter(|criterion| criterion.is_minimum) {
        for most in criteria.iter().filter(|criterion| !criterion.is_minimum && criterion.signal == least.signal) {
            if let (Some(low), Some(high)) = (least.threshold.limit(), most.threshold.limit())
                && low > high
            {
                return Err(format!("{} is {low}, more than {} = {high}", least.key, most.key));
            }
        }
    }
    Ok(())
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "{limit}"),
            None => write!(f, "false"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { criterion, signal, value, limit } = self;
        let relation = if value < limit { '<' } else { '>' };
        // Enough digits to tell value and limit apart, at least four.
        let digits = (4..17).find(|&digits| format!("{value:.digits$}") != format!("{limit:.digits$}")).unwrap_or(17);
        let value = (value * 10_f64.powi(digits as i32)).round() / 10_f64.powi(digits as i32);
        write!(f, "{signal} {value} {relation} {criterion} {limit}")
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_bool(false),
            // A count is written without a decimal point.
            Some(limit) if limit.fract() == 0.0 && limit.abs() < 1e15 => serializer.serialize_i64(limit as i64),
            Some(limit) => serializer.serialize_f64(limit),
        }
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "boolean"] })
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrFalse)
    }
}

struct NumberOrFalse;

impl Visitor<'_> for NumberOrFalse {
    type Value = Threshold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or false for no limit")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Threshold, E> {
        if value { Err(E::invalid_value(de::Unexpected::Bool(value), &self)) } else { Ok(Threshold::OFF) }
    }

    fn visit_unit<E: de::Error>(self) -> Result<Threshold, E> {
        Ok(Threshold::OFF)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Threshold, E> {
        Ok(Threshold::new(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Threshold, E> {
        Ok(Threshold::new(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Threshold, E> {
        Ok(Threshold::new(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_and_written() {
        let check = |json: &str, expected: Threshold, written: &str| {
            let threshold: Threshold = serde_json::from_str(json).unwrap();
            assert_eq!(threshold, expected, "{json}");
            assert_eq!(serde_json::to_string(&threshold).unwrap(), written, "{json}");
            assert_eq!(threshold.to_string(), written, "{json}");
        };
        check("50", Threshold::new(50.0), "50");
        check("50.0", Threshold::new(50.0), "50");
        check("0.1", Threshold::new(0.1), "0.1");
        check("-3", Threshold::new(-3.0), "-3");
        check("0", Threshold::new(0.0), "0");
        check("false", Threshold::OFF, "false");
        check("null", Threshold::OFF, "false");
        let refused = |json: &str, expected: &str| {
            let error = serde_json::from_str::<Threshold>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused("true", "invalid value: boolean `true`, expected a number, or false for no limit");
        refused("\"50\"", "invalid type: string \"50\", expected a number, or false for no limit");
    }

    #[test]
    fn failures_say_what_failed() {
        let check = |criterion: Criterion, value, expected: Option<&str>| {
            assert_eq!(criterion.failure(value).map(|failure| failure.to_string()).as_deref(), expected);
        };
        let least = |limit| Criterion::at_least("min_words", "words", limit);
        check(least(Threshold::new(50.0)), 12.0, Some("words 12 < min_words 50"));
        check(least(Threshold::new(50.0)), 50.0, None);
        check(least(Threshold::OFF), 0.0, None);
        let most = |limit| Criterion::at_most("max_fraction", "fraction", Threshold::new(limit));
        check(most(0.3), 1.0 / 3.0, Some("fraction 0.3333 > max_fraction 0.3"));
        check(most(0.3), 0.300_000_12, Some("fraction 0.3000001 > max_fraction 0.3"));
        check(most(0.3), 0.3, None);
        check(most(0.0), 1.0, Some("fraction 1 > max_fraction 0"));
    }

    #[test]
    fn criteria_are_checked() {
        let check = |criteria: &[Criterion], expected: &str| {
            assert_eq!(validate(criteria).err().unwrap_or_default(), expected);
        };
        let least = |limit| Criterion::at_least("min_words", "words", Threshold::new(limit));
        let most = |limit| Criterion::at_most("max_words", "words", Threshold::new(limit));
        check(&[least(50.0), most(50.0)], "");
        check(&[least(50.0), most(49.0)], "min_words is 50, more than max_words = 49");
        check(&[least(50.0), Criterion { threshold: Threshold::OFF, ..most(0.0) }], "");
        check(&[least(-1.0)], "min_words is -1, but must be false or a non-negative number");
        check(&[most(f64::NAN)], "max_words is NaN, but must be false or a non-negative number");
        check(&[most(f64::INFINITY)], "max_words is inf, but must be false or a non-negative number");
        check(&[most(2.0)], "");
        check(&[most(2.0).fraction()], "max_words is 2, but a fraction must be false or between 0 and 1");
        check(&[most(1.0).fraction(), most(0.0).fraction()], "");
    }
}
