//! The keys and values of tokens already seen.

use burn::tensor::Tensor;

use crate::ModelConfig;

/// The keys and values of every layer, for the tokens that [`crate::Transformer::forward_cached`] has seen.
///
/// Room is taken in blocks that double, so that a token costs its own keys and values, not a copy of all before it.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<Option<Block>>,
    context_length: usize,
}

#[derive(Debug, Clone)]
struct Block {
    keys: Tensor<4>,   // [B, K, room, C]
    values: Tensor<4>, // [B, K, room, C]
    len: usize,
}

impl KvCache {
    /// Returns an empty cache.
    pub fn new(config: &ModelConfig) -> Self {
        Self { layers: vec![None; config.n_layer], context_length: config.context_length }
    }

    /// Returns how many tokens it holds.
    pub fn len(&self) -> usize {
        // The last layer is written last: until then a forward pass is still under way.
        self.layers.last().and_then(Option::as_ref).map_or(0, |block| block.len)
    }

    /// Tells whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends keys and values of T tokens to a layer and returns all that it holds.
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
                let at = [0..b, 0..k, len..total, 0..c];
                (block.keys.slice_assign(at.clone(), keys), block.values.slice_assign(at, values))
            }
            old => {
                let room = (2 * total).min(self.context_length).max(total);
                let grown = |old: Option<Tensor<4>>, new: Tensor<4>| {
                    let (device, dtype) = (new.device(), new.dtype());
                    let mut parts: Vec<Tensor<4>> = old.into_iter().map(|old| old.narrow(2, 0, len)).collect();
                    parts.push(new);
                    if room > total {
                        parts.push(Tensor::zeros([b, k, room - total, c], (&device, dtype)));
                    }
                    Tensor::cat(parts, 2)
                };
                let (old_keys, old_values) = old.map(|block| (block.keys, block.values)).unzip();
                (grown(old_keys, keys), grown(old_values, values))
            }
        };
        let seen = (all_keys.clone().narrow(2, 0, total), all_values.clone().narrow(2, 0, total));
        self.layers[layer] = Some(Block { keys: all_keys, values: all_values, len: total });
        seen
    }
}
