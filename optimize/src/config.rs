//! The `[optimize]` table.

use model::Family;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Error;
use crate::format::{Format, Layout, Safetensors};

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
    /// the output projection stay in f16); and `model.gguf` with the tokenizer in it: `"gguf-f32"`, `"gguf-bf16"`,
    /// `"gguf-f16"`, `"gguf-q8_0"`, `"gguf-q6_k"`, `"gguf-q4_k_m"`, `"gguf-q4_0"`. Default `"bf16"`.
    #[serde(deserialize_with = "one_or_many")]
    pub formats: Vec<Format>,
    /// How the projections of the layers are rounded to integers, in int8, int4 and GGUF: `"nearest"`, each weight by
    /// itself; `"importance"`, with the error of a weight counted as much as the mean square of its input on
    /// calibration tokens; `"gptq"`, one column after the other, and each makes up for the error of those before it
    /// (GPTQ, 2022). Default `"gptq"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The number of tokens that `"importance"` and `"gptq"` compute with: the last of the validation split, if it has
    /// as many. Default 8192.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration_tokens: Option<u64>,
    /// The maximum difference between two logits of the same token in f32, bf16 or f16, in nats, GGUF or
    /// not. Default 0.5.
    pub max_logit_difference: f64,
    /// The maximum difference between the two mean validation losses in f32, bf16 or f16, in nats per token. Default
    /// 0.02.
    pub max_loss_difference: f64,
    /// The limits of int8.
    pub int8: IntegerLimits,
    /// The limits of int4.
    pub int4: IntegerLimits,
    /// The limits of gguf-q8_0.
    #[serde(rename = "gguf-q8_0", skip_serializing_if = "IntegerLimits::is_default")]
    pub gguf_q8_0: IntegerLimits,
    /// The limits of gguf-q6_k.
    #[serde(rename = "gguf-q6_k", skip_serializing_if = "IntegerLimits::is_default")]
    pub gguf_q6_k: IntegerLimits,
    /// The limits of gguf-q4_k_m.
    #[serde(rename = "gguf-q4_k_m", skip_serializing_if = "IntegerLimits::is_default")]
    pub gguf_q4_k_m: IntegerLimits,
    /// The limits of gguf-q4_0.
    #[serde(rename = "gguf-q4_0", skip_serializing_if = "IntegerLimits::is_default")]
    pub gguf_q4_0: IntegerLimits,
    /// The number of validation tokens to compare on, if the split has as many. Default 8192.
    pub parity_tokens: u64,
}

/// The limits of a format of integers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntegerLimits {
    /// The maximum difference between two logits of the same token, in nats. Default 2 for formats with 8 bits, 5 with
    /// 6 bits, 10 with 4 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_logit_difference: Option<f64>,
    /// The maximum difference between the two mean validation losses, in nats per token. Default 0.02 for formats with
    /// 8 bits, 0.05 with 6 bits, 0.2 with 4 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_loss_difference: Option<f64>,
}

/// Why GPT-2 has no int8 and int4, and what it has.
pub(crate) const TRANSPOSED: &str = "GPT-2 stores its projections transposed, which the layout of int8 and int4 does \
                                     not have; write gguf-q8_0 or gguf-q4_0 in its place";

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

/// The limits of a format.
pub(crate) struct Limits {
    /// The table of their keys in `[optimize]`, with a dot before it.
    table: String,
    pub(crate) max_logit_difference: f64,
    pub(crate) max_loss_difference: f64,
}

impl Limits {
    /// Returns the dotted keys of the two limits.
    pub(crate) fn keys(&self) -> [String; 2] {
        ["max_logit_difference", "max_loss_difference"].map(|key| format!("optimize{}.{key}", self.table))
    }
}

impl IntegerLimits {
    fn is_default(&self) -> bool {
        *self == Self::default()
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
            gguf_q8_0: IntegerLimits::default(),
            gguf_q6_k: IntegerLimits::default(),
            gguf_q4_k_m: IntegerLimits::default(),
            gguf_q4_0: IntegerLimits::default(),
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
        let invalid = |key: &str, reason: &str| Err(Error::Config { key: key.to_owned(), reason: reason.to_owned() });
        let formats = |reason: &str| invalid("optimize.formats", reason);
        if self.formats.is_empty() {
            return formats("must have at least one format: the bundle's");
        }
        if let Some(twice) = (1..self.formats.len()).find(|i| self.formats[..*i].contains(&self.formats[*i])) {
            return formats(&format!("names `{}` twice", self.formats[twice].name()));
        }
        for format in Format::ALL {
            let limits = self.limits(format);
            let values = [limits.max_logit_difference, limits.max_loss_difference];
            for (key, limit) in limits.keys().iter().zip(values) {
                if !(limit.is_finite() && limit >= 0.0) {
                    return invalid(key, &format!("must be a number of nats from 0 up, not {limit}"));
                }
            }
        }
        let tables = [
            (Format::Int8, &self.int8),
            (Format::Int4, &self.int4),
            (Format::GgufQ8_0, &self.gguf_q8_0),
            (Format::GgufQ6_K, &self.gguf_q6_k),
            (Format::GgufQ4_K_M, &self.gguf_q4_k_m),
            (Format::GgufQ4_0, &self.gguf_q4_0),
        ];
        let is_idle =
            |(format, limits): &(Format, &IntegerLimits)| !limits.is_default() && !self.formats.contains(format);
        if let Some((format, _)) = tables.into_iter().find(is_idle) {
            let name = format.name();
            let reason =
                format!("has limits of a format that optimize.formats does not have: add `{name}`, or remove it");
            return invalid(&format!("optimize.{name}"), &reason);
        }
        let has = |of: fn(Format) -> bool| self.formats.iter().any(|format| of(*format));
        if self.method.is_some() && !has(Format::is_quantized) {
            let reason = "rounds to integers, and optimize.formats has none of int8, int4, gguf-q8_0, gguf-q6_k, \
                          gguf-q4_k_m and gguf-q4_0";
            return invalid("optimize.method", reason);
        }
        if self.method == Some(Method::Importance) && !has(Format::has_chosen_scales) {
            let reason = "importance does not change int8 and gguf-q8_0, and optimize.formats has no other integers";
            return invalid("optimize.method", reason);
        }
        if let Some(tokens) = self.calibration_tokens {
            let reason = match tokens {
                0 => Some("must be at least 1"),
                _ if !has(Format::is_quantized) => Some("is for rounding to integers, and optimize.formats has none"),
                _ if self.method() == Method::Nearest => Some("is for the methods importance and gptq"),
                _ => None,
            };
            if let Some(reason) = reason {
                return invalid("optimize.calibration_tokens", reason);
            }
        }
        if self.parity_tokens == 0 {
            let reason = "must be at least 1: without a comparison, a bundle is not checked";
            return invalid("optimize.parity_tokens", reason);
        }
        Ok(())
    }

    /// Checks that a model of `family` can have the formats.
    ///
    /// # Errors
    /// Returns an error that names the format that it cannot have.
    pub fn check_family(&self, family: Family) -> Result<(), Error> {
        let is_impossible = |format: &&Format| {
            !family.is_rotary() && matches!(format.layout(), Layout::Safetensors(Safetensors { integers: Some(_), .. }))
        };
        let Some(format) = self.formats.iter().find(is_impossible) else { return Ok(()) };
        let key = "optimize.formats".to_owned();
        Err(Error::Config { key, reason: format!("has {}, but {TRANSPOSED}", format.name()) })
    }

    /// Returns the way to round to integers.
    pub(crate) fn method(&self) -> Method {
        self.method.unwrap_or(Method::Gptq)
    }

    /// Returns the limits of a format.
    pub(crate) fn limits(&self, format: Format) -> Limits {
        const EIGHT_BITS: (f64, f64) = (2.0, 0.02);
        const SIX_BITS: (f64, f64) = (5.0, 0.05);
        const FOUR_BITS: (f64, f64) = (10.0, 0.2);
        let (limits, (logit, loss)) = match format {
            Format::F32 | Format::Bf16 | Format::F16 | Format::GgufF32 | Format::GgufBf16 | Format::GgufF16 => {
                let (max_logit_difference, max_loss_difference) = (self.max_logit_difference, self.max_loss_difference);
                return Limits { table: String::new(), max_logit_difference, max_loss_difference };
            }
            Format::Int8 => (&self.int8, EIGHT_BITS),
            Format::Int4 => (&self.int4, FOUR_BITS),
            Format::GgufQ8_0 => (&self.gguf_q8_0, EIGHT_BITS),
            Format::GgufQ6_K => (&self.gguf_q6_k, SIX_BITS),
            Format::GgufQ4_K_M => (&self.gguf_q4_k_m, FOUR_BITS),
            Format::GgufQ4_0 => (&self.gguf_q4_0, FOUR_BITS),
        };
        Limits {
            table: format!(".{}", format.name()),
            max_logit_difference: limits.max_logit_difference.unwrap_or(logit),
            max_loss_difference: limits.max_loss_difference.unwrap_or(loss),
        }
    }

    /// Returns the part of the configuration that decides the output: all of it.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

/// Reads a format or a list of formats.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Format>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a format or a list of formats, of bf16, f16, f32, int8, int4, gguf-f32, gguf-bf16, \
                     gguf-f16, gguf-q8_0, gguf-q6_k, gguf-q4_k_m, gguf-q4_0"
    )]
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
                (Ok(config), Ok(expected)) => {
                    config.validate().unwrap();
                    assert_eq!(config.formats, expected);
                }
                (Ok(config), Err(expected)) => {
                    let error = config.validate().unwrap_err().to_string();
                    assert!(error.starts_with(expected), "{error}");
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
        check(r#"{"formats": "int5"}"#, Err("expected a format or a list of formats, of bf16, f16, f32, int8, int4"));
        check(r#"{"formats": ["bf16", "gguf-q4_k_m"]}"#, Ok(&[Format::Bf16, Format::GgufQ4_K_M]));
        for format in Format::ALL {
            let name = serde_json::to_value(format).unwrap();
            assert_eq!(name, format.name());
            let named: Result<Config, _> = serde_json::from_value(serde_json::json!({"formats": [name]}));
            assert_eq!(named.unwrap().formats, [format]);
        }
        check(r#"{"method": "gptq", "formats": ["f16", "gguf-f32"]}"#, Err("optimize.method rounds to integers, and "));
        let tokens = r#"{"formats": ["int4"], "method": "nearest", "calibration_tokens": 9}"#;
        check(tokens, Err("optimize.calibration_tokens is for the methods importance and gptq"));
        let tokens = r#"{"formats": "int8", "calibration_tokens": 0}"#;
        check(tokens, Err("optimize.calibration_tokens must be at least 1"));
        let tokens = r#"{"formats": "int4", "method": "importance", "calibration_tokens": 9}"#;
        check(tokens, Ok(&[Format::Int4]));
        let only_int8 = r#"{"formats": "int8", "method": "importance"}"#;
        check(only_int8, Err("optimize.method importance does not change int8 and gguf-q8_0, and"));
        let chosen = r#"{"formats": ["int8", "gguf-q6_k"], "method": "importance"}"#;
        check(chosen, Ok(&[Format::Int8, Format::GgufQ6_K]));
        let negative = r#"{"gguf-q6_k": {"max_logit_difference": -1}}"#;
        check(negative, Err("optimize.gguf-q6_k.max_logit_difference must be a number of nats from 0 up, not -1"));
        let limits = r#"{"formats": ["int4", "bf16"], "int4": {"max_loss_difference": 1}, "int8": {}}"#;
        check(limits, Ok(&[Format::Int4, Format::Bf16]));
        let idle = r#"{"formats": "int4", "gguf-q4_k_m": {"max_loss_difference": 1}}"#;
        check(
            idle,
            Err("optimize.gguf-q4_k_m has limits of a format that optimize.formats does not have: add `gguf-q4"),
        );
        let negative = r#"{"int4": {"max_loss_difference": -1}}"#;
        check(negative, Err("optimize.int4.max_loss_difference must be a number of nats from 0 up, not -1"));
    }
}
