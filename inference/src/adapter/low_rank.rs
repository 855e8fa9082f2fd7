//! The matrices of an adapter, packed for the processor.
//!
//! Dimensions: M rows, I inputs and O outputs of a projection, R rank of its adapter.

use std::ops::Range;

use kernels::Pool;
use kernels::packed::{PackedMatrix, Scratch, WeightType};
use kernels::slices;
use model::ModelConfig;
use model::lora::{ProjectionAdapter, StoredAdapter, Values};

/// What an adapter adds to the projections of a layer, by their input; those of one input are one matrix in the engine.
pub(crate) struct LayerAdapter {
    pub(crate) qkv: Option<LowRank>,
    pub(crate) attention_output: Option<LowRank>,
    pub(crate) gate_up: Option<LowRank>,
    pub(crate) down: Option<LowRank>,
}

/// Adapters of projections that have one input and whose outputs stand side by side.
pub(crate) struct LowRank {
    a: PackedMatrix, // [Σ R, I]
    parts: Vec<Part>,
}

/// The adapter of one of the projections.
struct Part {
    /// Its columns among the outputs.
    outputs: Range<usize>,
    /// Its rows of A.
    ranks: Range<usize>,
    b: PackedMatrix, // [O, R], times alpha / R
}

/// Intermediate results, which keep their memory between calls.
#[derive(Default)]
pub(crate) struct Buffers {
    x: Vec<f32>,    // [M, I]
    low: Vec<f32>,  // [M, Σ R]
    part: Vec<f32>, // [M, R]
    y: Vec<f32>,    // [M, O]
    scratch: Scratch,
}

impl LayerAdapter {
    /// Packs an adapter, layer by layer.
    pub(crate) fn layers(config: &ModelConfig, stored: &StoredAdapter) -> Vec<Self> {
        let ModelConfig { d_model: d, d_ff: f, n_head, n_kv_head, head_dim, n_layer, .. } = *config;
        let (q, kv) = (n_head * head_dim, n_kv_head * head_dim);
        let gated = [("mlp.gate_proj", f), ("mlp.up_proj", f)];
        let gate_up = if config.activation.is_gated() { &gated[..] } else { &gated[1..] };
        let layer = |layer: usize| {
            let of = |roles: &[(&str, usize)], inputs: usize| {
                let find = |role: &str| {
                    let is_own = |adapter: &&ProjectionAdapter| (adapter.layer, adapter.role) == (layer, role);
                    stored.projections.iter().find(is_own).map(|adapter| &adapter.values)
                };
                LowRank::new(roles.iter().map(|(role, outputs)| (find(role), *outputs)), inputs)
            };
            Self {
                qkv: of(&[("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)], d),
                attention_output: of(&[("self_attn.o_proj", d)], q),
                gate_up: of(gate_up, d),
                down: of(&[("mlp.down_proj", d)], f),
            }
        };
        (0..n_layer).map(layer).collect()
    }

    /// Returns the bytes of the matrices.
    pub(crate) fn bytes(&self) -> usize {
        let all = [&self.qkv, &self.attention_output, &self.gate_up, &self.down];
        let bytes =
            |low_rank: &LowRank| low_rank.a.bytes() + low_rank.parts.iter().map(|part| part.b.bytes()).sum::<usize>();
        all.into_iter().flatten().map(bytes).sum()
    }
}

impl LowRank {
    /// Packs the adapters of projections with the given numbers of outputs; None if none of them has one.
    fn new<'a>(projections: impl Iterator<Item = (Option<&'a Values>, usize)>, inputs: usize) -> Option<Self> {
        let (mut a, mut parts) = (Vec::new(), Vec::new());
        let (mut first_rank, mut first_output) = (0, 0);
        for (adapter, outputs) in projections {
            if let Some(Values { a: of_part, b, rank, alpha, .. }) = adapter {
                a.extend_from_slice(of_part);
                let scale = alpha / *rank as f64;
                let b: Vec<f32> = b.iter().map(|x| (f64::from(*x) * scale) as f32).collect();
                parts.push(Part {
                    outputs: first_output..first_output + outputs,
                    ranks: first_rank..first_rank + rank,
                    b: PackedMatrix::quantize(&b, [outputs, *rank], WeightType::F32),
                });
                first_rank += rank;
            }
            first_output += outputs;
        }
        let has_parts = !parts.is_empty();
        has_parts.then(|| Self { a: PackedMatrix::quantize(&a, [first_rank, inputs], WeightType::F32), parts })
    }

    /// Adds B A x to some rows of y. What a row gets does not depend on the others.
    ///
    /// # Shapes
    /// - x: `[M, I]`
    /// - y: `[M, O]`
    pub(crate) fn add(&self, pool: &Pool, rows: &[usize], x: &[f32], buffers: &mut Buffers, y: &mut [f32]) {
        let [ranks, inputs] = self.a.shape();
        let outputs = y.len() / (x.len() / inputs);
        let Buffers { x: own, low, part, y: sum, scratch } = buffers;
        own.clear();
        for row in rows {
            own.extend_from_slice(&x[row * inputs..][..inputs]);
        }
        low.resize(rows.len() * ranks, 0.0);
        self.a.multiply(pool, own, scratch, low);
        for Part { outputs: columns, ranks: of_part, b } in &self.parts {
            part.clear();
            for low in low.chunks_exact(ranks) {
                part.extend_from_slice(&low[of_part.clone()]);
            }
            sum.resize(rows.len() * columns.len(), 0.0);
            b.multiply(pool, part, scratch, sum);
            for (sum, row) in sum.chunks_exact(columns.len()).zip(rows) {
                slices::add(&mut y[row * outputs..][columns.clone()], sum);
            }
        }
    }
}
