//! The shape of a model, as Hugging Face's `config.json` describes it.
//!
//! Dimensions: V vocabulary, D model width, L layers, H query heads, K key/value heads, C width of a head, F width of the
//! feed-forward layer, T context length.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Error;

/// The families of decoder-only Transformers that this crate builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// RMSNorm, rotary positions, SwiGLU, grouped-query attention with QK-norm (Qwen3 Technical Report, 2025).
    Qwen3,
    /// LayerNorm, learned positions, GELU, biases (Language Models are Unsupervised Multitask Learners, 2019).
    Gpt2,
}

impl Family {
    /// Returns the name that `model_type` has in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3 => "qwen3",
            Self::Gpt2 => "gpt2",
        }
    }
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
    /// C, the width of a head; even in `qwen3`, D / H in `gpt2`.
    pub head_dim: usize,
    /// F, the width of the feed-forward layer.
    pub d_ff: usize,
    /// T, the longest sequence the model is trained on.
    pub context_length: usize,
    /// The base of the rotary frequencies (`qwen3`).
    pub rope_theta: f64,
    /// The ε of the norms.
    pub norm_epsilon: f64,
    /// Whether the output projection is the token embedding.
    pub tied_embeddings: bool,
    /// The id of the end-of-text token, where the tokenizer has one.
    pub end_of_text: Option<u32>,
}

impl ModelConfig {
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
        match self.family {
            Family::Qwen3 if !self.head_dim.is_multiple_of(2) => {
                wrong("head_dim", format!("{} is odd; rotary positions turn pairs", self.head_dim))
            }
            Family::Qwen3 if !(self.rope_theta > 0.0 && self.rope_theta.is_finite()) => {
                wrong("rope_theta", format!("{} is not a positive number", self.rope_theta))
            }
            Family::Gpt2 if self.n_kv_head != self.n_head => {
                wrong("n_kv_head", format!("gpt2 has as many as n_head = {}", self.n_head))
            }
            Family::Gpt2 if self.head_dim * self.n_head != self.d_model => {
                wrong("head_dim", format!("gpt2 has d_model / n_head = {}", self.d_model / self.n_head))
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of parameters, tied ones counted once.
    pub fn parameters(&self) -> u64 {
        let (d, f) = (self.d_model as u64, self.d_ff as u64);
        let (q, kv) = ((self.n_head * self.head_dim) as u64, (self.n_kv_head * self.head_dim) as u64);
        let embedding = self.vocab_size as u64 * d;
        let head = if self.tied_embeddings { 0 } else { embedding };
        let (layer, rest) = match self.family {
            Family::Qwen3 => (d * (2 * q + 2 * kv) + 3 * d * f + 2 * d + 2 * self.head_dim as u64, d),
            Family::Gpt2 => (4 * d * d + 4 * d + 2 * d * f + f + d + 4 * d, 2 * d + self.context_length as u64 * d),
        };
        embedding + head + self.n_layer as u64 * layer + rest
    }

    /// Returns the floating-point operations of training on one token: forward and backward, 2 per multiply-add, matrix
    /// products only, attention over `context` tokens (Training Compute-Optimal Large Language Models, 2022, appendix F;
    /// causal attention counted as half).
    pub fn training_flops_per_token(&self, context: usize) -> f64 {
        let norms_and_positions = match self.family {
            Family::Qwen3 => 0,
            Family::Gpt2 => self.context_length * self.d_model,
        };
        let embedding = self.vocab_size * self.d_model;
        let untied = if self.tied_embeddings { 0 } else { embedding };
        let matrices = self.parameters() as f64 - norms_and_positions as f64 - untied as f64;
        let attention = (self.n_layer * self.n_head * self.head_dim * context) as f64;
        6.0 * (matrices + attention)
    }

    /// Returns an estimate of the bytes that training needs at its peak in f32: weights, gradients, two AdamW moments, and
    /// the activations that the backward pass keeps for `batch` sequences of `context` tokens at a time.
    pub fn training_memory_bytes(&self, batch: usize, context: usize) -> u64 {
        let tokens = (batch * context) as u64;
        let attention = (3 * self.n_layer * self.n_head * batch * context * context) as u64;
        let layer = (12 * self.d_model + 6 * self.n_head * self.head_dim + 5 * self.d_ff) as u64;
        let logits = 4 * tokens * self.vocab_size as u64;
        4 * (4 * self.parameters() + tokens * layer * self.n_layer as u64 + attention + logits)
    }

    /// Returns the `config.json` that transformers reads; `dtype` is `float32`, `float16` or `bfloat16`.
    pub fn to_hugging_face(&self, dtype: &str) -> Value {
        let mut config = match self.family {
            Family::Qwen3 => json!({
                "architectures": ["Qwen3ForCausalLM"],
                "model_type": "qwen3",
                "vocab_size": self.vocab_size,
                "hidden_size": self.d_model,
                "intermediate_size": self.d_ff,
                "num_hidden_layers": self.n_layer,
                "num_attention_heads": self.n_head,
                "num_key_value_heads": self.n_kv_head,
                "head_dim": self.head_dim,
                "max_position_embeddings": self.context_length,
                "rope_theta": self.rope_theta,
                "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
                "rms_norm_eps": self.norm_epsilon,
                "hidden_act": "silu",
                "attention_bias": false,
                "attention_dropout": 0.0,
                "use_sliding_window": false,
            }),
            Family::Gpt2 => json!({
                "architectures": ["GPT2LMHeadModel"],
                "model_type": "gpt2",
                "vocab_size": self.vocab_size,
                "n_embd": self.d_model,
                "n_inner": self.d_ff,
                "n_layer": self.n_layer,
                "n_head": self.n_head,
                "n_positions": self.context_length,
                "n_ctx": self.context_length,
                "layer_norm_epsilon": self.norm_epsilon,
                "activation_function": "gelu_new",
                "attn_pdrop": 0.0,
                "embd_pdrop": 0.0,
                "resid_pdrop": 0.0,
            }),
        };
        config["tie_word_embeddings"] = self.tied_embeddings.into();
        config["initializer_range"] = 0.02.into();
        config["use_cache"] = true.into();
        // transformers 5 says `dtype`; what came before it, and llama.cpp, say `torch_dtype`.
        config["dtype"] = dtype.into();
        config["torch_dtype"] = dtype.into();
        if let Some(id) = self.end_of_text {
            config["bos_token_id"] = id.into();
            config["eos_token_id"] = id.into();
        }
        config
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// Names the key that is missing, of another type, or has a value that this crate does not build; nothing is silently
    /// ignored that would change the logits.
    pub fn from_hugging_face(value: &Value) -> Result<Self, Error> {
        let reader = Reader(
            value.as_object().ok_or(Error::Config { key: "config.json", reason: "is not a JSON object".to_owned() })?,
        );
        let config = match reader.text("model_type", None)? {
            "qwen3" => reader.qwen3()?,
            "gpt2" => reader.gpt2()?,
            other => {
                return Err(Error::Config {
                    key: "model_type",
                    reason: format!("`{other}` is not a family this version builds (qwen3, gpt2)"),
                });
            }
        };
        config.validate()?;
        Ok(config)
    }
}

/// Reads keys of a `config.json`, with the defaults that transformers has.
struct Reader<'a>(&'a Map<String, Value>);

impl Reader<'_> {
    fn qwen3(&self) -> Result<ModelConfig, Error> {
        let n_head = self.number("num_attention_heads", None)?;
        let d_model = self.number("hidden_size", None)?;
        self.must_be("hidden_act", &json!("silu"))?;
        self.must_be("attention_bias", &json!(false))?;
        self.must_be("use_sliding_window", &json!(false))?;
        self.must_be("rope_scaling", &Value::Null)?;
        let layer_types = self.0.get("layer_types").and_then(Value::as_array);
        if let Some(other) = layer_types.into_iter().flatten().find(|kind| *kind != "full_attention") {
            return Err(Error::Config { key: "layer_types", reason: format!("{other} is not supported") });
        }
        let mut rope_theta = self.float("rope_theta", Some(10_000.0))?;
        if let Some(parameters) = self.0.get("rope_parameters").and_then(Value::as_object) {
            let rope = Reader(parameters);
            rope.must_be("rope_type", &json!("default"))?;
            rope_theta = rope.float("rope_theta", Some(rope_theta))?;
        }
        Ok(ModelConfig {
            family: Family::Qwen3,
            vocab_size: self.number("vocab_size", None)?,
            d_model,
            n_layer: self.number("num_hidden_layers", None)?,
            n_head,
            n_kv_head: self.number("num_key_value_heads", Some(n_head))?,
            head_dim: self.number("head_dim", Some(128))?,
            d_ff: self.number("intermediate_size", None)?,
            context_length: self.number("max_position_embeddings", None)?,
            rope_theta,
            norm_epsilon: self.float("rms_norm_eps", Some(1e-6))?,
            tied_embeddings: self.flag("tie_word_embeddings", false)?,
            end_of_text: self.end_of_text(),
        })
    }

    fn gpt2(&self) -> Result<ModelConfig, Error> {
        let n_head = self.number("n_head", None)?;
        let d_model = self.number("n_embd", None)?;
        self.must_be("activation_function", &json!("gelu_new"))?;
        self.must_be("scale_attn_by_inverse_layer_idx", &json!(false))?;
        self.must_be("scale_attn_weights", &json!(true))?;
        Ok(ModelConfig {
            family: Family::Gpt2,
            vocab_size: self.number("vocab_size", None)?,
            d_model,
            n_layer: self.number("n_layer", None)?,
            n_head,
            n_kv_head: n_head,
            head_dim: d_model / n_head.max(1),
            d_ff: self.number("n_inner", Some(4 * d_model))?,
            context_length: self.number("n_positions", None)?,
            rope_theta: 0.0,
            norm_epsilon: self.float("layer_norm_epsilon", Some(1e-5))?,
            tied_embeddings: self.flag("tie_word_embeddings", true)?,
            end_of_text: self.end_of_text(),
        })
    }

    fn get<T>(
        &self,
        key: &'static str,
        default: Option<T>,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, Error> {
        match (self.0.get(key), default) {
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (None | Some(Value::Null), None) => Err(Error::Config { key, reason: "is missing".to_owned() }),
            (Some(value), _) => {
                read(value).ok_or_else(|| Error::Config { key, reason: format!("{value} is not {kind}") })
            }
        }
    }

    fn number(&self, key: &'static str, default: Option<usize>) -> Result<usize, Error> {
        self.get(key, default, "a whole number", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn float(&self, key: &'static str, default: Option<f64>) -> Result<f64, Error> {
        self.get(key, default, "a number", Value::as_f64)
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, Error> {
        self.get(key, Some(default), "true or false", Value::as_bool)
    }

    fn text(&self, key: &'static str, default: Option<&'static str>) -> Result<&str, Error> {
        match (self.0.get(key), default) {
            (Some(Value::String(text)), _) => Ok(text),
            (None, Some(default)) => Ok(default),
            (found, _) => Err(Error::Config {
                key,
                reason: found.map_or("is missing".to_owned(), |v| format!("{v} is not a text")),
            }),
        }
    }

    fn must_be(&self, key: &'static str, expected: &Value) -> Result<(), Error> {
        match self.0.get(key) {
            Some(found) if found != expected && !found.is_null() => {
                Err(Error::Config { key, reason: format!("{found} is not supported, only {expected}") })
            }
            _ => Ok(()),
        }
    }

    // A list of ids is allowed there; the first is the one that ends a text.
    fn end_of_text(&self) -> Option<u32> {
        let value = self.0.get("eos_token_id")?;
        let id = value.as_array().and_then(|ids| ids.first()).unwrap_or(value);
        id.as_u64().and_then(|id| u32::try_from(id).ok())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the smallest model of a family that has every part.
    pub(crate) fn tiny(family: Family) -> ModelConfig {
        let n_kv_head = if family == Family::Gpt2 { 4 } else { 2 };
        ModelConfig {
            family,
            vocab_size: 50,
            d_model: 32,
            n_layer: 2,
            n_head: 4,
            n_kv_head,
            head_dim: 8,
            d_ff: 48,
            context_length: 24,
            rope_theta: 10_000.0 * f64::from(u8::from(family == Family::Qwen3)),
            norm_epsilon: 1e-5,
            tied_embeddings: true,
            end_of_text: Some(0),
        }
    }

    #[test]
    fn config_json_says_the_same_in_both_directions() {
        for family in [Family::Qwen3, Family::Gpt2] {
            let config = tiny(family);
            assert_eq!(ModelConfig::from_hugging_face(&config.to_hugging_face("float32")).unwrap(), config);
        }
    }

    #[test]
    fn what_would_change_the_logits_is_refused_by_name() {
        let check = |key: &str, value: Value, expected: &str| {
            let mut json = tiny(Family::Qwen3).to_hugging_face("float32");
            json[key] = value;
            assert_eq!(ModelConfig::from_hugging_face(&json).unwrap_err().to_string(), expected);
        };
        check("model_type", json!("mamba"), "model_type: `mamba` is not a family this version builds (qwen3, gpt2)");
        check("hidden_act", json!("relu"), "hidden_act: \"relu\" is not supported, only \"silu\"");
        check("hidden_size", json!("wide"), "hidden_size: \"wide\" is not a whole number");
        check("hidden_size", Value::Null, "hidden_size: is missing");
        check("num_key_value_heads", json!(3), "n_kv_head: 3 does not divide n_head = 4");
        check("head_dim", json!(7), "head_dim: 7 is odd; rotary positions turn pairs");
        check("vocab_size", json!(0), "vocab_size: 0 is not between 1 and 16777216");
        check("rope_scaling", json!({"type": "yarn"}), "rope_scaling: {\"type\":\"yarn\"} is not supported, only null");
    }
}
