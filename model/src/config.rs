//! The configuration of a model, as in Hugging Face's `config.json`.
//!
//! Dimensions: V vocabulary, D model width, L layers, H query heads, K key/value heads, C width of a head, F width of
//! the feed-forward layer, T context length.

mod read;
mod rope_scaling;
mod write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

pub use rope_scaling::RopeScaling;

/// The families of decoder-only Transformers that this crate builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// LayerNorm, learned positions, GELU, biases (Language Models are Unsupervised Multitask Learners, 2019).
    Gpt2,
    /// RMSNorm, rotary positions, SwiGLU, grouped-query attention (The Llama 3 Herd of Models, 2024).
    Llama,
    /// As `Llama`, with biases on queries, keys and values (Qwen2 Technical Report, 2024).
    Qwen2,
    /// As `Llama`, with norms on each head's queries and keys (Qwen3 Technical Report, 2025).
    Qwen3,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Gpt2, Self::Llama, Self::Qwen2, Self::Qwen3];

    /// Returns the family's `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Returns true if positions are rotary; otherwise they are learned.
    pub fn is_rotary(self) -> bool {
        self != Self::Gpt2
    }
}

/// The function inside the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// SiLU of a gate times a second projection (GLU Variants Improve Transformer, 2020): all families but `gpt2`.
    Swiglu,
    /// The tanh approximation of GELU (Gaussian Error Linear Units, 2016): `gpt2` as published.
    GeluTanh,
    /// GELU by the error function: a `gpt2` whose configuration says so.
    Gelu,
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
            attention_bias: gpt2 || family == Family::Qwen2,
            mlp_bias: gpt2,
            activation: if gpt2 { Activation::GeluTanh } else { Activation::Swiglu },
            norm_epsilon: if gpt2 { 1e-5 } else { 1e-6 },
            tied_embeddings: gpt2,
            begin_of_text: None,
            end_of_text: None,
            end_of_turn: Vec::new(),
        }
    }

    /// Returns true if `o_proj` has a bias.
    pub fn output_bias(&self) -> bool {
        self.attention_bias && self.family != Family::Qwen2
    }

    /// Checks the values, and that they are consistent.
    ///
    /// # Errors
    /// Names the first field that is not valid.
    pub fn validate(&self) -> Result<(), Error> {
        // Larger than any existing model; keeps the products below far from overflow.
        const MAX_SIZE: usize = 1 << 24;
        const MAX_PARAMETERS: u128 = 1 << 40;
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let positive = [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_kv_head", self.n_kv_head),
            ("head_dim", self.head_dim),
            ("d_ff", self.d_ff),
            ("context_length", self.context_length),
        ];
        for (key, value) in positive {
            if value == 0 || value > MAX_SIZE {
                return wrong(key, format!("{value} is not between 1 and {MAX_SIZE}"));
            }
        }
        let max_width = self.vocab_size.max(self.d_ff).max(self.n_head * self.head_dim).max(self.context_length);
        if (max_width * self.d_model) as u128 * (self.n_layer as u128 + 1) > MAX_PARAMETERS {
            return wrong("d_model", format!("{} gives a model of over {MAX_PARAMETERS} parameters", self.d_model));
        }
        if !self.n_head.is_multiple_of(self.n_kv_head) {
            return wrong("n_kv_head", format!("{} does not divide n_head = {}", self.n_kv_head, self.n_head));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            return wrong("norm_epsilon", format!("{} is not between 0 and 1", self.norm_epsilon));
        }
        if self.family == Family::Gpt2 { self.validate_gpt2() } else { self.validate_rotary() }
    }

    fn validate_gpt2(&self) -> Result<(), Error> {
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        if self.n_kv_head != self.n_head {
            wrong("n_kv_head", format!("must equal n_head = {} in gpt2", self.n_head))
        } else if self.head_dim * self.n_head != self.d_model {
            wrong("head_dim", format!("must be d_model / n_head = {} in gpt2", self.d_model / self.n_head))
        } else if self.activation == Activation::Swiglu {
            wrong("activation", "must be a GELU in gpt2".to_owned())
        } else if !(self.attention_bias && self.mlp_bias) {
            let key = if self.attention_bias { "mlp_bias" } else { "attention_bias" };
            wrong(key, "must be true in gpt2".to_owned())
        } else if self.rope_scaling.is_some() {
            wrong("rope_scaling", "must be absent in gpt2, which has learned positions".to_owned())
        } else {
            Ok(())
        }
    }

    fn validate_rotary(&self) -> Result<(), Error> {
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let name = self.family.model_type();
        if !self.head_dim.is_multiple_of(2) {
            wrong("head_dim", format!("{} is odd; rotary positions need pairs", self.head_dim))
        } else if self.family == Family::Llama && !self.d_model.is_multiple_of(self.n_head) {
            // transformers does not load it.
            wrong("n_head", format!("{} must divide d_model = {} in llama", self.n_head, self.d_model))
        } else if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            wrong("rope_theta", format!("{} is not a positive number", self.rope_theta))
        } else if let Some(problem) = self.rope_scaling.and_then(|scaling| scaling.problem()) {
            wrong("rope_scaling", problem)
        } else if self.activation != Activation::Swiglu {
            wrong("activation", format!("must be SwiGLU in {name}"))
        } else if self.family == Family::Qwen2 && !self.attention_bias {
            wrong("attention_bias", "must be true in qwen2".to_owned())
        } else if self.family != Family::Llama && self.mlp_bias {
            wrong("mlp_bias", format!("must be false in {name}"))
        } else {
            Ok(())
        }
    }

    /// Checks that the model can read `tokens` tokens at once.
    ///
    /// # Errors
    /// Returns an error with both numbers if it cannot.
    pub fn check_context(&self, tokens: usize) -> Result<(), Error> {
        if (1..=self.context_length).contains(&tokens) {
            return Ok(());
        }
        let n = self.context_length;
        let unit = if self.family.is_rotary() { "tokens of the model's context" } else { "learned positions" };
        let reason = format!("{tokens} is not between 1 and the {n} {unit}");
        Err(Error::Config { key: "context_length", reason })
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
