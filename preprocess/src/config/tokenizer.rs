//! The table `[preprocess.tokenizer]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizer::{Kind, MIN_VOCAB_SIZE};

use crate::Error;

/// The tokenizer's trainer counts pairs in 32 bits; up to this many bytes no count overflows.
const MAX_TRAIN_BYTES: u64 = 1 << 30;

/// The largest vocabularies in use have about 260 000 tokens; a larger number than this is a typing error.
const MAX_VOCAB_SIZE: usize = 1 << 20;

/// The table `[preprocess.tokenizer]`: train a tokenizer, or use a given one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// A `tokenizer.json` to use instead of training one, relative to `pipeline.toml`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Whether to use the tokenizer of `train.init` instead of training one. Default: true if `train.init` is set and
    /// this table has no other key, else false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_init: bool,
    /// The path of the tokenizer of `train.init`. Not a key of the file.
    #[serde(skip)]
    pub init_file: Option<PathBuf>,
    /// The chat template of `train.chat_template`: a name, or a file relative to `pipeline.toml`. Not a key of the
    /// table.
    #[serde(skip)]
    pub chat_template: Option<String>,
    /// The model to train: `"bpe"` (byte-level), `"unigram"`, `"wordpiece"` or `"character"`. Default `"bpe"`.
    pub kind: Kind,
    /// Size of the trained vocabulary, special tokens included. Default 4096.
    pub vocab_size: usize,
    /// The pre-tokenization pattern: `"qwen2"`, `"gpt2"` or `"smollm"`; llama.cpp supports all of them. Default
    /// `"qwen2"`.
    pub pattern: tokenizer::Pattern,
    /// Special tokens beside `<|endoftext|>`, `<|im_start|>` and `<|im_end|>`. Default: none.
    pub special_tokens: Vec<String>,
    /// Maximum size of the sample of the train split, chosen by content hash, that the tokenizer is trained on; bytes.
    /// Default 33554432 (32 MiB): more hardly changes a vocabulary of a few thousand tokens.
    pub train_bytes: u64,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self {
            file: None,
            from_init: false,
            init_file: None,
            chat_template: None,
            kind: Kind::default(),
            vocab_size: 4096,
            pattern: tokenizer::Pattern::default(),
            special_tokens: Vec::new(),
            train_bytes: 32 << 20,
        }
    }
}

impl TokenizerConfig {
    /// Returns the file of the chat template, if it is not one with a name.
    pub(crate) fn template_file(&self) -> Option<PathBuf> {
        self.chat_template.as_ref().filter(|name| tokenizer::builtin(name).is_none()).map(PathBuf::from)
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let fail = |key: &str, problem: String| Err(Error::config(key, problem));
        if self.from_init && self.file.is_some() {
            let problem = "is given together with preprocess.tokenizer.from_init = true; remove one of them".to_owned();
            return fail("preprocess.tokenizer.file", problem);
        }
        if self.from_init || self.file.is_some() {
            return Ok(());
        }
        // The minimum of the other kinds depends on the text.
        let min = if self.kind == Kind::Bpe { MIN_VOCAB_SIZE + self.special_tokens.len() } else { 1 };
        let vocab_size = self.vocab_size;
        if !(min..=MAX_VOCAB_SIZE).contains(&vocab_size) {
            let problem = format!(
                "is {vocab_size}, but must be between {min} (the minimum that can encode any text, special tokens \
                 included) and {MAX_VOCAB_SIZE}"
            );
            return fail("preprocess.tokenizer.vocab_size", problem);
        }
        let train_bytes = self.train_bytes;
        if !(1..=MAX_TRAIN_BYTES).contains(&train_bytes) {
            let problem = format!("is {train_bytes}, but must be between 1 and {MAX_TRAIN_BYTES}");
            return fail("preprocess.tokenizer.train_bytes", problem);
        }
        Ok(())
    }
}
