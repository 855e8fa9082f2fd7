//! The rules that `FineWeb` added to Gopher's and C4's (Penedo et al., "The `FineWeb` Datasets: Decanting the Web
//! for the Finest Text Data at Scale", 2024, section 3.6), as datatrove implements them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Duplicates, ratio};
use super::inapplicable::{Inapplicable, NO_SENTENCE_MARKS};
use super::orthography::Orthography;
use super::scratch::Scratch;
use super::threshold::{self, Criterion, Failure, Threshold};
use crate::text::characters::ends_sentence;
use crate::text::words::{Text, is_blank};

/// The table `[preprocess.fineweb]`. Each threshold is a number, or `false` for none; the defaults are `FineWeb`'s.
/// Blank lines do not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The minimum fraction of lines that end with a mark that ends sentences, between 0 and 1. Default 0.12. It does
    /// not apply to Thai, which has no such marks.
    pub min_punctuated_line_fraction: Threshold,
    /// The maximum fraction of lines of at most `short_line_chars` characters, between 0 and 1. Default 0.67.
    pub max_short_line_fraction: Threshold,
    /// Lines of at most this many characters are short. Default 30. In Chinese and Japanese a character counts for
    /// three, in Korean for two.
    pub short_line_chars: usize,
    /// The maximum fraction of characters in lines that occurred before, between 0 and 1. Default 0.01.
    pub max_duplicate_line_char_fraction: Threshold,
    /// The maximum number of line feeds per word, counting punctuation as words. Default 0.3.
    pub max_newlines_per_word: Threshold,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_punctuated_line_fraction: Threshold::new(0.12),
            max_short_line_fraction: Threshold::new(0.67),
            short_line_chars: 30,
            max_duplicate_line_char_fraction: Threshold::new(0.01),
            max_newlines_per_word: Threshold::new(0.3),
        }
    }
}

/// The signals; `punctuated_line_fraction` is NaN in a language without marks that end sentences.
pub const SIGNALS: [&str; 4] =
    ["punctuated_line_fraction", "short_line_fraction", "duplicate_line_char_fraction", "newlines_per_word"];

impl Config {
    /// Returns the criteria, in datatrove's order.
    pub fn criteria(&self) -> [Criterion; 4] {
        let (punctuated, duplicate) = (self.min_punctuated_line_fraction, self.max_duplicate_line_char_fraction);
        [
            Criterion::at_least("min_punctuated_line_fraction", "punctuated_line_fraction", punctuated).fraction(),
            Criterion::at_most("max_short_line_fraction", "short_line_fraction", self.max_short_line_fraction)
                .fraction(),
            Criterion::at_most("max_duplicate_line_char_fraction", "duplicate_line_char_fraction", duplicate)
                .fraction(),
            Criterion::at_most("max_newlines_per_word", "newlines_per_word", self.max_newlines_per_word),
        ]
    }

    /// Returns the signals that some languages have not.
    pub(super) fn inapplicable(&self) -> [Inapplicable; 1] {
        let keys = [("min_punctuated_line_fraction", self.min_punctuated_line_fraction)];
        [Inapplicable::new("punctuated_line_fraction", &keys, NO_SENTENCE_MARKS)]
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
pub fn measure(
    config: &Config,
    text: &Text<'_>,
    orthography: Orthography,
    scratch: &mut Scratch,
) -> [f64; SIGNALS.len()] {
    let short_line_chars = config.short_line_chars / orthography.letters_per_char();
    let newlines = text.as_str().bytes().filter(|&byte| byte == b'\n').count();
    let (mut punctuated, mut short) = (0, 0);
    let lines = text.lines().filter(|line| !line.trim_start_matches(is_blank).is_empty()).inspect(|line| {
        punctuated += usize::from(line.ends_with(ends_sentence));
        short += usize::from(is_short(line, short_line_chars));
    });
    let lines = Duplicates::count(lines, newlines + 1, &mut scratch.counts);
    [
        if orthography.ends_sentences() { ratio(punctuated, lines.pieces) } else { f64::NAN },
        ratio(short, lines.pieces),
        ratio(lines.repeated_chars, text.chars() - newlines),
        ratio(newlines, text.words().len()),
    ]
}

/// Returns the first criterion that a document with these signals does not meet.
///
/// # Panics
/// Panics if `signals` are not those of this rule.
pub fn first_failure(config: &Config, signals: &[f64]) -> Option<Failure> {
    threshold::first_failure(&config.criteria(), &SIGNALS, signals)
}

fn is_short(line: &str, most: usize) -> bool {
    line.len() <= most || line.chars().nth(most).is_none()
}
