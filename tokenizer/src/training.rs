//! Training a tokenizer.

mod bpe;
mod character;
mod config;
mod merges;
mod unigram;
mod word_counts;
mod word_piece;

use tokenizers::AddedToken;

use crate::{Error, Kind, Tokenizer};

pub use config::{Pattern, TrainConfig};

impl Tokenizer {
    /// Trains a tokenizer on `documents`. The result depends neither on their order nor on the number of threads.
    ///
    /// # Errors
    /// Returns an error if a special token is too short or a duplicate, or if the vocabulary is too small for the bytes
    /// or characters that it must have.
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
        // BPE has the special tokens in its vocabulary from the beginning.
        let is_taken = |token: &&String| config.kind != Kind::Bpe && inner.token_to_id(token).is_some();
        if let Some(token) = special_tokens.iter().find(is_taken) {
            let problem = "is already a token of this kind of tokenizer";
            return Err(Error::SpecialToken { token: token.clone(), problem });
        }
        let added = config.kind.unknown_token().into_iter().chain(special_tokens.iter().map(String::as_str));
        inner.add_special_tokens(added.map(|name| AddedToken::from(name, true))).map_err(config.failed())?;
        Self::wrap(inner, "the trained tokenizer")
    }
}
