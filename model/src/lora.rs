//! LoRA: small trained matrices beside frozen ones (LoRA: Low-Rank Adaptation of Large Language Models, 2021).
//!
//! A projection with an adapter gives `x Wᵀ + alpha / R · dropout(x) Aᵀ Bᵀ`. The product of the two small matrices is
//! never formed while training, so that a frozen weight costs neither a gradient nor an optimizer's state.
//!
//! Dimensions: B sequences, T tokens, I inputs and O outputs of a projection, R rank of its adapter.

mod peft;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::config::Family;
use crate::frozen::{freeze_all, largest_id};
use crate::transformer::{Layer, Linear, leaf};
use crate::{Error, Transformer};

pub use peft::{CONFIG, WEIGHTS, base_digest, load, save};

/// Which projections get an adapter, and how large: the `[train.lora]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// R, the rank of the adapters. Default 16.
    pub rank: usize,
    /// What an adapter's output is multiplied by, times the rank. Default 32.
    pub alpha: f64,
    /// The share of an adapter's inputs that are left out of a training step, at random. Default 0.
    pub dropout: f64,
    /// The projections, by the names that PEFT has for them: the ends of their paths in transformers, as `q_proj` or
    /// `mlp.c_proj`; `all-linear` for all of them, which it takes to equal full fine-tuning (`QLoRA`, 2023). Default
    /// `["all-linear"]`.
    pub target_modules: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.0, target_modules: vec![ALL.to_owned()] }
    }
}

/// PEFT's name for every projection of the layers.
const ALL: &str = "all-linear";

impl LoraConfig {
    /// Checks that the values make sense by themselves.
    ///
    /// # Errors
    /// Names the first key that does not.
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
            return wrong("target_modules", "names no projection".to_owned());
        }
        Ok(())
    }
}

/// The adapter of a projection.
#[derive(Module, Debug)]
pub(crate) struct Adapter {
    a: Param<Tensor<2>>, // [R, I]
    b: Param<Tensor<2>>, // [O, R]
    /// alpha; the output is multiplied by alpha / R.
    #[module(skip)]
    alpha: f64,
    #[module(skip)]
    dropout: f64,
    /// Seed and stream, which decide what is left out; none: nothing is, as outside training.
    #[module(skip)]
    seed: Option<(u64, u64)>,
}

impl Adapter {
    fn rank(&self) -> usize {
        self.a.val().dims()[0]
    }

    fn scale(&self) -> f64 {
        self.alpha / self.rank() as f64
    }

    /// Returns what is added to the projection's output.
    ///
    /// # Shapes
    /// - x: `[B, T, I]`
    /// - output: `[B, T, O]`
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = match self.seed {
            Some((seed, stream)) if self.dropout > 0.0 => {
                kernels::dropout(x, kernels::Dropout { rate: self.dropout, seed, stream })
            }
            _ => x,
        };
        let dtype = x.dtype();
        let low = kernels::linear(x, self.a.val().cast(dtype), None, None).mul_scalar(self.scale()); // [B, T, R]
        kernels::linear(low, self.b.val().cast(dtype), None, None) // [B, T, O]
    }

    /// Returns what the adapter adds to the weight: `[O, I]`.
    fn delta(&self) -> Tensor<2> {
        self.b.val().matmul(self.a.val()).mul_scalar(self.scale())
    }
}

/// Returns a model whose weights are frozen and whose named projections have new adapters. A is uniform within 1 / √I
/// and B is zero, as PEFT begins, so that the model computes what it did before. The same seed gives the same adapters.
///
/// # Errors
/// When a value makes no sense, or a name of `target_modules` is none of the family's projections.
pub fn attach(model: Transformer, config: &LoraConfig, seed: u64) -> Result<Transformer, Error> {
    config.validate()?;
    let family = model.config().family;
    for target in &config.target_modules {
        let known = ROLES.iter().any(|role| matches(target, family, 0, role));
        if !known || target.is_empty() {
            let names: Vec<&str> = if family == Family::Gpt2 {
                vec!["c_attn", "c_proj", "attn.c_proj", "mlp.c_proj", "c_fc"]
            } else {
                ROLES.iter().filter_map(|role| role.rsplit('.').next()).collect()
            };
            let reason = format!("`{target}` is no projection of this model; one of {}, {ALL}", names.join(", "));
            return Err(Error::Config { key: "target_modules", reason });
        }
    }
    let mut stream = 0;
    Ok(with_adapters(model, |layer, role, [outputs, inputs]| {
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
    }))
}

/// What an adapter is made of.
struct Values {
    a: Vec<f32>, // [R, I]
    b: Vec<f32>, // [O, R]
    rank: usize,
    alpha: f64,
    dropout: f64,
}

/// Freezes a model and gives its projections the adapters that `values` returns for their layer, path and `[O, I]`.
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
            let [outputs, inputs] = linear.weight.val().dims();
            linear.lora = values(i, role, [outputs, inputs]).map(|Values { a, b, rank, alpha, dropout }| Adapter {
                a: parameter(a, [rank, inputs]),
                b: parameter(b, [outputs, rank]),
                alpha,
                dropout,
                seed: None,
            });
        }
    }
    model
}

/// Returns whether a model has adapters.
pub fn is_attached(model: &Transformer) -> bool {
    !adapters(model).is_empty()
}

/// Returns the model with the dropout of its adapters on; each seed leaves out other inputs.
pub fn with_dropout(mut model: Transformer, seed: u64) -> Transformer {
    // Beyond the places that the model's own dropout counts from 0.
    for (stream, (_, linear)) in (1 << 32..).zip(model.layers.iter_mut().flat_map(linears)) {
        if let Some(adapter) = &mut linear.lora {
            adapter.seed = Some((seed, stream));
        }
    }
    model
}

/// Returns the model with what its adapters add put into its weights, and without them: `W + alpha / R · B A`.
pub fn merged(mut model: Transformer) -> Transformer {
    for (_, linear) in model.layers.iter_mut().flat_map(linears) {
        if let Some(adapter) = linear.lora.take() {
            linear.weight = linear.weight.clone().map(|weight| (weight + adapter.delta()).detach());
        }
    }
    model
}

/// The projections of a layer, by their paths in it.
const ROLES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Returns the projections that a layer has, in the order of [`ROLES`].
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

/// Returns the adapters of a model with the layer and the path in it that each has.
fn adapters(model: &Transformer) -> Vec<(usize, &'static str, Adapter)> {
    let mut layers = model.layers.clone();
    let numbered = layers.iter_mut().enumerate();
    numbered
        .flat_map(|(i, layer)| linears(layer).filter_map(move |(role, linear)| Some((i, role, linear.lora.take()?))))
        .collect()
}

/// Returns the path that a projection has in transformers; the three of attention share one in `gpt2`.
fn module_path(family: Family, layer: usize, role: &str) -> String {
    if family != Family::Gpt2 {
        return format!("model.layers.{layer}.{role}");
    }
    let there = match role {
        "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj" => "attn.c_attn",
        "self_attn.o_proj" => "attn.c_proj",
        "mlp.down_proj" => "mlp.c_proj",
        _ => "mlp.c_fc",
    };
    format!("transformer.h.{layer}.{there}")
}

/// Returns whether a name of `target_modules` means a projection: PEFT compares the ends of paths.
fn matches(target: &str, family: Family, layer: usize, role: &str) -> bool {
    let absent = family == Family::Gpt2 && role == "mlp.gate_proj";
    !absent && (target == ALL || ends_with_name(&module_path(family, layer, role), target))
}

fn ends_with_name(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn uniform(rng: &mut ChaCha8Rng, count: usize, bound: f64) -> Vec<f32> {
    let one = |rng: &mut ChaCha8Rng| (f64::from(rng.next_u32()) + 0.5) / (f64::from(u32::MAX) + 1.0);
    (0..count).map(|_| ((2.0 * one(rng) - 1.0) * bound) as f32).collect()
}

#[cfg(test)]
#[path = "lora/tests.rs"]
pub(crate) mod tests;
