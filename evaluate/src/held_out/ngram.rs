//! Baseline: an n-gram model of the tokens, by interpolated modified Kneser-Ney smoothing (An Empirical Study of
//! Smoothing Techniques for Language Modeling, 1999).
//!
//! What a model gains over it is what it learned beyond the last [`ORDER`] − 1 tokens and exact repetition. It is
//! trained on the beginning of the train split, across the ends of documents, as the model is.
//!
//! All n-grams of the highest order are sorted by their last token, then the one before it, and so on. In that order
//! the n-grams that end in the same k tokens follow each other, so one pass counts all orders: occurrences of the
//! highest, and of the others the distinct tokens before them. Only what the held-out text can ask for is kept.

use std::collections::HashMap;

use ahash::RandomState;
use rayon::prelude::*;
use tokenizer::shard::Split;

/// The highest order, that of most published baselines.
pub(crate) const ORDER: usize = 5;

/// The bits of a token's id: five fit into 128 bits, with three for the order. No vocabulary has 33 million tokens.
const TOKEN_BITS: usize = 25;

/// The longest text that is scored, as what it can ask for is in memory: about 500 bytes a token.
pub(crate) const MAX_TEXT_TOKENS: usize = 1 << 22;

/// An n-gram as a number: its last token in the highest bits, its order above them.
type Gram = u128;

/// A model of the n-grams that certain texts can ask for.
#[derive(Debug)]
pub(crate) struct NGramModel {
    vocab_size: usize,
    /// Of each order, what is subtracted from counts of 1, 2, and 3 or more.
    discounts: [[f64; 3]; ORDER],
    counts: HashMap<Gram, u64, RandomState>,
    contexts: HashMap<Gram, Context, RandomState>,
}

/// What follows a context: the sum of counts, and the number of tokens with a count of 1, 2, and 3 or more.
#[derive(Debug, Clone, Copy, Default)]
struct Context {
    total: u64,
    tokens: [u64; 3],
}

impl NGramModel {
    /// Counts the first `max_tokens` tokens of the train split, for `texts` alone.
    pub(crate) fn train(train: &Split, max_tokens: u64, texts: &[&[u32]]) -> Self {
        let length = train.len().min(usize::try_from(max_tokens).unwrap_or(usize::MAX));
        let mut ids = vec![0; length];
        train.copy(0, &mut ids);
        Self::of(&ids, train.vocab_size(), texts)
    }

    fn of(ids: &[u32], vocab_size: usize, texts: &[&[u32]]) -> Self {
        let (mut counts, mut contexts) = (HashMap::default(), HashMap::default());
        for (text, at) in texts.iter().flat_map(|text| (0..text.len()).map(move |at| (text, at))) {
            for order in 1..=ORDER.min(at + 1) {
                let gram = gram(&text[at + 1 - order..=at]);
                counts.insert(gram, 0);
                contexts.insert(context(gram, order), Context::default());
            }
        }
        let mut model = Self { vocab_size, discounts: [[0.0; 3]; ORDER], counts, contexts };
        model.count(ids);
        model
    }

    fn count(&mut self, ids: &[u32]) {
        let mut sorted: Vec<Gram> = ids.windows(ORDER).map(gram).collect();
        sorted.par_sort_unstable();
        // Of each order, how many n-grams have a count of 1, 2, 3 and 4.
        let mut counts_of_counts = [[0_u64; 4]; ORDER];
        let mut open = [0_u64; ORDER];
        for (at, gram) in sorted.iter().enumerate() {
            // The lowest order at which the next n-gram is another one.
            let next = sorted.get(at + 1);
            let shared =
                next.map_or(0, |next| (1..=ORDER).take_while(|k| suffix(*gram, *k) == suffix(*next, *k)).count());
            open[ORDER - 1] += 1;
            for order in (shared + 1..=ORDER).rev() {
                let count = std::mem::take(&mut open[order - 1]);
                if order > 1 {
                    open[order - 2] += 1;
                }
                if let Some(of_count) = counts_of_counts[order - 1].get_mut(count as usize - 1) {
                    *of_count += 1;
                }
                self.keep(suffix(*gram, order), order, count);
            }
        }
        self.discounts = counts_of_counts.map(|counts| discounts(counts.map(|count| count as f64)));
    }

    fn keep(&mut self, gram: Gram, order: usize, count: u64) {
        if let Some(context) = self.contexts.get_mut(&context(gram, order)) {
            context.total += count;
            context.tokens[count.min(3) as usize - 1] += 1;
            if let Some(kept) = self.counts.get_mut(&gram) {
                *kept = count;
            }
        }
    }

    /// Returns the loss of the last of `tokens` after the others, in nats. They must be part of a text that the model
    /// was counted for; of more than [`ORDER`], only the last count.
    pub(crate) fn loss_nats(&self, tokens: &[u32]) -> f64 {
        let mut probability = 1.0 / self.vocab_size as f64;
        for order in 1..=ORDER.min(tokens.len()) {
            let gram = gram(&tokens[tokens.len() - order..]);
            let Some(context) = self.contexts.get(&context(gram, order)).filter(|context| context.total > 0) else {
                break;
            };
            let discounts = &self.discounts[order - 1];
            let count = self.counts.get(&gram).copied().unwrap_or(0);
            let kept = if count == 0 { 0.0 } else { count as f64 - discounts[count.min(3) as usize - 1] };
            let freed: f64 = discounts.iter().zip(context.tokens).map(|(discount, n)| discount * n as f64).sum();
            probability = (kept + freed * probability) / context.total as f64;
        }
        -probability.ln()
    }
}

/// Returns the number of an n-gram of at most [`ORDER`] tokens.
fn gram(tokens: &[u32]) -> Gram {
    let ids = tokens.iter().rev().fold(0, |gram, id| gram << TOKEN_BITS | Gram::from(*id));
    mark(ids, tokens.len())
}

fn mark(ids: u128, order: usize) -> Gram {
    ids | (order as u128) << (ORDER * TOKEN_BITS)
}

/// Returns the last `order` tokens of an n-gram of the highest order.
fn suffix(gram: Gram, order: usize) -> Gram {
    let ids = gram & (mark(0, 1) - 1);
    mark(ids >> ((ORDER - order) * TOKEN_BITS), order)
}

/// Returns an n-gram without its last token.
fn context(gram: Gram, order: usize) -> Gram {
    mark(gram & ((1 << ((order - 1) * TOKEN_BITS)) - 1), order - 1)
}

/// Returns the discounts for the number of n-grams with a count of 1, 2, 3 and 4 (equation 26 of the paper); where the
/// text is too small for them, those that `KenLM` falls back to.
fn discounts([n1, n2, n3, n4]: [f64; 4]) -> [f64; 3] {
    let y = n1 / (n1 + 2.0 * n2);
    let found = [1.0 - 2.0 * y * n2 / n1, 2.0 - 3.0 * y * n3 / n2, 3.0 - 4.0 * y * n4 / n3];
    let is_valid = found.iter().zip([1.0, 2.0, 3.0]).all(|(discount, count)| (0.0..=count).contains(discount));
    if is_valid { found } else { [0.5, 1.0, 1.5] }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Returns text over `vocab_size` tokens in which what follows depends on the two tokens before.
    fn text(length: usize, vocab_size: u32) -> Vec<u32> {
        let (mut ids, mut state) = (vec![0, 1], 7_u32);
        while ids.len() < length {
            // The generator of Numerical Recipes; only its top bits are random enough.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = if state >> 30 == 0 { state >> 20 } else { 0 };
            ids.push((ids[ids.len() - 1] * 3 + ids[ids.len() - 2] + noise) % vocab_size);
        }
        ids
    }

    /// The recursion of the paper over maps, as a reference.
    struct Reference {
        counts: Vec<BTreeMap<Vec<u32>, u64>>,
        discounts: Vec<[f64; 3]>,
        vocab_size: usize,
    }

    impl Reference {
        fn of(ids: &[u32], vocab_size: usize) -> Self {
            let mut counts = vec![BTreeMap::new(); ORDER];
            for gram in ids.windows(ORDER) {
                *counts[ORDER - 1].entry(gram.to_vec()).or_insert(0) += 1;
            }
            for order in (1..ORDER).rev() {
                // Distinct tokens before each n-gram.
                let longer: BTreeSet<&[u32]> = counts[order].keys().map(Vec::as_slice).collect();
                let mut shorter = BTreeMap::new();
                for gram in &longer {
                    *shorter.entry(gram[1..].to_vec()).or_insert(0) += 1;
                }
                counts[order - 1] = shorter;
            }
            let of_count = |counts: &BTreeMap<Vec<u32>, u64>, n| counts.values().filter(|count| **count == n).count();
            let discounts =
                counts.iter().map(|counts| discounts([1, 2, 3, 4].map(|n| of_count(counts, n) as f64))).collect();
            Self { counts, discounts, vocab_size }
        }

        fn probability(&self, tokens: &[u32]) -> f64 {
            let Some((last, context)) = tokens.split_last() else { return 1.0 / self.vocab_size as f64 };
            let lower = self.probability(&tokens[1..]);
            let (counts, discounts) = (&self.counts[context.len()], self.discounts[context.len()]);
            let following: Vec<(&Vec<u32>, &u64)> =
                counts.iter().filter(|(gram, _)| gram[..context.len()] == *context).collect();
            let total: u64 = following.iter().map(|(_, count)| **count).sum();
            if total == 0 {
                return lower;
            }
            let discount = |count: u64| discounts[count.min(3) as usize - 1];
            let freed: f64 = following.iter().map(|(_, count)| discount(**count)).sum();
            let own = following.iter().find(|(gram, _)| gram.last() == Some(last)).map_or(0, |(_, count)| **count);
            let kept = if own == 0 { 0.0 } else { own as f64 - discount(own) };
            (kept + freed * lower) / total as f64
        }
    }

    #[test]
    fn losses_are_those_of_the_recursion_over_maps() {
        let (train, vocab_size) = (text(900, 13), 13);
        let held_out = text(400, 12);
        let held_out = &held_out[300..];
        let model = NGramModel::of(&train, vocab_size, &[held_out]);
        let reference = Reference::of(&train, vocab_size);
        assert_eq!(model.discounts.to_vec(), reference.discounts);
        for end in 1..=held_out.len() {
            let tokens = &held_out[end.saturating_sub(ORDER)..end];
            let expected = -reference.probability(tokens).ln();
            let found = model.loss_nats(tokens);
            assert!((found - expected).abs() < 1e-12, "{tokens:?}: {found}, not {expected}");
        }
    }

    #[test]
    fn probabilities_sum_to_one() {
        let (train, vocab_size) = (text(2000, 50), 50_u32);
        for context in [&[][..], &[3], &[49, 1], &train[100..104], &[7, 7, 7, 7]] {
            let texts: Vec<Vec<u32>> = (0..vocab_size).map(|id| [context, &[id]].concat()).collect();
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let model = NGramModel::of(&train, vocab_size as usize, &texts);
            let sum: f64 = texts.iter().map(|tokens| (-model.loss_nats(tokens)).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-9, "after {context:?} they sum to {sum}");
        }
    }

    #[test]
    fn texts_too_small_to_count_have_losses() {
        for train in [&[][..], &[1, 2], &[5; 40]] {
            let model = NGramModel::of(train, 8, &[&[1, 5, 5, 5, 5, 5]]);
            for end in 1..6 {
                assert!(model.loss_nats(&[1, 5, 5, 5, 5, 5][..end]).is_finite(), "{train:?}");
            }
        }
        assert!((NGramModel::of(&[], 8, &[]).loss_nats(&[3]) - 8f64.ln()).abs() < 1e-12);
    }
}
