//! The `[train.model]` table.

use model::{Family, ModelConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The shape of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Model {
    /// `gpt2`, `llama`, `qwen2`, `qwen3`, `mistral`, `gemma2`, `gemma3_text`, `phi3`, `smollm3` or `olmo2`. Default
    /// `qwen3`.
    pub family: Family,
    /// Tokens per sequence. Default 256.
    pub context_length: usize,
    /// Layers. Default 4.
    pub n_layer: usize,
    /// Width of the residual stream. Default 192.
    pub d_model: usize,
    /// Query heads. Default 3.
    pub n_head: usize,
    /// Key/value heads. Default: as many as query heads.
    pub n_kv_head: Option<usize>,
    /// Width of a head. Default: `d_model / n_head`.
    pub head_dim: Option<usize>,
    /// Width of the feed-forward layer. Default: 4 × `d_model` for `gpt2`; for the others, which have three matrices
    /// instead of two, 8/3 × `d_model` rounded up to a multiple of 32, for about as many weights.
    pub d_ff: Option<usize>,
    /// The base of the rotary frequencies (all but `gpt2`). Default 10,000.
    pub rope_theta: f64,
    /// The tokens that a token attends to in the layers that have a sliding window in the family: all of `mistral` and
    /// `phi3`, every second of `gemma2`, all but every sixth of `gemma3_text`. Default: all tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Use the token embedding as output projection. Default true.
    pub tied_embeddings: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            family: Family::Qwen3,
            context_length: 256,
            n_layer: 4,
            d_model: 192,
            n_head: 3,
            n_kv_head: None,
            head_dim: None,
            d_ff: None,
            rope_theta: 10_000.0,
            sliding_window: None,
            tied_embeddings: true,
        }
    }
}

impl Model {
    /// Returns the model's configuration for a vocabulary.
    ///
    /// # Errors
    /// Returns an error that names the key of `[train.model]` that does not fit the others.
    pub fn resolve(&self, vocab_size: usize, end_of_text: Option<u32>) -> Result<ModelConfig, Error> {
        let Self { family, d_model, n_head, .. } = *self;
        let invalid = |reason: String| Err(Error::Config { key: "train.model.n_head".to_owned(), reason });
        if n_head == 0 {
            return invalid("must be at least 1".to_owned());
        }
        if self.head_dim.is_none() && !d_model.is_multiple_of(n_head) {
            return invalid(format!("{n_head} does not divide train.model.d_model = {d_model}; set head_dim"));
        }
        let rotary = family.is_rotary();
        let d_ff = if rotary { (8 * d_model).div_ceil(3).next_multiple_of(32) } else { 4 * d_model };
        let config = ModelConfig {
            vocab_size,
            d_model,
            n_layer: self.n_layer,
            n_head,
            n_kv_head: self.n_kv_head.unwrap_or(n_head),
            head_dim: self.head_dim.unwrap_or(d_model / n_head),
            d_ff: self.d_ff.unwrap_or(d_ff),
            context_length: self.context_length,
            rope_theta: if rotary { self.rope_theta } else { 0.0 },
            tied_embeddings: self.tied_embeddings,
            begin_of_text: end_of_text,
            end_of_text,
            ..ModelConfig::of(family)
        };
        let config = config.with_published_layers(self.sliding_window);
        if let Some(window) = self.sliding_window.filter(|_| config.sliding_window.is_none()) {
            return Err(Error::Config {
                key: "train.model.sliding_window".to_owned(),
                reason: format!("{window}, but no layer of a {} has a sliding window", family.model_type()),
            });
        }
        config.validate().map_err(|e| Error::in_table("train.model.", e))?;
        Ok(config)
    }
}
