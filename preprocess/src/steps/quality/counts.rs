//! Counts of 64-bit keys and of repeated pieces of text, and ratios of counts.

use xxhash_rust::xxh3::xxh3_64;

/// The count and the first position of each key: a hash table with open addressing and linear probing. Its size follows
/// the current text, so that a long document does not slow down the short ones after it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    slots: Vec<Slot>,
    /// 64 minus the binary logarithm of the number of slots.
    shift: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    first: u32,
    count: u32,
}

/// The count of a key so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// The position of its first occurrence.
    pub first: u32,
    /// The number of its occurrences.
    pub count: u32,
}

impl Counts {
    /// Clears the table and makes room for `keys` keys.
    pub fn reset(&mut self, keys: usize) {
        let slots = (keys * 2).next_power_of_two().max(2);
        self.slots.clear();
        self.slots.resize(slots, Slot::default());
        self.shift = 64 - slots.trailing_zeros();
    }

    /// Counts an occurrence of `key` at `at`.
    pub fn add(&mut self, key: u64, at: u32) -> Count {
        let mask = self.slots.len() - 1;
        // Knuth's multiplicative hashing: 2^64 divided by the golden ratio.
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

/// Pieces of a text that repeat an earlier piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Duplicates {
    /// The number of pieces.
    pub pieces: usize,
    /// The number of pieces that occurred before.
    pub repeated: usize,
    /// The characters in them.
    pub repeated_chars: usize,
}

impl Duplicates {
    /// Counts `pieces`, at most `most` of them, compared by 64-bit hashes.
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

/// Returns `part / whole`, or 0 if `whole` is 0.
pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
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
