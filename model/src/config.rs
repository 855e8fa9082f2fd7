//! The configuration of a model, as in Hugging Face's `config.json`.
//!
//! Dimensions: V vocabulary, D model width, L layers, H query heads, K key/value heads, C width of a head, F width of
//! the feed-forward layer, T context length.

mod family;
mod read;
mod rope_scaling;
mod validation;
mod write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use family::{Architecture, Bias, Family, NormKind, NormPlacement, QkNorm, Softcaps};
pub use rope_scaling::RopeScaling;

/// The function inside the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// SiLU of a gate times a second projection (GLU Variants Improve Transformer, 2020): all families but `gpt2` and
    /// Gemma.
    Swiglu,
    /// The tanh approximation of GELU of a gate times a second projection: Gemma.
    Geglu,
    /// The tanh approximation of GELU (Gaussian Error Linear Units, 2016): `gpt2` as published.
    GeluTanh,
    /// GELU by the error function: a `gpt2` whose configuration says so.
    Gelu,
}

impl Activation {
    /// Returns true if the feed-forward layer has a gate.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Swiglu | Self::Geglu)
    }
}

/// The attention of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LayerAttention {
    /// A token attends to the last tokens only, as many as `sliding_window`.
    pub sliding: bool,
    /// Queries and keys are rotated; otherwise the layer has no positions (The Impact of Positional Encoding on Length
    /// Generalization in Transformers, 2023).
    pub rotary: bool,
}

impl Default for LayerAttention {
    fn default() -> Self {
        Self { sliding: false, rotary: true }
    }
}

/// The configuration of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelConfig {
    /// The family, which decides everything that the other fields do not.
    pub family: Family,
    /// V, the number of token ids.
    pub vocab_size: usize,
    /// D, the width of the residual stream.
    pub d_model: usize,
    /// L, the number of layers.
    pub n_layer: usize,
    /// H, the number of query heads.
    pub n_head: usize,
    /// K, the number of key/value heads; divides H. Equal to H in `gpt2`.
    pub n_kv_head: usize,
    /// C, the width of a head; D / H in `gpt2`, elsewhere any even number.
    pub head_dim: usize,
    /// F, the width of the feed-forward layer.
    pub d_ff: usize,
    /// T, the length of the longest sequence; in `gpt2`, the number of learned positions.
    pub context_length: usize,
    /// The base of the rotary frequencies; 0 in `gpt2`.
    pub rope_theta: f64,
    /// The scaling of the rotary frequencies; None for none.
    pub rope_scaling: Option<RopeScaling>,
    /// The base of the rotary frequencies of layers with a sliding window, which are not scaled; None: as other layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rope_theta: Option<f64>,
    /// The elements of a head that are rotated, from its first, an even number; None for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary_dim: Option<usize>,
    /// The tokens that a token attends to in layers with a sliding window, itself included; None if no layer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// The attention of each layer; empty if all have rotary positions, if the family has, and no sliding window.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerAttention>,
    /// Scores are divided by the square root of this number; None for C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_pre_attn_scalar: Option<f64>,
    /// The cap c of the scores of attention, which become c × tanh(scores / c); None for no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_softcap: Option<f64>,
    /// The cap of the logits, as that of the scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_softcap: Option<f64>,
    /// Whether the projections of attention have biases: always in `gpt2`; always in `qwen2`, except for `o_proj`.
    pub attention_bias: bool,
    /// Whether the projections of the feed-forward layer have biases: always in `gpt2`, optional in `llama`.
    pub mlp_bias: bool,
    /// The function inside the feed-forward layer.
    pub activation: Activation,
    /// The ε of the norms.
    pub norm_epsilon: f64,
    /// Whether the output projection shares the token embedding.
    pub tied_embeddings: bool,
    /// The id of the begin-of-text token, if any.
    pub begin_of_text: Option<u32>,
    /// The id of the end-of-text token, if any.
    pub end_of_text: Option<u32>,
    /// Ids of further tokens that end generation, such as the end of a turn in chat models.
    pub end_of_turn: Vec<u32>,
}

impl ModelConfig {
    /// Returns the defaults of a family with all sizes 0: the base of a struct literal, `..ModelConfig::of(family)`.
    pub fn of(family: Family) -> Self {
        let architecture = family.architecture();
        let gpt2 = family == Family::Gpt2;
        Self {
            family,
            vocab_size: 0,
            d_model: 0,
            n_layer: 0,
            n_head: 0,
            n_kv_head: 0,
            head_dim: 0,
            d_ff: 0,
            context_length: 0,
            rope_theta: if gpt2 { 0.0 } else { 10_000.0 },
            rope_scaling: None,
            local_rope_theta: (family == Family::Gemma3Text).then_some(10_000.0),
            rotary_dim: None,
            sliding_window: None,
            layers: Vec::new(),
            query_pre_attn_scalar: None,
            attention_softcap: (family == Family::Gemma2).then_some(50.0),
            logit_softcap: (family == Family::Gemma2).then_some(30.0),
            attention_bias: architecture.attention_bias == Bias::Always,
            mlp_bias: architecture.mlp_bias == Bias::Always,
            activation: architecture.activations[0],
            norm_epsilon: if gpt2 { 1e-5 } else { 1e-6 },
            tied_embeddings: gpt2,
            begin_of_text: None,
            end_of_text: None,
            end_of_turn: Vec::new(),
        }
    }

    /// Returns true if `o_proj` has a bias.
    pub fn output_bias(&self) -> bool {
        self.attention_bias && !self.family.architecture().no_output_bias
    }

    /// Returns the attention of a layer.
    pub fn layer(&self, index: usize) -> LayerAttention {
        self.layers.get(index).copied().unwrap_or_default()
    }

    /// Returns the factor of the scores of attention.
    pub fn attention_scale(&self) -> f64 {
        1.0 / self.query_pre_attn_scalar.unwrap_or(self.head_dim as f64).sqrt()
    }

    /// Returns the elements of a head that are rotated.
    pub fn rotary_dim(&self) -> usize {
        self.rotary_dim.unwrap_or(self.head_dim)
    }

    /// Returns the configuration with the layers that the family has as published: some without rotary positions, some
    /// with a sliding window if one is given. Gemma always has one, by default as long as the context.
    #[must_use]
    pub fn with_published_layers(mut self, window: Option<usize>) -> Self {
        let mut layers = self.family.layers(self.n_layer);
        let always = self.family.architecture().scaled_embeddings.then_some(self.context_length);
        let window = window.or(always);
        if window.is_none() {
            for layer in &mut layers {
                layer.sliding = false;
            }
        }
        self.set_layers(layers, window);
        self
    }

    /// Sets the attention of the layers, and their window if any has one.
    pub(crate) fn set_layers(&mut self, layers: Vec<LayerAttention>, window: Option<usize>) {
        self.sliding_window = window.filter(|_| layers.iter().any(|layer| layer.sliding));
        let is_default = layers.iter().all(|layer| *layer == LayerAttention::default());
        self.layers = if is_default { Vec::new() } else { layers };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a small model of a family that has every part.
    pub(crate) fn tiny(family: Family) -> ModelConfig {
        ModelConfig {
            vocab_size: 50,
            d_model: 32,
            n_layer: 2,
            n_head: 4,
            n_kv_head: if family == Family::Gpt2 { 4 } else { 2 },
            head_dim: 8,
            d_ff: 48,
            context_length: 24,
            tied_embeddings: true,
            end_of_text: Some(0),
            ..ModelConfig::of(family)
        }
    }

    #[test]
    fn inconsistent_values_are_named() {
        let check = |family: Family, change: fn(&mut ModelConfig), expected: &str| {
            let mut config = tiny(family);
            config.validate().unwrap();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        check(Family::Gpt2, |c| c.n_kv_head = 2, "n_kv_head: must equal n_head = 4 in gpt2");
        check(Family::Gpt2, |c| c.head_dim = 4, "head_dim: must be d_model / n_head = 8 in gpt2");
        check(Family::Gpt2, |c| c.activation = Activation::Swiglu, "activation: must be a GELU in gpt2");
        check(Family::Gpt2, |c| c.mlp_bias = false, "mlp_bias: must be true in gpt2");
        let linear = |c: &mut ModelConfig| c.rope_scaling = Some(RopeScaling::Linear { factor: 0.0 });
        check(Family::Gpt2, linear, "rope_scaling: must be absent in gpt2, which has learned positions");
        check(Family::Llama, linear, "rope_scaling: factor 0 is not a positive number");
        check(Family::Llama, |c| c.d_model = 30, "n_head: 4 must divide d_model = 30 in llama");
        check(Family::Llama, |c| c.activation = Activation::Gelu, "activation: must be SwiGLU in llama");
        check(Family::Llama, |c| c.rope_theta = -1.0, "rope_theta: -1 is not a positive number");
        check(Family::Qwen2, |c| c.attention_bias = false, "attention_bias: must be true in qwen2");
        check(Family::Qwen3, |c| c.mlp_bias = true, "mlp_bias: must be false in qwen3");
        check(Family::Qwen3, |c| c.head_dim = 7, "head_dim: 7 is odd; rotary positions need pairs");
        check(Family::Qwen3, |c| c.n_kv_head = 3, "n_kv_head: 3 does not divide n_head = 4");
        let window = |c: &mut ModelConfig| c.sliding_window = Some(8);
        check(Family::Mistral, window, "sliding_window: 8, but no layer has a window");
        let sliding = |c: &mut ModelConfig| c.layers = vec![LayerAttention { sliding: true, rotary: true }; 2];
        check(Family::Mistral, sliding, "sliding_window: is missing");
        check(Family::Olmo2, sliding, "sliding_window: must be absent in olmo2");
        check(
            Family::Mistral,
            |c| c.layers = vec![LayerAttention::default()],
            "layers: 1 are described, the model has 2",
        );
        let nope = |c: &mut ModelConfig| c.layers = vec![LayerAttention { sliding: false, rotary: false }; 2];
        check(Family::Llama, nope, "layers: all must have positions in llama");
        check(Family::Llama, |c| c.logit_softcap = Some(1.0), "logit_softcap: must be absent in llama");
        check(Family::Gemma2, |c| c.attention_softcap = Some(0.0), "attention_softcap: 0 is not a positive number");
        check(Family::Gemma2, |c| c.activation = Activation::Gelu, "activation: must be GeGLU in gemma2");
        check(Family::Gemma3Text, |c| c.local_rope_theta = None, "local_rope_theta: is missing in gemma3_text");
        let odd = "rotary_dim: 3 is not an even number up to head_dim = 8";
        check(Family::Phi3, |c| c.rotary_dim = Some(3), odd);
        check(Family::Llama, |c| c.rotary_dim = Some(4), "rotary_dim: must be absent in llama");
        check(Family::Qwen3, |c| c.vocab_size = 0, "vocab_size: 0 is not between 1 and 16777216");
    }

    #[test]
    fn a_context_beyond_the_model_is_named() {
        let check = |family: Family, tokens: usize, expected: Option<&str>| {
            let found = tiny(family).check_context(tokens).map_err(|e| e.to_string());
            assert_eq!(found.err().as_deref(), expected);
        };
        check(Family::Gpt2, 24, None);
        let learned = "context_length: 25 is not between 1 and the 24 learned positions";
        check(Family::Gpt2, 25, Some(learned));
        let rotary = "context_length: 0 is not between 1 and the 24 tokens of the model's context";
        check(Family::Llama, 0, Some(rotary));
    }
}
