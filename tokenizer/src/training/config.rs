//! Options of training.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::pre_tokenizer::{self, WordSplitter};
use crate::special_tokens::SPECIAL_TOKENS;
use crate::{Error, Kind};

/// How text is split into words before they are encoded; no token extends across a split. llama.cpp knows all of them
/// by name, so that it can read a GGUF file with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// That of Qwen 2: single digits, and line ends together with the text before them.
    #[default]
    Qwen2,
    /// That of GPT-2.
    Gpt2,
    /// That of `SmolLM`: single digits, and that of GPT-2 between them.
    SmolLm,
}

impl Pattern {
    /// Returns the splitter.
    pub(super) fn splitter(self) -> WordSplitter {
        match self {
            Self::Qwen2 => WordSplitter::Qwen2,
            Self::Gpt2 => WordSplitter::Gpt2,
            Self::SmolLm => WordSplitter::SmolLm,
        }
    }

    /// Returns the equivalent pre-tokenizer of Hugging Face's tokenizers; with `byte_level`, it maps bytes to
    /// characters.
    pub(super) fn pre_tokenizer(self, byte_level: bool) -> Result<PreTokenizerWrapper, tokenizers::Error> {
        let bytes = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, false, use_regex));
        Ok(match (self, byte_level) {
            (Self::Qwen2, true) => Sequence::new(vec![split(pre_tokenizer::QWEN2)?, bytes(false)]).into(),
            (Self::Qwen2, false) => split(pre_tokenizer::QWEN2)?,
            (Self::Gpt2, true) => bytes(true),
            (Self::Gpt2, false) => split(pre_tokenizer::GPT2)?,
            (Self::SmolLm, true) => Sequence::new(vec![Digits::new(true).into(), bytes(true)]).into(),
            (Self::SmolLm, false) => Sequence::new(vec![Digits::new(true).into(), split(pre_tokenizer::GPT2)?]).into(),
        })
    }
}

/// Returns a pre-tokenizer that splits text by a regular expression.
pub(super) fn split(expression: &str) -> Result<PreTokenizerWrapper, tokenizers::Error> {
    let pattern = SplitPattern::Regex(expression.to_owned());
    Ok(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into())
}

/// Options of training a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainConfig {
    /// The algorithm. Default: byte-level BPE.
    pub kind: Kind,
    /// The number of tokens, special tokens included; fewer if the text does not have as many. Default: 4096.
    pub vocab_size: usize,
    /// How text is split into words, for BPE and Unigram; `WordPiece` splits at white space and punctuation, as BERT
    /// does. Default: that of Qwen 2.
    pub pattern: Pattern,
    /// Special tokens in addition to [`SPECIAL_TOKENS`], each of at least two characters. Default: none.
    pub special_tokens: Vec<String>,
    /// The minimum count of a pair that is merged, for BPE and `WordPiece`. Default: 2.
    pub min_frequency: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            vocab_size: 4096,
            pattern: Pattern::default(),
            special_tokens: Vec::new(),
            min_frequency: 2,
        }
    }
}

impl TrainConfig {
    /// Returns all special tokens in the order of their ids, except the unknown token.
    pub(super) fn all_special_tokens(&self) -> Result<Vec<String>, Error> {
        let mut all: Vec<String> = SPECIAL_TOKENS.map(str::to_owned).to_vec();
        all.extend(self.special_tokens.iter().cloned());
        let mut seen: HashSet<&str> = self.kind.unknown_token().into_iter().collect();
        for token in &all {
            let invalid = |problem| Err(Error::SpecialToken { token: token.clone(), problem });
            if token.chars().count() < 2 {
                return invalid("has fewer than two characters");
            }
            if !seen.insert(token) {
                return invalid("is a duplicate, or one that is added by default");
            }
        }
        Ok(all)
    }

    /// Checks that the vocabulary has at least `minimum` tokens.
    pub(super) fn check_size(&self, minimum: usize) -> Result<(), Error> {
        let (kind, vocab_size) = (self.kind, self.vocab_size);
        if vocab_size < minimum { Err(Error::VocabularyTooSmall { kind, vocab_size, minimum }) } else { Ok(()) }
    }

    /// Returns a conversion of the library's errors.
    pub(super) fn failed(&self) -> impl Fn(tokenizers::Error) -> Error {
        let (kind, vocab_size) = (self.kind, self.vocab_size);
        move |source| Error::Train { kind, vocab_size, source }
    }
}
