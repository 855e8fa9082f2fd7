//! The cosines and sines of rotary positions, computed up to the last position that was needed.
//!
//! R elements of a head are rotated (RoFormer, 2021).

use kernels::slices;
use model::{ModelConfig, RopeScaling, rope};

/// The rotations of a model's layers.
pub(super) struct Rotations {
    config: ModelConfig,
    global: Table,
    /// Of layers with a sliding window, if they differ.
    local: Option<Table>,
}

/// The cosines and sines of positions from 0.
struct Table {
    frequencies: Vec<f32>, // [R / 2]
    factor: f32,
    cos: Vec<f32>, // [positions, R / 2]
    sin: Vec<f32>, // [positions, R / 2]
}

impl Rotations {
    /// Returns the rotations of a model; None if it has learned positions.
    pub fn new(config: &ModelConfig) -> Option<Self> {
        if !config.family.is_rotary() {
            return None;
        }
        let global = Table::new(rope::frequencies(config, 0), rope::factor(config));
        let local = rope::local_frequencies(config).map(|frequencies| Table::new(frequencies, 1.0));
        Some(Self { config: config.clone(), global, local })
    }

    /// Returns R / 2.
    pub fn pairs(&self) -> usize {
        self.global.frequencies.len()
    }

    /// Returns true if layers with a sliding window have rotations of their own.
    pub fn has_local(&self) -> bool {
        self.local.is_some()
    }

    /// Writes the cosines and sines of a position, in a text of `tokens` tokens.
    ///
    /// # Shapes
    /// - cos, sin: `[R / 2]`
    pub fn global(&mut self, position: usize, tokens: usize, cos: &mut [f32], sin: &mut [f32]) {
        match self.config.rope_scaling {
            // The frequencies of all positions change with the length of the text.
            Some(RopeScaling::Dynamic { original_context_length, .. }) if tokens > original_context_length => {
                let frequencies = rope::frequencies(&self.config, tokens);
                rotation(&frequencies, self.global.factor, position, cos, sin);
            }
            _ => self.global.copy(position, cos, sin),
        }
    }

    /// As [`Rotations::global`], for layers with a sliding window that have rotations of their own.
    pub fn local(&mut self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        if let Some(local) = &mut self.local {
            local.copy(position, cos, sin);
        }
    }
}

impl Table {
    fn new(frequencies: Vec<f32>, factor: f32) -> Self {
        Self { frequencies, factor, cos: Vec::new(), sin: Vec::new() }
    }

    fn copy(&mut self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        let pairs = self.frequencies.len();
        let known = self.cos.len() / pairs;
        if position >= known {
            let positions = (position + 1).next_power_of_two();
            self.cos.resize(positions * pairs, 0.0);
            self.sin.resize(positions * pairs, 0.0);
            let rows = self.cos.chunks_exact_mut(pairs).zip(self.sin.chunks_exact_mut(pairs));
            for (position, (cos, sin)) in rows.enumerate().skip(known) {
                rotation(&self.frequencies, self.factor, position, cos, sin);
            }
        }
        cos.copy_from_slice(&self.cos[position * pairs..][..pairs]);
        sin.copy_from_slice(&self.sin[position * pairs..][..pairs]);
    }
}

/// Computes a rotation with the roundings of [`model::rope`].
fn rotation(frequencies: &[f32], factor: f32, position: usize, cos: &mut [f32], sin: &mut [f32]) {
    for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies) {
        let angle = f64::from(position as f32 * frequency);
        *cos = angle.cos() as f32 * factor;
        *sin = angle.sin() as f32 * factor;
    }
}

/// Rotates the first R elements of each head of C, in pairs of one element from each half of the R.
///
/// # Shapes
/// - heads: `[n C]`
/// - cos, sin: `[R / 2]`
pub(super) fn rotate(heads: &mut [f32], c: usize, cos: &[f32], sin: &[f32]) {
    if 2 * cos.len() == c {
        slices::rope(heads, cos, sin);
    } else {
        heads.chunks_exact_mut(c).for_each(|head| slices::rope(&mut head[..2 * cos.len()], cos, sin));
    }
}
