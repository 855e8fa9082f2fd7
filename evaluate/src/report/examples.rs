//! Examples of the data, divided into what counts towards the loss and what does not.

use schemars::JsonSchema;
use serde::Serialize;
use tokenizer::Tokenizer;
use tokenizer::shard::{MaskedDocument, Split};

use crate::Error;

/// Examples of each split: heuristic; enough to see that the loss mask is right.
const EXAMPLES: usize = 3;

/// Tokens of a document that are shown: heuristic; a screen of text.
const MAX_TOKENS: usize = 400;

/// Examples of one split.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SplitExamples {
    pub(crate) split: &'static str,
    /// Its first documents, which are in random order; preference pairs are two documents each.
    pub(crate) documents: Vec<MaskedDocument>,
}

impl SplitExamples {
    /// Returns the first examples of a split.
    ///
    /// # Errors
    /// Returns an error if the tokens are not those of `tokenizer`.
    pub(crate) fn of(name: &'static str, split: &Split, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let mut documents = Vec::new();
        for index in 0..split.n_examples().min(EXAMPLES) {
            documents.extend(split.example(index, tokenizer, MAX_TOKENS)?);
        }
        Ok(Self { split: name, documents })
    }
}
