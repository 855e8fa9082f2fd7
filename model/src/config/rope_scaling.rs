//! Scaling of the rotary frequencies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the rotary frequencies are scaled to a longer context than the model was first trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// All frequencies divided by one factor (Extending Context Window of Large Language Models via Positional
    /// Interpolation, 2023).
    Linear {
        /// The factor by which the context grows.
        factor: f64,
    },
    /// Low frequencies divided by the factor, high ones kept, those between interpolated (The Llama 3 Herd of Models,
    /// 2024, in the form published with Llama 3.1).
    Llama3 {
        /// The factor by which the context grows.
        factor: f64,
        /// Frequencies with fewer rotations than this within the original context are divided by `factor`.
        low_freq_factor: f64,
        /// Frequencies with more rotations than this within the original context are kept.
        high_freq_factor: f64,
        /// The original context, in tokens.
        original_context_length: usize,
    },
    /// As `Llama3` in the frequencies, by a different ramp, and cosines and sines multiplied by a factor (`YaRN`:
    /// Efficient Context Window Extension of Large Language Models, 2023).
    Yarn {
        /// The factor by which the context grows.
        factor: f64,
        /// The original context, in tokens.
        original_context_length: usize,
        /// The factor of the cosines and sines.
        attention_factor: f64,
        /// Frequencies with more rotations than this within the original context are kept.
        beta_fast: f64,
        /// Frequencies with fewer rotations than this within the original context are divided by `factor`.
        beta_slow: f64,
        /// Whether the ends of the ramp are rounded to whole pairs.
        truncate: bool,
    },
    /// The base grows with the length of the text beyond the original context, so that all frequencies of a longer text
    /// differ from those of a shorter one (NTK-aware scaling, 2023, in Hugging Face's form). Cached keys keep the
    /// rotation that they had, as in transformers.
    Dynamic {
        /// The factor of the growth.
        factor: f64,
        /// The original context, in tokens: `max_position_embeddings`, to which transformers sets no limit.
        original_context_length: usize,
    },
}

impl RopeScaling {
    /// Returns what is wrong with the numbers, if anything, for heads with `rotary_dim` rotated elements.
    pub(super) fn problem(&self, rotary_dim: usize) -> Option<String> {
        let positive = |name: &str, value: f64| {
            let wrong = !(value > 0.0 && value.is_finite());
            wrong.then(|| format!("{name} {value} is not a positive number"))
        };
        let no_context = |length: usize| (length == 0).then(|| "the original context is 0 tokens".to_owned());
        match *self {
            Self::Linear { factor } => positive("factor", factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context_length } => {
                let ordered = low_freq_factor < high_freq_factor;
                positive("factor", factor)
                    .or_else(|| positive("low_freq_factor", low_freq_factor))
                    .or_else(|| positive("high_freq_factor", high_freq_factor))
                    .or_else(|| (!ordered).then(|| "low_freq_factor is not below high_freq_factor".to_owned()))
                    .or_else(|| no_context(original_context_length))
            }
            Self::Yarn { factor, original_context_length, attention_factor, beta_fast, beta_slow, .. } => {
                positive("factor", factor)
                    .or_else(|| positive("attention_factor", attention_factor))
                    .or_else(|| positive("beta_fast", beta_fast))
                    .or_else(|| positive("beta_slow", beta_slow))
                    .or_else(|| no_context(original_context_length))
            }
            Self::Dynamic { factor, original_context_length } => positive("factor", factor)
                .or_else(|| (factor < 1.0).then(|| format!("factor {factor} is below 1")))
                .or_else(|| (rotary_dim <= 2).then(|| "a head of one pair has no `dynamic` frequencies".to_owned()))
                .or_else(|| no_context(original_context_length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_scalings_are_named() {
        let check = |scaling: RopeScaling, expected: Option<&str>| {
            assert_eq!(scaling.problem(8).as_deref(), expected);
        };
        let llama3 = |low_freq_factor, high_freq_factor, original_context_length| RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor,
            high_freq_factor,
            original_context_length,
        };
        check(RopeScaling::Linear { factor: 2.0 }, None);
        check(RopeScaling::Linear { factor: 0.0 }, Some("factor 0 is not a positive number"));
        check(RopeScaling::Linear { factor: f64::NAN }, Some("factor NaN is not a positive number"));
        check(llama3(1.0, 4.0, 8192), None);
        check(llama3(4.0, 4.0, 8192), Some("low_freq_factor is not below high_freq_factor"));
        check(llama3(0.0, 4.0, 8192), Some("low_freq_factor 0 is not a positive number"));
        check(llama3(1.0, 4.0, 0), Some("the original context is 0 tokens"));
        let dynamic = |factor| RopeScaling::Dynamic { factor, original_context_length: 16 };
        check(dynamic(2.0), None);
        check(dynamic(0.5), Some("factor 0.5 is below 1"));
        let yarn = |attention_factor| RopeScaling::Yarn {
            factor: 4.0,
            original_context_length: 32,
            attention_factor,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
        };
        check(yarn(1.0), None);
        check(yarn(-1.0), Some("attention_factor -1 is not a positive number"));
    }
}
