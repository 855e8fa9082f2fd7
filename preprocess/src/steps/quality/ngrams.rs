//! Repeated n-grams of words, for ascending n.
//!
//! An n-gram can repeat only if both (n - 1)-grams inside it repeat. So each n checks only the positions that n - 1
//! left, which in ordinary text soon are few, and an n-gram is named by the pair of names of its (n - 1)-grams (Karp,
//! Miller and Rosenberg, "Rapid identification of repeated patterns", 1972). Names are compared exactly, single words
//! by 64-bit hashes.

use xxhash_rust::xxh3::xxh3_64;

use super::counts::Counts;
use crate::text::words::Text;

/// The repeated n-grams of a text, for ascending n.
#[derive(Debug, Default)]
pub(super) struct Ngrams {
    /// For each position: the first position of the same n-gram, or [`ONCE`].
    names: Vec<u32>,
    /// The positions whose n-gram occurs more than once, ascending.
    positions: Vec<u32>,
    /// For each position, and the end: the characters of all words before it.
    chars_before: Vec<usize>,
    /// For each name: the last n for which it was seen.
    seen: Vec<u8>,
}

/// The name of an n-gram that occurs once.
const ONCE: u32 = u32::MAX;

impl Ngrams {
    /// Names the single words of `text`.
    pub fn read(&mut self, text: &Text<'_>, counts: &mut Counts) {
        let words = text.words();
        counts.reset(words.len());
        self.names.clear();
        self.names.resize(words.len(), ONCE);
        self.seen.clear();
        self.seen.resize(words.len(), 0);
        self.chars_before.clear();
        let mut chars = 0;
        for (position, word) in (0..).zip(words) {
            self.chars_before.push(chars);
            chars += word.chars();
            let count = counts.add(xxh3_64(text.word(*word).as_bytes()), position);
            self.name(position, count.first, count.count);
        }
        self.chars_before.push(chars);
        self.positions.clear();
        self.positions.extend((0..).zip(&self.names).filter(|(_, name)| **name != ONCE).map(|(position, _)| position));
    }

    /// Advances from (n - 1)-grams to n-grams, and returns the characters of the most frequent one, without the spaces
    /// between its words, and its count. Of several the first counts, even if none occurs twice.
    pub fn next(&mut self, n: usize, counts: &mut Counts) -> (usize, usize) {
        counts.reset(self.positions.len());
        let (mut top, mut top_count) = (0, 1);
        for i in 0..self.positions.len() {
            let position = self.positions[i];
            let name = std::mem::replace(&mut self.names[position as usize], ONCE);
            let next = self.names.get(position as usize + 1).copied().unwrap_or(ONCE);
            if next == ONCE {
                continue;
            }
            let count = counts.add(u64::from(name) << 32 | u64::from(next), position);
            self.name(position, count.first, count.count);
            if count.count > top_count || count.count == top_count && count.first < top && top_count > 1 {
                (top, top_count) = (count.first, count.count);
            }
        }
        let names = &self.names;
        self.positions.retain(|position| names[*position as usize] != ONCE);
        if names.len() < n { (0, 0) } else { (self.chars(top, n), top_count as usize) }
    }

    /// Returns the characters in n-grams that occurred before; the words of such an n-gram are counted once.
    pub fn duplicate_chars(&mut self, n: usize) -> usize {
        let (mut chars, mut next) = (0, 0);
        for i in 0..self.positions.len() {
            let position = self.positions[i];
            if position < next {
                continue;
            }
            let name = self.names[position as usize] as usize;
            if self.seen[name] == n as u8 {
                chars += self.chars(position, n);
                next = position + n as u32;
            }
            self.seen[name] = n as u8;
        }
        chars
    }

    fn name(&mut self, position: u32, first: u32, count: u32) {
        if count > 1 {
            self.names[first as usize] = first;
            self.names[position as usize] = first;
        }
    }

    fn chars(&self, position: u32, n: usize) -> usize {
        self.chars_before[position as usize + n] - self.chars_before[position as usize]
    }
}
