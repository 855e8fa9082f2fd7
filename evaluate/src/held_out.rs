//! How well a model predicts held-out text.

use artifact::Progress;
use model::Transformer;
use model::scoring::{SlidingWindow, score};
use serde::Serialize;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::Error;

/// The part of a split that is scored, as text.
#[derive(Debug)]
pub(crate) struct Excerpt {
    pub(crate) split: Split,
    /// The tokens read: the first is only context, the others are predicted.
    tokens: usize,
    /// The text of the scored tokens, of chats what the assistant says: documents one after the other, special tokens left
    /// out.
    pub(crate) text: String,
}

impl Excerpt {
    /// Takes the first `max_tokens` tokens of a split, all of them for 0.
    ///
    /// # Errors
    /// [`Error::TooFewTokens`] when there is nothing to predict.
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

    /// Returns how many tokens are predicted.
    pub(crate) fn predicted_tokens(&self) -> u64 {
        self.tokens as u64 - 1
    }
}

/// A model's figures on an excerpt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Mean cross-entropy of a token, end-of-text tokens included, in nats.
    pub(crate) loss_nats: f64,
    /// e to the loss: between how many equally likely tokens the model is torn.
    pub(crate) perplexity: f64,
    /// What the text costs in the model's code: the losses of its tokens, in bits, over its bytes. Unlike the
    /// loss, it can be compared between tokenizers.
    pub(crate) bits_per_byte: f64,
    /// The share of tokens that the model found likeliest.
    pub(crate) top_1_accuracy: f64,
    /// The share of tokens among the model's five likeliest.
    pub(crate) top_5_accuracy: f64,
    /// Tokens scored.
    pub(crate) tokens: u64,
}

impl Figures {
    /// Scores a model on an excerpt. Windows overlap by half, so that all but the first few tokens have at least half of
    /// the context before them.
    ///
    /// # Errors
    /// When the vocabularies differ; [`Error::Interrupted`] when `go_on` says no.
    pub(crate) fn of(
        model: &Transformer,
        excerpt: &Excerpt,
        progress: &Progress,
        go_on: impl Fn() -> bool,
    ) -> Result<Self, Error> {
        let walk = SlidingWindow::overlapping(model, Some(excerpt.tokens as u64));
        let scores = score(model, &excerpt.split, &walk, |done| {
            progress.position(done);
            go_on()
        })?;
        Ok(Self {
            loss_nats: scores.loss_nats,
            perplexity: scores.loss_nats.exp(),
            bits_per_byte: bits_per_byte(scores.loss_nats, scores.tokens, excerpt.text.len()),
            top_1_accuracy: scores.top1,
            top_5_accuracy: scores.top5,
            tokens: scores.tokens,
        })
    }
}

fn bits_per_byte(loss_nats: f64, tokens: u64, bytes: usize) -> f64 {
    loss_nats * tokens as f64 / std::f64::consts::LN_2 / bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_is_the_code_length_over_the_text_length() {
        let check = |(loss, tokens, bytes): (f64, u64, usize), expected: f64| {
            assert!((bits_per_byte(loss, tokens, bytes) - expected).abs() < 1e-12);
        };
        // One token a byte, uniform over 256: 8 bits.
        check((256f64.ln(), 100, 100), 8.0);
        // Uniform over 4096, three bytes a token: 12 bits over 3 bytes.
        check((4096f64.ln(), 10, 30), 4.0);
        check((0.0, 10, 30), 0.0);
    }
}
