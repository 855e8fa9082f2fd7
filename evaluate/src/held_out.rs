//! Scores of a model on held-out text.

pub(crate) mod baselines;
pub(crate) mod breakdown;
pub(crate) mod calibration;
pub(crate) mod details;
pub(crate) mod ngram;

use std::ops::Range;

use artifact::Digest;
use inference::scoring::TokenScore;
use schemars::JsonSchema;
use serde::Serialize;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::Error;
use crate::held_out::breakdown::Breakdown;
use crate::intervals::{self, Interval};

/// The part of a split that is scored.
#[derive(Debug)]
pub(crate) struct Excerpt {
    pub(crate) split: Split,
    /// Its tokens: the first is only context, the others are predicted.
    pub(crate) ids: Vec<u32>,
    /// The text of the scored tokens (in chats, the assistant's messages): documents concatenated, without special
    /// tokens.
    pub(crate) text: String,
    /// The documents with scored tokens, in order.
    pub(crate) documents: Vec<Document>,
}

/// The scored part of a document.
#[derive(Debug)]
pub(crate) struct Document {
    /// The indices of its tokens in the split, up to the end of the excerpt.
    pub(crate) range: Range<usize>,
    /// UTF-8 bytes of its scored text.
    pub(crate) bytes: u64,
    /// The digest of its scored text.
    pub(crate) digest: Digest,
    /// Its index in the split.
    pub(crate) index: usize,
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
        let mut ids = vec![0; tokens];
        split.copy(0, &mut ids);
        let (mut text, mut documents) = (String::new(), Vec::new());
        for index in 0..split.n_documents() {
            let range = split.document_range(index);
            let range = range.start..range.end.min(tokens);
            let predicted = range.start.max(1)..range.end;
            if predicted.is_empty() {
                continue;
            }
            let mut scored = vec![false; predicted.len()];
            split.copy_scored(predicted.start, &mut scored);
            let scored: Vec<u32> =
                ids[predicted].iter().zip(scored).filter(|(_, is_scored)| *is_scored).map(|(id, _)| *id).collect();
            if scored.is_empty() {
                continue;
            }
            let scored = tokenizer.decode(&scored)?;
            documents.push(Document {
                range,
                bytes: scored.len() as u64,
                digest: Digest::of(scored.as_bytes()),
                index,
            });
            text += &scored;
        }
        if text.is_empty() {
            return Err(Error::TooFewTokens { split: name, tokens });
        }
        Ok(Self { split, ids, text, documents })
    }

    /// Returns the scored text of each document.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.text.as_str();
        self.documents.iter().map(move |document| {
            let (text, after) = rest.split_at(document.bytes as usize);
            rest = after;
            text
        })
    }

    /// Returns the number of predicted tokens.
    pub(crate) fn predicted_tokens(&self) -> u64 {
        self.ids.len() as u64 - 1
    }
}

/// A model's sums over the scored tokens of one document.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct DocumentScore {
    pub(crate) loss_nats: f64,
    pub(crate) tokens: u64,
    top_1: u64,
    top_5: u64,
    pub(crate) bytes: u64,
}

impl DocumentScore {
    /// Returns the sum of its tokens' losses, in bits.
    pub(crate) fn bits(&self) -> f64 {
        self.loss_nats / std::f64::consts::LN_2
    }

    /// Returns what the metrics are functions of, summed over documents.
    fn sums(&self) -> [f64; 5] {
        [self.loss_nats, self.tokens as f64, self.top_1 as f64, self.top_5 as f64, self.bytes as f64]
    }
}

/// The scores of a model on an excerpt while its tokens arrive in order.
pub(crate) struct Scorer<'a> {
    excerpt: &'a Excerpt,
    documents: Vec<DocumentScore>,
    /// The document of the last token.
    at: usize,
    breakdown: Breakdown<'a>,
}

impl<'a> Scorer<'a> {
    /// Returns a scorer that has seen no token.
    pub(crate) fn new(excerpt: &'a Excerpt, training_counts: &'a [u64]) -> Self {
        let score = |document: &Document| DocumentScore { bytes: document.bytes, ..DocumentScore::default() };
        let documents = excerpt.documents.iter().map(score).collect();
        Self { excerpt, documents, at: 0, breakdown: Breakdown::new(training_counts) }
    }

    /// Adds the next token.
    pub(crate) fn add(&mut self, token: &TokenScore) {
        while self.excerpt.documents[self.at].range.end <= token.index {
            self.at += 1;
        }
        let (start, document) = (self.excerpt.documents[self.at].range.start, &mut self.documents[self.at]);
        document.loss_nats -= f64::from(token.log_probability);
        document.tokens += 1;
        document.top_1 += u64::from(token.rank < 1);
        document.top_5 += u64::from(token.rank < 5);
        self.breakdown.add(token, self.excerpt.ids[token.index], token.index - start);
    }

    /// Returns the result.
    pub(crate) fn finish(self) -> (Metrics, Vec<DocumentScore>, Breakdown<'a>) {
        (Metrics::of(&self.documents), self.documents, self.breakdown)
    }
}

/// A model's metrics on an excerpt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
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
    /// Documents with scored tokens.
    pub(crate) documents: u64,
    /// 95 % bootstrap intervals over documents; null for a single document.
    pub(crate) intervals: Option<Intervals>,
}

/// The intervals of [`Metrics`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Intervals {
    pub(crate) loss_nats: Interval,
    pub(crate) perplexity: Interval,
    pub(crate) bits_per_byte: Interval,
    pub(crate) top_1_accuracy: Interval,
    pub(crate) top_5_accuracy: Interval,
}

impl Metrics {
    /// Returns the metrics over documents, of which at least one has a scored token.
    pub(crate) fn of(documents: &[DocumentScore]) -> Self {
        let sums: Vec<[f64; 5]> = documents.iter().map(DocumentScore::sums).collect();
        let mut total = [0.0; 5];
        for sums in &sums {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let [loss_nats, perplexity, bits_per_byte, top_1_accuracy, top_5_accuracy] = ratios(&total);
        let intervals = intervals::of_sums(&sums, ratios).map(|[loss, perplexity, bits, top_1, top_5]| Intervals {
            loss_nats: loss,
            perplexity,
            bits_per_byte: bits,
            top_1_accuracy: top_1,
            top_5_accuracy: top_5,
        });
        Self {
            loss_nats,
            perplexity,
            bits_per_byte,
            top_1_accuracy,
            top_5_accuracy,
            tokens: total[1] as u64,
            documents: documents.len() as u64,
            intervals,
        }
    }
}

/// Returns loss, perplexity, bits per byte and both accuracies for the sums of [`DocumentScore::sums`].
fn ratios([loss_nats, tokens, top_1, top_5, bytes]: &[f64; 5]) -> [f64; 5] {
    let loss = loss_nats / tokens;
    [loss, loss.exp(), loss_nats / std::f64::consts::LN_2 / bytes, top_1 / tokens, top_5 / tokens]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_per_byte_is_code_length_over_text_length() {
        let check = |(loss, tokens, bytes): (f64, u64, u64), expected: f64| {
            let document = DocumentScore { loss_nats: loss * tokens as f64, tokens, bytes, ..DocumentScore::default() };
            let metrics = Metrics::of(&[document]);
            assert!((metrics.bits_per_byte - expected).abs() < 1e-12 && (metrics.loss_nats - loss).abs() < 1e-12);
            assert_eq!(metrics.intervals, None);
        };
        // One token per byte, uniform over 256: 8 bits.
        check((256f64.ln(), 100, 100), 8.0);
        // Uniform over 4096, three bytes per token: 12 bits over 3 bytes.
        check((4096f64.ln(), 10, 30), 4.0);
        check((0.0, 10, 30), 0.0);
    }

    #[test]
    fn metrics_are_those_of_all_documents_together() {
        let document =
            |loss_nats, tokens, top_1, bytes| DocumentScore { loss_nats, tokens, top_1, top_5: tokens, bytes };
        let metrics = Metrics::of(&[document(10.0, 10, 5, 40), document(60.0, 30, 3, 60)]);
        assert_eq!((metrics.loss_nats, metrics.top_1_accuracy, metrics.tokens), (70.0 / 40.0, 0.2, 40));
        assert_eq!((metrics.documents, metrics.top_5_accuracy), (2, 1.0));
        let interval = metrics.intervals.unwrap().loss_nats;
        // Two documents: a quarter of the resamples are the first one twice, a quarter the second.
        assert_eq!(interval, Interval { low: 1.0, high: 2.0 });
    }
}
