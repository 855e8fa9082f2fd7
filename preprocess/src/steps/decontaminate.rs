//! Step decontaminate: drops documents that contain passages of evaluation sets.
//!
//! The measure is that of GPT-3 (Brown et al., "Language Models are Few-Shot Learners", 2020, appendix C): sequences of
//! 13 words, lower-cased and without punctuation, that occur in a document and in an evaluation text. A text of 8 to 12
//! words counts as one sequence; matches of shorter ones may be coincidence. Two deviations: GPT-3 removed 200
//! characters on both sides of a match, here the whole document is dropped; and GPT-3 ignored sequences that occur in
//! more than ten documents, here none is ignored, because a document's outcome must not depend on others. A set that
//! quotes a licence or a verse therefore drops every document with the same words; the counts by set show it.

mod index;
mod sets;
mod words;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use index::{Index, Overlap, Scratch};
pub(crate) use sets::evaluation_sets;

/// The table `[preprocess.decontaminate]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Files of the evaluation sets, relative to `pipeline.toml`. Default: none.
    pub sets: Vec<PathBuf>,
    /// Length of a sequence, in words. Default 13.
    pub ngram: usize,
    /// Minimum length of an evaluation text, in words. A text shorter than `ngram` counts as one sequence if it has at
    /// least this many words; otherwise it is skipped. Default 8, the minimum of GPT-3.
    pub min_words: usize,
    /// Maximum number of matching sequences. A document is dropped if it exceeds both this and `max_fraction`. Default
    /// 0.
    pub max_matches: u64,
    /// Maximum fraction of a document's words in matching sequences, from 0 to 1. A document is dropped if it exceeds
    /// both this and `max_matches`. Default 0.
    pub max_fraction: f64,
}

/// Signals: the set with the most matches, the number of matching sequences of all sets, and the fraction of the
/// document's words in them.
pub const SIGNALS: [&str; 3] = ["set", "matches", "share"];

impl Default for Config {
    fn default() -> Self {
        Self { sets: Vec::new(), ngram: 13, min_words: 8, max_matches: 0, max_fraction: 0.0 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns the key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        let Self { ngram, min_words, max_fraction, .. } = self;
        if !(1..=MAX_WORDS).contains(ngram) {
            return Err(format!("ngram is {ngram}, but must be between 1 and {MAX_WORDS}"));
        }
        if !(1..=*ngram).contains(min_words) {
            return Err(format!("min_words is {min_words}, but must be between 1 and ngram = {ngram}"));
        }
        if !(0.0..=1.0).contains(max_fraction) {
            return Err(format!("max_fraction is {max_fraction}, but must be between 0 and 1"));
        }
        Ok(())
    }

    /// Returns the key by which a document with these signals is dropped, if it is.
    pub fn failed(&self, matches: u64, fraction: f64) -> Option<&'static str> {
        (matches > self.max_matches && fraction > self.max_fraction).then_some("max_matches")
    }
}

/// Maximum length of a sequence. Heuristic, not measured: with longer ones, one changed word hides a whole paragraph.
const MAX_WORDS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        let check = |config: Config, expected: &str| {
            assert_eq!(config.validate().err().unwrap_or_default(), expected);
        };
        let default = Config::default();
        check(default.clone(), "");
        check(Config { ngram: 0, ..default.clone() }, "ngram is 0, but must be between 1 and 100");
        check(Config { ngram: 101, ..default.clone() }, "ngram is 101, but must be between 1 and 100");
        check(Config { min_words: 0, ..default.clone() }, "min_words is 0, but must be between 1 and ngram = 13");
        check(Config { min_words: 14, ..default.clone() }, "min_words is 14, but must be between 1 and ngram = 13");
        check(Config { min_words: 13, ..default.clone() }, "");
        check(Config { max_fraction: 1.5, ..default.clone() }, "max_fraction is 1.5, but must be between 0 and 1");
        check(Config { max_fraction: f64::NAN, ..default }, "max_fraction is NaN, but must be between 0 and 1");
    }

    #[test]
    fn documents_are_dropped_by_their_signals() {
        let check = |max_matches, max_fraction, matches, fraction, drops: bool| {
            let config = Config { max_matches, max_fraction, ..Config::default() };
            assert_eq!(config.failed(matches, fraction).is_some(), drops);
        };
        check(0, 0.0, 0, 0.0, false);
        check(0, 0.0, 1, 0.01, true);
        check(5, 0.0, 5, 0.5, false);
        check(5, 0.0, 6, 0.5, true);
        check(0, 0.1, 3, 0.1, false);
        check(0, 0.1, 3, 0.2, true);
        check(5, 0.1, 3, 0.2, false);
    }
}
