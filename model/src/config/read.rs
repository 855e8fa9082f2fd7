//! Reading `config.json`.
//!
//! Keys are read as the classes of transformers 5.24 read them, with their defaults. A key that changes the logits in a
//! way that this crate does not implement is an error. Keys that cannot change a logit are ignored: dropout, which
//! inference does not use; `initializer_range`; switches of caches and summaries; `pretraining_tp`, which only splits a
//! product.
//!
//! Reading order: this file (the families), `layers` (sliding windows and layers without positions), `rope`.

mod layers;
mod rope;

use serde_json::{Map, Value, json};

use super::validation::MAX_SIZE;
use super::{Activation, Bias, Family, ModelConfig, Softcaps};
use crate::{Error, compressed_tensors};

impl ModelConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// Names the key that is missing, or has a type or value that is not supported. No key that would change the logits
    /// is ignored.
    pub fn from_hugging_face(value: &Value) -> Result<Self, Error> {
        let reader = Reader(
            value.as_object().ok_or(Error::Config { key: "config.json", reason: "is not a JSON object".to_owned() })?,
        );
        let name = reader.text("model_type", None)?;
        let Some(family) = Family::ALL.into_iter().find(|family| family.model_type() == name) else {
            let known = Family::ALL.map(Family::model_type).join(", ");
            let reason = format!("`{name}` is not supported, only {known}");
            return Err(Error::Config { key: "model_type", reason });
        };
        reader.reject_unsupported()?;
        let mut config = if family.is_rotary() { reader.rotary(family)? } else { reader.gpt2()? };
        config.begin_of_text = ids(value.get("bos_token_id")).first().copied();
        config.add_end_ids(&ids(value.get("eos_token_id")));
        config.validate()?;
        Ok(config)
    }

    /// Adds the end-of-text ids of `generation_config.json`, where transformers' `generate` reads them.
    pub(crate) fn read_generation_config(&mut self, value: &Value) {
        self.add_end_ids(&ids(value.get("eos_token_id")));
    }

    fn add_end_ids(&mut self, ids: &[u32]) {
        for &id in ids {
            let first = *self.end_of_text.get_or_insert(id);
            if id != first && !self.end_of_turn.contains(&id) {
                self.end_of_turn.push(id);
            }
        }
    }
}

/// Returns the ids of a single id or a list.
fn ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The defaults of a family's class in transformers where they differ between families.
struct Defaults {
    /// None for as many as query heads.
    n_kv_head: Option<usize>,
    /// None for the width of the model divided by the number of heads.
    head_dim: Option<usize>,
    rope_theta: f64,
    norm_epsilon: f64,
    tied_embeddings: bool,
}

impl Defaults {
    fn of(family: Family) -> Self {
        let llama =
            Self { n_kv_head: None, head_dim: None, rope_theta: 10_000.0, norm_epsilon: 1e-6, tied_embeddings: false };
        match family {
            Family::Gpt2 | Family::Llama => llama,
            Family::Qwen2 => Self { n_kv_head: Some(32), ..llama },
            Family::Qwen3 => Self { n_kv_head: Some(32), head_dim: Some(128), ..llama },
            Family::Mistral => Self { n_kv_head: Some(8), ..llama },
            Family::Gemma2 => Self { n_kv_head: Some(4), head_dim: Some(256), tied_embeddings: true, ..llama },
            Family::Gemma3Text => Self { rope_theta: 1e6, ..Self::of(Family::Gemma2) },
            Family::Phi3 | Family::Olmo2 => Self { norm_epsilon: 1e-5, ..llama },
            Family::SmolLm3 => Self { n_kv_head: Some(4), rope_theta: 2e6, tied_embeddings: true, ..llama },
        }
    }
}

/// Reads keys of a `config.json`, with the defaults of transformers.
struct Reader<'a>(&'a Map<String, Value>);

impl Reader<'_> {
    /// Rejects the options of transformers and of quantisers that are not supported in any family.
    fn reject_unsupported(&self) -> Result<(), Error> {
        for key in ["compression_config", "quantization"] {
            if self.0.get(key).is_some_and(|value| !value.is_null()) {
                let reason = "quantised weights are not supported; use the original model".to_owned();
                return Err(Error::Config { key, reason });
            }
        }
        if let Some(config) = self.0.get("quantization_config").filter(|value| !value.is_null()) {
            let invalid = |reason| Error::Config { key: "quantization_config", reason };
            compressed_tensors::check_config(config).map_err(invalid)?;
        }
        self.must_be("per_layer_config", &Value::Null)?;
        self.must_be("is_causal", &json!(true))?;
        self.must_be("use_bidirectional_attention", &json!(false))?;
        self.must_be("is_encoder_decoder", &json!(false))?;
        self.must_be("add_cross_attention", &json!(false))?;
        self.must_be("pruned_heads", &json!({}))
    }

    fn rotary(&self, family: Family) -> Result<ModelConfig, Error> {
        let (architecture, defaults) = (family.architecture(), Defaults::of(family));
        let n_head = self.number("num_attention_heads", None)?;
        let d_model = self.number("hidden_size", None)?;
        let n_layer = self.layer_count("num_hidden_layers")?;
        self.check_activation(family)?;
        // Some classes have a fixed default if the key is missing, but not if it is null.
        let default_heads = defaults.n_kv_head.filter(|_| !self.0.contains_key("num_key_value_heads"));
        let default_head_dim = defaults.head_dim.unwrap_or(d_model / n_head.max(1));
        let head_dim = self.number("head_dim", Some(default_head_dim))?;
        let rope = self.rope(family, head_dim)?;
        let context = self.number("max_position_embeddings", None)?;
        let mut config = ModelConfig {
            vocab_size: self.number("vocab_size", None)?,
            d_model,
            n_layer,
            n_head,
            n_kv_head: self.number("num_key_value_heads", Some(default_heads.unwrap_or(n_head)))?,
            head_dim,
            d_ff: self.number("intermediate_size", None)?,
            context_length: rope.context_length(context),
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            local_rope_theta: rope.local_theta,
            rotary_dim: rope.rotary_dim,
            attention_bias: self.bias("attention_bias", architecture.attention_bias)?,
            mlp_bias: self.bias("mlp_bias", architecture.mlp_bias)?,
            norm_epsilon: self.float("rms_norm_eps", Some(defaults.norm_epsilon))?,
            tied_embeddings: self.flag("tie_word_embeddings", defaults.tied_embeddings)?,
            ..ModelConfig::of(family)
        };
        if architecture.scaled_embeddings {
            let scalar = self.float("query_pre_attn_scalar", Some(256.0))?;
            config.query_pre_attn_scalar = Some(scalar).filter(|scalar| (scalar - head_dim as f64).abs() > 0.0);
        }
        let default_cap = |cap: f64| (family == Family::Gemma2).then_some(cap);
        let softcap = |key, is_allowed, cap| {
            if is_allowed { self.softcap(key, cap) } else { self.must_be(key, &Value::Null).map(|()| None) }
        };
        let (logits, scores) =
            (architecture.softcaps != Softcaps::None, architecture.softcaps == Softcaps::LogitsAndScores);
        config.logit_softcap = softcap("final_logit_softcapping", logits, default_cap(30.0))?;
        config.attention_softcap = softcap("attn_logit_softcapping", scores, default_cap(50.0))?;
        let (layers, window) = self.layers(family, n_layer)?;
        config.set_layers(layers, window);
        Ok(config)
    }

    fn check_activation(&self, family: Family) -> Result<(), Error> {
        match family.architecture().activations[0] {
            // The key `hidden_act` of early files has no effect.
            Activation::Geglu => self.must_be("hidden_activation", &json!("gelu_pytorch_tanh")),
            _ if self.text("hidden_act", Some("silu"))? == "swish" => Ok(()),
            _ => self.must_be("hidden_act", &json!("silu")),
        }
    }

    fn bias(&self, key: &'static str, bias: Bias) -> Result<bool, Error> {
        match bias {
            Bias::Optional => self.flag(key, false),
            Bias::Always | Bias::Never => {
                let fixed = bias == Bias::Always;
                self.must_be(key, &json!(fixed)).map(|()| fixed)
            }
        }
    }

    /// Returns a cap, which is null for none.
    fn softcap(&self, key: &'static str, default: Option<f64>) -> Result<Option<f64>, Error> {
        match self.0.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(_) => self.float(key, None).map(Some),
        }
    }

    fn gpt2(&self) -> Result<ModelConfig, Error> {
        let n_head = self.number("n_head", None)?;
        let d_model = self.number("n_embd", None)?;
        let activation = match self.text("activation_function", Some("gelu_new"))? {
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "gelu" => Activation::Gelu,
            other => {
                let reason = format!("`{other}` is not supported, only gelu_new, gelu_pytorch_tanh and gelu");
                return Err(Error::Config { key: "activation_function", reason });
            }
        };
        self.must_be("scale_attn_by_inverse_layer_idx", &json!(false))?;
        self.must_be("scale_attn_weights", &json!(true))?;
        Ok(ModelConfig {
            vocab_size: self.number("vocab_size", None)?,
            d_model,
            n_layer: self.layer_count("n_layer")?,
            n_head,
            n_kv_head: n_head,
            head_dim: d_model / n_head.max(1),
            d_ff: self.number("n_inner", Some(d_model.saturating_mul(4)))?,
            context_length: self.number("n_positions", None)?,
            activation,
            norm_epsilon: self.float("layer_norm_epsilon", Some(1e-5))?,
            tied_embeddings: self.flag("tie_word_embeddings", true)?,
            ..ModelConfig::of(Family::Gpt2)
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

    /// Returns the number of layers, before there is anything for each of them.
    fn layer_count(&self, key: &'static str) -> Result<usize, Error> {
        match self.number(key, None)? {
            count @ 1..=MAX_SIZE => Ok(count),
            count => Err(Error::Config { key, reason: format!("{count} is not between 1 and {MAX_SIZE}") }),
        }
    }

    fn number(&self, key: &'static str, default: Option<usize>) -> Result<usize, Error> {
        self.get(key, default, "an integer", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    fn float(&self, key: &'static str, default: Option<f64>) -> Result<f64, Error> {
        self.get(key, default, "a number", Value::as_f64)
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, Error> {
        self.get(key, Some(default), "true or false", Value::as_bool)
    }

    fn text<'b>(&'b self, key: &'static str, default: Option<&'b str>) -> Result<&'b str, Error> {
        match (self.0.get(key), default) {
            (Some(Value::String(text)), _) => Ok(text),
            (None | Some(Value::Null), Some(default)) => Ok(default),
            (found, _) => Err(Error::Config {
                key,
                reason: found.map_or("is missing".to_owned(), |v| format!("{v} is not a string")),
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RopeScaling;
    use crate::config::tests::tiny;

    fn llama3() -> RopeScaling {
        RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context_length: 8192 }
    }

    #[test]
    fn config_json_round_trips() {
        let check = |config: ModelConfig| {
            assert_eq!(ModelConfig::from_hugging_face(&config.to_hugging_face("float32")).unwrap(), config);
        };
        for family in Family::ALL {
            check(tiny(family));
            check(ModelConfig { tied_embeddings: false, end_of_text: None, ..tiny(family) });
            check(ModelConfig { begin_of_text: Some(1), end_of_turn: vec![4, 7], ..tiny(family) });
        }
        check(ModelConfig { activation: Activation::Gelu, ..tiny(Family::Gpt2) });
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
            check(ModelConfig { rope_scaling: Some(RopeScaling::Linear { factor: 2.5 }), head_dim: 6, ..tiny(family) });
            check(ModelConfig { rope_scaling: Some(llama3()), rope_theta: 500_000.0, ..tiny(family) });
        }
        check(ModelConfig { attention_bias: true, mlp_bias: true, ..tiny(Family::Llama) });
        check(ModelConfig { attention_bias: true, ..tiny(Family::Qwen3) });
    }

    #[test]
    fn number_of_layers_is_checked_before_it_is_used() {
        for family in Family::ALL {
            for count in [0, usize::MAX, 1 << 40] {
                let key = if family == Family::Gpt2 { "n_layer" } else { "num_hidden_layers" };
                let mut json = tiny(family).to_hugging_face("float32");
                json[key] = count.into();
                let error = ModelConfig::from_hugging_face(&json).unwrap_err().to_string();
                assert!(error.contains(key) && error.contains(&count.to_string()), "{error}");
            }
        }
    }

    #[test]
    fn rope_scaling_of_every_version_is_read() {
        let check = |changes: Value, expected: (f64, Option<RopeScaling>)| {
            let mut json = tiny(Family::Llama).to_hugging_face("float32");
            let keys = json.as_object_mut().unwrap();
            keys.remove("rope_parameters");
            keys.remove("rope_theta");
            keys.extend(changes.as_object().unwrap().clone());
            let found = ModelConfig::from_hugging_face(&json).unwrap();
            assert_eq!((found.rope_theta, found.rope_scaling), expected, "{changes}");
        };
        let linear = Some(RopeScaling::Linear { factor: 2.0 });
        check(json!({}), (1e4, None));
        check(json!({"rope_theta": 5e5, "rope_scaling": null, "rope_parameters": {}}), (5e5, None));
        check(json!({"rope_scaling": {"rope_type": "default"}}), (1e4, None));
        check(json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}), (5e5, linear));
        check(json!({"rope_scaling": {"type": "old", "rope_type": "linear", "factor": 2}}), (1e4, linear));
        check(json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 3e4}}), (3e4, linear));
        let both = json!({
            "rope_theta": 5e5,
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "default", "rope_theta": 7e7},
        });
        check(both, (5e5, linear));
        let table = json!({
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        check(json!({"rope_theta": 5e5, "rope_scaling": table}), (5e5, Some(llama3())));
    }

    #[test]
    fn missing_head_counts_have_the_defaults_of_transformers() {
        let check = |family: Family, removed: &[&str], expected: (usize, usize)| {
            let mut json =
                ModelConfig { n_head: 32, n_kv_head: 8, d_model: 512, ..tiny(family) }.to_hugging_face("float32");
            for key in removed {
                json.as_object_mut().unwrap().remove(*key);
            }
            let found = ModelConfig::from_hugging_face(&json).unwrap();
            assert_eq!((found.n_kv_head, found.head_dim), expected, "{family:?} without {removed:?}");
        };
        check(Family::Llama, &[], (8, 8));
        check(Family::Llama, &["head_dim", "num_key_value_heads"], (32, 16));
        check(Family::Qwen2, &["head_dim"], (8, 16));
        check(Family::Qwen3, &["head_dim"], (8, 128));
        check(Family::Qwen2, &["num_key_value_heads"], (32, 8));
    }

    #[test]
    fn end_of_text_ids_come_from_both_files() {
        let mut json = tiny(Family::Llama).to_hugging_face("float32");
        json["bos_token_id"] = json!(5);
        json["eos_token_id"] = json!([7, 8]);
        let mut config = ModelConfig::from_hugging_face(&json).unwrap();
        config.read_generation_config(&json!({"eos_token_id": [8, 9, 7], "temperature": 0.6}));
        assert_eq!((config.begin_of_text, config.end_of_text), (Some(5), Some(7)));
        assert_eq!(config.end_of_turn, [8, 9]);
        assert_eq!(config.eos_token_id(), json!([7, 8, 9]));
    }

    #[test]
    fn unsupported_keys_are_named() {
        let check = |family: Family, key: &str, value: Value, expected: &str| {
            let mut json = tiny(family).to_hugging_face("float32");
            json[key] = value;
            assert_eq!(ModelConfig::from_hugging_face(&json).unwrap_err().to_string(), expected);
        };
        let unknown = "model_type: `mamba` is not supported, only gpt2, llama, qwen2, qwen3, mistral, gemma2, \
                       gemma3_text, phi3, smollm3, olmo2";
        check(Family::Llama, "model_type", json!("mamba"), unknown);
        for family in Family::ALL {
            let quantised = "quantization_config: weights quantised by `awq` are not supported; use the original model";
            check(family, "quantization_config", json!({"quant_method": "awq", "bits": 4}), quantised);
            check(family, "is_causal", json!(false), "is_causal: false is not supported, only true");
            let cross = "add_cross_attention: true is not supported, only false";
            check(family, "add_cross_attention", json!(true), cross);
            check(family, "pruned_heads", json!({"0": [1]}), "pruned_heads: {\"0\":[1]} is not supported, only {}");
            check(family, "vocab_size", json!(0), "vocab_size: 0 is not between 1 and 16777216");
        }
        for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
            check(family, "hidden_act", json!("relu"), "hidden_act: \"relu\" is not supported, only \"silu\"");
            check(family, "hidden_size", json!("wide"), "hidden_size: \"wide\" is not an integer");
            check(family, "hidden_size", Value::Null, "hidden_size: is missing");
            check(family, "num_key_value_heads", json!(3), "n_kv_head: 3 does not divide n_head = 4");
            check(family, "head_dim", json!(7), "head_dim: 7 is odd; rotary positions need pairs");
            let partial = "partial_rotary_factor: 0.5 is not supported, only 1.0";
            check(family, "partial_rotary_factor", json!(0.5), partial);
            let longrope = "rope_scaling: rope_type: `longrope` is not supported, only default, linear, llama3, \
                            yarn and dynamic";
            check(family, "rope_scaling", json!({"type": "longrope", "factor": 4.0}), longrope);
            check(family, "rope_scaling", json!({"type": "linear"}), "rope_scaling: factor: is missing");
            let linear = json!({"rope_type": "linear", "factor": 2.0, "attention_factor": 1.2});
            let surplus = "rope_parameters: rope_type: `attention_factor` = 1.2 has no meaning in `linear`";
            check(family, "rope_parameters", linear, surplus);
            let by_layer = json!({"full_attention": {"rope_type": "default"}});
            let nested = "rope_parameters: rope_type: `full_attention` = {\"rope_type\":\"default\"} has no meaning in \
                          `default`";
            check(family, "rope_parameters", by_layer, nested);
            check(family, "rope_scaling", json!("linear"), "rope_scaling: \"linear\" is not a JSON object");
        }
        check(Family::Llama, "sliding_window", json!(4096), "sliding_window: 4096 is not supported, only null");
        let switch = "use_sliding_window: true is not supported, only false";
        check(Family::Llama, "use_sliding_window", json!(true), switch);
        check(Family::Qwen2, "attention_bias", json!(false), "attention_bias: false is not supported, only true");
        check(Family::Qwen2, "mlp_bias", json!(true), "mlp_bias: true is not supported, only false");
        check(Family::Qwen3, "mlp_bias", json!(true), "mlp_bias: true is not supported, only false");
        let activation = "activation_function: `gelu_fast` is not supported, only gelu_new, gelu_pytorch_tanh and gelu";
        check(Family::Gpt2, "activation_function", json!("gelu_fast"), activation);
        let unscaled = "scale_attn_weights: false is not supported, only true";
        check(Family::Gpt2, "scale_attn_weights", json!(false), unscaled);
        let inverse = "scale_attn_by_inverse_layer_idx: true is not supported, only false";
        check(Family::Gpt2, "scale_attn_by_inverse_layer_idx", json!(true), inverse);
    }
}
