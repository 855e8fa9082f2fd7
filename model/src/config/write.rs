//! Writing `config.json`, for transformers 5 and earlier versions.

use serde_json::{Value, json};

use super::{Activation, Bias, Family, ModelConfig, RopeScaling};

impl ModelConfig {
    /// Returns the `config.json` that transformers reads; `dtype` is `float32`, `float16` or `bfloat16`.
    pub fn to_hugging_face(&self, dtype: &str) -> Value {
        let mut config = if self.family.is_rotary() { self.rotary_json() } else { self.gpt2_json() };
        config["model_type"] = self.family.model_type().into();
        config["vocab_size"] = self.vocab_size.into();
        config["tie_word_embeddings"] = self.tied_embeddings.into();
        config["initializer_range"] = 0.02.into();
        config["use_cache"] = true.into();
        // transformers 5 reads `dtype`; earlier versions and llama.cpp read `torch_dtype`.
        config["dtype"] = dtype.into();
        config["torch_dtype"] = dtype.into();
        config["bos_token_id"] = self.begin_of_text.into();
        config["eos_token_id"] = self.eos_token_id();
        config
    }

    /// Returns the value of `eos_token_id`: one id, a list of several, or null.
    pub(crate) fn eos_token_id(&self) -> Value {
        match (self.end_of_text, self.end_of_turn.as_slice()) {
            (first, []) => first.into(),
            (first, others) => first.into_iter().chain(others.iter().copied()).collect(),
        }
    }

    fn gpt2_json(&self) -> Value {
        json!({
            "architectures": [architecture_name(self.family)],
            "n_embd": self.d_model,
            "n_inner": self.d_ff,
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "n_positions": self.context_length,
            "n_ctx": self.context_length,
            "layer_norm_epsilon": self.norm_epsilon,
            "activation_function": if self.activation == Activation::Gelu { "gelu" } else { "gelu_new" },
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        })
    }

    fn rotary_json(&self) -> Value {
        let (architecture, layers) = (self.family.architecture(), (0..self.n_layer).map(|i| self.layer(i)));
        let activation = if self.activation == Activation::Geglu { "gelu_pytorch_tanh" } else { "silu" };
        let mut config = json!({
            "architectures": [architecture_name(self.family)],
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layer,
            "num_attention_heads": self.n_head,
            "num_key_value_heads": self.n_kv_head,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context_length,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_epsilon,
            "hidden_act": activation,
            "attention_dropout": 0.0,
        });
        for (key, bias, value) in [
            ("attention_bias", architecture.attention_bias, self.attention_bias),
            ("mlp_bias", architecture.mlp_bias, self.mlp_bias),
        ] {
            if bias == Bias::Optional {
                config[key] = value.into();
            }
        }
        let layer_types: Value =
            layers.clone().map(|layer| if layer.sliding { "sliding_attention" } else { "full_attention" }).collect();
        match self.family {
            Family::Qwen2 | Family::Qwen3 | Family::SmolLm3 => {
                config["use_sliding_window"] = self.sliding_window.is_some().into();
                if self.sliding_window.is_some() {
                    config["sliding_window"] = self.sliding_window.into();
                    config["layer_types"] = layer_types;
                    // Earlier versions read the number of layers before the first with a window.
                    config["max_window_layers"] = layers.clone().take_while(|layer| !layer.sliding).count().into();
                }
            }
            Family::Mistral | Family::Phi3 => config["sliding_window"] = self.sliding_window.into(),
            Family::Gemma2 | Family::Gemma3Text => {
                config["hidden_activation"] = activation.into();
                config["query_pre_attn_scalar"] = number(self.query_pre_attn_scalar.unwrap_or(self.head_dim as f64));
                config["attn_logit_softcapping"] = self.attention_softcap.into();
                config["final_logit_softcapping"] = self.logit_softcap.into();
                // transformers does not load them without a window.
                config["sliding_window"] = self.sliding_window.unwrap_or(self.context_length).into();
                config["layer_types"] = layer_types;
            }
            Family::Gpt2 | Family::Llama | Family::Olmo2 => {}
        }
        if self.family == Family::SmolLm3 {
            config["no_rope_layers"] = layers.map(|layer| u8::from(layer.rotary)).collect();
        }
        if !matches!(self.family, Family::Llama | Family::Qwen2 | Family::Qwen3) {
            // The defaults of some classes are ids beyond the vocabulary of a small model.
            config["pad_token_id"] = Value::Null;
        }
        self.add_rope(&mut config);
        config
    }

    /// Adds the rotary positions: transformers 4 and llama.cpp read `rope_scaling` and keys beside it; transformers 5
    /// reads `rope_parameters`.
    fn add_rope(&self, config: &mut Value) {
        let mut rope = match self.rope_scaling {
            None => json!({"rope_type": "default"}),
            Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "factor": factor}),
            Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context_length }) => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_context_length,
            }),
            Some(RopeScaling::Yarn {
                factor,
                original_context_length,
                attention_factor,
                beta_fast,
                beta_slow,
                truncate,
            }) => json!({
                "rope_type": "yarn",
                "factor": factor,
                "original_max_position_embeddings": original_context_length,
                "attention_factor": attention_factor,
                "beta_fast": beta_fast,
                "beta_slow": beta_slow,
                "truncate": truncate,
            }),
            Some(RopeScaling::Dynamic { factor, original_context_length }) => {
                config["max_position_embeddings"] = original_context_length.into();
                json!({"rope_type": "dynamic", "factor": factor})
            }
        };
        if self.rope_scaling.is_some() {
            config["rope_scaling"] = rope.clone();
        }
        rope["rope_theta"] = self.rope_theta.into();
        if self.family == Family::Phi3 {
            let (rotary_dim, head_dim) = (self.rotary_dim() as f64, self.head_dim as f64);
            let fraction = rotary_dim / head_dim;
            // The product with the width of a head is rounded down.
            let fraction = if fraction * head_dim < rotary_dim { (rotary_dim + 0.5) / head_dim } else { fraction };
            config["original_max_position_embeddings"] = self.context_length.into();
            config["partial_rotary_factor"] = fraction.into();
            rope["partial_rotary_factor"] = fraction.into();
        }
        config["rope_parameters"] = match self.local_rope_theta {
            None => rope,
            Some(theta) => {
                config["rope_local_base_freq"] = theta.into();
                json!({"full_attention": rope, "sliding_attention": {"rope_type": "default", "rope_theta": theta}})
            }
        };
    }
}

/// Returns the name of a family's class in transformers.
fn architecture_name(family: Family) -> &'static str {
    match family {
        Family::Gpt2 => "GPT2LMHeadModel",
        Family::Llama => "LlamaForCausalLM",
        Family::Qwen2 => "Qwen2ForCausalLM",
        Family::Qwen3 => "Qwen3ForCausalLM",
        Family::Mistral => "MistralForCausalLM",
        Family::Gemma2 => "Gemma2ForCausalLM",
        Family::Gemma3Text => "Gemma3ForCausalLM",
        Family::Phi3 => "Phi3ForCausalLM",
        Family::SmolLm3 => "SmolLM3ForCausalLM",
        Family::Olmo2 => "Olmo2ForCausalLM",
    }
}

/// Returns a whole number without a fraction, as the classes of transformers require.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as u64) } else { json!(value) }
}
