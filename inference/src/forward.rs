//! The forward pass, as a scheduler or a decoder sees it.
//!
//! One call serves everything: a chunk of a prefill, the next token of many sequences, the tokens of a draft to verify,
//! and texts to score are all rows, so the weights are read once for all of them.

use crate::{Adapter, Error};

/// A token of a sequence, to be read in a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The index of its sequence in the `sequences` of [`ForwardPass::forward`].
    pub sequence: usize,
    /// Its position in the sequence, from 0.
    pub position: usize,
    /// Its id.
    pub token: u32,
    /// Whether the logits of the token that follows are wanted, or what else its sequence asks for
    /// ([`SequenceRef::result`]).
    pub wants_logits: bool,
}

/// A sequence, as a forward pass sees it.
#[derive(Debug, Clone, Copy)]
pub struct SequenceRef<'a> {
    /// Its blocks of the cache.
    pub blocks: &'a [u32],
    /// The adapter that its rows are computed with; none for the model alone.
    pub adapter: Option<&'a Adapter>,
    /// What those of its rows get that want a result.
    pub result: RowResult,
}

/// What a forward pass returns for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowResult {
    /// The V logits of the token that follows.
    Logits,
    /// The D elements of the hidden state after the last norm.
    HiddenState,
    /// The weights of attention in a layer, `[H, T]`: of each query head, over the T positions up to the row's. Only
    /// from models that have [`ForwardPass::attention_heads`].
    Attention {
        /// The layer, from 0.
        layer: usize,
    },
}

impl<'a> SequenceRef<'a> {
    /// Returns a sequence without an adapter, whose rows get logits.
    pub fn new(blocks: &'a [u32]) -> Self {
        Self { blocks, adapter: None, result: RowResult::Logits }
    }
}

/// A model with a paged KV cache.
///
/// The cache is an array of blocks of [`block_tokens`](Self::block_tokens) tokens each. Which block belongs to which
/// sequence is the caller's business: a sequence is the list of its blocks, in which the token at position p stands in
/// block p / `block_tokens`. Blocks may be shared between sequences as long as no one writes into them.
pub trait ForwardPass {
    /// Returns V, the number of logits of a row.
    fn vocab_size(&self) -> usize;

    /// Returns D, the number of elements of a hidden state.
    fn width(&self) -> usize;

    /// Returns the number of layers and H, the query heads of each; None if rows get no weights of attention.
    fn attention_heads(&self) -> Option<[usize; 2]> {
        None
    }

    /// Returns the number of positions of a sequence.
    fn context_length(&self) -> usize;

    /// Returns the number of tokens of a block.
    fn block_tokens(&self) -> usize;

    /// Returns the number of blocks of the cache.
    fn block_count(&self) -> usize;

    /// Copies the keys and values of a block to another.
    fn copy_block(&mut self, from: u32, to: u32);

    /// Reads rows: writes their keys and values into the blocks of their sequences, and appends to `results`, in order,
    /// the [`RowResult`] of each row that wants one.
    ///
    /// The rows of a sequence are in ascending order of position without gaps, and everything before the first of them
    /// is in its blocks, or is written there by rows of the same call that come earlier. A row sees all tokens of its
    /// sequence up to itself, rows of the same call included. The result of a row depends on its own sequence only.
    /// Adapters are those that were loaded for this model.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn forward_sequences(
        &mut self,
        rows: &[Row],
        sequences: &[SequenceRef<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), Error>;

    /// As [`ForwardPass::forward_sequences`], for sequences of which only the blocks are given: rows get logits.
    ///
    /// # Errors
    /// As [`ForwardPass::forward_sequences`].
    fn forward(&mut self, rows: &[Row], sequences: &[&[u32]], logits: &mut Vec<f32>) -> Result<(), Error> {
        let sequences: Vec<SequenceRef<'_>> = sequences.iter().map(|blocks| SequenceRef::new(blocks)).collect();
        self.forward_sequences(rows, &sequences, logits)
    }
}

impl<M: ForwardPass + ?Sized> ForwardPass for &mut M {
    fn vocab_size(&self) -> usize {
        (**self).vocab_size()
    }

    fn width(&self) -> usize {
        (**self).width()
    }

    fn attention_heads(&self) -> Option<[usize; 2]> {
        (**self).attention_heads()
    }

    fn context_length(&self) -> usize {
        (**self).context_length()
    }

    fn block_tokens(&self) -> usize {
        (**self).block_tokens()
    }

    fn block_count(&self) -> usize {
        (**self).block_count()
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        (**self).copy_block(from, to);
    }

    fn forward_sequences(
        &mut self,
        rows: &[Row],
        sequences: &[SequenceRef<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), Error> {
        (**self).forward_sequences(rows, sequences, results)
    }
}
