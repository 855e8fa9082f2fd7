//! LoRA: trainable low-rank adapters beside frozen weights (LoRA: Low-Rank Adaptation of Large Language Models, 2021).
//!
//! A projection with an adapter computes `x Wᵀ + alpha / R · dropout(x) Aᵀ Bᵀ`. The product of A and B is never formed
//! during training, so that a frozen weight costs neither a gradient nor optimizer state.
//!
//! Dimensions: I inputs and O outputs of a projection, R rank of its adapter.

mod digest;
mod layout;
mod peft;
mod stored;

use burn::module::{Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Family;
use crate::freeze::{freeze_all, largest_id};
use crate::layers::{Adapter, Linear, leaf};
use crate::transformer::Layer;
use crate::{Error, Transformer};

pub use digest::base_digest;
pub use layout::{CONFIG, WEIGHTS};
pub use peft::{load, save};
pub use stored::{ProjectionAdapter, StoredAdapter, StoredBase};

/// The adapters to train: the `[train.lora]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// R, the rank of the adapters. Default 16.
    pub rank: usize,
    /// The scale of the adapters' output is alpha / R. Default 32.
    pub alpha: f64,
    /// The dropout probability of the adapters' inputs during training. Default 0.
    pub dropout: f64,
    /// The projections with adapters, named as in PEFT by the ends of their paths in transformers: `q_proj`,
    /// `mlp.c_proj`. `all-linear` means all of them, which is needed to match full fine-tuning (`QLoRA`, 2023). Default
    /// `["all-linear"]`.
    pub target_modules: Vec<String>,
    /// Embeddings that are trained in full and saved with the adapters: `embed_tokens`, `lm_head`. Where
    /// `train.chat_template` adds tokens to the vocabulary, those that grew are added. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules_to_save: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.0, target_modules: vec![ALL.to_owned()], modules_to_save: vec![] }
    }
}

/// PEFT's name for all projections of the layers.
const ALL: &str = "all-linear";

impl LoraConfig {
    /// Checks each value for itself.
    ///
    /// # Errors
    /// Names the first key whose value is not valid.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |key, reason| Err(Error::Config { key, reason });
        if self.rank == 0 {
            return wrong("rank", "must be at least 1".to_owned());
        }
        if !(self.alpha > 0.0 && self.alpha <= 1e6) {
            return wrong("alpha", format!("{} is not between 0 and 1000000", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("dropout", format!("{} is not between 0 and 1", self.dropout));
        }
        if self.target_modules.is_empty() {
            return wrong("target_modules", "is empty".to_owned());
        }
        Ok(())
    }
}

/// The embeddings that can be trained in full beside adapters, and their paths in transformers; in `gpt2`, the first is
/// `wte`.
const EMBEDDINGS: [(&str, &str); 2] = [("embed_tokens", "model.embed_tokens"), ("lm_head", "lm_head")];

/// Returns the path of an embedding in transformers.
fn embedding_path(family: Family, name: &str) -> &'static str {
    match EMBEDDINGS.iter().find(|(known, _)| *known == name) {
        Some((_, path)) if family != Family::Gpt2 || *path == "lm_head" => path,
        _ => "transformer.wte",
    }
}

/// Returns the parameters of a model with adapters that are trained in full.
fn saved_modules(model: &Transformer) -> Vec<&'static str> {
    let trained =
        [model.embed_tokens.is_require_grad(), model.lm_head.as_ref().is_some_and(|lm_head| lm_head.is_require_grad())];
    let names = EMBEDDINGS.iter().zip(trained).filter(|(_, is_trained)| *is_trained);
    if is_attached(model) { names.map(|((name, _), _)| *name).collect() } else { Vec::new() }
}

/// Returns the model with embeddings trained in full again after all was frozen.
fn with_saved_modules(mut model: Transformer, names: &[&str]) -> Transformer {
    if names.contains(&EMBEDDINGS[0].0) {
        model.embed_tokens = model.embed_tokens.set_require_grad(true);
    }
    if names.contains(&EMBEDDINGS[1].0) {
        model.lm_head = model.lm_head.map(|lm_head| lm_head.set_require_grad(true));
    }
    model
}

/// Returns the embeddings of a model by the names in `modules_to_save`.
fn embeddings<'a>(model: &Transformer, names: &'a [String]) -> Result<Vec<&'a str>, Error> {
    let is_tied = model.lm_head.is_none();
    let known = |name: &&str| EMBEDDINGS.iter().any(|(known, _)| known == name) && !(is_tied && *name == "lm_head");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match names.iter().find(|name| !known(name)) {
        Some(name) if is_tied && *name == "lm_head" => {
            let reason = "`lm_head` is tied to `embed_tokens` in this model; name that".to_owned();
            Err(Error::Config { key: "modules_to_save", reason })
        }
        Some(name) => {
            let reason = format!("`{name}` is not an embedding of this model; one of embed_tokens, lm_head");
            Err(Error::Config { key: "modules_to_save", reason })
        }
        None => Ok(names),
    }
}

/// Returns the model with frozen weights and new adapters. As in PEFT, A is uniform within 1 / √I and B is zero, so
/// that the model's outputs do not change. The same seed gives the same adapters.
///
/// # Errors
/// Returns an error if a value is not valid, or a name in `target_modules` or `modules_to_save` is not one
/// of the model's.
pub fn attach(model: Transformer, config: &LoraConfig, seed: u64) -> Result<Transformer, Error> {
    config.validate()?;
    let family = model.config().family;
    for target in &config.target_modules {
        let known = ROLES.iter().any(|role| matches(target, family, 0, role));
        if !known || target.is_empty() {
            let mut names: Vec<&str> = match family {
                Family::Gpt2 => vec!["c_attn", "c_proj", "attn.c_proj", "mlp.c_proj", "c_fc"],
                _ => ROLES.iter().filter_map(|role| module(family, role).rsplit('.').next()).collect(),
            };
            names.dedup();
            let reason = format!("`{target}` is not a projection of this model; one of {}, {ALL}", names.join(", "));
            return Err(Error::Config { key: "target_modules", reason });
        }
    }
    let saved = embeddings(&model, &config.modules_to_save)?;
    let mut stream = 0;
    let model = with_adapters(model, |layer, role, [outputs, inputs]| {
        stream += 1;
        config.target_modules.iter().any(|target| matches(target, family, layer, role)).then(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(stream);
            Values {
                a: uniform(&mut rng, config.rank * inputs, 1.0 / (inputs as f64).sqrt()),
                b: vec![0.0; outputs * config.rank],
                rank: config.rank,
                alpha: config.alpha,
                dropout: config.dropout,
            }
        })
    });
    Ok(with_saved_modules(model, &saved))
}

/// The values of an adapter.
#[derive(Debug)]
pub struct Values {
    /// A, `[R, I]`.
    pub a: Vec<f32>,
    /// B, `[O, R]`.
    pub b: Vec<f32>,
    /// R.
    pub rank: usize,
    /// The scale of the output is alpha / R.
    pub alpha: f64,
    /// The dropout probability of the inputs during training.
    pub dropout: f64,
}

/// Freezes a model and attaches the adapters that `values` returns for the layer, path and `[O, I]` of each projection.
fn with_adapters(
    model: Transformer,
    mut values: impl FnMut(usize, &'static str, [usize; 2]) -> Option<Values>,
) -> Transformer {
    let device = model.device();
    let mut id = largest_id(&model);
    let mut parameter = |values, shape: [usize; 2]| {
        let mut param = Param::from_tensor(leaf(Tensor::from_data(TensorData::new(values, shape.to_vec()), &device)));
        id += 1;
        param.id = ParamId::from(id);
        param
    };
    let mut model = freeze_all(model);
    for (i, layer) in model.layers.iter_mut().enumerate() {
        for (role, linear) in linears(layer) {
            let [outputs, inputs] = linear.dims();
            linear.lora = values(i, role, [outputs, inputs]).map(|Values { a, b, rank, alpha, dropout }| Adapter {
                a: parameter(a, [rank, inputs]),
                b: parameter(b, [outputs, rank]),
                alpha,
                dropout,
                mask: None,
            });
        }
    }
    model
}

/// Returns true if the model has adapters.
pub fn is_attached(model: &Transformer) -> bool {
    !adapters(model).is_empty()
}

/// Returns the model with dropout of its adapters' inputs; each seed drops different ones.
pub fn with_dropout(mut model: Transformer, seed: u64) -> Transformer {
    // The streams of the model's own dropout count from 0.
    for (stream, (_, linear)) in (1 << 32..).zip(model.layers.iter_mut().flat_map(linears)) {
        if let Some(adapter) = &mut linear.lora {
            let rate = adapter.dropout;
            adapter.mask = (rate > 0.0).then_some(kernels::Dropout { rate, seed, stream });
        }
    }
    model
}

/// Returns the model with its adapters merged into the weights, `W + alpha / R · B A`, and removed.
pub fn merged(mut model: Transformer) -> Transformer {
    for (_, linear) in model.layers.iter_mut().flat_map(linears) {
        linear.merge_adapter();
    }
    model
}

/// The paths of the projections within a layer.
const ROLES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Returns the projections of a layer with their paths, in the order of [`ROLES`].
fn linears(layer: &mut Layer) -> impl Iterator<Item = (&'static str, &mut Linear)> {
    let Layer { self_attn, mlp, .. } = layer;
    let all = [
        Some(&mut self_attn.q_proj),
        Some(&mut self_attn.k_proj),
        Some(&mut self_attn.v_proj),
        Some(&mut self_attn.o_proj),
        mlp.gate_proj.as_mut(),
        Some(&mut mlp.up_proj),
        Some(&mut mlp.down_proj),
    ];
    ROLES.into_iter().zip(all).filter_map(|(role, linear)| Some((role, linear?)))
}

/// Returns the adapters of a model with their layers and paths.
fn adapters(model: &Transformer) -> Vec<(usize, &'static str, Adapter)> {
    let mut layers = model.layers.clone();
    let numbered = layers.iter_mut().enumerate();
    numbered
        .flat_map(|(i, layer)| linears(layer).filter_map(move |(role, linear)| Some((i, role, linear.lora.take()?))))
        .collect()
}

/// Returns the path of a projection in transformers; projections that it concatenates have the same one.
fn module_path(family: Family, layer: usize, role: &'static str) -> String {
    let layers = if family == Family::Gpt2 { "transformer.h" } else { "model.layers" };
    format!("{layers}.{layer}.{}", module(family, role))
}

/// Returns the path of a projection within a layer in transformers.
fn module(family: Family, role: &'static str) -> &'static str {
    match (family, role) {
        (Family::Gpt2, "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj") => "attn.c_attn",
        (Family::Gpt2, "self_attn.o_proj") => "attn.c_proj",
        (Family::Gpt2, "mlp.down_proj") => "mlp.c_proj",
        (Family::Gpt2, _) => "mlp.c_fc",
        (Family::Phi3, "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj") => "self_attn.qkv_proj",
        (Family::Phi3, "mlp.gate_proj" | "mlp.up_proj") => "mlp.gate_up_proj",
        _ => role,
    }
}

/// Returns true if a name in `target_modules` matches a projection: PEFT compares the ends of paths.
fn matches(target: &str, family: Family, layer: usize, role: &'static str) -> bool {
    let absent = family == Family::Gpt2 && role == "mlp.gate_proj";
    !absent && (target == ALL || ends_with_name(&module_path(family, layer, role), target))
}

fn ends_with_name(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn uniform(rng: &mut ChaCha8Rng, count: usize, bound: f64) -> Vec<f32> {
    let unit = |rng: &mut ChaCha8Rng| (f64::from(rng.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
    (0..count).map(|_| ((2.0 * unit(rng) - 1.0) * bound) as f32).collect()
}

#[cfg(test)]
#[path = "lora/tests.rs"]
pub(crate) mod tests;
