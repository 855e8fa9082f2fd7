//! The keys that describe a model, and its configuration.
//!
//! What llama.cpp does not compute in a family is an error that names it; where it differs only in longer texts, the
//! context is shortened to those that are equal.

use super::rope_factors::{self, ROPE_FACTORS};
use super::{ARCHITECTURE, Array, File, Metadata, Value};
use crate::config::{Bias, LayerAttention, Softcaps};
use crate::{Activation, Error, Family, ModelConfig, RopeScaling};

/// The layers of the published models of 27 billion parameters of Gemma 2 and Gemma 3, whose scores llama.cpp divides
/// by the square root of D / H.
const GEMMA_27B_LAYERS: [usize; 2] = [46, 62];

/// The window of Gemma 2 where a file has none.
const GEMMA2_WINDOW: usize = 4096;

/// Returns llama.cpp's name of a family.
pub(super) fn architecture(family: Family) -> &'static str {
    match family {
        Family::Gpt2 => "gpt2",
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
        Family::Gemma2 => "gemma2",
        Family::Gemma3Text => "gemma3",
        Family::Phi3 => "phi3",
        Family::SmolLm3 => "smollm3",
        Family::Olmo2 => "olmo2",
    }
}

/// Returns the number of tokens in which llama.cpp computes the same, and why it is not the model's context.
pub(super) fn context_length(config: &ModelConfig) -> (usize, Option<String>) {
    let architecture = architecture(config.family);
    let has_windows = config.family.architecture().scaled_embeddings;
    let limit = match (config.rope_scaling, config.sliding_window) {
        (Some(RopeScaling::Dynamic { original_context_length, .. }), _) => {
            Some((original_context_length, "`dynamic` scaling of positions"))
        }
        (_, Some(window)) if !has_windows => Some((window, "a sliding window")),
        _ => None,
    };
    match limit {
        Some((limit, what)) if limit < config.context_length => {
            let note = format!(
                "the context is {limit} tokens instead of {}: {architecture} in llama.cpp computes without {what}",
                config.context_length
            );
            (limit, Some(note))
        }
        _ => (config.context_length, None),
    }
}

/// Adds the keys of a model's configuration.
///
/// # Errors
/// Names the first field that llama.cpp does not compute.
pub(super) fn write(config: &ModelConfig, metadata: &mut Metadata) -> Result<(), Error> {
    check(config)?;
    let (family, architecture) = (config.family.architecture(), architecture(config.family));
    metadata.set(ARCHITECTURE, architecture);
    let mut set = |key: &str, value: Value| metadata.set(format!("{architecture}.{key}"), value);
    let sizes = [
        ("vocab_size", config.vocab_size),
        ("context_length", context_length(config).0),
        ("embedding_length", config.d_model),
        ("block_count", config.n_layer),
        ("feed_forward_length", config.d_ff),
        ("attention.head_count", config.n_head),
        ("attention.head_count_kv", config.n_kv_head),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
    ];
    for (key, size) in sizes {
        set(key, count(size));
    }
    if family.learned_positions {
        set("attention.layer_norm_epsilon", Value::F32(config.norm_epsilon as f32));
        return Ok(());
    }
    set("attention.layer_norm_rms_epsilon", Value::F32(config.norm_epsilon as f32));
    set("rope.dimension_count", count(config.rotary_dim()));
    set("rope.freq_base", Value::F32(config.rope_theta as f32));
    if let Some(theta) = config.local_rope_theta {
        set("rope.freq_base_swa", Value::F32(theta as f32));
    }
    if let Some(cap) = config.attention_softcap {
        set("attn_logit_softcapping", Value::F32(cap as f32));
    }
    if let Some(cap) = config.logit_softcap {
        set("final_logit_softcapping", Value::F32(cap as f32));
    }
    if family.scaled_embeddings {
        set("attention.sliding_window", count(config.sliding_window.unwrap_or(config.context_length)));
        let pattern = (0..config.n_layer).map(|i| config.layer(i).sliding).collect();
        set("attention.sliding_window_pattern", Value::Array(Array::Bool(pattern)));
    } else if config.family == Family::Phi3 {
        // The key must be there; 0 stands for none.
        set("attention.sliding_window", count(0));
        set("rope.scaling.original_context_length", count(context_length(config).0));
    }
    match config.rope_scaling {
        None | Some(RopeScaling::Dynamic { .. }) => {}
        Some(RopeScaling::Linear { factor }) => {
            set("rope.scaling.type", Value::from("linear"));
            set("rope.scaling.factor", Value::F32(factor as f32));
        }
        // The factors of the frequencies are a tensor.
        Some(RopeScaling::Llama3 { original_context_length, .. }) => {
            set("rope.scaling.original_context_length", count(original_context_length));
        }
        Some(RopeScaling::Yarn {
            factor,
            original_context_length,
            attention_factor,
            beta_fast,
            beta_slow,
            truncate: _,
        }) => {
            set("rope.scaling.type", Value::from("yarn"));
            set("rope.scaling.factor", Value::F32(factor as f32));
            set("rope.scaling.original_context_length", count(original_context_length));
            set("rope.scaling.yarn_beta_fast", Value::F32(beta_fast as f32));
            set("rope.scaling.yarn_beta_slow", Value::F32(beta_slow as f32));
            let own = attention_factor / yarn_attention_factor(factor);
            if (own - 1.0).abs() > f64::EPSILON {
                set("rope.scaling.attn_factor", Value::F32(own as f32));
            }
        }
    }
    Ok(())
}

/// Returns the factor of cosines and sines that llama.cpp computes by itself.
fn yarn_attention_factor(factor: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 }
}

fn count(size: usize) -> Value {
    // `ModelConfig::validate` limits the sizes to far less than 2³².
    Value::U32(size as u32)
}

/// Checks that llama.cpp computes this model.
fn check(config: &ModelConfig) -> Result<(), Error> {
    let (family, name) = (config.family, architecture(config.family));
    let unsupported = |key: &'static str, what: &str| {
        Err(Error::Config { key, reason: format!("{what}, which llama.cpp does not compute in {name}") })
    };
    let is_llama = matches!(family, Family::Llama | Family::Mistral);
    if config.attention_bias && family.architecture().attention_bias == Bias::Optional && !is_llama {
        return unsupported("attention_bias", "the projections of attention have biases");
    }
    if config.mlp_bias && family == Family::SmolLm3 {
        return unsupported("mlp_bias", "the projections of the feed-forward layer have biases");
    }
    if config.activation == Activation::Gelu {
        return unsupported("activation", "it is GELU by the error function");
    }
    if matches!(family, Family::Olmo2 | Family::Phi3) && config.n_head * config.head_dim != config.d_model {
        return unsupported("head_dim", "the heads together are not as wide as the model");
    }
    if family == Family::Gemma2 && !config.tied_embeddings {
        return unsupported("tie_word_embeddings", "the output projection is not the embedding");
    }
    if family == Family::Gemma2 && (config.attention_softcap.is_none() || config.logit_softcap.is_none()) {
        return unsupported("logit_softcap", "scores or logits have no cap");
    }
    if family.architecture().softcaps != Softcaps::None && !has_usual_scale(config) {
        return unsupported("query_pre_attn_scalar", "scores have a scale of their own");
    }
    let rotary =
        |layers: &mut dyn Iterator<Item = LayerAttention>| layers.map(|layer| layer.rotary).collect::<Vec<_>>();
    let published = rotary(&mut family.layers(config.n_layer).into_iter());
    if family.is_rotary() && rotary(&mut (0..config.n_layer).map(|i| config.layer(i))) != published {
        return unsupported("no_rope_layers", "other layers than every fourth have no rotary positions");
    }
    match config.rope_scaling {
        Some(RopeScaling::Llama3 { .. }) if !is_llama => unsupported("rope_scaling", "it is of the type llama3"),
        Some(RopeScaling::Yarn { truncate: false, .. }) => {
            unsupported("rope_scaling", "the ramp of yarn does not end at whole pairs")
        }
        Some(RopeScaling::Yarn { .. }) if config.local_rope_theta.is_some() => {
            unsupported("rope_scaling", "it is of the type yarn")
        }
        _ => Ok(()),
    }
}

fn has_usual_scale(config: &ModelConfig) -> bool {
    config.query_pre_attn_scalar.is_none_or(|scalar| (scalar - usual_scalar(config)).abs() < 1e-6 * scalar)
}

/// Returns the number by whose square root llama.cpp divides the scores of Gemma.
fn usual_scalar(config: &ModelConfig) -> f64 {
    let index = usize::from(config.family == Family::Gemma3Text);
    if config.n_layer == GEMMA_27B_LAYERS[index] {
        (config.d_model / config.n_head) as f64
    } else {
        config.head_dim as f64
    }
}

/// Returns the configuration of a file's model.
///
/// # Errors
/// Names the key that is missing, wrong or not supported.
pub(super) fn read(file: &File) -> Result<ModelConfig, Error> {
    let metadata = file.metadata();
    let name = metadata.string(ARCHITECTURE)?.ok_or_else(|| metadata.wrong(ARCHITECTURE, "is missing"))?;
    let known = Family::ALL.into_iter().filter(|family| *family != Family::Mistral);
    let Some(family) = known.clone().find(|family| architecture(*family) == name) else {
        let known: Vec<_> = known.map(architecture).collect();
        return Err(
            metadata.wrong(ARCHITECTURE, format!("is {name}, which is not supported; one of {}", known.join(", ")))
        );
    };
    if metadata.usize("split.count")?.is_some_and(|count| count > 1) {
        return Err(metadata.wrong("split.count", "divides the model among files; merge them with llama-gguf-split"));
    }
    let keys = Keys { metadata, architecture: name };
    let config = config(&keys, family, file)?;
    config.validate()?;
    Ok(config)
}

/// The keys of an architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn size(&self, key: &str) -> Result<Option<usize>, Error> {
        self.metadata.usize(&self.name(key))
    }

    fn required_size(&self, key: &str) -> Result<usize, Error> {
        self.size(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.metadata.f64(&self.name(key))
    }

    fn wrong(&self, key: &str, reason: impl Into<String>) -> Error {
        self.metadata.wrong(&self.name(key), reason)
    }
}

fn config(keys: &Keys<'_>, family: Family, file: &File) -> Result<ModelConfig, Error> {
    let (defaults, architecture) = (ModelConfig::of(family), family.architecture());
    let (d_model, n_head) = (keys.required_size("embedding_length")?, keys.required_size("attention.head_count")?);
    let per_head = d_model.checked_div(n_head).ok_or_else(|| keys.wrong("attention.head_count", "is 0"))?;
    let head_dim = keys.size("attention.key_length")?.unwrap_or(per_head);
    if keys.size("attention.value_length")?.is_some_and(|size| size != head_dim) {
        return Err(keys.wrong("attention.value_length", format!("is not the key length, {head_dim}")));
    }
    let n_layer = keys.required_size("block_count")?;
    if n_layer > file.tensors().len() {
        return Err(keys.wrong("block_count", format!("is {n_layer}, more than the file's tensors")));
    }
    let epsilon = if architecture.learned_positions {
        "attention.layer_norm_epsilon"
    } else {
        "attention.layer_norm_rms_epsilon"
    };
    let special = |key: &str| Ok::<_, Error>(keys.metadata.usize(key)?.and_then(|id| u32::try_from(id).ok()));
    let has = |tensor: &str| file.tensors().contains_key(tensor);
    let embedding = file.tensors().get("token_embd.weight").and_then(|info| info.shape.first().copied());
    let mut config = ModelConfig {
        vocab_size: embedding.unwrap_or_default(),
        d_model,
        n_layer,
        n_head,
        n_kv_head: keys.size("attention.head_count_kv")?.unwrap_or(n_head),
        head_dim,
        d_ff: keys.required_size("feed_forward_length")?,
        context_length: keys.required_size("context_length")?,
        attention_bias: match architecture.attention_bias {
            Bias::Optional => has("blk.0.attn_q.bias"),
            bias => bias == Bias::Always,
        },
        mlp_bias: match architecture.mlp_bias {
            Bias::Optional => has("blk.0.ffn_up.bias"),
            bias => bias == Bias::Always,
        },
        norm_epsilon: keys.number(epsilon)?.unwrap_or(defaults.norm_epsilon),
        tied_embeddings: is_tied(file),
        begin_of_text: special("tokenizer.ggml.bos_token_id")?,
        end_of_text: special("tokenizer.ggml.eos_token_id")?,
        end_of_turn: end_of_turn(keys.metadata)?,
        ..defaults
    };
    if architecture.learned_positions {
        return Ok(config);
    }
    config.rope_theta = keys.number("rope.freq_base")?.unwrap_or(config.rope_theta);
    let rotary_dim = keys.size("rope.dimension_count")?.unwrap_or(head_dim);
    config.rotary_dim = (rotary_dim != head_dim).then_some(rotary_dim);
    config.rope_scaling = rope_scaling(keys, &config, file)?;
    if architecture.scaled_embeddings {
        read_gemma(keys, &mut config)?;
    } else {
        let window = keys.size("attention.sliding_window")?.filter(|window| *window > 0 && architecture.windows);
        let window = window.filter(|window| *window < config.context_length);
        config = config.with_published_layers(window);
    }
    Ok(config)
}

fn read_gemma(keys: &Keys<'_>, config: &mut ModelConfig) -> Result<(), Error> {
    let is_gemma2 = config.family == Family::Gemma2;
    if is_gemma2 {
        config.attention_softcap = keys.number("attn_logit_softcapping")?.or(config.attention_softcap);
    } else {
        config.local_rope_theta = keys.number("rope.freq_base_swa")?.or(config.local_rope_theta);
    }
    config.logit_softcap = keys.number("final_logit_softcapping")?.or(config.logit_softcap);
    let scalar = usual_scalar(config);
    config.query_pre_attn_scalar = (scalar.to_bits() != (config.head_dim as f64).to_bits()).then_some(scalar);
    let window = keys.size("attention.sliding_window")?.filter(|window| *window > 0);
    let window = window.or(is_gemma2.then_some(GEMMA2_WINDOW));
    let key = "attention.sliding_window_pattern";
    let is_sliding: Vec<bool> = match keys.metadata.get(&keys.name(key)) {
        _ if window.is_none() => Vec::new(),
        None => config.family.layers(config.n_layer).iter().map(|layer| layer.sliding).collect(),
        Some(Value::Array(Array::Bool(pattern))) if pattern.len() == config.n_layer => pattern.clone(),
        Some(value) => match value.as_u64() {
            Some(period @ 1..) => (0..config.n_layer as u64).map(|i| i % period < period - 1).collect(),
            _ => return Err(keys.wrong(key, "is neither a number of layers nor true or false for each layer")),
        },
    };
    let layers = is_sliding.into_iter().map(|sliding| LayerAttention { sliding, rotary: true }).collect();
    config.set_layers(layers, window);
    Ok(())
}

fn rope_scaling(keys: &Keys<'_>, config: &ModelConfig, file: &File) -> Result<Option<RopeScaling>, Error> {
    let kind = keys.metadata.string(&keys.name("rope.scaling.type"))?;
    let factor = keys.number("rope.scaling.factor")?.filter(|factor| *factor != 0.0);
    let original = keys.size("rope.scaling.original_context_length")?;
    if let Some((info, bytes)) = file.tensor(ROPE_FACTORS) {
        let factors = info.tensor_type.decode(bytes);
        let found = rope_factors::scaling(&factors, original, config);
        return found.map(Some).map_err(|reason| Error::Tensor {
            path: file.path().to_owned(),
            tensor: ROPE_FACTORS.to_owned(),
            reason,
        });
    }
    match (kind, factor) {
        (Some("none"), _) => Ok(None),
        (None | Some("linear"), factor) => {
            Ok(factor.filter(|factor| (factor - 1.0).abs() > f64::EPSILON).map(|factor| RopeScaling::Linear { factor }))
        }
        (Some("yarn"), Some(factor)) => {
            let key = "rope.scaling.original_context_length";
            let own = keys.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
            Ok(Some(RopeScaling::Yarn {
                factor,
                original_context_length: original.ok_or_else(|| keys.wrong(key, "is missing"))?,
                attention_factor: own * yarn_attention_factor(factor),
                beta_fast: keys.number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                truncate: true,
            }))
        }
        (Some("yarn"), None) => Err(keys.wrong("rope.scaling.factor", "is missing")),
        (Some(kind), _) => {
            Err(keys
                .wrong("rope.scaling.type", format!("is {kind}, which is not supported; one of none, linear, yarn")))
        }
    }
}

/// Returns the ids of further tokens that end a text.
fn end_of_turn(metadata: &Metadata) -> Result<Vec<u32>, Error> {
    let eos = metadata.usize("tokenizer.ggml.eos_token_id")?;
    let mut ids = Vec::new();
    for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        let id = metadata.usize(key)?.filter(|id| Some(*id) != eos).and_then(|id| u32::try_from(id).ok());
        ids.extend(id.filter(|id| !ids.contains(id)));
    }
    Ok(ids)
}

/// Returns true if there is no output projection, or it is a copy of the embedding.
fn is_tied(file: &File) -> bool {
    let bytes = |name: &str| file.tensor(name).map(|(info, bytes)| (&info.shape, info.tensor_type, bytes));
    bytes("output.weight").is_none_or(|output| bytes("token_embd.weight") == Some(output))
}
