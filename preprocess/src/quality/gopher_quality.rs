//! Gopher's quality rules (Rae et al., "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
//! 2021, appendix A.1.1), as datatrove counts them: words of punctuation alone count for the ratios, and not for how
//! many words there are and how long they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::share;
use super::threshold::{self, Criterion, Failure, Threshold};
use crate::words::{Text, is_blank};

/// The table `[preprocess.gopher_quality]`. Each threshold is a number, or `false` for none; the defaults are Gopher's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The least number of words that are not punctuation. Default 50.
    pub min_words: Threshold,
    /// The most words that are not punctuation. Default 100000.
    pub max_words: Threshold,
    /// The least mean length of words that are not punctuation, in characters. Default 3.
    pub min_mean_word_chars: Threshold,
    /// The greatest mean length of words that are not punctuation, in characters. Default 10.
    pub max_mean_word_chars: Threshold,
    /// The most `#` for each word. Default 0.1.
    pub max_hashes_per_word: Threshold,
    /// The most ellipses (`...` or `…`) for each word. Default 0.1.
    pub max_ellipses_per_word: Threshold,
    /// The greatest share of lines that begin with `•` or `-`, between 0 and 1. Default 0.9.
    pub max_bullet_line_share: Threshold,
    /// The greatest share of lines that end with an ellipsis, between 0 and 1. Default 0.3.
    pub max_ellipsis_line_share: Threshold,
    /// The least share of words with a letter, between 0 and 1. Default 0.8.
    pub min_letter_word_share: Threshold,
    /// How many different words of `stop_words` there must be. Default 2.
    pub min_stop_words: Threshold,
    /// Words that running text in the language at hand can hardly do without, written as they are looked for. Default:
    /// the, be, to, of, and, that, have, with.
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
            max_bullet_line_share: Threshold::new(0.9),
            max_ellipsis_line_share: Threshold::new(0.3),
            min_letter_word_share: Threshold::new(0.8),
            min_stop_words: Threshold::new(2.0),
            stop_words: ["the", "be", "to", "of", "and", "that", "have", "with"].map(str::to_owned).into(),
        }
    }
}

/// What is measured.
pub const SIGNALS: [&str; 8] = [
    "words",
    "mean_word_chars",
    "hashes_per_word",
    "ellipses_per_word",
    "bullet_line_share",
    "ellipsis_line_share",
    "letter_word_share",
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
            Criterion::at_most("max_bullet_line_share", "bullet_line_share", self.max_bullet_line_share).share(),
            Criterion::at_most("max_ellipsis_line_share", "ellipsis_line_share", self.max_ellipsis_line_share).share(),
            Criterion::at_least("min_letter_word_share", "letter_word_share", self.min_letter_word_share).share(),
            Criterion::at_least("min_stop_words", "stop_words", self.min_stop_words),
        ]
    }

    /// Checks the thresholds.
    ///
    /// # Errors
    /// The key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        threshold::validate(&self.criteria())?;
        for (at, word) in self.stop_words.iter().enumerate() {
            if word.is_empty() || word.contains(is_blank) {
                return Err(format!("stop_words has {word:?}, which is not one word"));
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

/// Returns the [`SIGNALS`] of `text`; those of nothing are 0.
pub fn measure(config: &Config, text: &Text<'_>) -> [f64; SIGNALS.len()] {
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
    [
        words as f64,
        share(chars, words),
        share(text.as_str().bytes().filter(|&byte| byte == b'#').count(), all_words),
        share(ellipses(text.as_str()), all_words),
        share(bullet_lines, lines),
        share(ellipsis_lines, lines),
        share(with_letter, all_words),
        stop_words(config, text) as f64,
    ]
}

/// Returns the first criterion that a document with these signals fails.
///
/// # Panics
/// When these are not the signals of this rule.
pub fn judge(config: &Config, signals: &[f64]) -> Option<Failure> {
    threshold::judge(&config.criteria(), &SIGNALS, signals)
}

/// Returns how many ellipses there are, six dots being two.
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

/// Returns how many of the stop words there are in `text`.
fn stop_words(config: &Config, text: &Text<'_>) -> usize {
    let mut missing: Vec<&str> = config.stop_words.iter().map(String::as_str).collect();
    for word in text.words() {
        let word = text.word(*word);
        if let Some(at) = missing.iter().position(|stop_word| *stop_word == word) {
            missing.swap_remove(at);
            if missing.is_empty() {
                break;
            }
        }
    }
    config.stop_words.len() - missing.len()
}
