//! The key/value cache.
//!
//! Dimensions: B sequences, T tokens, S cached tokens before this call, K key/value heads, C width of a head.

use burn::tensor::Tensor;

use crate::ModelConfig;

/// The keys and values of every layer, for the tokens that `Transformer::forward_cached` has read.
///
/// Capacity doubles as it grows, so that a token costs only its own keys and values, not a copy of all before it.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<Option<Block>>,
    context_length: usize,
}

#[derive(Debug, Clone)]
struct Block {
    keys: Tensor<4>,   // [B, K, capacity, C]
    values: Tensor<4>, // [B, K, capacity, C]
    len: usize,
}

impl KvCache {
    /// Returns an empty cache.
    pub fn new(config: &ModelConfig) -> Self {
        Self { layers: vec![None; config.n_layer], context_length: config.context_length }
    }

    /// Returns the number of cached tokens.
    pub fn len(&self) -> usize {
        // The last layer is written last: until then the forward pass is not complete.
        self.layers.last().and_then(Option::as_ref).map_or(0, |block| block.len)
    }

    /// Returns true if no token is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all tokens from the one at position `len`.
    pub fn truncate(&mut self, len: usize) {
        for block in &mut self.layers {
            *block = block.take().filter(|_| len > 0).map(|block| Block { len: block.len.min(len), ..block });
        }
    }

    /// Appends the keys and values of T tokens to a layer, and returns all keys and values of the layer.
    ///
    /// # Shapes
    /// - keys, values: `[B, K, T, C]`
    /// - output: `[B, K, S + T, C]` each
    pub(crate) fn append(&mut self, layer: usize, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [b, k, t, c] = keys.dims();
        let old = self.layers[layer].take();
        let len = old.as_ref().map_or(0, |block| block.len);
        let total = len + t;
        let (all_keys, all_values) = match old {
            Some(block) if total <= block.keys.dims()[2] => {
                let range = [0..b, 0..k, len..total, 0..c];
                (block.keys.slice_assign(range.clone(), keys), block.values.slice_assign(range, values))
            }
            old => {
                let capacity = (2 * total).min(self.context_length).max(total);
                let grown = |old: Option<Tensor<4>>, new: Tensor<4>| {
                    let (device, dtype) = (new.device(), new.dtype());
                    let mut parts: Vec<Tensor<4>> = old.into_iter().map(|old| old.narrow(2, 0, len)).collect();
                    parts.push(new);
                    if capacity > total {
                        parts.push(Tensor::zeros([b, k, capacity - total, c], (&device, dtype)));
                    }
                    Tensor::cat(parts, 2)
                };
                let (old_keys, old_values) = old.map(|block| (block.keys, block.values)).unzip();
                (grown(old_keys, keys), grown(old_values, values))
            }
        };
        let cached = (all_keys.clone().narrow(2, 0, total), all_values.clone().narrow(2, 0, total));
        self.layers[layer] = Some(Block { keys: all_keys, values: all_values, len: total });
        cached
    }
}
