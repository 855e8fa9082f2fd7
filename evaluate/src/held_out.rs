//! Scores of a model on held-out text.

use model::scoring::Scores;
use serde::Serialize;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::Error;

/// The part of a split that is scored.
#[derive(Debug)]
pub(crate) struct Excerpt {
    pub(crate) split: Split,
    /// Number of tokens: the first is only context, the others are predicted.
    pub(crate) tokens: usize,
    /// The text of the scored tokens (in chats, the assistant's messages): documents concatenated, without special
    /// tokens.
    pub(crate) text: String,
}

impl Excerpt {
    /// Returns the first `max_tokens` tokens of a split; all for 0.
    ///
    /// # Errors
    /// [`Error::TooFewTokens`] if there is nothing to predict.
    pub(crate) fn of(name: &'static str, split: Split, tokenizer: &Tokenizer, max_tokens: u64) -> Result<Self, Error> {
        let limit = if max_tokens == 0 { usize::MAX } else { usize::try_from(max_tokens).unwrap_or(usize::MAX) };
        let tokens = split.len().min(limit);
        if tokens < 2 {
            return Err(Error::TooFewTokens { split: name, tokens });
        }
        let mut text = String::new();
        for index in 0..split.n_documents() {
            let range = split.document_range(index);
            let range = range.start.max(1)..range.end.min(tokens);
            if range.is_empty() {
                continue;
            }
            let (mut document, mut scored) = (vec![0; range.len()], vec![false; range.len()]);
            split.copy(range.start, &mut document);
            split.copy_scored(range.start, &mut scored);
            let mut scored = scored.into_iter();
            document.retain(|_| scored.next().unwrap_or_default());
            text += &tokenizer.decode(&document)?;
        }
        if text.is_empty() {
            return Err(Error::TooFewTokens { split: name, tokens });
        }
        Ok(Self { split, tokens, text })
    }

    /// Returns the number of predicted tokens.
    pub(crate) fn predicted_tokens(&self) -> u64 {
        self.tokens as u64 - 1
    }
}

/// A model's metrics on an excerpt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Metrics {
    /// Mean cross-entropy per token, including end-of-text tokens, in nats.
    pub(crate) loss_nats: f64,
    /// Perplexity, exp(loss).
    pub(crate) perplexity: f64,
    /// Sum of the tokens' losses in bits, per byte of text. Unlike the loss, it is comparable between tokenizers.
    pub(crate) bits_per_byte: f64,
    /// The fraction of tokens that were the model's most likely prediction.
    pub(crate) top_1_accuracy: f64,
    /// The fraction of tokens among the model's five most likely predictions.
    pub(crate) top_5_accuracy: f64,
    /// Scored tokens.
    pub(crate) tokens: u64,
}

impl Metrics {
    /// Returns the metrics for the scores of a model on an excerpt.
    pub(crate) fn of(scores: &Scores, excerpt: &Excerpt) -> Self {
        Self {
            loss_nats: scores.loss_nats,
            perplexity: scores.loss_nats.exp(),
            bits_per_byte: bits_per_byte(scores.loss_nats, scores.tokens, excerpt.text.len()),
            top_1_accuracy: scores.top1,
            top_5_accuracy: scores.top5,
            tokens: scores.tokens,
        }
    }
}

fn bits_per_byte(loss_nats: f64, tokens: u64, bytes: usize) -> f64 {
    loss_nats * tokens as f64 / std::f64::consts::LN_2 / bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_is_code_length_over_text_length() {
        let check = |(loss, tokens, bytes): (f64, u64, usize), expected: f64| {
            assert!((bits_per_byte(loss, tokens, bytes) - expected).abs() < 1e-12);
        };
        // One token per byte, uniform over 256: 8 bits.
        check((256f64.ln(), 100, 100), 8.0);
        // Uniform over 4096, three bytes per token: 12 bits over 3 bytes.
        check((4096f64.ln(), 10, 30), 4.0);
        check((0.0, 10, 30), 0.0);
    }
}
