//! Rotary position embeddings: frequencies and tables.
//!
//! Pair `i` of the C / 2 pairs of a head rotates by `frequencies[i]` radians per position (RoFormer, 2021). Numbers are
//! rounded to f32 where PyTorch rounds them, so that the angles of distant positions agree with it.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{ModelConfig, RopeScaling};

/// The cosines and sines of a range of positions; R elements of a head are rotated.
pub(crate) struct RopeTables {
    cos: Tensor<2>, // [T, R / 2]
    sin: Tensor<2>, // [T, R / 2]
}

impl RopeTables {
    /// Returns the tables of rotary frequencies whose cosines and sines are multiplied by a factor.
    pub(crate) fn new(frequencies: &[f32], factor: f32, positions: Range<usize>, device: &Device) -> Self {
        let (t, half) = (positions.len(), frequencies.len());
        let (mut cos, mut sin) = (Vec::with_capacity(t * half), Vec::with_capacity(t * half));
        for position in positions {
            for frequency in frequencies {
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32 * factor);
                sin.push(angle.sin() as f32 * factor);
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, vec![t, half]), device);
        Self { cos: table(cos), sin: table(sin) }
    }

    /// Returns x with the first R elements of each head of C rotated.
    ///
    /// # Shapes
    /// - x, output: `[B, T, n C]`
    pub(crate) fn rotate(&self, x: Tensor<3>, c: usize) -> Tensor<3> {
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let ([b, t, n], r) = (x.dims(), 2 * self.cos.dims()[1]);
        if r == c {
            return kernels::rope(x, cos, sin);
        }
        let x = x.reshape([b, t, n / c, c]); // [B, T, n, C]
        let rotated = kernels::rope(x.clone().narrow(3, 0, r).reshape([b, t, n / c * r]), cos, sin); // [B, T, n R]
        let rotated = rotated.reshape([b, t, n / c, r]); // [B, T, n, R]
        Tensor::cat(vec![rotated, x.narrow(3, r, c - r)], 3).reshape([b, t, n])
    }
}

/// Returns the radians per position of each pair of a head, after scaling, in a text of `tokens` tokens.
///
/// # Shapes
/// - output: `[R / 2]`
pub fn frequencies(config: &ModelConfig, tokens: usize) -> Vec<f32> {
    let r = config.rotary_dim();
    match config.rope_scaling {
        Some(RopeScaling::Dynamic { factor, original_context_length }) if tokens > original_context_length => {
            let growth = factor as f32 * tokens as f32 / original_context_length as f32 - (factor - 1.0) as f32;
            let theta = config.rope_theta as f32 * growth.powf((r as f64 / (r as f64 - 2.0)) as f32);
            unscaled(f64::from(theta), r)
        }
        None | Some(RopeScaling::Dynamic { .. }) => unscaled(config.rope_theta, r),
        Some(scaling) => {
            let frequencies = unscaled(config.rope_theta, r).into_iter().enumerate();
            frequencies.map(|(i, frequency)| scaled(scaling, frequency, i, r, config.rope_theta)).collect()
        }
    }
}

/// Returns the frequencies of layers with a sliding window, if they have their own.
pub fn local_frequencies(config: &ModelConfig) -> Option<Vec<f32>> {
    config.local_rope_theta.map(|theta| unscaled(theta, config.rotary_dim()))
}

/// Returns the factor of the cosines and sines.
pub fn factor(config: &ModelConfig) -> f32 {
    match config.rope_scaling {
        Some(RopeScaling::Yarn { attention_factor, .. }) => attention_factor as f32,
        _ => 1.0,
    }
}

fn unscaled(theta: f64, r: usize) -> Vec<f32> {
    let frequency = |i: usize| 1.0 / theta.powf(f64::from(2.0 * i as f32 / r as f32)) as f32;
    (0..r / 2).map(frequency).collect()
}

/// Returns the frequency of pair `i` of R / 2 after a scaling that does not depend on the length of the text.
fn scaled(scaling: RopeScaling, frequency: f32, i: usize, r: usize, theta: f64) -> f32 {
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
        RopeScaling::Yarn { factor, original_context_length, beta_fast, beta_slow, truncate, .. } => {
            // The pair that rotates so many times within the original context.
            let pair = |rotations: f64| {
                let wavelength = original_context_length as f64 / rotations;
                r as f64 * (wavelength / std::f64::consts::TAU).ln() / (2.0 * theta.ln())
            };
            let (low, high) = (pair(beta_fast), pair(beta_slow));
            let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
            let (low, mut high) = (low.max(0.0), high.min(r as f64 - 1.0));
            if low.to_bits() == high.to_bits() {
                high += 0.001;
            }
            let divided = ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
            frequency / factor as f32 * divided + frequency * (1.0 - divided)
        }
        RopeScaling::Dynamic { .. } => frequency,
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
            assert_eq!(frequencies(&config, 24), expected, "{rope_scaling:?}");
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
