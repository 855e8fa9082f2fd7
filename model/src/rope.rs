//! The frequencies of rotary positions.
//!
//! Every pair `i` of a head's C / 2 pairs turns by `frequency[i]` a position (RoFormer, 2021). Numbers are rounded to
//! f32 where PyTorch rounds them, so that far positions turn by the same angle.

use serde::{Deserialize, Serialize};

use crate::ModelConfig;

/// How the frequencies are stretched, so that a model reads more tokens than it was first trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// All frequencies divided by one factor (Extending Context Window of Large Language Models via Positional
    /// Interpolation, 2023).
    Linear {
        /// How many times longer the context becomes.
        factor: f64,
    },
    /// Slow frequencies divided by the factor, fast ones kept, those between blended (The Llama 3 Herd of Models, 2024,
    /// in the form that Llama 3.1 was published with).
    Llama3 {
        /// How many times longer the context becomes.
        factor: f64,
        /// Frequencies that turn fewer times than this in the original context are divided by `factor`.
        low_freq_factor: f64,
        /// Frequencies that turn more often than this in the original context are kept.
        high_freq_factor: f64,
        /// The context before stretching, in tokens.
        original_context_length: usize,
    },
}

impl RopeScaling {
    /// Says what is wrong with the numbers, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
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

    fn stretch(&self, frequency: f32) -> f32 {
        match *self {
            Self::Linear { factor } => frequency / factor as f32,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context_length } => {
                let original = original_context_length as f64;
                let wavelength = std::f64::consts::TAU as f32 / frequency;
                if wavelength < (original / high_freq_factor) as f32 {
                    frequency
                } else if wavelength > (original / low_freq_factor) as f32 {
                    frequency / factor as f32
                } else {
                    let kept = (original as f32 / wavelength - low_freq_factor as f32)
                        / (high_freq_factor - low_freq_factor) as f32;
                    (1.0 - kept) * frequency / factor as f32 + kept * frequency
                }
            }
        }
    }
}

/// Returns the radians that each pair of a head turns by at every position, after scaling.
///
/// # Shapes
/// - output: `[C / 2]`
pub fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let pairs = config.head_dim / 2;
    (0..pairs)
        .map(|i| {
            let exponent = f64::from(2.0 * i as f32 / config.head_dim as f32);
            let frequency = 1.0 / config.rope_theta.powf(exponent) as f32;
            config.rope_scaling.map_or(frequency, |scaling| scaling.stretch(frequency))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Family, config};

    /// The expected numbers are those of transformers 5.23 and PyTorch 2.15:
    /// `ROPE_INIT_FUNCTIONS[type](LlamaConfig(head_dim=8, rope_parameters=...), "cpu")[0].tolist()`.
    #[test]
    fn frequencies_are_those_of_transformers() {
        let check = |rope_scaling: Option<RopeScaling>, expected: [f32; 4]| {
            let config = ModelConfig { head_dim: 8, rope_scaling, ..config::tests::tiny(Family::Llama) };
            assert_eq!(frequencies(&config), expected, "{rope_scaling:?}");
        };
        check(None, [1.0, 0.1, 0.01, 0.001]);
        check(Some(RopeScaling::Linear { factor: 4.0 }), [0.25, 0.025, 0.0025, 0.00025]);
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context_length: 128,
        };
        check(Some(llama3), [1.0, 0.042_751_18, 0.00125, 0.000_125]);
    }

    #[test]
    fn impossible_scalings_are_named() {
        let check = |scaling: RopeScaling, expected: Option<&str>| {
            assert_eq!(scaling.fault().as_deref(), expected);
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
