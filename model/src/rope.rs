//! Rotary position embeddings: frequencies and tables.
//!
//! Pair `i` of the C / 2 pairs of a head rotates by `frequencies[i]` radians per position (RoFormer, 2021). Numbers are
//! rounded to f32 where PyTorch rounds them, so that the angles of distant positions agree with it.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{ModelConfig, RopeScaling};

/// The cosines and sines of a range of positions.
pub(crate) struct RopeTables {
    pub(crate) cos: Tensor<2>, // [T, C / 2]
    pub(crate) sin: Tensor<2>, // [T, C / 2]
}

impl RopeTables {
    pub(crate) fn new(config: &ModelConfig, positions: Range<usize>, device: &Device) -> Self {
        let frequencies = frequencies(config);
        let (t, half) = (positions.len(), frequencies.len());
        let (mut cos, mut sin) = (Vec::with_capacity(t * half), Vec::with_capacity(t * half));
        for position in positions {
            for frequency in &frequencies {
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, vec![t, half]), device);
        Self { cos: table(cos), sin: table(sin) }
    }
}

/// Returns the radians per position of each pair of a head, after scaling.
///
/// # Shapes
/// - output: `[C / 2]`
pub fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let pairs = config.head_dim / 2;
    (0..pairs)
        .map(|i| {
            let exponent = f64::from(2.0 * i as f32 / config.head_dim as f32);
            let frequency = 1.0 / config.rope_theta.powf(exponent) as f32;
            config.rope_scaling.map_or(frequency, |scaling| scaled(scaling, frequency))
        })
        .collect()
}

fn scaled(scaling: RopeScaling, frequency: f32) -> f32 {
    match scaling {
        RopeScaling::Linear { factor } => frequency / factor as f32,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context_length } => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Family};

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
}
