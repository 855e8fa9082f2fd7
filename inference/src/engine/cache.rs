//! The storage of the paged KV cache (Efficient Memory Management for Large Language Model Serving with
//! `PagedAttention`, 2023).
//!
//! Dimensions: K key/value heads, S tokens of a block, C width of a head.

use model::ModelConfig;

/// Keys and values by layer; blocks take memory once one with their number or a higher one is written to.
pub(super) struct Cache {
    layers: Vec<Vec<f32>>, // [blocks, 2, K, S C] each, keys [C, S] before values [S, C]
    block_count: usize,
    n_kv_head: usize,
    block_tokens: usize,
    head_dim: usize,
}

impl Cache {
    pub fn new(config: &ModelConfig, block_tokens: usize, block_count: usize) -> Self {
        let ModelConfig { n_layer, n_kv_head, head_dim, .. } = *config;
        Self { layers: vec![Vec::new(); n_layer], block_count, n_kv_head, block_tokens, head_dim }
    }

    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    pub fn block_count(&self) -> usize {
        self.block_count
    }

    /// Returns the blocks of a layer that have memory.
    ///
    /// # Shapes
    /// - output: `[blocks, 2, K, S C]`, keys `[C, S]` before values `[S, C]`
    pub fn layer(&self, layer: usize) -> &[f32] {
        &self.layers[layer]
    }

    pub fn copy_block(&mut self, from: u32, to: u32) {
        let (length, from, to) = (self.block_len(), from as usize, to as usize);
        for layer in &mut self.layers {
            reserve(layer, (from.max(to) + 1) * length);
            layer.copy_within(from * length..(from + 1) * length, to * length);
        }
    }

    /// Writes the keys and values of a token into a layer of a block.
    ///
    /// # Shapes
    /// - keys, values: `[K C]`
    pub fn write(&mut self, layer: usize, block: u32, token: usize, keys: &[f32], values: &[f32]) {
        let (length, s, c) = (self.block_len(), self.block_tokens, self.head_dim);
        let layer = &mut self.layers[layer];
        reserve(layer, (block as usize + 1) * length);
        let block = &mut layer[block as usize * length..][..length];
        let (all_keys, all_values) = block.split_at_mut(length / 2);
        for (head, keys) in all_keys.chunks_exact_mut(s * c).zip(keys.chunks_exact(c)) {
            head[token..].iter_mut().step_by(s).zip(keys).for_each(|(to, key)| *to = *key);
        }
        for (head, values) in all_values.chunks_exact_mut(s * c).zip(values.chunks_exact(c)) {
            head[token * c..][..c].copy_from_slice(values);
        }
    }

    fn block_len(&self) -> usize {
        2 * self.n_kv_head * self.block_tokens * self.head_dim
    }
}

/// Extends a layer to at least `length` numbers.
fn reserve(layer: &mut Vec<f32>, length: usize) {
    if layer.len() < length {
        layer.resize(length, 0.0);
    }
}
