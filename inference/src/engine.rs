//! The forward pass on the CPU: packed weights, slices, and a paged cache.
//!
//! Dimensions: M rows of a call, V vocabulary, D model width, H query heads, K key/value heads, G = H / K query heads
//! of a key/value head, C width of a head, F width of the feed-forward layer, R rotated elements of a head.
//!
//! The reference is [`model::Transformer`]; the options of every family are those of [`ModelConfig`]. Weights are read
//! in the type that they are packed in; activations are f32.

mod adapted;
mod cache;
mod layerwise;
mod rope;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use kernels::Pool;
use kernels::packed::{PackedMatrix, Scratch, WeightType};
use kernels::slices::{self, AttentionHeads, AttentionRow, KvType};
use model::checkpoint::StoredModel;
use model::{Activation, ModelConfig, Transformer};

use crate::adapter::low_rank;
use crate::{Error, ForwardPass, Row, RowResult, SequenceRef};
use adapted::AdaptedRows;
use cache::Cache;
use rope::Rotations;
use weights::{Norm, Projection, Weights};

/// The settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The type in which matrices are packed; None for the type in which each is stored, int8 for types of blocks other
    /// than `Q8_0` and `Q4_0`.
    pub weight_type: Option<WeightType>,
    /// The number of threads; None for one per processor.
    pub threads: Option<usize>,
    /// The number of tokens of a block of the cache.
    pub block_tokens: usize,
    /// The number of tokens in the cache, rounded up to whole blocks; None for the context of one sequence. A block
    /// takes memory once it is written to.
    pub cache_tokens: Option<usize>,
    /// The number type of the cache.
    pub cache_type: KvType,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { weight_type: None, threads: None, block_tokens: 32, cache_tokens: None, cache_type: KvType::F32 }
    }
}

/// A model on the CPU.
pub struct Engine {
    config: ModelConfig,
    weights: Weights,
    rotations: Option<Rotations>,
    cache: Cache,
    pool: Pool,
    buffers: Buffers,
}

/// An input of a layer's projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProjectionInput {
    /// Of queries, keys and values.
    Attention,
    /// Of the attention's output projection.
    AttentionOutput,
    /// Of the feed-forward layer's first projections.
    Mlp,
    /// Of the feed-forward layer's output projection.
    MlpOutput,
}

/// Receives the index of a layer and the rows of an input, `[M, I]`.
pub type Observe<'a> = dyn FnMut(usize, ProjectionInput, &[f32]) + 'a;

/// Intermediate results, which keep their memory between calls.
#[derive(Default)]
struct Buffers {
    x: Vec<f32>,         // [M, D], the residual stream
    normed: Vec<f32>,    // [M, D]
    qkv: Vec<f32>,       // [M, (H + 2 K) C]
    queries: Vec<f32>,   // [M, H C]
    gate_up: Vec<f32>,   // [M, 2 F], or [M, F] if not gated
    hidden: Vec<f32>,    // [M, F]
    y: Vec<f32>,         // [M, D]
    cos: Vec<f32>,       // [M, R / 2]
    sin: Vec<f32>,       // [M, R / 2]
    local_cos: Vec<f32>, // [M, R / 2]
    local_sin: Vec<f32>, // [M, R / 2]
    ends: Vec<usize>,    // the tokens of each sequence after this call
    scratch: Scratch,
    low_rank: low_rank::Buffers,
}

impl Engine {
    /// Loads the model at `path`: a folder in the Hugging Face layout, or a GGUF file.
    ///
    /// # Errors
    /// Names the file, and the key or tensor, that is missing, damaged or not supported.
    pub fn load(path: &Path, options: &EngineOptions) -> Result<Self, Error> {
        let stored = StoredModel::open(path)?;
        let weights = Weights::of_stored(&stored, options.weight_type)?;
        Ok(Self::new(stored.config().clone(), weights, options))
    }

    /// Packs a model in memory, with its adapters merged.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn of_model(model: &Transformer, options: &EngineOptions) -> Result<Self, Error> {
        let weights = Weights::of_model(model, options.weight_type)?;
        Ok(Self::new(model.config().clone(), weights, options))
    }

    fn new(config: ModelConfig, weights: Weights, options: &EngineOptions) -> Self {
        let threads = options.threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
        let block_tokens = options.block_tokens.max(1);
        let block_count = options.cache_tokens.unwrap_or(config.context_length).div_ceil(block_tokens);
        let pool = Pool::new(threads);
        Self {
            rotations: Rotations::new(&config),
            cache: Cache::new(&config, options.cache_type, block_tokens, block_count),
            pool,
            buffers: Buffers::default(),
            config,
            weights,
        }
    }

    /// Returns the model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the bytes of the packed matrices.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// Computes as [`ForwardPass::forward`], and shows the inputs of all layers' projections.
    pub fn observe(&mut self, rows: &[Row], sequences: &[&[u32]], logits: &mut Vec<f32>, observe: &mut Observe) {
        let sequences: Vec<SequenceRef<'_>> = sequences.iter().map(|blocks| SequenceRef::new(blocks)).collect();
        self.pass(rows, &sequences, logits, Some(observe));
    }

    fn pass(
        &mut self,
        rows: &[Row],
        sequences: &[SequenceRef<'_>],
        results: &mut Vec<f32>,
        observe: Option<&mut Observe>,
    ) {
        self.embed(rows);
        self.rotate_to(rows, sequences.len());
        let of_attention = |row: &Row| AttentionRow { position: row.position, blocks: sequences[row.sequence].blocks };
        let mut rows_of_attention: Vec<AttentionRow> = rows.iter().map(of_attention).collect();
        let mut adapted = AdaptedRows::of(rows, sequences);
        let watched: Vec<(usize, usize)> =
            rows.iter().enumerate().filter_map(|(i, row)| watched_layer(i, row, sequences)).collect();
        let mut weights = BTreeMap::new();
        // Of rows without a result, the last layer computes only keys and values.
        let wanted: Vec<Row> = rows.iter().copied().filter(|row| row.wants_logits).collect();
        let only_wanted = observe.is_none() && watched.is_empty() && wanted.len() < rows.len();
        let ignore: &mut Observe = &mut |_, _, _| {};
        let observe = observe.unwrap_or(ignore);
        for layer in 0..self.config.n_layer {
            self.write_to_cache(layer, &rows_of_attention, &adapted, observe);
            if only_wanted && layer + 1 == self.config.n_layer {
                if wanted.is_empty() {
                    return;
                }
                self.keep(rows);
                rows_of_attention = wanted.iter().map(of_attention).collect();
                adapted = AdaptedRows::of(&wanted, sequences);
            }
            self.attention(layer, &rows_of_attention, &adapted, observe);
            for &(i, _) in watched.iter().filter(|(_, watched)| *watched == layer) {
                weights.insert(i, self.attention_weights(layer, i, rows_of_attention[i]));
            }
            self.mlp(layer, &adapted, observe);
        }
        self.results(if only_wanted { &wanted } else { rows }, sequences, weights.into_values(), results);
    }

    /// Returns the bytes of weights that a forward pass reads: all matrices, but of a table of embeddings only rows
    /// unless it is the output as well.
    pub fn bytes_per_pass(&self) -> usize {
        self.weights.bytes() - self.weights.output.as_ref().map_or(0, |_| self.weights.embedding.bytes())
    }
}

impl ForwardPass for Engine {
    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn width(&self) -> usize {
        self.config.d_model
    }

    fn attention_heads(&self) -> Option<[usize; 2]> {
        Some([self.config.n_layer, self.config.n_head])
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn block_tokens(&self) -> usize {
        self.cache.block_tokens()
    }

    fn block_count(&self) -> usize {
        self.cache.block_count()
    }

    fn copy_block(&mut self, from: u32, to: u32) {
        self.cache.copy_block(from, to);
    }

    fn forward_sequences(
        &mut self,
        rows: &[Row],
        sequences: &[SequenceRef<'_>],
        results: &mut Vec<f32>,
    ) -> Result<(), Error> {
        self.pass(rows, sequences, results, None);
        Ok(())
    }
}

impl Engine {
    /// Fills x with the embeddings of the rows' tokens.
    fn embed(&mut self, rows: &[Row]) {
        let (d, x) = (self.config.d_model, &mut self.buffers.x);
        let scale = self.config.family.architecture().scaled_embeddings.then(|| (d as f32).sqrt());
        x.resize(rows.len() * d, 0.0);
        for (x, row) in x.chunks_exact_mut(d).zip(rows) {
            self.weights.embedding.row(row.token as usize, x);
            if let Some(scale) = scale {
                for x in &mut *x {
                    *x *= scale;
                }
            }
            if let Some(positions) = &self.weights.positions {
                slices::add(x, &positions[row.position * d..][..d]);
            }
        }
    }

    /// Fills the tables of rotations with those of the rows.
    fn rotate_to(&mut self, rows: &[Row], n_sequences: usize) {
        let Some(rotations) = &mut self.rotations else { return };
        let Buffers { cos, sin, local_cos, local_sin, ends, .. } = &mut self.buffers;
        ends.clear();
        ends.resize(n_sequences, 0);
        for row in rows {
            ends[row.sequence] = ends[row.sequence].max(row.position + 1);
        }
        let pairs = rotations.pairs();
        for table in [&mut *cos, &mut *sin, &mut *local_cos, &mut *local_sin] {
            table.resize(rows.len() * pairs, 0.0);
        }
        for (i, row) in rows.iter().enumerate() {
            let at = i * pairs..(i + 1) * pairs;
            rotations.global(row.position, ends[row.sequence], &mut cos[at.clone()], &mut sin[at.clone()]);
            rotations.local(row.position, &mut local_cos[at.clone()], &mut local_sin[at]);
        }
    }

    /// Keeps only the rows of x and of the queries that want a result.
    fn keep(&mut self, rows: &[Row]) {
        let ModelConfig { d_model: d, n_head: h, head_dim: c, .. } = self.config;
        let Buffers { x, queries, .. } = &mut self.buffers;
        for (values, width) in [(x, d), (queries, h * c)] {
            let mut kept = 0;
            for (i, _) in rows.iter().enumerate().filter(|(_, row)| row.wants_logits) {
                values.copy_within(i * width..(i + 1) * width, kept * width);
                kept += 1;
            }
            values.truncate(kept * width);
        }
    }

    /// Writes the keys and values of a layer to the cache, and computes the queries.
    fn write_to_cache(
        &mut self,
        layer: usize,
        rows: &[AttentionRow],
        adapted: &[AdaptedRows<'_>],
        observe: &mut Observe,
    ) {
        let ModelConfig { n_head: h, n_kv_head: k, head_dim: c, norm_epsilon, .. } = self.config;
        let (epsilon, kind, weights) = (norm_epsilon as f32, self.config.layer(layer), &self.weights.layers[layer]);
        let Buffers { x, normed, qkv, queries, cos, sin, local_cos, local_sin, scratch, low_rank, .. } =
            &mut self.buffers;
        normalise(&self.pool, weights.input_norm.as_ref(), x, normed, self.config.d_model, epsilon);
        observe(layer, ProjectionInput::Attention, normed);
        project(&self.pool, &weights.qkv, normed, scratch, qkv);
        for adapted in adapted {
            adapted.add(&self.pool, layer, |adapter| adapter.qkv.as_ref(), normed, low_rank, qkv);
        }
        let rotations = self.rotations.as_ref().filter(|_| kind.rotary);
        let pairs = rotations.map_or(0, Rotations::pairs);
        let is_local = kind.sliding && rotations.is_some_and(Rotations::has_local);
        let (cos, sin) = if is_local { (&*local_cos, &*local_sin) } else { (&*cos, &*sin) };
        let block_tokens = self.cache.block_tokens();
        queries.clear();
        for ((i, row), qkv) in rows.iter().enumerate().zip(qkv.chunks_exact_mut((h + 2 * k) * c)) {
            let (query, keys_and_values) = qkv.split_at_mut(h * c);
            let (keys, values) = keys_and_values.split_at_mut(k * c);
            for (heads, norm) in [(&mut *query, &weights.q_norm), (&mut *keys, &weights.k_norm)] {
                if let Some(norm) = norm {
                    norm_in_place(norm, heads, epsilon);
                }
                if pairs > 0 {
                    rope::rotate(heads, c, &cos[i * pairs..][..pairs], &sin[i * pairs..][..pairs]);
                }
            }
            queries.extend_from_slice(query);
            let (block, token) = (row.position / block_tokens, row.position % block_tokens);
            self.cache.layer_mut(layer).write(row.blocks[block], token, keys, values);
        }
    }

    /// Adds the attention of a layer to x.
    fn attention(&mut self, layer: usize, rows: &[AttentionRow], adapted: &[AdaptedRows<'_>], observe: &mut Observe) {
        let ModelConfig { n_head: h, head_dim: c, norm_epsilon, .. } = self.config;
        let (epsilon, weights) = (norm_epsilon as f32, &self.weights.layers[layer]);
        let Buffers { x, qkv, queries, y, scratch, low_rank, .. } = &mut self.buffers;
        let heads = heads(&self.config, layer, self.cache.block_tokens());
        let attended = qkv; // [M, H C], in the memory of what has been used
        attended.resize(rows.len() * h * c, 0.0);
        slices::attention(&self.pool, &heads, queries, rows, self.cache.layer(layer), attended);
        observe(layer, ProjectionInput::AttentionOutput, attended);
        project(&self.pool, &weights.attention_output, attended, scratch, y);
        for adapted in adapted {
            adapted.add(&self.pool, layer, |adapter| adapter.attention_output.as_ref(), attended, low_rank, y);
        }
        add_to_residual(weights.attention_output_norm.as_ref(), epsilon, y, x);
    }

    /// Returns the weights `[H, T]` of row `i` in the layer whose attention was computed last.
    fn attention_weights(&self, layer: usize, i: usize, row: AttentionRow) -> Vec<f32> {
        let heads = heads(&self.config, layer, self.cache.block_tokens());
        let row_len = heads.n_head * heads.head_dim;
        slices::attention_weights(&heads, &self.buffers.queries[i * row_len..][..row_len], row, self.cache.layer(layer))
    }

    /// Adds the feed-forward part of a layer to x.
    fn mlp(&mut self, layer: usize, adapted: &[AdaptedRows<'_>], observe: &mut Observe) {
        let ModelConfig { d_model: d, d_ff: f, activation, norm_epsilon, .. } = self.config;
        let (epsilon, weights) = (norm_epsilon as f32, &self.weights.layers[layer]);
        let Buffers { x, normed, gate_up, hidden, y, scratch, low_rank, .. } = &mut self.buffers;
        normalise(&self.pool, weights.mlp_norm.as_ref(), x, normed, d, epsilon);
        observe(layer, ProjectionInput::Mlp, normed);
        project(&self.pool, &weights.gate_up, normed, scratch, gate_up);
        for adapted in adapted {
            adapted.add(&self.pool, layer, |adapter| adapter.gate_up.as_ref(), normed, low_rank, gate_up);
        }
        hidden.resize(x.len() / d * f, 0.0);
        let (gate_up, width) = (&*gate_up, if activation.is_gated() { 2 * f } else { f });
        self.pool.for_each_chunk(hidden, f, |i, hidden| {
            let (gate, up) = gate_up[i * width..][..width].split_at(f);
            hidden.copy_from_slice(gate);
            match activation {
                Activation::Swiglu => slices::swiglu(hidden, up),
                Activation::Geglu => slices::geglu(hidden, up),
                Activation::GeluTanh => slices::gelu(hidden),
                Activation::Gelu => slices::gelu_erf(hidden),
            }
        });
        observe(layer, ProjectionInput::MlpOutput, hidden);
        project(&self.pool, &weights.down, hidden, scratch, y);
        for adapted in adapted {
            adapted.add(&self.pool, layer, |adapter| adapter.down.as_ref(), hidden, low_rank, y);
        }
        add_to_residual(weights.mlp_output_norm.as_ref(), epsilon, y, x);
    }

    /// Appends the results of the rows that want them; `weights` are those of the rows that want weights of attention.
    fn results(
        &mut self,
        rows: &[Row],
        sequences: &[SequenceRef<'_>],
        mut weights: impl Iterator<Item = Vec<f32>>,
        results: &mut Vec<f32>,
    ) {
        let ModelConfig { d_model: d, vocab_size: v, norm_epsilon, .. } = self.config;
        let Buffers { x, normed, y, .. } = &mut self.buffers;
        let (mut wanted, all) = (Vec::new(), x.chunks_exact(d).zip(rows));
        y.clear();
        for (x, row) in all.filter(|(_, row)| row.wants_logits) {
            y.extend_from_slice(x);
            wanted.push(sequences[row.sequence].result);
        }
        if wanted.is_empty() {
            return;
        }
        normalise(&self.pool, Some(&self.weights.norm), y, normed, d, norm_epsilon as f32);
        if wanted.iter().all(|result| *result == RowResult::Logits) {
            return self.logits(results);
        }
        let states = std::mem::take(normed);
        let normed = &mut self.buffers.normed;
        let with_results = || states.chunks_exact(d).zip(&wanted);
        for (state, _) in with_results().filter(|(_, result)| **result == RowResult::Logits) {
            normed.extend_from_slice(state);
        }
        let mut logits = Vec::new();
        self.logits(&mut logits);
        let mut logits = logits.chunks_exact(v);
        for (state, result) in with_results() {
            match result {
                RowResult::Logits => results.extend(logits.next().into_iter().flatten()),
                RowResult::HiddenState => results.extend_from_slice(state),
                RowResult::Attention { .. } => results.extend(weights.next().into_iter().flatten()),
            }
        }
    }

    /// Appends the logits of the normalised rows.
    fn logits(&mut self, logits: &mut Vec<f32>) {
        let ModelConfig { d_model: d, vocab_size: v, logit_softcap, .. } = self.config;
        let Buffers { normed, scratch, .. } = &mut self.buffers;
        let start = logits.len();
        logits.resize(start + normed.len() / d * v, 0.0);
        let logits = &mut logits[start..];
        let output: &PackedMatrix = self.weights.output.as_ref().unwrap_or(&self.weights.embedding);
        output.multiply(&self.pool, normed, scratch, logits);
        if let Some(cap) = logit_softcap.map(|cap| cap as f32) {
            slices::soft_cap(logits, cap);
        }
    }
}

/// Returns a row's index and the layer of which it wants the weights of attention, if it does.
fn watched_layer(i: usize, row: &Row, sequences: &[SequenceRef<'_>]) -> Option<(usize, usize)> {
    match sequences[row.sequence].result {
        RowResult::Attention { layer } if row.wants_logits => Some((i, layer)),
        _ => None,
    }
}

/// Returns the attention of a layer.
fn heads(config: &ModelConfig, layer: usize, block_tokens: usize) -> AttentionHeads {
    AttentionHeads {
        n_head: config.n_head,
        n_kv_head: config.n_kv_head,
        head_dim: config.head_dim,
        block_tokens,
        scale: config.attention_scale() as f32,
        soft_cap: config.attention_softcap.map(|cap| cap as f32),
        window: config.sliding_window.filter(|_| config.layer(layer).sliding),
    }
}

/// Fills `output` with the norm of each row of D; with the rows themselves if there is no norm.
fn normalise(pool: &Pool, norm: Option<&Norm>, x: &[f32], output: &mut Vec<f32>, d: usize, epsilon: f32) {
    output.resize(x.len(), 0.0);
    let Some(norm) = norm else { return output.copy_from_slice(x) };
    pool.for_each_chunk(output, d, |i, output| write_norm(norm, &x[i * d..][..d], epsilon, output));
}

fn write_norm(norm: &Norm, x: &[f32], epsilon: f32, output: &mut [f32]) {
    match &norm.bias {
        Some(bias) => slices::layer_norm(x, &norm.weight, bias, epsilon, output),
        None => slices::rms_norm(x, &norm.weight, epsilon, output),
    }
}

/// Replaces each part of `x` that is as long as the norm by its norm.
fn norm_in_place(norm: &Norm, x: &mut [f32], epsilon: f32) {
    for part in x.chunks_exact_mut(norm.weight.len()) {
        slices::rms_norm_in_place(part, &norm.weight, epsilon);
    }
}

/// Fills `y` with the projection of each row of x.
fn project(pool: &Pool, projection: &Projection, x: &[f32], scratch: &mut Scratch, y: &mut Vec<f32>) {
    let [outputs, inputs] = projection.weight.shape();
    y.resize(x.len() / inputs * outputs, 0.0);
    projection.weight.multiply(pool, x, scratch, y);
    if let Some(bias) = &projection.bias {
        y.chunks_exact_mut(outputs).for_each(|y| slices::add(y, bias));
    }
}

/// Adds an output y, after its norm, to the residual stream x.
fn add_to_residual(norm: Option<&Norm>, epsilon: f32, y: &mut [f32], x: &mut [f32]) {
    if let Some(norm) = norm {
        norm_in_place(norm, y, epsilon);
    }
    slices::add(x, y);
}
