//! Shuffled windows of the training split.
//!
//! An epoch cuts the tokens into windows of T + 1 that share one token, from an offset of its own, and visits them in
//! an order of its own. The order is a function of seed and window number alone, so that a resumed run reads the same
//! windows as the uninterrupted one without saving a state.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Samples the windows of a split.
#[derive(Debug)]
pub struct WindowSampler {
    seed: u64,
    total_tokens: usize,
    context_length: usize,
    per_epoch: usize,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
struct Epoch {
    number: u64,
    starts: Vec<usize>,
}

impl WindowSampler {
    /// Returns a sampler of windows of `context_length` tokens and their targets in a split of `total_tokens`; None if
    /// it is shorter than one window.
    pub fn new(seed: u64, total_tokens: usize, context_length: usize) -> Option<Self> {
        // One window less than fits, so that every offset leaves as many.
        let max = total_tokens.saturating_sub(1) / context_length;
        let per_epoch = if max > 1 { max - 1 } else { max };
        (per_epoch > 0).then_some(Self { seed, total_tokens, context_length, per_epoch, epoch: None })
    }

    /// Returns the number of windows in an epoch.
    #[cfg(test)]
    fn per_epoch(&self) -> usize {
        self.per_epoch
    }

    /// Returns the first token of a window, counted from 0 over the whole training.
    pub fn start(&mut self, index: u64) -> usize {
        let number = index / self.per_epoch as u64;
        if self.epoch.as_ref().is_none_or(|epoch| epoch.number != number) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(number + 1);
            let slack = self.total_tokens - 1 - self.per_epoch * self.context_length;
            let offset = rng.random_range(0..=slack as u64) as usize;
            let mut starts: Vec<usize> = (0..self.per_epoch).map(|i| offset + i * self.context_length).collect();
            starts.shuffle(&mut rng);
            self.epoch = Some(Epoch { number, starts });
        }
        let within = (index % self.per_epoch as u64) as usize;
        self.epoch.as_ref().map_or(0, |epoch| epoch.starts[within])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn split_shorter_than_a_window_is_refused() {
        assert!(WindowSampler::new(1, 0, 8).is_none());
        assert!(WindowSampler::new(1, 8, 8).is_none());
        let mut one = WindowSampler::new(1, 9, 8).unwrap();
        assert_eq!((one.per_epoch(), one.start(0), one.start(1)), (1, 0, 0));
    }

    proptest! {
        #[test]
        fn epoch_visits_each_window_once(seed: u64, total in 9..500usize, context in 1..8usize, epoch in 0..3u64) {
            let mut sampler = WindowSampler::new(seed, total, context).unwrap();
            let n = sampler.per_epoch() as u64;
            let mut starts: Vec<usize> = (epoch * n..(epoch + 1) * n).map(|i| sampler.start(i)).collect();
            starts.sort_unstable();
            prop_assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == context));
            prop_assert!(starts.last().unwrap() + context < total);
        }

        #[test]
        fn resumed_sampler_reads_the_same_windows(seed: u64, index in 0..300u64) {
            let mut sampler = WindowSampler::new(seed, 200, 4).unwrap();
            let uninterrupted: Vec<usize> = (0..=index).map(|i| sampler.start(i)).collect();
            let resumed = WindowSampler::new(seed, 200, 4).unwrap().start(index);
            prop_assert_eq!(uninterrupted[index as usize], resumed);
        }
    }
}
