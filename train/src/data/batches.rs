//! The batches of each step: tokens, targets, and where each token's document starts.

use tokenizer::shard::Split;

use super::packing::PackedDocuments;
use super::sampler::WindowSampler;
use crate::config::Packing;
use crate::{Config, Error};

/// An ignored target: padding, and messages in a chat that the model does not learn to write.
pub const IGNORE_INDEX: i64 = -1;

/// Rows that are computed together, each of T tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroBatch {
    /// T.
    pub width: usize,
    /// The tokens, row by row.
    pub tokens: Vec<i64>,
    /// The next token of each, or [`IGNORE_INDEX`].
    pub targets: Vec<i64>,
    /// The position in its row where each token's document starts; None if every row is one document.
    pub segment_starts: Option<Vec<i64>>,
    /// The number of tokens, without padding.
    pub n_tokens: usize,
}

impl MicroBatch {
    /// Returns the number of targets that are not ignored.
    pub fn n_targets(&self) -> usize {
        self.targets.iter().filter(|target| **target != IGNORE_INDEX).count()
    }
}

/// The training split in the order of the steps.
pub struct Batches<'a> {
    split: &'a Split,
    context_length: usize,
    batch_size: usize,
    n_micro: usize,
    order: Order,
}

enum Order {
    Windows(WindowSampler),
    Documents(PackedDocuments),
}

impl<'a> Batches<'a> {
    /// Returns the batches of a split.
    ///
    /// # Errors
    /// Returns an error if the split is shorter than one step, or every target is ignored.
    pub fn new(config: &Config, seed: u64, split: &'a Split) -> Result<Self, Error> {
        let context_length = config.model.context_length;
        let needed = config.batch_size * context_length + 1;
        let too_few =
            || Error::TooFewTokens { found: split.len(), needed, batch_size: config.batch_size, context_length };
        let default = if split.has_loss_mask() { Packing::Documents } else { Packing::Windows };
        let order = match config.packing.unwrap_or(default) {
            Packing::Windows if split.len() < needed => return Err(too_few()),
            Packing::Windows => {
                Order::Windows(WindowSampler::new(seed, split.len(), context_length).ok_or_else(too_few)?)
            }
            Packing::Documents => {
                Order::Documents(PackedDocuments::new(seed, split, context_length).ok_or(Error::NoTargets)?)
            }
        };
        Ok(Self { split, context_length, batch_size: config.batch_size, n_micro: config.micro_batches, order })
    }

    /// Returns the micro-batches of a step, counted from 0.
    pub fn step(&mut self, step: u64) -> Vec<MicroBatch> {
        let rows = self.batch_size / self.n_micro;
        let first = step * self.batch_size as u64;
        (0..self.n_micro).map(|i| self.micro_batch(first + (i * rows) as u64, rows)).collect()
    }

    fn micro_batch(&mut self, first: u64, rows: usize) -> MicroBatch {
        let t = self.context_length;
        let mut batch = MicroBatch {
            width: t,
            tokens: Vec::with_capacity(rows * t),
            targets: Vec::with_capacity(rows * t),
            segment_starts: matches!(self.order, Order::Documents(_)).then(|| Vec::with_capacity(rows * t)),
            n_tokens: 0,
        };
        let mut buffer = Buffer { tokens: vec![0; t + 1], mask: vec![true; t], masked: self.split.has_loss_mask() };
        for row in first..first + rows as u64 {
            match &mut self.order {
                Order::Windows(windows) => buffer.append(self.split, windows.start(row), t, &mut batch),
                Order::Documents(documents) => {
                    let mut filled = 0;
                    for piece in documents.row(row) {
                        buffer.append(self.split, piece.start, piece.len, &mut batch);
                        let starts = batch.segment_starts.get_or_insert_default();
                        starts.extend(std::iter::repeat_n(filled as i64, piece.len));
                        filled += piece.len;
                    }
                    // Padding: each token attends only to itself, and its target is ignored.
                    batch.tokens.extend(std::iter::repeat_n(0, t - filled));
                    batch.targets.extend(std::iter::repeat_n(IGNORE_INDEX, t - filled));
                    batch.segment_starts.get_or_insert_default().extend(filled as i64..t as i64);
                }
            }
        }
        batch
    }
}

struct Buffer {
    tokens: Vec<u32>, // [T + 1]
    mask: Vec<bool>,  // [T]
    masked: bool,
}

impl Buffer {
    /// Appends `len` inputs from `start`, with their targets.
    fn append(&mut self, split: &Split, start: usize, len: usize, batch: &mut MicroBatch) {
        let tokens = &mut self.tokens[..=len];
        split.copy(start, tokens);
        if self.masked {
            split.copy_mask(start + 1, &mut self.mask[..len]);
        }
        let targets = tokens[1..].iter().zip(&self.mask);
        batch.targets.extend(targets.map(|(id, learned)| if *learned { i64::from(*id) } else { IGNORE_INDEX }));
        batch.tokens.extend(tokens[..len].iter().map(|id| i64::from(*id)));
        batch.n_tokens += len;
    }
}
