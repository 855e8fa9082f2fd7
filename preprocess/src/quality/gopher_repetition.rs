//! Gopher's repetition rules (Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
//! 2021, table A1), as datatrove counts them.
//!
//! A run of n words occurs twice only where the runs of n - 1 words at its place and at the next do. So each length looks
//! only at the places that the one below left, which in ordinary text are soon few, and a run is named by the names of
//! those two (Karp, Miller and Rosenberg, "Rapid identification of repeated patterns", 1972). Names are compared exactly;
//! single words by 64-bit hashes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::counts::{Counts, Duplicates};
use super::threshold::{self, Criterion, Failure, Threshold};
use super::{Scratch, share};
use crate::words::Text;

/// The table `[preprocess.gopher_repetition]`. Each threshold is a share between 0 and 1, or `false` for none; the
/// defaults are Gopher's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The greatest share of paragraphs that occurred before. Default 0.3.
    pub max_duplicate_paragraph_share: Threshold,
    /// The greatest share of characters in such paragraphs. Default 0.2.
    pub max_duplicate_paragraph_char_share: Threshold,
    /// The greatest share of lines that occurred before. Default 0.3.
    pub max_duplicate_line_share: Threshold,
    /// The greatest share of characters in such lines. Default 0.2.
    pub max_duplicate_line_char_share: Threshold,
    /// The greatest share of characters in the most frequent pair of words. Default 0.2.
    pub max_top_2_gram_share: Threshold,
    /// The greatest share of characters in the most frequent run of 3 words. Default 0.18.
    pub max_top_3_gram_share: Threshold,
    /// The greatest share of characters in the most frequent run of 4 words. Default 0.16.
    pub max_top_4_gram_share: Threshold,
    /// The greatest share of characters in runs of 5 words that occurred before. Default 0.15.
    pub max_duplicate_5_gram_share: Threshold,
    /// The greatest share of characters in runs of 6 words that occurred before. Default 0.14.
    pub max_duplicate_6_gram_share: Threshold,
    /// The greatest share of characters in runs of 7 words that occurred before. Default 0.13.
    pub max_duplicate_7_gram_share: Threshold,
    /// The greatest share of characters in runs of 8 words that occurred before. Default 0.12.
    pub max_duplicate_8_gram_share: Threshold,
    /// The greatest share of characters in runs of 9 words that occurred before. Default 0.11.
    pub max_duplicate_9_gram_share: Threshold,
    /// The greatest share of characters in runs of 10 words that occurred before. Default 0.1.
    pub max_duplicate_10_gram_share: Threshold,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_duplicate_paragraph_share: Threshold::new(0.3),
            max_duplicate_paragraph_char_share: Threshold::new(0.2),
            max_duplicate_line_share: Threshold::new(0.3),
            max_duplicate_line_char_share: Threshold::new(0.2),
            max_top_2_gram_share: Threshold::new(0.2),
            max_top_3_gram_share: Threshold::new(0.18),
            max_top_4_gram_share: Threshold::new(0.16),
            max_duplicate_5_gram_share: Threshold::new(0.15),
            max_duplicate_6_gram_share: Threshold::new(0.14),
            max_duplicate_7_gram_share: Threshold::new(0.13),
            max_duplicate_8_gram_share: Threshold::new(0.12),
            max_duplicate_9_gram_share: Threshold::new(0.11),
            max_duplicate_10_gram_share: Threshold::new(0.1),
        }
    }
}

/// What is measured, in datatrove's order.
pub const SIGNALS: [&str; 13] = [
    "duplicate_paragraph_share",
    "duplicate_paragraph_char_share",
    "duplicate_line_share",
    "duplicate_line_char_share",
    "top_2_gram_share",
    "top_3_gram_share",
    "top_4_gram_share",
    "duplicate_5_gram_share",
    "duplicate_6_gram_share",
    "duplicate_7_gram_share",
    "duplicate_8_gram_share",
    "duplicate_9_gram_share",
    "duplicate_10_gram_share",
];

/// The keys of the thresholds, in the order of [`SIGNALS`].
const KEYS: [&str; SIGNALS.len()] = [
    "max_duplicate_paragraph_share",
    "max_duplicate_paragraph_char_share",
    "max_duplicate_line_share",
    "max_duplicate_line_char_share",
    "max_top_2_gram_share",
    "max_top_3_gram_share",
    "max_top_4_gram_share",
    "max_duplicate_5_gram_share",
    "max_duplicate_6_gram_share",
    "max_duplicate_7_gram_share",
    "max_duplicate_8_gram_share",
    "max_duplicate_9_gram_share",
    "max_duplicate_10_gram_share",
];

impl Config {
    /// Returns the criteria, in datatrove's order.
    pub fn criteria(&self) -> [Criterion; SIGNALS.len()] {
        let thresholds = [
            self.max_duplicate_paragraph_share,
            self.max_duplicate_paragraph_char_share,
            self.max_duplicate_line_share,
            self.max_duplicate_line_char_share,
            self.max_top_2_gram_share,
            self.max_top_3_gram_share,
            self.max_top_4_gram_share,
            self.max_duplicate_5_gram_share,
            self.max_duplicate_6_gram_share,
            self.max_duplicate_7_gram_share,
            self.max_duplicate_8_gram_share,
            self.max_duplicate_9_gram_share,
            self.max_duplicate_10_gram_share,
        ];
        std::array::from_fn(|i| Criterion::at_most(KEYS[i], SIGNALS[i], thresholds[i]).share())
    }

    /// Checks the thresholds.
    ///
    /// # Errors
    /// The key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        threshold::validate(&self.criteria())
    }
}

/// Returns the [`SIGNALS`] of `text`; those of nothing are 0.
pub fn measure(text: &Text<'_>, scratch: &mut Scratch) -> [f64; SIGNALS.len()] {
    let chars = text.chars();
    let most = text.as_str().bytes().filter(|&byte| byte == b'\n').count() + 2;
    let paragraphs = Duplicates::count(text.paragraphs(), most, &mut scratch.counts);
    let lines = Duplicates::count(lines(text.as_str()), most, &mut scratch.counts);
    let mut signals = [0.0; SIGNALS.len()];
    signals[0] = share(paragraphs.repeated, paragraphs.pieces);
    signals[1] = share(paragraphs.repeated_chars, chars);
    signals[2] = share(lines.repeated, lines.pieces);
    signals[3] = share(lines.repeated_chars, chars);
    scratch.ngrams.read(text, &mut scratch.counts);
    for n in 2..=4 {
        signals[2 + n] = share(scratch.ngrams.next(n, &mut scratch.counts), chars);
    }
    for n in 5..=10 {
        scratch.ngrams.next(n, &mut scratch.counts);
        signals[2 + n] = share(scratch.ngrams.duplicate_chars(n), chars);
    }
    signals
}

/// Returns the first criterion that a document with these signals fails.
///
/// # Panics
/// When these are not the signals of this rule.
pub fn judge(config: &Config, signals: &[f64]) -> Option<Failure> {
    threshold::judge(&config.criteria(), &SIGNALS, signals)
}

/// Returns what lies between runs of line feeds: lines with something on them, and an empty one at each end of the text
/// where a line feed stands.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let ends = [text.starts_with('\n') || text.is_empty(), text.ends_with('\n')];
    let empty = ends.into_iter().filter(|is_empty| *is_empty).map(|_| "");
    empty.chain(text.split('\n').filter(|line| !line.is_empty()))
}

/// The runs of n words of one text that occur more than once, for one n after the other.
#[derive(Debug, Default)]
pub(super) struct Ngrams {
    /// By place: the first place of the same run, or [`ONCE`].
    names: Vec<u32>,
    /// The places whose run occurs more than once, ascending.
    places: Vec<u32>,
    /// By place: the characters of all words before it; one more than there are words.
    chars_before: Vec<usize>,
    /// By name: the last n for which it was seen.
    seen: Vec<u8>,
}

/// The name of a run that occurs once.
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
        for (place, word) in (0..).zip(words) {
            self.chars_before.push(chars);
            chars += word.chars();
            let count = counts.add(xxh3_64(text.word(*word).as_bytes()), place);
            self.name(place, count.first, count.count);
        }
        self.chars_before.push(chars);
        self.places.clear();
        self.places.extend((0..).zip(&self.names).filter(|(_, name)| **name != ONCE).map(|(place, _)| place));
    }

    /// Goes from runs of n - 1 words to those of n, and returns the characters of the most frequent one, blanks between
    /// its words included, times how often it occurs. Of several the first counts, even if none occurs twice.
    fn next(&mut self, n: usize, counts: &mut Counts) -> usize {
        counts.reset(self.places.len());
        let (mut top, mut top_count) = (0, 1);
        for i in 0..self.places.len() {
            let place = self.places[i];
            let name = std::mem::replace(&mut self.names[place as usize], ONCE);
            let next = self.names.get(place as usize + 1).copied().unwrap_or(ONCE);
            if next == ONCE {
                continue;
            }
            let count = counts.add(u64::from(name) << 32 | u64::from(next), place);
            self.name(place, count.first, count.count);
            if count.count > top_count || count.count == top_count && count.first < top && top_count > 1 {
                (top, top_count) = (count.first, count.count);
            }
        }
        let names = &self.names;
        self.places.retain(|place| names[*place as usize] != ONCE);
        if names.len() < n { 0 } else { (self.chars(top, n) + n - 1) * top_count as usize }
    }

    /// Returns the characters in runs of n words that occurred before, where a run that did is passed over as a whole.
    fn duplicate_chars(&mut self, n: usize) -> usize {
        let (mut chars, mut next) = (0, 0);
        for i in 0..self.places.len() {
            let place = self.places[i];
            if place < next {
                continue;
            }
            let name = self.names[place as usize] as usize;
            if self.seen[name] == n as u8 {
                chars += self.chars(place, n);
                next = place + n as u32;
            }
            self.seen[name] = n as u8;
        }
        chars
    }

    fn name(&mut self, place: u32, first: u32, count: u32) {
        if count > 1 {
            self.names[first as usize] = first;
            self.names[place as usize] = first;
        }
    }

    fn chars(&self, place: u32, n: usize) -> usize {
        self.chars_before[place as usize + n] - self.chars_before[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::words::Buffers;

    /// Returns the n-gram signals as they are defined, times the characters of the text.
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
        fn ngrams_are_counted_as_they_are_defined(words in proptest::collection::vec("[aé]|b|cc", 0..80)) {
            let text = words.join(" ");
            let mut buffers = Buffers::default();
            let text = buffers.split(&text);
            let signals = measure(&text, &mut Scratch::default());
            let measured: Vec<f64> = signals[4..].iter().map(|share| (share * text.chars() as f64).round()).collect();
            let expected: Vec<f64> = by_definition(&words).into_iter().map(|chars| chars as f64).collect();
            prop_assert_eq!(measured, expected);
        }
    }
}
