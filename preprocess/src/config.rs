//! The table `[preprocess]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use artifact::{Context, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizer::{MINIMUM_VOCAB_SIZE, Pattern};

use crate::Error;

/// The table `[preprocess]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What happens to a document that is not UTF-8: `"repair"` puts U+FFFD where bytes make no character, `"reject"`
    /// drops the document. Both are counted. Default `"repair"`.
    pub invalid_utf8: InvalidUtf8,
    /// Documents shorter than this are dropped; bytes after cleaning. Default 64.
    pub min_bytes: u64,
    /// Documents longer than this are dropped or cut; bytes after cleaning. Default 262144 (256 KiB): what is longer in
    /// a source tree is generated, as a rule.
    pub max_bytes: u64,
    /// What happens to a longer document: `"drop"`, or `"cut"` into pieces of at most `max_bytes` at line ends, each a
    /// document of its own: the choice where one file holds a whole book. Default `"drop"`.
    pub long_documents: LongDocuments,
    /// The share of documents held out to watch training by, between 0 and 1. Default 0.02.
    pub validation: f64,
    /// The share of documents held out for the evaluation, between 0 and 1. Default 0.02.
    pub test: f64,
    /// A shard is closed once its tokens take this many bytes. Default 67108864 (64 MiB).
    pub shard_bytes: u64,
    /// The table `[preprocess.tokenizer]`.
    pub tokenizer: TokenizerConfig,
}

/// The table `[preprocess.tokenizer]`: train one, or take one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// A `tokenizer.json` to use instead of training one, relative to `pipeline.toml`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Tokens in the trained vocabulary, special tokens included. Default 4096.
    pub vocab_size: usize,
    /// Where text is cut before bytes are merged, `"qwen2"` or `"gpt2"`; both are known to llama.cpp. Default
    /// `"qwen2"`.
    pub pattern: Pattern,
    /// At most this many bytes of the train split, chosen by content hash, train the tokenizer. Default 33554432
    /// (32 MiB): more hardly moves a vocabulary of a few thousand.
    pub train_bytes: u64,
}

/// What happens to a document that is not UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidUtf8 {
    /// U+FFFD stands for bytes that make no character.
    #[default]
    Repair,
    /// The document is dropped.
    Reject,
}

/// What happens to a document longer than `max_bytes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongDocuments {
    /// It is dropped.
    #[default]
    Drop,
    /// It is cut into pieces at line ends.
    Cut,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            invalid_utf8: InvalidUtf8::default(),
            min_bytes: 64,
            max_bytes: 256 << 10,
            long_documents: LongDocuments::default(),
            validation: 0.02,
            test: 0.02,
            shard_bytes: 64 << 20,
            tokenizer: TokenizerConfig::default(),
        }
    }
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { file: None, vocab_size: 4096, pattern: Pattern::default(), train_bytes: 32 << 20 }
    }
}

/// The trainer counts pairs in 32 bits: below this many bytes no count can overflow.
const MOST_TRAIN_BYTES: u64 = 1 << 30;

/// The largest vocabulary in use anywhere is some 260 000; beyond this a number is a slip.
const MOST_VOCAB_SIZE: usize = 1 << 20;

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Config`] with the key of the first that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        let fail = |key, problem| Err(Error::Config { key, problem });
        if self.min_bytes == 0 {
            return fail("preprocess.min_bytes", "is 0; an empty document has no tokens, so 1 is the least".to_owned());
        }
        if self.max_bytes < self.min_bytes {
            let problem = format!("is {}, less than preprocess.min_bytes = {}", self.max_bytes, self.min_bytes);
            return fail("preprocess.max_bytes", problem);
        }
        for (key, share) in [("preprocess.validation", self.validation), ("preprocess.test", self.test)] {
            if !(share > 0.0 && share < 1.0) {
                return fail(key, format!("is {share}, and must lie between 0 and 1: a share of the documents"));
            }
        }
        if self.validation + self.test >= 1.0 {
            let problem =
                format!("= {} and preprocess.test = {} leave nothing to train on", self.validation, self.test);
            return fail("preprocess.validation", problem);
        }
        if self.shard_bytes == 0 {
            return fail("preprocess.shard_bytes", "is 0".to_owned());
        }
        if self.tokenizer.file.is_some() {
            return Ok(());
        }
        let vocab_size = self.tokenizer.vocab_size;
        if !(MINIMUM_VOCAB_SIZE..=MOST_VOCAB_SIZE).contains(&vocab_size) {
            let problem = format!(
                "is {vocab_size}, and must lie between {MINIMUM_VOCAB_SIZE} (256 bytes and the special tokens) and \
                 {MOST_VOCAB_SIZE}"
            );
            return fail("preprocess.tokenizer.vocab_size", problem);
        }
        let train_bytes = self.tokenizer.train_bytes;
        if !(1..=MOST_TRAIN_BYTES).contains(&train_bytes) {
            let problem = format!("is {train_bytes}, and must lie between 1 and {MOST_TRAIN_BYTES}");
            return fail("preprocess.tokenizer.train_bytes", problem);
        }
        Ok(())
    }

    /// Returns the configuration as JSON, less what cannot change the output: how a tokenizer would be trained, where
    /// one is given.
    pub fn fingerprint_value(&self) -> Value {
        let mut value = serde_json::json!(self);
        if let Some(file) = &self.tokenizer.file {
            value["tokenizer"] = serde_json::json!({ "file": file });
        }
        value
    }
}

/// Returns the digests of what this stage reads beside the corpus, by name: a given `tokenizer.json`.
///
/// # Errors
/// When it cannot be read.
pub fn inputs(config: &Config, context: &Context) -> Result<BTreeMap<String, Digest>, Error> {
    let Some(file) = &config.tokenizer.file else {
        return Ok(BTreeMap::new());
    };
    let (digest, _) = Digest::of_file(&context.base.join(file))?;
    Ok([(format!("tokenizer {}", file.display()), digest)].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<(), &str>) {
        let config: Config = serde_json::from_str(json).unwrap();
        assert_eq!(config.validate().map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{json}");
    }

    #[test]
    fn values_are_checked_and_named() {
        check("{}", Ok(()));
        check(
            r#"{"min_bytes": 0}"#,
            Err("preprocess.min_bytes is 0; an empty document has no tokens, so 1 is the least"),
        );
        check(r#"{"max_bytes": 10}"#, Err("preprocess.max_bytes is 10, less than preprocess.min_bytes = 64"));
        check(r#"{"test": 0.0}"#, Err("preprocess.test is 0, and must lie between 0 and 1: a share of the documents"));
        check(
            r#"{"validation": 0.5, "test": 0.5}"#,
            Err("preprocess.validation = 0.5 and preprocess.test = 0.5 leave nothing to train on"),
        );
        check(
            r#"{"tokenizer": {"vocab_size": 258}}"#,
            Err("preprocess.tokenizer.vocab_size is 258, and must lie between 259 (256 bytes and the special tokens) \
                 and 1048576"),
        );
        check(
            r#"{"tokenizer": {"train_bytes": 0}}"#,
            Err("preprocess.tokenizer.train_bytes is 0, and must lie between 1 and 1073741824"),
        );
        check(r#"{"tokenizer": {"vocab_size": 1, "file": "tokenizer.json"}}"#, Ok(()));
    }

    #[test]
    fn the_fingerprint_leaves_out_what_a_given_tokenizer_makes_idle() {
        let given = |vocab_size| Config {
            tokenizer: TokenizerConfig { file: Some("t.json".into()), vocab_size, ..TokenizerConfig::default() },
            ..Config::default()
        };
        assert_eq!(given(1000).fingerprint_value(), given(2000).fingerprint_value());
        let trained = |vocab_size| Config {
            tokenizer: TokenizerConfig { vocab_size, ..TokenizerConfig::default() },
            ..Config::default()
        };
        assert_ne!(trained(1000).fingerprint_value(), trained(2000).fingerprint_value());
        assert_eq!(serde_json::from_value::<Config>(trained(7).fingerprint_value()).unwrap(), trained(7));
    }
}
