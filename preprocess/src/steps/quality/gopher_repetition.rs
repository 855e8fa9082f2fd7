//! Gopher's repetition rules (Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
//! 2021, table A1), as datatrove counts them.
//!
//! An n-gram can repeat only if both (n - 1)-grams inside it repeat. So each n checks only the positions that n - 1
//! left, which in ordinary text soon are few, and an n-gram is named by the pair of names of its (n - 1)-grams (Karp,
//! Miller and Rosenberg, "Rapid identification of repeated patterns", 1972). Names are compared exactly, single words
//! by 64-bit hashes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::counts::{Counts, Duplicates};
use super::threshold::{self, Criterion, Failure, Threshold};
use super::{Scratch, ratio};
use crate::text::words::Text;

/// The table `[preprocess.gopher_repetition]`. Each threshold is a fraction between 0 and 1, or `false` for none; the
/// defaults are Gopher's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The maximum fraction of paragraphs that occurred before. Default 0.3.
    pub max_duplicate_paragraph_fraction: Threshold,
    /// The maximum fraction of characters in such paragraphs. Default 0.2.
    pub max_duplicate_paragraph_char_fraction: Threshold,
    /// The maximum fraction of lines that occurred before. Default 0.3.
    pub max_duplicate_line_fraction: Threshold,
    /// The maximum fraction of characters in such lines. Default 0.2.
    pub max_duplicate_line_char_fraction: Threshold,
    /// The maximum fraction of characters in the most frequent 2-gram. Default 0.2.
    pub max_top_2_gram_fraction: Threshold,
    /// The maximum fraction of characters in the most frequent 3-gram. Default 0.18.
    pub max_top_3_gram_fraction: Threshold,
    /// The maximum fraction of characters in the most frequent 4-gram. Default 0.16.
    pub max_top_4_gram_fraction: Threshold,
    /// The maximum fraction of characters in 5-grams that occurred before. Default 0.15.
    pub max_duplicate_5_gram_fraction: Threshold,
    /// The maximum fraction of characters in 6-grams that occurred before. Default 0.14.
    pub max_duplicate_6_gram_fraction: Threshold,
    /// The maximum fraction of characters in 7-grams that occurred before. Default 0.13.
    pub max_duplicate_7_gram_fraction: Threshold,
    /// The maximum fraction of characters in 8-grams that occurred before. Default 0.12.
    pub max_duplicate_8_gram_fraction: Threshold,
    /// The maximum fraction of characters in 9-grams that occurred before. Default 0.11.
    pub max_duplicate_9_gram_fraction: Threshold,
    /// The maximum fraction of characters in 10-grams that occurred before. Default 0.1.
    pub max_duplicate_10_gram_fraction: Threshold,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_duplicate_paragraph_fraction: Threshold::new(0.3),
            max_duplicate_paragraph_char_fraction: Threshold::new(0.2),
            max_duplicate_line_fraction: Threshold::new(0.3),
            max_duplicate_line_char_fraction: Threshold::new(0.2),
            max_top_2_gram_fraction: Threshold::new(0.2),
            max_top_3_gram_fraction: Threshold::new(0.18),
            max_top_4_gram_fraction: Threshold::new(0.16),
            max_duplicate_5_gram_fraction: Threshold::new(0.15),
            max_duplicate_6_gram_fraction: Threshold::new(0.14),
            max_duplicate_7_gram_fraction: Threshold::new(0.13),
            max_duplicate_8_gram_fraction: Threshold::new(0.12),
            max_duplicate_9_gram_fraction: Threshold::new(0.11),
            max_duplicate_10_gram_fraction: Threshold::new(0.1),
        }
    }
}

/// The signals, in datatrove's order.
pub const SIGNALS: [&str; 13] = [
    "duplicate_paragraph_fraction",
    "duplicate_paragraph_char_fraction",
    "duplicate_line_fraction",
    "duplicate_line_char_fraction",
    "top_2_gram_fraction",
    "top_3_gram_fraction",
    "top_4_gram_fraction",
    "duplicate_5_gram_fraction",
    "duplicate_6_gram_fraction",
    "duplicate_7_gram_fraction",
    "duplicate_8_gram_fraction",
    "duplicate_9_gram_fraction",
    "duplicate_10_gram_fraction",
];

/// The keys of the thresholds, in the order of [`SIGNALS`].
const KEYS: [&str; SIGNALS.len()] = [
    "max_duplicate_paragraph_fraction",
    "max_duplicate_paragraph_char_fraction",
    "max_duplicate_line_fraction",
    "max_duplicate_line_char_fraction",
    "max_top_2_gram_fraction",
    "max_top_3_gram_fraction",
    "max_top_4_gram_fraction",
    "max_duplicate_5_gram_fraction",
    "max_duplicate_6_gram_fraction",
    "max_duplicate_7_gram_fraction",
    "max_duplicate_8_gram_fraction",
    "max_duplicate_9_gram_fraction",
    "max_duplicate_10_gram_fraction",
];

impl Config {
    /// Returns the criteria, in datatrove's order.
    pub fn criteria(&self) -> [Criterion; SIGNALS.len()] {
        let thresholds = [
            self.max_duplicate_paragraph_fraction,
            self.max_duplicate_paragraph_char_fraction,
            self.max_duplicate_line_fraction,
            self.max_duplicate_line_char_fraction,
            self.max_top_2_gram_fraction,
            self.max_top_3_gram_fraction,
            self.max_top_4_gram_fraction,
            self.max_duplicate_5_gram_fraction,
            self.max_duplicate_6_gram_fraction,
            self.max_duplicate_7_gram_fraction,
            self.max_duplicate_8_gram_fraction,
            self.max_duplicate_9_gram_fraction,
            self.max_duplicate_10_gram_fraction,
        ];
        std::array::from_fn(|i| Criterion::at_most(KEYS[i], SIGNALS[i], thresholds[i]).fraction())
    }

    /// Checks the thresholds.
    ///
    /// # Errors
    /// Returns the key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        threshold::validate(&self.criteria())
    }
}

/// Returns the [`SIGNALS`] of `text`, all 0 for the empty text.
pub fn measure(text: &Text<'_>, scratch: &mut Scratch) -> [f64; SIGNALS.len()] {
    let chars = text.chars();
    let most = text.as_str().bytes().filter(|&byte| byte == b'\n').count() + 2;
    let paragraphs = Duplicates::count(text.paragraphs(), most, &mut scratch.counts);
    let lines = Duplicates::count(lines(text.as_str()), most, &mut scratch.counts);
    let mut signals = [0.0; SIGNALS.len()];
    signals[0] = ratio(paragraphs.repeated, paragraphs.pieces);
    signals[1] = ratio(paragraphs.repeated_chars, chars);
    signals[2] = ratio(lines.repeated, lines.pieces);
    signals[3] = ratio(lines.repeated_chars, chars);
    scratch.ngrams.read(text, &mut scratch.counts);
    for n in 2..=4 {
        signals[2 + n] = ratio(scratch.ngrams.next(n, &mut scratch.counts), chars);
    }
    for n in 5..=10 {
        scratch.ngrams.next(n, &mut scratch.counts);
        signals[2 + n] = ratio(scratch.ngrams.duplicate_chars(n), chars);
    }
    signals
}

/// Returns the first criterion that a document with these signals does not meet.
///
/// # Panics
/// Panics if `signals` are not those of this rule.
pub fn first_failure(config: &Config, signals: &[f64]) -> Option<Failure> {
    threshold::first_failure(&config.criteria(), &SIGNALS, signals)
}

/// Returns the lines that are not empty, and an empty one for each end of the text that is a line feed.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let ends = [text.starts_with('\n') || text.is_empty(), text.ends_with('\n')];
    let empty = ends.into_iter().filter(|is_empty| *is_empty).map(|_| "");
    empty.chain(text.split('\n').filter(|line| !line.is_empty()))
}

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
    fn read(&mut self, text: &Text<'_>, counts: &mut Counts) {
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

    /// Advances from (n - 1)-grams to n-grams, and returns the characters of the most frequent one, including the
    /// spaces between its words, times its count. Of several the first counts, even if none occurs twice.
    fn next(&mut self, n: usize, counts: &mut Counts) -> usize {
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
        if names.len() < n { 0 } else { (self.chars(top, n) + n - 1) * top_count as usize }
    }

    /// Returns the characters in n-grams that occurred before; the words of such an n-gram are counted once.
    fn duplicate_chars(&mut self, n: usize) -> usize {
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

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::text::words::Buffers;

    /// Returns the n-gram signals by their definition, times the characters of the text.
    fn by_definition(words: &[String]) -> Vec<usize> {
        let top = |n: usize| {
            let grams: Vec<String> = words.windows(n).map(|gram| gram.join(" ")).collect();
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for gram in &grams {
                *counts.entry(gram).or_default() += 1;
            }
            let most = counts.values().max().copied().unwrap_or(0);
            grams.iter().find(|gram| counts[gram.as_str()] == most).map_or(0, |gram| gram.chars().count() * most)
        };
        let duplicate = |n: usize| {
            let (mut seen, mut chars, mut at) = (HashSet::new(), 0, 0);
            while at + n <= words.len() {
                let is_new = seen.insert(&words[at..at + n]);
                chars += if is_new { 0 } else { words[at..at + n].concat().chars().count() };
                at += if is_new { 1 } else { n };
            }
            chars
        };
        (2..=4).map(top).chain((5..=10).map(duplicate)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn n_gram_counts_match_the_definition(words in proptest::collection::vec("[aé]|b|cc", 0..80)) {
            let text = words.join(" ");
            let mut buffers = Buffers::default();
            let text = buffers.split(&text);
            let signals = measure(&text, &mut Scratch::default());
            let measured: Vec<f64> = signals[4..].iter().map(|fraction| (fraction * text.chars() as f64).round()).collect();
            let expected: Vec<f64> = by_definition(&words).into_iter().map(|chars| chars as f64).collect();
            prop_assert_eq!(measured, expected);
        }
    }
}
