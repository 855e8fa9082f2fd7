//! Which elements dropout leaves out: a function of seed, stream and index, in whole numbers below 2³¹, so that every device
//! computes it alike and no mask is sent to one.

/// Dropout (Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014): which elements, is a function of seed
/// and stream, the same on every device and in every run.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The share of elements that become zero, at least 0 and below 1; the others are divided by `1 − rate`.
    pub rate: f64,
    /// Decides which.
    pub seed: u64,
    /// Decides which, too: another for each stream of a model.
    pub stream: u64,
}

/// The rounds of the cipher: with four, elements some way apart were alike by a hundredth more than chance; with six, none of
/// the distances to half a million.
const ROUNDS: usize = 6;
/// What half a number is multiplied by: below 2¹⁵, so that the product stays below 2³¹.
pub const MULTIPLIER: u32 = 0x6a35;

/// The function: an index, enciphered by a Feistel network (Horst Feistel, 1973) of halves of 16 bits, is dropped where it
/// comes out below a threshold.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// A key of 16 bits for each round.
    pub keys: [u32; ROUNDS],
    /// Of 2³¹.
    pub threshold: u32,
    /// What an element that is kept is multiplied by.
    pub keep: f32,
}

impl Dropout {
    /// Returns the function.
    ///
    /// # Panics
    /// When the rate is not at least 0 and below 1.
    pub(crate) fn mask(self) -> Mask {
        assert!((0.0..1.0).contains(&self.rate), "a dropout of {}", self.rate);
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
    /// Returns what the element with this index is multiplied by.
    #[allow(clippy::inline_always, reason = "as in `lanes`")]
    #[inline(always)]
    pub fn factor(self, index: u32) -> f32 {
        let (mut left, mut right) = (index >> 16, index & 0xffff);
        for key in self.keys {
            (left, right) = (right, left ^ ((((right ^ key) * MULTIPLIER) >> 8) & 0xffff));
        }
        if (((left & 0x7fff) << 16) | right) < self.threshold { 0.0 } else { self.keep }
    }

    /// Multiplies each element by its factor; the first has this index.
    #[allow(clippy::inline_always, reason = "as in `lanes`")]
    #[inline(always)]
    pub fn apply(self, x: &mut [f32], first: u32) {
        for (i, x) in x.iter_mut().enumerate() {
            *x *= self.factor(first.wrapping_add(i as u32));
        }
    }
}

/// The last steps of `SplitMix64` (Fast Splittable Pseudorandom Number Generators, 2014), on a counter multiplied by its odd
/// constant.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many deviations the share of equal neighbours at a distance, or of two masks, lies from chance.
    fn deviations(one: &[bool], other: &[bool], rate: f64) -> f64 {
        let both = one.iter().zip(other).filter(|(a, b)| **a && **b).count() as f64;
        let n = one.len() as f64;
        (both - n * rate * rate).abs() / (n * rate * rate * (1.0 - rate * rate)).sqrt()
    }

    #[test]
    fn neighbours_places_and_seeds_are_dropped_independently() {
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
