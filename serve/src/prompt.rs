//! Prompts of requests: texts, or their tokens.

use generate::Generator;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::error::causes;

/// A text or its tokens.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Prompt {
    /// The text.
    Text(String),
    /// The tokens.
    Tokens(Vec<u32>),
}

/// One prompt or several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Prompts {
    /// One text.
    Text(String),
    /// Several texts.
    Texts(Vec<String>),
    /// The tokens of one.
    Tokens(Vec<u32>),
    /// The tokens of several.
    TokenLists(Vec<Vec<u32>>),
}

impl Prompts {
    pub(crate) fn into_vec(self) -> Vec<Prompt> {
        match self {
            Self::Text(text) => vec![Prompt::Text(text)],
            Self::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

impl Prompt {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Tokens(tokens) => tokens.is_empty(),
        }
    }

    /// Returns the tokens.
    ///
    /// # Errors
    /// Returns an error that names the parameter `name` if the text cannot be encoded or a token is not in the
    /// vocabulary.
    pub(crate) fn tokens(&self, name: &str, generator: &Generator) -> Result<Vec<u32>, ApiError> {
        let invalid = |message| ApiError::parameter(name, "invalid_value", message);
        match self {
            Self::Text(text) => {
                let tokens = generator.encode(&generate::Prompt::Text(text.clone()));
                tokens.map_err(|error| invalid(format!("`{name}` cannot be encoded: {}.", causes(&error))))
            }
            Self::Tokens(tokens) => {
                let size = generator.tokenizer().vocab_size();
                match tokens.iter().find(|token| **token as usize >= size) {
                    Some(token) => Err(invalid(format!(
                        "`{name}` must hold tokens below {size}, the size of the vocabulary, not {token}."
                    ))),
                    None => Ok(tokens.clone()),
                }
            }
        }
    }
}
