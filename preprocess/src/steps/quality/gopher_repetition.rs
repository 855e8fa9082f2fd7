//! Gopher's repetition rules (Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
//! 2021, table A1), as datatrove counts them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Duplicates, ratio};
use super::orthography::Orthography;
use super::scratch::Scratch;
use super::threshold::{self, Criterion, Failure, Threshold};
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
///
/// In languages that do not separate words, an n-gram consists of as many characters as n words have
/// ([`Orthography::characters_per_word`]).
pub fn measure(text: &Text<'_>, orthography: Orthography, scratch: &mut Scratch) -> [f64; SIGNALS.len()] {
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
    let per_word = orthography.characters_per_word();
    for n in 2..=per_word * 10 {
        let (top_chars, top_count) = scratch.ngrams.next(n, &mut scratch.counts);
        if n % per_word != 0 {
            continue;
        }
        match n / per_word {
            words @ 2..=4 => {
                let spaces = if per_word == 1 { words - 1 } else { 0 };
                signals[2 + words] = ratio((top_chars + spaces) * top_count, chars);
            }
            words @ 5.. => signals[2 + words] = ratio(scratch.ngrams.duplicate_chars(n), chars),
            _ => {}
        }
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
            let signals = measure(&text, Orthography::ENGLISH, &mut Scratch::default());
            let chars = text.chars() as f64;
            let measured: Vec<f64> = signals[4..].iter().map(|fraction| (fraction * chars).round()).collect();
            let expected: Vec<f64> = by_definition(&words).into_iter().map(|chars| chars as f64).collect();
            prop_assert_eq!(measured, expected);
        }
    }
}
