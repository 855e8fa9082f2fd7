//! An input: files, and the configuration of the stage that collects them.

use data_ingest::{BadRecordLimit, Config, Source};
use test_support::fuzz;

use crate::corpus::one;

/// Tokens with a meaning in JSON and in conversations.
pub const JSON_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\n",
    "\\u",
    "\\ud800",
    "null",
    "1e999",
    "-0",
    "\"role\"",
    "\"content\"",
    "\"text\"",
    "\0",
    "\u{feff}",
    "{\"a\":",
    "[[",
];

/// Files, and how to collect them.
pub struct Input {
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub config: Config,
}

impl fuzz::Input for Input {
    fn files(&self) -> Vec<(&str, &[u8])> {
        self.files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect()
    }
}

/// Returns one file as an input.
pub fn file((name, bytes): (&'static str, Vec<u8>), source: Source) -> Input {
    let config = one(Source { path: Some(name.to_owned()), ..source });
    Input { files: vec![(name, bytes)], config: Config { max_bad_records: BadRecordLimit::Fraction(1.0), ..config } }
}
