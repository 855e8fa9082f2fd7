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
}

impl RopeScaling {
    /// Returns what is wrong with the numbers, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        let positive = |name: &str, value: f64| {
            let wrong = !(value > 0.0 && value.is_finite());
            wrong.then(|| format!("{name} {value} is not a positive number"))
        };
        match *self {
            Self::Linear { factor } => positive("factor", factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context_length } => {
                let ordered = low_freq_factor < high_freq_factor;
                positive("factor", factor)
                    .or_else(|| positive("low_freq_factor", low_freq_factor))
                    .or_else(|| positive("high_freq_factor", high_freq_factor))
                    .or_else(|| (!ordered).then(|| "low_freq_factor is not below high_freq_factor".to_owned()))
                    .or_else(|| (original_context_length == 0).then(|| "the original context is 0 tokens".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_scalings_are_named() {
        let check = |scaling: RopeScaling, expected: Option<&str>| {
            assert_eq!(scaling.problem().as_deref(), expected);
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
    }
}
