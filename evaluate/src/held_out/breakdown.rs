//! Where a model is weak: its loss by the position of a token and by the token's frequency in training.

use inference::scoring::TokenScore;
use schemars::JsonSchema;
use serde::Serialize;
use tokenizer::shard::Split;

use crate::held_out::calibration::{Calibration, Confidences};

/// The tokens of the train split that are counted, from its start. Heuristic: the documents are shuffled, so these are
/// a random sample, whose most frequent tokens are those of the whole.
const MAX_COUNTED_TOKENS: usize = 1 << 26;

/// Returns how often each token of the vocabulary occurs in the beginning of the train split.
pub(crate) fn training_counts(train: &Split) -> Vec<u64> {
    let mut counts = vec![0; train.vocab_size()];
    let mut buffer = vec![0; 1 << 16];
    let end = train.len().min(MAX_COUNTED_TOKENS);
    for start in (0..end).step_by(buffer.len()) {
        let tokens = &mut buffer[..(end - start).min(1 << 16)];
        train.copy(start, tokens);
        for id in tokens {
            counts[*id as usize] += 1;
        }
    }
    counts
}

/// The scored tokens of an excerpt by what may make them hard.
#[derive(Debug)]
pub(crate) struct Breakdown<'a> {
    training_counts: &'a [u64],
    by_context: Vec<Sums>,
    by_frequency: Vec<Sums>,
    confidences: Confidences,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    tokens: u64,
    loss_nats: f64,
    top_1: u64,
}

/// The tokens for which a number, such as that of preceding tokens, is in a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Bucket {
    /// The lowest number.
    pub(crate) from: u64,
    /// The highest number.
    pub(crate) to: u64,
    /// Scored tokens.
    pub(crate) tokens: u64,
    /// Their mean cross-entropy, in nats.
    pub(crate) loss_nats: f64,
    /// The fraction of them that were the most likely prediction.
    pub(crate) top_1_accuracy: f64,
}

impl<'a> Breakdown<'a> {
    pub(crate) fn new(training_counts: &'a [u64]) -> Self {
        let (by_context, by_frequency) = (Vec::new(), Vec::new());
        Self { training_counts, by_context, by_frequency, confidences: Confidences::default() }
    }

    /// Adds a token with its id and the number of tokens before it in its document.
    pub(crate) fn add(&mut self, token: &TokenScore, id: u32, document_tokens: usize) {
        let context = document_tokens.min(token.context_tokens) as u64;
        let frequency = self.training_counts.get(id as usize).copied().unwrap_or(0);
        let places = [
            (&mut self.by_context, context.checked_ilog2().map_or(0, |power| power + 1)),
            (&mut self.by_frequency, frequency.checked_ilog10().map_or(0, |power| power + 1)),
        ];
        for (buckets, place) in places {
            let place = place as usize;
            buckets.resize(buckets.len().max(place + 1), Sums::default());
            buckets[place].tokens += 1;
            buckets[place].loss_nats -= f64::from(token.log_probability);
            buckets[place].top_1 += u64::from(token.rank == 0);
        }
        self.confidences.add(token.top_log_probability, token.rank == 0);
    }

    /// Returns the tokens by the number of tokens of their document that the model saw before them: 0, 1, 2 to 3, 4 to
    /// 7, ….
    pub(crate) fn by_context(&self) -> Vec<Bucket> {
        buckets(&self.by_context, 2)
    }

    /// Returns the tokens by how often they occur in training: 0, 1 to 9, 10 to 99, ….
    pub(crate) fn by_frequency(&self) -> Vec<Bucket> {
        buckets(&self.by_frequency, 10)
    }

    pub(crate) fn calibration(&self) -> Calibration {
        self.confidences.calibration()
    }
}

/// Returns the buckets that have tokens; after the first, for 0, each begins at a power of `base`.
fn buckets(sums: &[Sums], base: u64) -> Vec<Bucket> {
    let bucket = |(place, sums): (usize, &Sums)| {
        let power = |exponent: usize| base.saturating_pow(exponent as u32);
        let (from, to) = if place == 0 { (0, 0) } else { (power(place - 1), power(place) - 1) };
        let mean = |sum: f64| sum / sums.tokens as f64;
        Bucket {
            from,
            to,
            tokens: sums.tokens,
            loss_nats: mean(sums.loss_nats),
            top_1_accuracy: mean(sums.top_1 as f64),
        }
    };
    sums.iter().enumerate().filter(|(_, sums)| sums.tokens > 0).map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(context_tokens: usize, loss: f32, rank: usize) -> TokenScore {
        TokenScore { index: 1, context_tokens, log_probability: -loss, rank, top_log_probability: -0.5 }
    }

    #[test]
    fn tokens_are_divided_by_powers() {
        let counts = [0, 1, 9, 10, 100];
        let mut breakdown = Breakdown::new(&counts);
        // (tokens before it in the document, of these seen, id)
        for (document_tokens, seen, id) in [(0, 50, 0), (1, 50, 1), (2, 50, 2), (3, 50, 3), (4, 50, 4), (90, 5, 4)] {
            breakdown.add(&token(seen, 1.0 + document_tokens as f32, document_tokens % 2), id, document_tokens);
        }
        let ranges = |buckets: &[Bucket]| buckets.iter().map(|b| (b.from, b.to, b.tokens)).collect::<Vec<_>>();
        assert_eq!(ranges(&breakdown.by_context()), [(0, 0, 1), (1, 1, 1), (2, 3, 2), (4, 7, 2)]);
        assert_eq!(ranges(&breakdown.by_frequency()), [(0, 0, 1), (1, 9, 2), (10, 99, 1), (100, 999, 2)]);
        let Bucket { loss_nats, top_1_accuracy, .. } = breakdown.by_context()[2];
        assert_eq!((loss_nats, top_1_accuracy), (3.5, 0.5));
    }

    #[test]
    fn large_numbers_have_a_bucket() {
        let counts = [u64::MAX];
        let mut breakdown = Breakdown::new(&counts);
        breakdown.add(&token(usize::MAX, 1.0, 0), 0, usize::MAX);
        assert_eq!(breakdown.by_context()[0].from, 1 << 63);
        assert_eq!(breakdown.by_frequency()[0].from, 10_u64.pow(19));
        // An id that the train split's vocabulary does not have.
        breakdown.add(&token(1, 1.0, 0), 7, 1);
        assert_eq!(breakdown.by_frequency()[0].from, 0);
    }
}
