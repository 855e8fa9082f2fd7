//! Step decontaminate: drops documents that contain passages of evaluation sets.
//!
//! The measure is that of GPT-3 (Brown et al., "Language Models are Few-Shot Learners", 2020, appendix C): sequences of 13
//! words, lower-cased and without punctuation, that a document shares with an evaluation text; texts of 8 to 12 words
//! count as one sequence, and shorter ones cannot be told from chance. Two deviations: they cut 200 characters around a
//! match out of a document, here the document goes; and they forgave sequences that more than ten documents have, here
//! none is forgiven, since a document's fate must not depend on others. A set that quotes a licence or a verse therefore
//! drops whatever has the same words: the counts by set show it.

mod index;
mod words;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use index::{Index, Overlap, Scratch};

/// The table `[preprocess.decontaminate]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Files of the evaluation sets, relative to `pipeline.toml`. Default: none.
    pub sets: Vec<PathBuf>,
    /// Words in a sequence. Default 13.
    pub ngram: usize,
    /// An evaluation text of fewer words than `ngram` counts as one sequence where it has this many at least, else it is
    /// skipped; words. Default 8, the least that GPT-3 used.
    pub min_words: usize,
    /// A document is dropped where it shares more sequences than this, and `max_share` is exceeded as well. Default 0.
    pub max_matches: u64,
    /// A document is dropped where a larger share of its words than this, from 0 to 1, lies in shared sequences, and
    /// `max_matches` is exceeded as well. Default 0.
    pub max_share: f64,
}

/// Signals: the set with most matches, how many sequences the document shares with all sets, and the share of its words
/// that lie in them.
pub const SIGNALS: [&str; 3] = ["set", "matches", "share"];

impl Default for Config {
    fn default() -> Self {
        Self { sets: Vec::new(), ngram: 13, min_words: 8, max_matches: 0, max_share: 0.0 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// The key and what is wrong with its value.
    pub fn validate(&self) -> Result<(), String> {
        let Self { ngram, min_words, max_share, .. } = self;
        if !(1..=MOST_WORDS).contains(ngram) {
            return Err(format!("ngram is {ngram}, and must lie between 1 and {MOST_WORDS}"));
        }
        if !(1..=*ngram).contains(min_words) {
            return Err(format!("min_words is {min_words}, and must lie between 1 and ngram = {ngram}"));
        }
        if !(0.0..=1.0).contains(max_share) {
            return Err(format!("max_share is {max_share}, and must lie between 0 and 1"));
        }
        Ok(())
    }

    /// Returns the key by which a document with these signals is dropped, if it is.
    pub fn failed(&self, matches: u64, share: f64) -> Option<&'static str> {
        (matches > self.max_matches && share > self.max_share).then_some("max_matches")
    }
}

/// The longest sequence that makes sense. A guess: beyond it one changed word in a paragraph hides the paragraph.
const MOST_WORDS: usize = 100;

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
        check(Config { ngram: 0, ..default.clone() }, "ngram is 0, and must lie between 1 and 100");
        check(Config { ngram: 101, ..default.clone() }, "ngram is 101, and must lie between 1 and 100");
        check(Config { min_words: 0, ..default.clone() }, "min_words is 0, and must lie between 1 and ngram = 13");
        check(Config { min_words: 14, ..default.clone() }, "min_words is 14, and must lie between 1 and ngram = 13");
        check(Config { min_words: 13, ..default.clone() }, "");
        check(Config { max_share: 1.5, ..default.clone() }, "max_share is 1.5, and must lie between 0 and 1");
        check(Config { max_share: f64::NAN, ..default }, "max_share is NaN, and must lie between 0 and 1");
    }

    #[test]
    fn documents_are_judged_by_their_signals() {
        let check = |max_matches, max_share, matches, share, drops: bool| {
            let config = Config { max_matches, max_share, ..Config::default() };
            assert_eq!(config.failed(matches, share).is_some(), drops);
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
