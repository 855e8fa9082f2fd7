//! The order of the training data: shuffled windows, a function of seed and step alone.
//!
//! An epoch cuts the tokens into windows of T + 1 that share one token, beginning at an offset of its own, and walks over
//! them in an order of its own. Nothing is remembered between steps, so a resumed run reads what the uninterrupted one
//! would have read.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The windows of a split.
#[derive(Debug)]
pub struct Windows {
    seed: u64,
    total_tokens: usize,
    context: usize,
    per_epoch: usize,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
struct Epoch {
    number: u64,
    starts: Vec<usize>,
}

impl Windows {
    /// Returns the windows of `context` tokens and their targets in a split of `total_tokens`; none when it is too short
    /// for one.
    pub fn new(seed: u64, total_tokens: usize, context: usize) -> Option<Self> {
        // One window less than fits, so that every offset leaves as many.
        let fits = total_tokens.saturating_sub(1) / context;
        let per_epoch = if fits > 1 { fits - 1 } else { fits };
        (per_epoch > 0).then_some(Self { seed, total_tokens, context, per_epoch, epoch: None })
    }

    /// Returns how many windows an epoch has.
    #[cfg(test)]
    fn per_epoch(&self) -> usize {
        self.per_epoch
    }

    /// Returns the first token of the `index`-th window of the whole training.
    pub fn start(&mut self, index: u64) -> usize {
        let number = index / self.per_epoch as u64;
        if self.epoch.as_ref().is_none_or(|epoch| epoch.number != number) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(number + 1);
            let slack = self.total_tokens - 1 - self.per_epoch * self.context;
            let offset = rng.random_range(0..=slack as u64) as usize;
            let mut starts: Vec<usize> = (0..self.per_epoch).map(|i| offset + i * self.context).collect();
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
    fn a_split_shorter_than_a_window_has_none() {
        assert!(Windows::new(1, 0, 8).is_none());
        assert!(Windows::new(1, 8, 8).is_none());
        let mut one = Windows::new(1, 9, 8).unwrap();
        assert_eq!((one.per_epoch(), one.start(0), one.start(1)), (1, 0, 0));
    }

    proptest! {
        #[test]
        fn an_epoch_visits_each_window_once(seed: u64, total in 9..500usize, context in 1..8usize, epoch in 0..3u64) {
            let mut windows = Windows::new(seed, total, context).unwrap();
            let n = windows.per_epoch() as u64;
            let mut starts: Vec<usize> = (epoch * n..(epoch + 1) * n).map(|i| windows.start(i)).collect();
            starts.sort_unstable();
            prop_assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == context));
            prop_assert!(starts.last().unwrap() + context < total);
        }

        #[test]
        fn a_resumed_walk_reads_what_the_first_one_read(seed: u64, index in 0..300u64) {
            let mut walked = Windows::new(seed, 200, 4).unwrap();
            let straight: Vec<usize> = (0..=index).map(|i| walked.start(i)).collect();
            let resumed = Windows::new(seed, 200, 4).unwrap().start(index);
            prop_assert_eq!(straight[index as usize], resumed);
        }
    }
}
