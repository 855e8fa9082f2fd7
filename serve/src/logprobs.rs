//! Log probabilities in OpenAI's two shapes.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::event::ScoredToken;

/// The least log probability in an answer, as OpenAI's: JSON has no infinity.
const MIN_LOGPROB: f32 = -9999.0;

/// The tokens of a completion with their log probabilities: four arrays of the same length.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    /// The tokens; one that is not UTF-8 by itself is `bytes:\x` and its bytes in hexadecimal.
    pub(crate) tokens: Vec<String>,
    /// Their log probabilities; null for the first token of a prompt.
    pub(crate) token_logprobs: Vec<Option<f32>>,
    /// The most likely tokens in the place of each, and the token itself; null for the first token of a prompt.
    pub(crate) top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each begins in `text`, in characters.
    pub(crate) text_offset: Vec<usize>,
}

/// The tokens of an answer with their log probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    /// The tokens.
    pub(crate) content: Vec<ChatToken>,
    /// Always null.
    #[schema(value_type = Option<Vec<ChatToken>>, required = true)]
    pub(crate) refusal: Value,
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ChatToken {
    /// The token; what is not UTF-8 by itself is replaced by U+FFFD.
    pub(crate) token: String,
    /// Its log probability.
    pub(crate) logprob: f32,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The most likely tokens in its place.
    pub(crate) top_logprobs: Vec<Alternative>,
}

/// A likely token.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Alternative {
    /// The token.
    pub(crate) token: String,
    /// Its log probability.
    pub(crate) logprob: f32,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

impl CompletionLogprobs {
    /// Adds tokens whose offsets count from the character `start` of the text.
    pub(crate) fn extend(&mut self, tokens: &[ScoredToken], start: usize) {
        for token in tokens {
            let name = name(&token.bytes);
            let top = token.logprob.map(|logprob| {
                // The likeliest of several tokens with the same bytes comes first.
                let mut top = BTreeMap::new();
                for (bytes, logprob) in &token.alternatives {
                    top.entry(self::name(bytes)).or_insert(finite(*logprob));
                }
                top.entry(name.clone()).or_insert(finite(logprob));
                top
            });
            self.tokens.push(name);
            self.token_logprobs.push(token.logprob.map(finite));
            self.top_logprobs.push(top);
            self.text_offset.push(start + token.offset);
        }
    }
}

impl ChatLogprobs {
    /// Returns the log probabilities of some tokens.
    pub(crate) fn new(tokens: Vec<ScoredToken>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let alternative =
            |(bytes, logprob): (Vec<u8>, f32)| Alternative { token: text(&bytes), logprob: finite(logprob), bytes };
        let content = tokens.into_iter().map(|token| ChatToken {
            token: text(&token.bytes),
            logprob: token.logprob.map_or(0.0, finite),
            bytes: token.bytes,
            top_logprobs: token.alternatives.into_iter().map(alternative).collect(),
        });
        Self { content: content.collect(), refusal: Value::Null }
    }
}

fn finite(logprob: f32) -> f32 {
    logprob.max(MIN_LOGPROB)
}

fn name(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut name, byte| {
            // Writing to a string does not fail.
            let _ = write!(name, "\\x{byte:02x}");
            name
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tokens_have_openais_shapes() {
        let first = ScoredToken { id: 1, bytes: b"fn".to_vec(), offset: 0, logprob: None, alternatives: Vec::new() };
        let second = ScoredToken {
            id: 2,
            bytes: vec![0xc3],
            offset: 2,
            logprob: Some(-1.5),
            alternatives: vec![(b" x".to_vec(), -0.5), (b" y".to_vec(), f32::NEG_INFINITY)],
        };
        let mut completion = CompletionLogprobs::default();
        completion.extend(&[first], 0);
        completion.extend(std::slice::from_ref(&second), 10);
        let expected = json!({
            "tokens": ["fn", "bytes:\\xc3"],
            "token_logprobs": [null, -1.5],
            "top_logprobs": [null, {" x": -0.5, " y": -9999.0, "bytes:\\xc3": -1.5}],
            "text_offset": [0, 12],
        });
        assert_eq!(serde_json::to_value(completion).unwrap(), expected);
        let expected = json!({
            "content": [{
                "token": "\u{fffd}", "logprob": -1.5, "bytes": [0xc3],
                "top_logprobs": [
                    {"token": " x", "logprob": -0.5, "bytes": [32, 120]},
                    {"token": " y", "logprob": -9999.0, "bytes": [32, 121]},
                ],
            }],
            "refusal": null,
        });
        assert_eq!(serde_json::to_value(ChatLogprobs::new(vec![second])).unwrap(), expected);
    }
}
