//! Counting keys of 64 bits, and pieces of text that occur more than once.

use xxhash_rust::xxh3::xxh3_64;

/// How often each key occurs and where it occurred first, in open addressing with linear probing. The table is as large
/// as the text at hand asks for, so that a long document does not slow down the short ones behind it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    slots: Vec<Slot>,
    /// 64 less the binary logarithm of how many slots are in use.
    shift: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    first: u32,
    count: u32,
}

/// What a key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// Where it occurred first.
    pub first: u32,
    /// How often it has occurred.
    pub count: u32,
}

impl Counts {
    /// Forgets everything and makes room for `keys` keys.
    pub fn reset(&mut self, keys: usize) {
        let slots = (keys * 2).next_power_of_two().max(2);
        self.slots.clear();
        self.slots.resize(slots, Slot::default());
        self.shift = 64 - slots.trailing_zeros();
    }

    /// Counts `key`, which occurs at `at`.
    pub fn add(&mut self, key: u64, at: u32) -> Count {
        let mask = self.slots.len() - 1;
        // Knuth's multiplicative hashing with 2^64 divided by the golden ratio.
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize;
        loop {
            let found = &mut self.slots[slot];
            if found.count == 0 {
                *found = Slot { key, first: at, count: 0 };
            }
            if found.key == key {
                found.count += 1;
                return Count { first: found.first, count: found.count };
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// Pieces of a text that occurred before in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Duplicates {
    /// All pieces.
    pub pieces: usize,
    /// Those that occurred before.
    pub repeated: usize,
    /// Their characters.
    pub repeated_chars: usize,
}

impl Duplicates {
    /// Counts `pieces`, of which there are at most `most`, and tells them apart by 64-bit hashes.
    pub fn count<'t>(pieces: impl Iterator<Item = &'t str>, most: usize, counts: &mut Counts) -> Self {
        counts.reset(most);
        let mut total = Self::default();
        for piece in pieces {
            total.pieces += 1;
            if counts.add(xxh3_64(piece.as_bytes()), 0).count > 1 {
                total.repeated += 1;
                total.repeated_chars += piece.chars().count();
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_counted(keys in proptest::collection::vec(0_u64..20, 0..60), most in 60_usize..100) {
            let mut counts = Counts::default();
            counts.reset(1000);
            counts.add(3, 7);
            counts.reset(most);
            let mut expected: HashMap<u64, Count> = HashMap::new();
            for (at, key) in (0..).zip(keys) {
                let count = expected.entry(key).or_insert(Count { first: at, count: 0 });
                count.count += 1;
                prop_assert_eq!(counts.add(key, at), *count);
            }
        }
    }
}
