//! What each step learns from: rows of tokens, what to predict after each, and where its document begins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizer::shard::Split;

use crate::packing::Packing;
use crate::windows::Windows;
use crate::{Config, Error};

/// How the tokens of the training split become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Shuffled windows over the documents one after the other, as for pretraining.
    Windows,
    /// Whole documents side by side, each seen by itself, as for fine-tuning.
    Documents,
}

/// A target that is not learned: padding, and what others said in a chat.
pub const NOT_LEARNED: i64 = -1;

/// Rows that are computed together, each of T tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroBatch {
    /// T.
    pub width: usize,
    /// The tokens, row after row.
    pub tokens: Vec<i64>,
    /// The token after each, or [`NOT_LEARNED`].
    pub targets: Vec<i64>,
    /// Where in its row each token's document begins; none where a row is one document.
    pub starts: Option<Vec<i64>>,
    /// How many of the tokens are no padding.
    pub n_tokens: usize,
}

impl MicroBatch {
    /// Returns how many targets are learned.
    pub fn learned(&self) -> usize {
        self.targets.iter().filter(|target| **target != NOT_LEARNED).count()
    }
}

/// The training split in the order of the steps.
pub struct Batches<'a> {
    split: &'a Split,
    context: usize,
    batch_size: usize,
    parts: usize,
    order: Order,
}

enum Order {
    Windows(Windows),
    Documents(Packing),
}

impl<'a> Batches<'a> {
    /// Returns the batches of a split.
    ///
    /// # Errors
    /// When the split is too short for one step, or nothing in it is to be learned.
    pub fn new(config: &Config, context: usize, seed: u64, split: &'a Split) -> Result<Self, Error> {
        let needed = config.batch_size * context + 1;
        let too_few = || Error::TooFewTokens {
            found: split.len(),
            needed,
            batch_size: config.batch_size,
            context_length: context,
        };
        let default = if split.has_loss_mask() { Rows::Documents } else { Rows::Windows };
        let order = match config.rows.unwrap_or(default) {
            Rows::Windows if split.len() < needed => return Err(too_few()),
            Rows::Windows => Order::Windows(Windows::new(seed, split.len(), context).ok_or_else(too_few)?),
            Rows::Documents => Order::Documents(Packing::new(seed, split, context).ok_or(Error::NothingToLearn)?),
        };
        Ok(Self { split, context, batch_size: config.batch_size, parts: config.micro_batches, order })
    }

    /// Returns the micro-batches of a step, counted from 0.
    pub fn step(&mut self, step: u64) -> Vec<MicroBatch> {
        let rows = self.batch_size / self.parts;
        let first = step * self.batch_size as u64;
        (0..self.parts).map(|part| self.micro_batch(first + (part * rows) as u64, rows)).collect()
    }

    fn micro_batch(&mut self, first: u64, rows: usize) -> MicroBatch {
        let t = self.context;
        let mut batch = MicroBatch {
            width: t,
            tokens: Vec::with_capacity(rows * t),
            targets: Vec::with_capacity(rows * t),
            starts: matches!(self.order, Order::Documents(_)).then(|| Vec::with_capacity(rows * t)),
            n_tokens: 0,
        };
        let mut buffer = Buffer { tokens: vec![0; t + 1], mask: vec![true; t], masked: self.split.has_loss_mask() };
        for row in first..first + rows as u64 {
            match &mut self.order {
                Order::Windows(windows) => buffer.append(self.split, windows.start(row), t, &mut batch),
                Order::Documents(packing) => {
                    let mut at = 0;
                    for piece in packing.row(row) {
                        buffer.append(self.split, piece.start, piece.len, &mut batch);
                        batch.starts.get_or_insert_default().extend(std::iter::repeat_n(at as i64, piece.len));
                        at += piece.len;
                    }
                    // Padding sees itself alone, and nothing is learned from it.
                    batch.tokens.extend(std::iter::repeat_n(0, t - at));
                    batch.targets.extend(std::iter::repeat_n(NOT_LEARNED, t - at));
                    batch.starts.get_or_insert_default().extend(at as i64..t as i64);
                }
            }
        }
        batch
    }
}

struct Buffer {
    tokens: Vec<u32>, // T + 1
    mask: Vec<bool>,  // T
    masked: bool,
}

impl Buffer {
    /// Appends `len` inputs of the split from `start` on, with their targets.
    fn append(&mut self, split: &Split, start: usize, len: usize, batch: &mut MicroBatch) {
        let tokens = &mut self.tokens[..=len];
        split.copy(start, tokens);
        if self.masked {
            split.copy_mask(start + 1, &mut self.mask[..len]);
        }
        let targets = tokens[1..].iter().zip(&self.mask);
        batch.targets.extend(targets.map(|(id, learned)| if *learned { i64::from(*id) } else { NOT_LEARNED }));
        batch.tokens.extend(tokens[..len].iter().map(|id| i64::from(*id)));
        batch.n_tokens += len;
    }
}
