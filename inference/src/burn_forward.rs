//! The forward pass through the burn model, on any device.

use std::borrow::Borrow;

use burn::tensor::{Device, Int, Tensor, TensorData};
use model::{KvCache, Transformer};

use crate::{Error, ForwardPass, Row, RowResult, SequenceRef};

/// A burn model with a KV cache for each of some sequences.
///
/// A block holds a whole sequence, so blocks are never shared, and sequences are computed one after the other.
pub struct BurnForward<M> {
    model: M,
    device: Device,
    sequences: Vec<KvCache>,
}

impl<M: Borrow<Transformer>> BurnForward<M> {
    /// Returns the forward pass of a model with a cache for this many sequences.
    pub fn new(model: M, sequences: usize) -> Self {
        let (device, cache) = (model.borrow().device(), KvCache::new(model.borrow().config()));
        Self { model, device, sequences: vec![cache; sequences] }
    }
}

impl<M: Borrow<Transformer>> ForwardPass for BurnForward<M> {
    fn vocab_size(&self) -> usize {
        self.model.borrow().config().vocab_size
    }

    fn width(&self) -> usize {
        self.model.borrow().config().d_model
    }

    fn context_length(&self) -> usize {
        self.model.borrow().config().context_length
    }

    fn block_tokens(&self) -> usize {
        self.context_length()
    }

    fn block_count(&self) -> usize {
        self.sequences.len()
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        self.sequences[to as usize] = self.sequences[from as usize].clone();
    }

    fn forward_sequences(
        &mut self,
        rows: &[Row],
        sequences: &[SequenceRef<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), Error> {
        for rows in rows.chunk_by(|a, b| a.sequence == b.sequence) {
            let sequence = sequences[rows[0].sequence];
            let cache = &mut self.sequences[sequence.blocks[0] as usize];
            cache.truncate(rows[0].position);
            let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
            let tokens = token_tensor(&tokens, &self.device); // [B=1, T]
            let first = rows.iter().position(|row| row.wants_logits).unwrap_or(rows.len() - 1);
            let wanted = rows.len() - first;
            let model = sequence.adapter.map_or(self.model.borrow(), |adapter| {
                adapter.model().expect("an adapter that was loaded for this model")
            });
            let computed = match sequence.result {
                RowResult::Attention { .. } => return Err(Error::NoAttentionWeights),
                RowResult::Logits => model.forward_cached_rows(tokens, cache, wanted), // [B=1, wanted, V]
                RowResult::HiddenState => model.hidden_cached_rows(tokens, cache, wanted), // [B=1, wanted, D]
            };
            let computed = computed.try_into_vec_as::<f32>().map_err(|e| Error::Device { reason: e.to_string() })?;
            let computed = computed.chunks_exact(computed.len() / wanted).zip(&rows[first..]);
            computed.filter(|(_, row)| row.wants_logits).for_each(|(row, _)| results.extend_from_slice(row));
        }
        Ok(())
    }
}

/// # Shapes
/// - output: `[1, T]`
pub(crate) fn token_tensor(tokens: &[u32], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
    let shape = [1, ids.len()];
    Tensor::from_data(TensorData::new(ids, shape), device)
}
