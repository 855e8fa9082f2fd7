//! The `[optimize]` table.

use model::Dtype;
use model::compressed_tensors::Integers;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;

/// Keys of `[optimize]` that were renamed, as pairs of the old and the new one.
pub const RENAMED_KEYS: &[(&str, &str)] = &[("dtype", "formats")];

/// The configuration of stage optimize: the formats of the weights, and the limits of their distance from the
/// checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The formats to write the weights in, one or a list. The first is the bundle that is evaluated and served, the
    /// others are in its folder `formats`. `"bf16"` (half the bytes of f32, with its range), `"f16"`, `"f32"`,
    /// `"int8"` and `"int4"` (integers with a scale for each 32 of them, which the engine computes with; embeddings and
    /// the output projection stay in f16). Default `"bf16"`.
    #[serde(deserialize_with = "one_or_many")]
    pub formats: Vec<Format>,
    /// How int8 and int4 are rounded: `"nearest"`, each weight by itself; `"importance"`, with the error of a weight
    /// counted as much as the mean square of its input on calibration tokens; `"gptq"`, one column after the other, and
    /// each makes up for the error of those before it (GPTQ, 2022). Default `"gptq"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The number of tokens that `"importance"` and `"gptq"` compute with: the last of the validation split, if it has
    /// as many. Default 8192.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_tokens: Option<u64>,
    /// The maximum difference between two logits of the same token in f32, bf16 or f16, in nats. Default 0.5.
    pub max_logit_difference: f64,
    /// The maximum difference between the two mean validation losses in f32, bf16 or f16, in nats per token. Default
    /// 0.02.
    pub max_loss_difference: f64,
    /// The limits of int8.
    pub int8: IntegerLimits,
    /// The limits of int4.
    pub int4: IntegerLimits,
    /// The number of validation tokens to compare on, if the split has as many. Default 8192.
    pub parity_tokens: u64,
}

/// The limits of a format of integers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntegerLimits {
    /// The maximum difference between two logits of the same token, in nats. Default 2 for int8, 10 for int4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_logit_difference: Option<f64>,
    /// The maximum difference between the two mean validation losses, in nats per token. Default 0.02 for int8, 0.2 for
    /// int4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss_difference: Option<f64>,
}

/// A format of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// Brain floating point.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Integers of 8 bits with a scale for each 32.
    Int8,
    /// Integers of 4 bits with a scale for each 32.
    Int4,
}

/// A way to round weights to integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Each weight to the nearest.
    Nearest,
    /// Scales by the size of the inputs.
    Importance,
    /// GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, 2022.
    Gptq,
}

/// The limits of a format, and the prefix of their keys.
pub(crate) struct Limits {
    pub(crate) max_logit_difference: f64,
    pub(crate) max_loss_difference: f64,
    pub(crate) keys: [&'static str; 2],
}

impl Format {
    /// Returns the name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }

    /// Returns the type of the tensors that are not quantised.
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
            // As scales are.
            Self::F16 | Self::Int8 | Self::Int4 => Dtype::F16,
        }
    }

    /// Returns the integers that matrices are quantised to.
    pub(crate) fn integers(self) -> Option<Integers> {
        match self {
            Self::Int8 => Some(Integers::Int8),
            Self::Int4 => Some(Integers::Int4),
            _ => None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            formats: vec![Format::Bf16],
            method: None,
            calibration_tokens: None,
            max_logit_difference: 0.5,
            max_loss_difference: 0.02,
            int8: IntegerLimits::default(),
            int4: IntegerLimits::default(),
            parity_tokens: 8192,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        let formats = |reason: String| Err(Error::Config { key: "optimize.formats", reason });
        if self.formats.is_empty() {
            return formats("must have at least one format: the bundle's".to_owned());
        }
        if let Some(twice) = (1..self.formats.len()).find(|i| self.formats[..*i].contains(&self.formats[*i])) {
            return formats(format!("names `{}` twice", self.formats[twice].name()));
        }
        for format in [Format::F32, Format::Int8, Format::Int4] {
            let Limits { max_logit_difference, max_loss_difference, keys } = self.limits(format);
            for (key, limit) in keys.into_iter().zip([max_logit_difference, max_loss_difference]) {
                if !(limit.is_finite() && limit >= 0.0) {
                    let reason = format!("must be a number of nats from 0 up, not {limit}");
                    return Err(Error::Config { key, reason });
                }
            }
        }
        let has_integers = self.formats.iter().any(|format| format.integers().is_some());
        if self.method.is_some() && !has_integers {
            let reason = "rounds int8 and int4, and optimize.formats has neither".to_owned();
            return Err(Error::Config { key: "optimize.method", reason });
        }
        if self.method == Some(Method::Importance) && !self.formats.contains(&Format::Int4) {
            let reason = "importance changes only int4, which optimize.formats does not have".to_owned();
            return Err(Error::Config { key: "optimize.method", reason });
        }
        if let Some(tokens) = self.calibration_tokens {
            let reason = match tokens {
                0 => Some("must be at least 1"),
                _ if !has_integers => Some("is for int8 and int4, and optimize.formats has neither"),
                _ if self.method() == Method::Nearest => Some("is for the methods importance and gptq"),
                _ => None,
            };
            if let Some(reason) = reason {
                return Err(Error::Config { key: "optimize.calibration_tokens", reason: reason.to_owned() });
            }
        }
        if self.parity_tokens == 0 {
            let reason = "must be at least 1: without a comparison, a bundle is not checked".to_owned();
            return Err(Error::Config { key: "optimize.parity_tokens", reason });
        }
        Ok(())
    }

    /// Returns the way to round to integers.
    pub(crate) fn method(&self) -> Method {
        self.method.unwrap_or(Method::Gptq)
    }

    /// Returns the limits of a format.
    pub(crate) fn limits(&self, format: Format) -> Limits {
        let (max_logit_difference, max_loss_difference, keys) = match format {
            Format::F32 | Format::Bf16 | Format::F16 => (
                self.max_logit_difference,
                self.max_loss_difference,
                ["optimize.max_logit_difference", "optimize.max_loss_difference"],
            ),
            Format::Int8 => (
                self.int8.max_logit_difference.unwrap_or(2.0),
                self.int8.max_loss_difference.unwrap_or(0.02),
                ["optimize.int8.max_logit_difference", "optimize.int8.max_loss_difference"],
            ),
            Format::Int4 => (
                self.int4.max_logit_difference.unwrap_or(10.0),
                self.int4.max_loss_difference.unwrap_or(0.2),
                ["optimize.int4.max_logit_difference", "optimize.int4.max_loss_difference"],
            ),
        };
        Limits { max_logit_difference, max_loss_difference, keys }
    }

    /// Returns the part of the configuration that decides the output: all of it.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

/// Reads a format or a list of formats.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Format>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a format or a list of formats: bf16, f16, f32, int8, int4")]
    enum OneOrMany {
        One(Format),
        Many(Vec<Format>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(format) => vec![format],
        OneOrMany::Many(formats) => formats,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_one_or_a_list() {
        let check = |json: &str, expected: Result<&[Format], &str>| {
            let config: Result<Config, _> = serde_json::from_str(json);
            match (config.map_err(|e| e.to_string()), expected) {
                (Ok(config), expected) => {
                    let found = config.validate().map(|()| config.formats).map_err(|e| e.to_string());
                    assert_eq!(found.as_deref().map_err(String::as_str), expected);
                }
                (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{error}"),
                (Err(error), Ok(_)) => panic!("{error}"),
            }
        };
        check("{}", Ok(&[Format::Bf16]));
        check(r#"{"formats": "f16"}"#, Ok(&[Format::F16]));
        check(r#"{"formats": ["int8", "bf16"]}"#, Ok(&[Format::Int8, Format::Bf16]));
        check(r#"{"formats": []}"#, Err("optimize.formats must have at least one format: the bundle's"));
        check(r#"{"formats": ["int4", "bf16", "int4"]}"#, Err("optimize.formats names `int4` twice"));
        check(r#"{"formats": "int5"}"#, Err("a format or a list of formats: bf16, f16, f32, int8, int4"));
        check(r#"{"method": "gptq"}"#, Err("optimize.method rounds int8 and int4, and optimize.formats has neither"));
        let tokens = r#"{"formats": ["int4"], "method": "nearest", "calibration_tokens": 9}"#;
        check(tokens, Err("optimize.calibration_tokens is for the methods importance and gptq"));
        let tokens = r#"{"formats": "int8", "calibration_tokens": 0}"#;
        check(tokens, Err("optimize.calibration_tokens must be at least 1"));
        let tokens = r#"{"formats": "int4", "method": "importance", "calibration_tokens": 9}"#;
        check(tokens, Ok(&[Format::Int4]));
        let only_int8 = r#"{"formats": "int8", "method": "importance"}"#;
        check(only_int8, Err("optimize.method importance changes only int4, which optimize.formats does not have"));
        let negative = r#"{"int4": {"max_loss_difference": -1}}"#;
        check(negative, Err("optimize.int4.max_loss_difference must be a number of nats from 0 up, not -1"));
    }
}
