//! Pairs in the order of the steps. Each of a pair's two answers is a document of its own in the rows of a batch.

use std::ops::Range;

use tokenizer::shard::Split;

use crate::data::batches::{IGNORE_INDEX, MicroBatch};
use crate::data::shuffle::Shuffle;

/// Pairs in a batch of [`Pairs::all`]. Heuristic, not measured: because sixteen answers fill enough rows to keep a
/// device busy.
const VALIDATION_PAIRS: usize = 8;

/// Pairs that are computed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairBatch {
    /// The answers with their prompts, as documents side by side in rows.
    pub rows: MicroBatch,
    /// Where each pair is in the rows.
    pub places: Vec<Place>,
}

/// Where a pair is in the rows: ranges of inputs, counted over all rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The pair's index in its split.
    pub pair: usize,
    /// The document of the chosen answer.
    pub chosen: Range<usize>,
    /// The document of the rejected answer.
    pub rejected: Range<usize>,
}

impl PairBatch {
    /// Returns P.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns the number of tokens, without padding.
    pub fn n_tokens(&self) -> u64 {
        self.rows.n_tokens as u64
    }
}

/// The pairs of a split.
#[derive(Debug)]
pub struct Pairs<'a> {
    split: &'a Split,
    context_length: usize,
    fitting: Vec<usize>,
    order: Shuffle,
}

impl<'a> Pairs<'a> {
    /// Returns the pairs of a split whose documents both fit in `context_length` tokens; None if there are none.
    pub fn new(split: &'a Split, context_length: usize, seed: u64) -> Option<Self> {
        let fits = |document: usize| {
            let range = split.document_range(document);
            let mut learned = vec![false; range.len()];
            split.copy_mask(range.start, &mut learned);
            range.len() <= context_length + 1 && learned.iter().skip(1).any(|is_learned| *is_learned)
        };
        let fitting: Vec<usize> = (0..split.n_pairs()?).filter(|pair| fits(2 * pair) && fits(2 * pair + 1)).collect();
        let order = Shuffle::new(seed, fitting.clone());
        (!fitting.is_empty()).then_some(Self { split, context_length, fitting, order })
    }

    /// Returns the number of pairs that fit.
    pub fn len(&self) -> usize {
        self.fitting.len()
    }

    /// Returns the number of pairs in the split, with those that do not fit.
    pub fn total(&self) -> usize {
        self.split.n_pairs().unwrap_or_default()
    }

    /// Returns the `batch_size` pairs of a step, counted from 0, in `micro_batches` batches.
    pub fn step(&mut self, step: u64, batch_size: usize, micro_batches: usize) -> Vec<PairBatch> {
        let first = step * batch_size as u64;
        let pairs: Vec<usize> = (first..first + batch_size as u64).map(|index| self.order.at(index)).collect();
        pairs.chunks(batch_size.div_ceil(micro_batches.max(1)).max(1)).map(|pairs| self.batch(pairs)).collect()
    }

    /// Returns all pairs in the order of the split.
    pub fn all(&self) -> impl Iterator<Item = PairBatch> {
        self.fitting.chunks(VALIDATION_PAIRS).map(|pairs| self.batch(pairs))
    }

    /// Puts each document into the first row with enough space.
    fn batch(&self, pairs: &[usize]) -> PairBatch {
        let t = self.context_length;
        let mut rows = MicroBatch { width: t, tokens: vec![], targets: vec![], segment_starts: None, n_tokens: 0 };
        let mut starts = Vec::new();
        let mut filled: Vec<usize> = Vec::new();
        let mut put = |document: usize| {
            let range = self.split.document_range(document);
            let mut tokens = vec![0; range.len()];
            let mut learned = vec![true; range.len()];
            self.split.copy(range.start, &mut tokens);
            self.split.copy_mask(range.start, &mut learned);
            let inputs = range.len() - 1;
            let row = filled.iter().position(|filled| filled + inputs <= t).unwrap_or_else(|| {
                filled.push(0);
                // Padding: each token attends only to itself, and its target is ignored.
                rows.tokens.extend(std::iter::repeat_n(0, t));
                rows.targets.extend(std::iter::repeat_n(IGNORE_INDEX, t));
                starts.extend(0..t as i64);
                filled.len() - 1
            });
            let at = row * t + filled[row];
            for i in 0..inputs {
                rows.tokens[at + i] = i64::from(tokens[i]);
                rows.targets[at + i] = if learned[i + 1] { i64::from(tokens[i + 1]) } else { IGNORE_INDEX };
                starts[at + i] = filled[row] as i64;
            }
            filled[row] += inputs;
            rows.n_tokens += inputs;
            at..at + inputs
        };
        let places = pairs
            .iter()
            .map(|pair| Place { pair: *pair, chosen: put(2 * pair), rejected: put(2 * pair + 1) })
            .collect();
        rows.segment_starts = Some(starts);
        PairBatch { rows, places }
    }
}
