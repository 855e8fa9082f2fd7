//! Gopher's quality rules (Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
//! 2021, appendix A.1.1), as datatrove counts them: words of punctuation alone count in the ratios, but not in the
//! number of words and their mean length.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::ratio;
use super::inapplicable::{Inapplicable, NO_SPACES};
use super::orthography::Orthography;
use super::stop_words;
use super::threshold::{self, Criterion, Failure, Threshold};
use crate::text::words::{Text, is_blank};

/// The table `[preprocess.gopher_quality]`. Each threshold is a number, or `false` for none; the defaults are Gopher's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The minimum number of words that are not punctuation. Default 50.
    pub min_words: Threshold,
    /// The maximum number of words that are not punctuation. Default 100000.
    pub max_words: Threshold,
    /// The minimum mean length of words that are not punctuation, in characters. Default 3. In Korean a character
    /// counts for two. In a language without spaces between words, such as Chinese, every character counts as a word,
    /// and this criterion does not apply.
    pub min_mean_word_chars: Threshold,
    /// The maximum mean length of words that are not punctuation, in characters. Default 10. In Korean a character
    /// counts for two; in a language without spaces between words the criterion does not apply.
    pub max_mean_word_chars: Threshold,
    /// The maximum number of `#` per word. Default 0.1.
    pub max_hashes_per_word: Threshold,
    /// The maximum number of ellipses (`...` or `…`) per word. Default 0.1.
    pub max_ellipses_per_word: Threshold,
    /// The maximum fraction of lines that begin with `•` or `-`, between 0 and 1. Default 0.9.
    pub max_bullet_line_fraction: Threshold,
    /// The maximum fraction of lines that end with an ellipsis, between 0 and 1. Default 0.3.
    pub max_ellipsis_line_fraction: Threshold,
    /// The minimum fraction of words with a letter, between 0 and 1. Default 0.8.
    pub min_letter_word_fraction: Threshold,
    /// The minimum number of different words of `stop_words` in the text. Default 2. With the default `stop_words`, a
    /// text in another language than English must have as many of that language's; if there is no list for it, the
    /// criterion does not apply.
    pub min_stop_words: Threshold,
    /// Words that nearly all running text of the language contains, matched exactly, case included; they then hold for
    /// every document. Default: the, be, to, of, and, that, have, with, for English only.
    pub stop_words: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_words: Threshold::new(50.0),
            max_words: Threshold::new(100_000.0),
            min_mean_word_chars: Threshold::new(3.0),
            max_mean_word_chars: Threshold::new(10.0),
            max_hashes_per_word: Threshold::new(0.1),
            max_ellipses_per_word: Threshold::new(0.1),
            max_bullet_line_fraction: Threshold::new(0.9),
            max_ellipsis_line_fraction: Threshold::new(0.3),
            min_letter_word_fraction: Threshold::new(0.8),
            min_stop_words: Threshold::new(2.0),
            stop_words: stop_words::ENGLISH.map(str::to_owned).into(),
        }
    }
}

/// The signals; `mean_word_chars` is NaN in a language without spaces between words, `stop_words` in one without a
/// list.
pub const SIGNALS: [&str; 8] = [
    "words",
    "mean_word_chars",
    "hashes_per_word",
    "ellipses_per_word",
    "bullet_line_fraction",
    "ellipsis_line_fraction",
    "letter_word_fraction",
    "stop_words",
];

impl Config {
    /// Returns the criteria, in datatrove's order.
    pub fn criteria(&self) -> [Criterion; 10] {
        [
            Criterion::at_least("min_words", "words", self.min_words),
            Criterion::at_most("max_words", "words", self.max_words),
            Criterion::at_least("min_mean_word_chars", "mean_word_chars", self.min_mean_word_chars),
            Criterion::at_most("max_mean_word_chars", "mean_word_chars", self.max_mean_word_chars),
            Criterion::at_most("max_hashes_per_word", "hashes_per_word", self.max_hashes_per_word),
            Criterion::at_most("max_ellipses_per_word", "ellipses_per_word", self.max_ellipses_per_word),
            Criterion::at_most("max_bullet_line_fraction", "bullet_line_fraction", self.max_bullet_line_fraction)
                .fraction(),
            Criterion::at_most("max_ellipsis_line_fraction", "ellipsis_line_fraction", self.max_ellipsis_line_fraction)
                .fraction(),
            Criterion::at_least("min_letter_word_fraction", "letter_word_fraction", self.min_letter_word_fraction)
                .fraction(),
            Criterion::at_least("min_stop_words", "stop_words", self.min_stop_words),
        ]
    }

    /// Returns the signals that some languages have not.
    pub(super) fn inapplicable(&self) -> [Inapplicable; 2] {
        let mean =
            [("min_mean_word_chars", self.min_mean_word_chars), ("max_mean_word_chars", self.max_mean_word_chars)];
        [
            Inapplicable::new("mean_word_chars", &mean, NO_SPACES),
            Inapplicable::new(
                "stop_words",
                &[("min_stop_words", self.min_stop_words)],
                "there are no stop words for it",
            ),
        ]
    }

    /// Checks the thresholds.
    ///
    /// # Errors
    /// Returns the key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        threshold::validate(&self.criteria())?;
        for (at, word) in self.stop_words.iter().enumerate() {
            if word.is_empty() || word.contains(is_blank) {
                return Err(format!("stop_words has {word:?}, which is not a single word"));
            }
            if self.stop_words[..at].contains(word) {
                return Err(format!("stop_words has {word:?} twice"));
            }
        }
        match self.min_stop_words.limit() {
            Some(least) if least > self.stop_words.len() as f64 => {
                Err(format!("min_stop_words is {least}, more than stop_words has ({})", self.stop_words.len()))
            }
            _ => Ok(()),
        }
    }
}

/// Returns the [`SIGNALS`] of `text`, all 0 for the empty text.
pub fn measure(config: &Config, text: &Text<'_>, orthography: Orthography) -> [f64; SIGNALS.len()] {
    let (mut words, mut chars, mut with_letter) = (0, 0, 0);
    for word in text.words() {
        words += usize::from(!word.is_punctuation());
        chars += if word.is_punctuation() { 0 } else { word.chars() };
        with_letter += usize::from(word.has_letter());
    }
    let (mut lines, mut bullet_lines, mut ellipsis_lines) = (0, 0, 0);
    for line in text.universal_lines() {
        lines += 1;
        bullet_lines += usize::from(line.trim_start_matches(is_blank).starts_with(['•', '-']));
        let line = line.trim_end_matches(is_blank);
        ellipsis_lines += usize::from(line.ends_with("...") || line.ends_with('…'));
    }
    let all_words = text.words().len();
    let mean_word_chars = ratio(chars * orthography.letters_per_char(), words);
    [
        words as f64,
        if orthography.separates_words() { mean_word_chars } else { f64::NAN },
        ratio(text.as_str().bytes().filter(|&byte| byte == b'#').count(), all_words),
        ratio(ellipses(text.as_str()), all_words),
        ratio(bullet_lines, lines),
        ratio(ellipsis_lines, lines),
        ratio(with_letter, all_words),
        stop_words(config, text, orthography),
    ]
}

/// Returns the first criterion that a document with these signals does not meet.
///
/// # Panics
/// Panics if `signals` are not those of this rule.
pub fn first_failure(config: &Config, signals: &[f64]) -> Option<Failure> {
    threshold::first_failure(&config.criteria(), &SIGNALS, signals)
}

/// Returns the number of ellipses; six dots are two.
fn ellipses(text: &str) -> usize {
    let (mut ellipses, mut dots) = (0, 0);
    for byte in text.bytes() {
        dots = if byte == b'.' { dots + 1 } else { 0 };
        if dots == 3 {
            ellipses += 1;
            dots = 0;
        }
    }
    if text.is_ascii() { ellipses } else { ellipses + text.matches('…').count() }
}

/// Returns the number of different stop words in `text`: those of its language, unless others are configured. NaN if
/// the language has no list.
fn stop_words(config: &Config, text: &Text<'_>, orthography: Orthography) -> f64 {
    let configured: Vec<&str> = config.stop_words.iter().map(String::as_str).collect();
    let wanted = if configured == stop_words::ENGLISH { orthography.stop_words() } else { Some(&*configured) };
    wanted.map_or(f64::NAN, |wanted| distinct(wanted, text) as f64)
}

/// Returns how many of `wanted` are words of `text`.
fn distinct(wanted: &[&str], text: &Text<'_>) -> usize {
    let mut missing = wanted.to_vec();
    for word in text.words() {
        let word = text.word(*word);
        if let Some(at) = missing.iter().position(|stop_word| *stop_word == word) {
            missing.swap_remove(at);
            if missing.is_empty() {
                break;
            }
        }
    }
    wanted.len() - missing.len()
}
