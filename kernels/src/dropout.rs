//! Dropout masks.
//!
//! Whether an element is dropped is a function of seed, stream and index in integers below 2³¹, so that every device
//! computes the same mask itself.

use rayon::prelude::*;

use crate::dispatch::{ELEMENTS_PER_TASK, vectorized};

/// Dropout (Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014). The mask is a function of seed
/// and stream, the same on every device and in every run.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The probability that an element becomes zero, at least 0 and below 1; the others are divided by `1 − rate`.
    pub rate: f64,
    /// The seed of the mask.
    pub seed: u64,
    /// Distinguishes the masks of one seed: a different stream for each use of dropout in a model.
    pub stream: u64,
}

/// The rounds of the cipher. Measured: with four, elements at some distances were dropped together 1 % more often than
/// by chance; with six, at none of the distances up to half a million.
const ROUNDS: usize = 6;
/// The multiplier of a round: below 2¹⁵, so that its product with a half stays below 2³¹.
pub const MULTIPLIER: u32 = 0x6a35;

/// A mask: the index of an element is encrypted by a Feistel network (Horst Feistel, 1973) of 16-bit halves, and the
/// element is dropped if the result is below a threshold.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// The key of each round, of 16 bits.
    pub keys: [u32; ROUNDS],
    /// The threshold, out of 2³¹.
    pub threshold: u32,
    /// The factor of an element that is kept.
    pub keep: f32,
}

impl Dropout {
    /// Returns the mask.
    ///
    /// # Panics
    /// Panics if the rate is not at least 0 and below 1.
    pub(crate) fn mask(self) -> Mask {
        assert!((0.0..1.0).contains(&self.rate), "a dropout probability of {}", self.rate);
        let first = mixed(self.seed ^ mixed(self.stream.wrapping_add(1)));
        let words = [first, mixed(first)];
        Mask {
            keys: std::array::from_fn(|i| (words[i / 4] >> (16 * (i % 4))) as u32 & 0xffff),
            threshold: (self.rate * f64::from(1u32 << 31)) as u32,
            keep: (1.0 / (1.0 - self.rate)) as f32,
        }
    }
}

impl Mask {
    /// Returns the factor of the element with this index: 0 or 1 / (1 − rate).
    #[allow(clippy::inline_always, reason = "as in `simd`")]
    #[inline(always)]
    pub fn factor(self, index: u32) -> f32 {
        let (mut left, mut right) = (index >> 16, index & 0xffff);
        for key in self.keys {
            (left, right) = (right, left ^ ((((right ^ key) * MULTIPLIER) >> 8) & 0xffff));
        }
        if (((left & 0x7fff) << 16) | right) < self.threshold { 0.0 } else { self.keep }
    }

    /// Multiplies each element by its factor; `first` is the index of the first.
    #[allow(clippy::inline_always, reason = "as in `simd`")]
    #[inline(always)]
    pub fn apply(self, x: &mut [f32], first: u32) {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= self.factor(first.wrapping_add(i as u32));
        }
    }
}

/// Multiplies each element by its factor.
pub fn dropout(x: &mut [f32], mask: Mask) {
    x.par_chunks_mut(ELEMENTS_PER_TASK).enumerate().for_each(|(task, x)| {
        vectorized!(mask.apply(x, (task * ELEMENTS_PER_TASK) as u32));
    });
}

/// The finaliser of `SplitMix64` (Fast Splittable Pseudorandom Number Generators, 2014), on a counter multiplied by its
/// odd constant.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many standard deviations the number of elements dropped in both masks is from chance.
    fn deviations(one: &[bool], other: &[bool], rate: f64) -> f64 {
        let both = one.iter().zip(other).filter(|(a, b)| **a && **b).count() as f64;
        let n = one.len() as f64;
        (both - n * rate * rate).abs() / (n * rate * rate * (1.0 - rate * rate)).sqrt()
    }

    #[test]
    fn elements_streams_and_seeds_are_independent() {
        let n = 1 << 18;
        let mask = |seed, stream| -> Vec<bool> {
            let mask = Dropout { rate: 0.2, seed, stream }.mask();
            (0..n).map(|i| mask.factor(i) == 0.0).collect()
        };
        let one = mask(1, 2);
        for distance in (1..300).chain([384, 1024, 4096, 65_535, 65_536, 65_537]) {
            let found = deviations(&one[distance..], &one[..one.len() - distance], 0.2);
            assert!(found < 5.5, "{found} deviations at a distance of {distance}");
        }
        for (seed, stream) in [(1, 1), (1, 3), (2, 2), (2, 1), (0, 0), (u64::MAX, 2)] {
            let found = deviations(&one, &mask(seed, stream), 0.2);
            assert!(found < 5.0, "{found} deviations from seed {seed}, stream {stream}");
        }
    }
}
