//! Writing `config.json`, for transformers 5 and earlier versions.

use serde_json::{Value, json};

use super::{Activation, Family, ModelConfig, RopeScaling};

impl ModelConfig {
    /// Returns the `config.json` that transformers reads; `dtype` is `float32`, `float16` or `bfloat16`.
    pub fn to_hugging_face(&self, dtype: &str) -> Value {
        let mut config = if self.family == Family::Gpt2 { self.gpt2_json() } else { self.rotary_json() };
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
            "architectures": ["GPT2LMHeadModel"],
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
        let architecture = match self.family {
            Family::Qwen3 => "Qwen3ForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            _ => "LlamaForCausalLM",
        };
        let mut config = json!({
            "architectures": [architecture],
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layer,
            "num_attention_heads": self.n_head,
            "num_key_value_heads": self.n_kv_head,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context_length,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.norm_epsilon,
            "hidden_act": "silu",
            "attention_dropout": 0.0,
        });
        match self.family {
            Family::Llama => {
                config["attention_bias"] = self.attention_bias.into();
                config["mlp_bias"] = self.mlp_bias.into();
            }
            Family::Qwen3 => config["attention_bias"] = self.attention_bias.into(),
            Family::Qwen2 | Family::Gpt2 => {}
        }
        if self.family != Family::Llama {
            config["use_sliding_window"] = false.into();
        }
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
        };
        // transformers 4 and llama.cpp read `rope_scaling`; transformers 5 reads `rope_parameters`.
        if self.rope_scaling.is_some() {
            config["rope_scaling"] = rope.clone();
        }
        rope["rope_theta"] = self.rope_theta.into();
        config["rope_parameters"] = rope;
        config
    }
}
