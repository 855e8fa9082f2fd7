//! The storage of the paged KV cache (Efficient Memory Management for Large Language Model Serving with
//! `PagedAttention`, 2023).

use kernels::slices::{KvPages, KvType};
use model::ModelConfig;

/// Keys and values by layer.
pub(super) struct Cache {
    layers: Vec<KvPages>,
    block_count: usize,
    block_tokens: usize,
}

impl Cache {
    pub fn new(config: &ModelConfig, kv_type: KvType, block_tokens: usize, block_count: usize) -> Self {
        let pages = || KvPages::new(kv_type, config.n_kv_head, config.head_dim, block_tokens);
        Self { layers: (0..config.n_layer).map(|_| pages()).collect(), block_count, block_tokens }
    }

    pub fn block_tokens(&self) -> usize {
        self.block_tokens
    }

    pub fn block_count(&self) -> usize {
        self.block_count
    }

    pub fn layer(&self, layer: usize) -> &KvPages {
        &self.layers[layer]
    }

    pub fn layer_mut(&mut self, layer: usize) -> &mut KvPages {
        &mut self.layers[layer]
    }

    pub fn copy_block(&mut self, from: u32, to: u32) {
        self.layers.iter_mut().for_each(|layer| layer.copy_block(from, to));
    }
}
