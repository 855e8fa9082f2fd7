//! Training a tokenizer.

mod bpe;
mod character;
mod counts;
mod merges;
mod unigram;
mod word_piece;

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use crate::words::{self, Words};
use crate::{Error, SPECIAL_TOKENS, Tokenizer};

/// What a tokenizer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Byte-level BPE (Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016, over bytes
    /// as in GPT-2): the most frequent pair of neighbours becomes a token, again and again. Writes any text.
    #[default]
    Bpe,
    /// Unigram (Kudo, "Subword Regularization", 2018): the vocabulary under which the text is most likely if its tokens
    /// are independent. The text's characters and, for those outside the vocabulary, bytes: writes any text.
    Unigram,
    /// `WordPiece` as in BERT, with letter case: words and punctuation, cut into pieces. White space is not kept, and a
    /// word with a character that is not in the vocabulary is unknown.
    WordPiece,
    /// Every character of the text is a token; others are unknown.
    Character,
}

impl Kind {
    /// Returns the token that stands for what cannot be written, where there is one.
    fn unknown_token(self) -> Option<&'static str> {
        match self {
            Self::Bpe => None,
            Self::WordPiece => Some("[UNK]"),
            Self::Unigram | Self::Character => Some("<unk>"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpe => "byte-level BPE",
            Self::Unigram => "Unigram",
            Self::WordPiece => "WordPiece",
            Self::Character => "character",
        })
    }
}

/// Where text is cut before its words become tokens; no token crosses a cut. All are known by name to llama.cpp, so that
/// a GGUF file with them needs no change there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pattern {
    /// Qwen 2's: digits one by one, line ends kept together with what precedes them.
    #[default]
    Qwen2,
    /// GPT-2's.
    Gpt2,
    /// `SmolLM`'s: GPT-2's between digits, which stand one by one.
    SmolLm,
}

impl Pattern {
    fn words(self) -> Words {
        match self {
            Self::Qwen2 => Words::Qwen2,
            Self::Gpt2 => Words::Gpt2,
            Self::SmolLm => Words::SmolLm,
        }
    }

    /// Returns what cuts so in Hugging Face's tokenizers, and writes bytes as characters if `byte_level`.
    fn pre_tokenizer(self, byte_level: bool) -> Result<PreTokenizerWrapper, tokenizers::Error> {
        let bytes = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, false, use_regex));
        Ok(match (self, byte_level) {
            (Self::Qwen2, true) => Sequence::new(vec![split(words::QWEN2)?, bytes(false)]).into(),
            (Self::Qwen2, false) => split(words::QWEN2)?,
            (Self::Gpt2, true) => bytes(true),
            (Self::Gpt2, false) => split(words::GPT2)?,
            (Self::SmolLm, true) => Sequence::new(vec![Digits::new(true).into(), bytes(true)]).into(),
            (Self::SmolLm, false) => Sequence::new(vec![Digits::new(true).into(), split(words::GPT2)?]).into(),
        })
    }
}

fn split(expression: &str) -> Result<PreTokenizerWrapper, tokenizers::Error> {
    let pattern = SplitPattern::Regex(expression.to_owned());
    Ok(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into())
}

/// How a tokenizer is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainConfig {
    /// What it shall be. Default: byte-level BPE.
    pub kind: Kind,
    /// How many tokens to have, special ones included; fewer come out when the text does not give as many. Default 4096.
    pub vocab_size: usize,
    /// Where text is cut first, for BPE and Unigram; `WordPiece` cuts as BERT does, at white space and punctuation.
    /// Default: Qwen 2's.
    pub pattern: Pattern,
    /// Special tokens beside [`SPECIAL_TOKENS`], each of two characters or more. Default: none.
    pub special_tokens: Vec<String>,
    /// How often a pair must occur to be merged, in BPE and `WordPiece`. Default 2.
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
    /// Returns all special tokens in the order of their ids, less the one for what is unknown.
    fn all_special_tokens(&self) -> Result<Vec<String>, Error> {
        let mut all: Vec<String> = SPECIAL_TOKENS.map(str::to_owned).to_vec();
        all.extend(self.special_tokens.iter().cloned());
        let mut seen: HashSet<&str> = self.kind.unknown_token().into_iter().collect();
        for token in &all {
            let wrong = |problem| Err(Error::SpecialToken { token: token.clone(), problem });
            if token.chars().count() < 2 {
                return wrong("has fewer than two characters");
            }
            if !seen.insert(token) {
                return wrong("is there twice: once suffices, and this program adds its own");
            }
        }
        Ok(all)
    }

    fn check_size(&self, minimum: usize) -> Result<(), Error> {
        let (kind, vocab_size) = (self.kind, self.vocab_size);
        if vocab_size < minimum { Err(Error::VocabularyTooSmall { kind, vocab_size, minimum }) } else { Ok(()) }
    }

    /// Returns what makes an error of the library ours.
    fn failed(&self) -> impl Fn(tokenizers::Error) -> Error {
        let (kind, vocab_size) = (self.kind, self.vocab_size);
        move |source| Error::Train { kind, vocab_size, source }
    }
}

impl Tokenizer {
    /// Trains a tokenizer on `documents`. The result depends on what the documents are, not on their order nor on the
    /// number of threads.
    ///
    /// # Errors
    /// When a special token is empty or there twice, or the vocabulary is too small for the bytes or characters that it
    /// must have.
    pub fn train<S>(config: &TrainConfig, documents: impl Iterator<Item = S> + Send) -> Result<Self, Error>
    where
        S: AsRef<str> + Send,
    {
        let special_tokens = config.all_special_tokens()?;
        let mut inner = match config.kind {
            Kind::Bpe => bpe::train(config, &special_tokens, documents)?,
            Kind::Unigram => unigram::train(config, &special_tokens, documents)?,
            Kind::WordPiece => word_piece::train(config, &special_tokens, documents)?,
            Kind::Character => character::train(config, &special_tokens, documents)?,
        };
        // Those of BPE are in its vocabulary, which was made around them.
        let is_taken = |token: &&String| config.kind != Kind::Bpe && inner.token_to_id(token).is_some();
        if let Some(token) = special_tokens.iter().find(is_taken) {
            let problem = "is a token of this kind of tokenizer already";
            return Err(Error::SpecialToken { token: token.clone(), problem });
        }
        let added = config.kind.unknown_token().into_iter().chain(special_tokens.iter().map(String::as_str));
        inner.add_special_tokens(added.map(|name| AddedToken::from(name, true))).map_err(config.failed())?;
        Self::wrap(inner, "the trained tokenizer")
    }
}
