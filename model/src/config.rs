//! The shape of a model, as Hugging Face's `config.json` describes it.
//!
//! Dimensions: V vocabulary, D model width, L layers, H query heads, K key/value heads, C width of a head, F width of
//! the feed-forward layer, T context length.

mod read;
mod write;

use serde::{Deserialize, Serialize};

use crate::rope::RopeScaling;
use crate::{ActivationCheckpointing, Error, Precision};

/// The families of decoder-only Transformers that this crate builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Every family, by name.
    pub const ALL: [Self; 4] = [Self::Gpt2, Self::Llama, Self::Qwen2, Self::Qwen3];

    /// Returns the name that `model_type` has in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// Tells whether positions are rotary; they are learned where not.
    pub fn is_rotary(self) -> bool {
        self != Self::Gpt2
    }
}

/// The function inside the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// SiLU of a gate times a second projection (GLU Variants Improve Transformer, 2020): all families but `gpt2`.
    Swiglu,
    /// GELU in its approximation by tanh (Gaussian Error Linear Units, 2016): `gpt2` as published.
    GeluTanh,
    /// GELU as defined, by the error function: a `gpt2` that says so.
    Gelu,
}

/// The shape of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The family, which decides everything that is not a number here.
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
    /// T, the longest sequence the model reads. `gpt2` has learned so many positions and knows no further ones.
    pub context_length: usize,
    /// The base of the rotary frequencies; 0 in `gpt2`, which has none.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched; none means they are not.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the projections of attention have biases: always in `gpt2`; always in `qwen2`, but for the projection
    /// back.
    pub attention_bias: bool,
    /// Whether the projections of the feed-forward layer have biases: always in `gpt2`, and where a `llama` says so.
    pub mlp_bias: bool,
    /// The function inside the feed-forward layer.
    pub activation: Activation,
    /// The ε of the norms.
    pub norm_epsilon: f64,
    /// Whether the output projection is the token embedding.
    pub tied_embeddings: bool,
    /// The id of the token that begins a text, where there is one.
    pub begin_of_text: Option<u32>,
    /// The id of the end-of-text token, where the tokenizer has one.
    pub end_of_text: Option<u32>,
    /// Ids of further tokens that end what a model writes, as the end of a turn does in chat models.
    pub end_of_turn: Vec<u32>,
}

impl ModelConfig {
    /// Returns what is ordinary in a family, all sizes 0: the rest of a literal, `..ModelConfig::of(family)`.
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

    /// Tells whether the projection from the heads back to the residual stream has a bias.
    pub fn output_bias(&self) -> bool {
        self.attention_bias && self.family != Family::Qwen2
    }

    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Names the first field that does not.
    pub fn validate(&self) -> Result<(), Error> {
        // Beyond any model there is; keeps the products below far from overflow.
        const LIMIT: usize = 1 << 24;
        const LARGEST_MODEL: u128 = 1 << 40;
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
            if value == 0 || value > LIMIT {
                return wrong(key, format!("{value} is not between 1 and {LIMIT}"));
            }
        }
        let widest = self.vocab_size.max(self.d_ff).max(self.n_head * self.head_dim).max(self.context_length);
        if (widest * self.d_model) as u128 * (self.n_layer as u128 + 1) > LARGEST_MODEL {
            return wrong("d_model", format!("{} makes a model of over {LARGEST_MODEL} parameters", self.d_model));
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
            wrong("n_kv_head", format!("gpt2 has as many as n_head = {}", self.n_head))
        } else if self.head_dim * self.n_head != self.d_model {
            wrong("head_dim", format!("gpt2 has d_model / n_head = {}", self.d_model / self.n_head))
        } else if self.activation == Activation::Swiglu {
            wrong("activation", "gpt2 has a GELU".to_owned())
        } else if !(self.attention_bias && self.mlp_bias) {
            let key = if self.attention_bias { "mlp_bias" } else { "attention_bias" };
            wrong(key, "gpt2 always has it".to_owned())
        } else if self.rope_scaling.is_some() {
            wrong("rope_scaling", "gpt2 has learned positions".to_owned())
        } else {
            Ok(())
        }
    }

    fn validate_rotary(&self) -> Result<(), Error> {
        let wrong = |key: &'static str, reason: String| Err(Error::Config { key, reason });
        let name = self.family.model_type();
        if !self.head_dim.is_multiple_of(2) {
            wrong("head_dim", format!("{} is odd; rotary positions turn pairs", self.head_dim))
        } else if self.family == Family::Llama && !self.d_model.is_multiple_of(self.n_head) {
            // They would compute the same, but transformers refuses to load it.
            wrong(
                "n_head",
                format!("{} does not divide d_model = {}, as it does in a llama", self.n_head, self.d_model),
            )
        } else if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) {
            wrong("rope_theta", format!("{} is not a positive number", self.rope_theta))
        } else if let Some(fault) = self.rope_scaling.and_then(|scaling| scaling.fault()) {
            wrong("rope_scaling", fault)
        } else if self.activation != Activation::Swiglu {
            wrong("activation", format!("{name} has a SwiGLU"))
        } else if self.family == Family::Qwen2 && !self.attention_bias {
            wrong("attention_bias", "qwen2 always has it".to_owned())
        } else if self.family != Family::Llama && self.mlp_bias {
            wrong("mlp_bias", format!("{name} has none"))
        } else {
            Ok(())
        }
    }

    /// Checks that the model can read so many tokens at once.
    ///
    /// # Errors
    /// Names both numbers.
    pub fn check_context(&self, tokens: usize) -> Result<(), Error> {
        if (1..=self.context_length).contains(&tokens) {
            return Ok(());
        }
        let n = self.context_length;
        let most =
            if self.family.is_rotary() { "tokens of the model's context" } else { "positions that it has learned" };
        let reason = format!("{tokens} is not between 1 and the {n} {most}");
        Err(Error::Config { key: "context_length", reason })
    }

    /// Returns the number of parameters, tied ones counted once.
    pub fn parameters(&self) -> u64 {
        let (d, f) = (self.d_model as u64, self.d_ff as u64);
        let (q, kv) = ((self.n_head * self.head_dim) as u64, (self.n_kv_head * self.head_dim) as u64);
        let embedding = self.vocab_size as u64 * d;
        let head = if self.tied_embeddings { 0 } else { embedding };
        let when = |present: bool, count: u64| if present { count } else { 0 };
        let rotary = self.family.is_rotary();
        let attention = 2 * d * (q + kv) + when(self.attention_bias, q + 2 * kv) + when(self.output_bias(), d);
        let up = if rotary { 2 * f } else { f };
        let feed_forward = up * d + f * d + when(self.mlp_bias, up + d);
        let head_norms = when(self.family == Family::Qwen3, 2 * self.head_dim as u64);
        let norm = if rotary { d } else { 2 * d };
        let positions = when(!rotary, self.context_length as u64 * d);
        let layer = attention + feed_forward + 2 * norm + head_norms;
        embedding + head + self.n_layer as u64 * layer + norm + positions
    }

    /// Returns the floating-point operations of training on one token: forward and backward, 2 per multiply-add, matrix
    /// products only, attention over `context` tokens (Training Compute-Optimal Large Language Models, 2022, appendix
    /// F; causal attention counted as half).
    pub fn training_flops_per_token(&self, context: usize) -> f64 {
        let positions = if self.family.is_rotary() { 0 } else { self.context_length * self.d_model };
        let embedding = self.vocab_size * self.d_model;
        let untied = if self.tied_embeddings { 0 } else { embedding };
        let matrices = self.parameters() as f64 - positions as f64 - untied as f64;
        let attention = (self.n_layer * self.n_head * self.head_dim * context) as f64;
        6.0 * (matrices + attention)
    }

    /// Returns an estimate of the bytes of the activations that the backward pass finds at its peak, for `batch`
    /// sequences of `context` tokens at a time. On the CPU attention in f32 keeps nothing of its T × T shares.
    pub fn activation_bytes(
        &self,
        batch: usize,
        context: usize,
        on_cpu: bool,
        precision: Precision,
        checkpointing: ActivationCheckpointing,
        dropout: bool,
    ) -> u64 {
        let tokens = (batch * context) as u64;
        let shares = (self.n_head * batch * context * context) as u64;
        // Scores and shares in the precision, with dropout its mask and what it leaves, and what the softmax makes in
        // f32.
        let is_fused = on_cpu && precision == Precision::F32;
        let in_precision = if dropout { 4 } else { 2 };
        let attention = if is_fused { 0 } else { shares * (in_precision * precision.bytes() + 4) };
        // The residual stream is f32.
        let residual = 4 * self.d_model as u64;
        let inner = (8 * self.d_model + 6 * self.n_head * self.head_dim + 5 * self.d_ff) as u64 * precision.bytes();
        let layer = attention + tokens * (4 * residual + inner);
        let layers = self.n_layer as u64;
        let of_layers = match checkpointing {
            ActivationCheckpointing::Off => layers * layer,
            ActivationCheckpointing::On => layers * tokens * residual + layer,
        };
        of_layers + 16 * tokens * self.vocab_size as u64
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the smallest model of a family that has every part.
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
    fn numbers_that_do_not_fit_together_are_named() {
        let check = |family: Family, change: fn(&mut ModelConfig), expected: &str| {
            let mut config = tiny(family);
            config.validate().unwrap();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        check(Family::Gpt2, |c| c.n_kv_head = 2, "n_kv_head: gpt2 has as many as n_head = 4");
        check(Family::Gpt2, |c| c.head_dim = 4, "head_dim: gpt2 has d_model / n_head = 8");
        check(Family::Gpt2, |c| c.activation = Activation::Swiglu, "activation: gpt2 has a GELU");
        check(Family::Gpt2, |c| c.mlp_bias = false, "mlp_bias: gpt2 always has it");
        let linear = |c: &mut ModelConfig| c.rope_scaling = Some(RopeScaling::Linear { factor: 0.0 });
        check(Family::Gpt2, linear, "rope_scaling: gpt2 has learned positions");
        check(Family::Llama, linear, "rope_scaling: factor 0 is not a positive number");
        check(Family::Llama, |c| c.d_model = 30, "n_head: 4 does not divide d_model = 30, as it does in a llama");
        check(Family::Llama, |c| c.activation = Activation::Gelu, "activation: llama has a SwiGLU");
        check(Family::Llama, |c| c.rope_theta = -1.0, "rope_theta: -1 is not a positive number");
        check(Family::Qwen2, |c| c.attention_bias = false, "attention_bias: qwen2 always has it");
        check(Family::Qwen3, |c| c.mlp_bias = true, "mlp_bias: qwen3 has none");
        check(Family::Qwen3, |c| c.head_dim = 7, "head_dim: 7 is odd; rotary positions turn pairs");
        check(Family::Qwen3, |c| c.n_kv_head = 3, "n_kv_head: 3 does not divide n_head = 4");
        check(Family::Qwen3, |c| c.vocab_size = 0, "vocab_size: 0 is not between 1 and 16777216");
    }

    #[test]
    fn a_context_beyond_what_a_model_knows_is_named() {
        let check = |family: Family, tokens: usize, expected: Option<&str>| {
            let found = tiny(family).check_context(tokens).map_err(|e| e.to_string());
            assert_eq!(found.err().as_deref(), expected);
        };
        check(Family::Gpt2, 24, None);
        let learned = "context_length: 25 is not between 1 and the 24 positions that it has learned";
        check(Family::Gpt2, 25, Some(learned));
        let trained = "context_length: 0 is not between 1 and the 24 tokens of the model's context";
        check(Family::Llama, 0, Some(trained));
    }

    #[test]
    fn parameters_are_those_that_the_model_has() {
        use burn::module::Module;
        use burn::tensor::Device;
        let check = |config: ModelConfig| {
            let model = crate::Transformer::zeros(&config, &Device::flex());
            assert_eq!(config.parameters(), model.num_params() as u64, "{config:?}");
        };
        for family in Family::ALL {
            check(tiny(family));
            check(ModelConfig { tied_embeddings: false, ..tiny(family) });
        }
        check(ModelConfig { attention_bias: true, mlp_bias: true, ..tiny(Family::Llama) });
        check(ModelConfig { attention_bias: true, head_dim: 6, ..tiny(Family::Qwen3) });
    }
}
