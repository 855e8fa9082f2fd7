//! Items in another random order in each epoch.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Orders items. The order of an epoch is a function of seed and epoch, so that a resumed training reads the same items
/// as the uninterrupted one.
#[derive(Debug)]
pub struct Shuffle {
    seed: u64,
    items: Vec<usize>,
    epoch: Option<(u64, Vec<usize>)>,
}

impl Shuffle {
    /// Returns the orders of items, one at least.
    pub fn new(seed: u64, items: Vec<usize>) -> Self {
        Self { seed, items, epoch: None }
    }

    /// Returns an item, counted from 0 over the whole training.
    pub fn at(&mut self, index: u64) -> usize {
        let number = index / self.items.len() as u64;
        if self.epoch.as_ref().is_none_or(|(epoch, _)| *epoch != number) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(number + 1);
            let mut order = self.items.clone();
            order.shuffle(&mut rng);
            self.epoch = Some((number, order));
        }
        let within = (index % self.items.len() as u64) as usize;
        self.epoch.as_ref().map_or(0, |(_, order)| order[within])
    }
}
