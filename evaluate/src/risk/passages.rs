//! Passages of a split: a prefix, and the text that follows it there.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokenizer::shard::Split;
use trace::Index;

/// Tokens of a passage that the model is given. Heuristic: enough that most prefixes occur once.
pub(super) const PREFIX_TOKENS: usize = 32;

/// Tokens that follow: the length by which the literature counts a text as memorised (Quantifying Memorization Across
/// Neural Language Models, 2022).
pub(super) const CONTINUATION_TOKENS: usize = 50;

const TOKENS: usize = PREFIX_TOKENS + CONTINUATION_TOKENS;

/// Passages that are looked at for each one that is chosen for its copies.
const CANDIDATES: usize = 64;

/// The seed of the places of passages. It is fixed, so that they depend on the split alone.
const SEED: u64 = 2022;

/// A passage within a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Passage {
    pub(super) tokens: Vec<u32>,
    /// How often it occurs in the training data; none without an index.
    pub(super) copies: Option<u64>,
}

impl Passage {
    /// Returns the tokens that the model is given.
    pub(super) fn prefix(&self) -> &[u32] {
        &self.tokens[..PREFIX_TOKENS]
    }

    /// Returns the tokens that follow them.
    pub(super) fn continuation(&self) -> &[u32] {
        &self.tokens[PREFIX_TOKENS..]
    }
}

/// Returns up to `count` different passages, one of a document, whose documents are spread evenly over the split.
pub(super) fn spread(split: &Split, index: Option<&Index>, count: usize) -> Vec<Passage> {
    let long: Vec<usize> =
        (0..split.n_documents()).filter(|index| split.document_range(*index).len() > TOKENS).collect();
    let count = count.min(long.len());
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut seen = HashSet::new();
    (0..count)
        .map(|number| {
            let range = split.document_range(long[number * long.len() / count]);
            // The last token ends the text.
            let places = range.len() - TOKENS;
            let start = range.start + (random.next_u64() % places as u64) as usize;
            let mut tokens = vec![0; TOKENS];
            split.copy(start, &mut tokens);
            Passage { copies: index.map(|index| index.count(&tokens)), tokens }
        })
        .filter(|passage| seen.insert(passage.tokens.clone()))
        .collect()
}

/// Returns up to `count` passages that occur more than once, those with the most copies first, among passages of many
/// documents.
pub(super) fn repeated(split: &Split, index: &Index, count: usize) -> Vec<Passage> {
    let mut passages = spread(split, Some(index), count * CANDIDATES);
    passages.retain(|passage| passage.copies > Some(1));
    passages.sort_by_key(|passage| std::cmp::Reverse(passage.copies));
    passages.truncate(count);
    passages
}
