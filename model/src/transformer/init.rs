//! Models with random weights, and of zeros to load weights into.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Attention, Layer, Mlp, Transformer};
use crate::config::{ModelConfig, NormKind, QkNorm};
use crate::layers::{Linear, Norm, leaf};
use crate::precision::Precision;

/// How a parameter is initialised.
#[derive(Clone, Copy)]
enum Initializer {
    Normal,
    /// Of a projection back into the residual stream.
    Residual,
    One,
    Zero,
}

impl Transformer {
    /// Returns a model with random weights: normal with deviation 0.02, divided by √(2 L) for the projections back into
    /// the residual stream (GPT-2's scheme), norms one, biases zero. The same seed gives the same weights on every
    /// device.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let residual = 0.02 / (2.0 * config.n_layer as f32).sqrt();
        Self::build(config, device, &mut |initializer, shape| {
            let count = shape.iter().product();
            let values = match initializer {
                Initializer::Normal => normal(&mut rng, count, 0.02),
                Initializer::Residual => normal(&mut rng, count, residual),
                Initializer::One => vec![1.0; count],
                Initializer::Zero => vec![0.0; count],
            };
            Some(TensorData::new(values, shape.to_vec()))
        })
    }

    /// Returns a model of zeros, to load weights into. A parameter takes memory once its values are asked for.
    pub(crate) fn zeros(config: &ModelConfig, device: &Device) -> Self {
        Self::build(config, device, &mut |_, _| None)
    }

    /// Returns a model with these values, zeros where there are none.
    fn build(
        config: &ModelConfig,
        device: &Device,
        values: &mut impl FnMut(Initializer, &[usize]) -> Option<TensorData>,
    ) -> Self {
        let architecture = config.family.architecture();
        // Ids are numbered in this order, so that two models of one configuration agree on them: the state of the
        // optimizer is keyed by id.
        let mut next_id = 0;
        let mut id = || {
            next_id += 1;
            ParamId::from(next_id)
        };
        let mut matrix = |initializer, shape: [usize; 2]| parameter(id(), values(initializer, &shape), shape, device);
        // All matrices are drawn first and all vectors after them, each kind from the first layer to the last.
        let (d, f, c) = (config.d_model, config.d_ff, config.head_dim);
        let (q, kv) = (config.n_head * c, config.n_kv_head * c);
        let embed_tokens = matrix(Initializer::Normal, [config.vocab_size, d]);
        let embed_positions =
            architecture.learned_positions.then(|| matrix(Initializer::Normal, [config.context_length, d]));
        let projections: Vec<_> = (0..config.n_layer)
            .map(|_| {
                (
                    [
                        matrix(Initializer::Normal, [q, d]),
                        matrix(Initializer::Normal, [kv, d]),
                        matrix(Initializer::Normal, [kv, d]),
                        matrix(Initializer::Residual, [d, q]),
                    ],
                    config.activation.is_gated().then(|| matrix(Initializer::Normal, [f, d])),
                    [matrix(Initializer::Normal, [f, d]), matrix(Initializer::Residual, [d, f])],
                )
            })
            .collect();
        let lm_head = (!config.tied_embeddings).then(|| matrix(Initializer::Normal, [config.vocab_size, d]));
        let mut vector = |initializer, length: usize| parameter(id(), values(initializer, &[length]), [length], device);
        let layers = projections
            .into_iter()
            .map(|([q_proj, k_proj, v_proj, o_proj], gate_proj, [up_proj, down_proj])| {
                let mut linear = |weight, out: usize, has_bias: bool| {
                    Linear::new(weight, has_bias.then(|| vector(Initializer::Zero, out)))
                };
                let qkv_bias = config.attention_bias;
                let (q_proj, k_proj) = (linear(q_proj, q, qkv_bias), linear(k_proj, kv, qkv_bias));
                let (v_proj, o_proj) = (linear(v_proj, kv, qkv_bias), linear(o_proj, d, config.output_bias()));
                let (up_proj, down_proj) = (linear(up_proj, f, config.mlp_bias), linear(down_proj, d, config.mlp_bias));
                let gate_proj = gate_proj.map(|weight| linear(weight, f, config.mlp_bias));
                let mut norm = |length: usize| norm(architecture.norm, length, &mut vector);
                let placement = architecture.norm_placement;
                let (before, after) = (placement.is_before(), placement.is_after());
                let (input_layernorm, post_attention_layernorm) = (before.then(|| norm(d)), before.then(|| norm(d)));
                let (attention_output_norm, mlp_output_norm) = (after.then(|| norm(d)), after.then(|| norm(d)));
                let qk_norm = architecture.qk_norm.map(|kind| match kind {
                    QkNorm::Head => (norm(c), norm(c)),
                    QkNorm::Projection => (norm(q), norm(kv)),
                });
                let (q_norm, k_norm) = qk_norm.unzip();
                Layer {
                    input_layernorm,
                    self_attn: Attention { q_proj, k_proj, v_proj, o_proj, q_norm, k_norm },
                    attention_output_norm,
                    post_attention_layernorm,
                    mlp: Mlp { gate_proj, up_proj, down_proj, activation: config.activation },
                    mlp_output_norm,
                }
            })
            .collect();
        let norm = norm(architecture.norm, d, &mut vector);
        let (config, precision) = (config.clone(), Precision::F32);
        Self { embed_tokens, embed_positions, layers, norm, lm_head, config, precision }
    }
}

/// Returns a parameter with these values, or of zeros that are not allocated yet.
fn parameter<const D: usize>(
    id: ParamId,
    values: Option<TensorData>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    if let Some(values) = values {
        return Param::initialized(id, leaf(Tensor::from_data(values, device)));
    }
    let zeros = move |device: &Device, _| leaf(Tensor::zeros(shape, device));
    Param::uninitialized(id, zeros, device.clone(), device.is_autodiff(), shape.into())
}

/// Returns a norm that changes nothing but the scale of its input.
fn norm(kind: NormKind, length: usize, vector: &mut impl FnMut(Initializer, usize) -> Param<Tensor<1>>) -> Norm {
    let from_one = kind == NormKind::RmsFromOne;
    let weight = vector(if from_one { Initializer::Zero } else { Initializer::One }, length);
    Norm::new(weight, (kind == NormKind::Layer).then(|| vector(Initializer::Zero, length)), from_one)
}

/// Returns normally distributed numbers by the Box–Muller method (A Note on the Generation of Random Normal Deviates,
/// 1958), which rejects none, so that the position in the random stream depends on the count alone.
fn normal(rng: &mut ChaCha8Rng, count: usize, deviation: f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let uniform = |rng: &mut ChaCha8Rng| (f64::from(rng.next_u32()) + 0.5) / f64::from(u32::MAX).mul_add(1.0, 1.0);
        let radius = (-2.0 * uniform(rng).ln()).sqrt() * f64::from(deviation);
        let (sin, cos) = (std::f64::consts::TAU * uniform(rng)).sin_cos();
        values.push((radius * cos) as f32);
        values.push((radius * sin) as f32);
    }
    values.truncate(count);
    values
}
