//! The model, from top to bottom.
//!
//! Dimensions: B sequences, T tokens, V vocabulary, D model width, H query heads, K key/value heads, G = H / K query
//! heads per key/value head, C width of a head, F width of the feed-forward layer, S cached tokens before this call.
//!
//! It computes every family of [`crate::Family`] from the options in [`ModelConfig`] and
//! [`Architecture`](crate::config::Architecture): RMSNorm (Root Mean Square Layer Normalization, 2019) or LayerNorm,
//! before or after each part of a layer; rotary positions on pairs of one element from each half of a head (RoFormer,
//! 2021, in Hugging Face's arrangement) or learned ones; SwiGLU and `GeGLU` (GLU Variants Improve Transformer, 2020)
//! or GELU; grouped-query attention (GQA, 2023), over everything before a token or a sliding window (Longformer, 2020),
//! with norms of queries and keys and soft-capped scores (Gemma 2, 2024).
//!
//! Fields have the names of Hugging Face's `qwen3` tensors, so that a parameter's path is nearly its name in a
//! checkpoint. Norms that `qwen3` lacks have names of their own.

mod init;

use std::cell::RefCell;

use burn::module::{Module, Param};
use burn::tensor::activation::{gelu, log_softmax};
use burn::tensor::{DType, Device, Int, Tensor};

use crate::config::{Activation, LayerAttention, ModelConfig};
use crate::kv_cache::KvCache;
use crate::layers::{Linear, Norm};
use crate::precision::Precision;
use crate::rope::{self, RopeTables};

/// Sequences to train on.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, T]`, T at most the context length.
    pub tokens: Tensor<2, Int>,
    /// `[B, T]`: the token after each; negative if ignored.
    pub targets: Tensor<2, Int>,
    /// `[B, T]`: the position at which the document of each token begins. Attention does not cross it, and learned
    /// positions count from it. None: one document per sequence.
    pub segment_starts: Option<Tensor<2, Int>>,
}

/// The options of the loss.
#[derive(Debug, Clone, Copy)]
pub struct LossOptions {
    /// The factor of the sum over targets: 1 / (targets in the step that are not ignored) for the mean.
    pub loss_scale: f64,
    /// The factor of the squared logarithm of the softmax's denominator (`PaLM`, 2022); 0 for none.
    pub z_loss: f64,
    /// Dropout after the embeddings, on attention probabilities and before each residual sum; None outside training.
    pub dropout: Option<Dropout>,
}

/// Dropout (Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014); the same seed drops the same
/// elements.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The dropout probability, below 1.
    pub rate: f64,
    /// The seed of the masks: a different one for each micro-batch of each step.
    pub seed: u64,
}

/// A decoder-only Transformer.
#[derive(Module, Debug)]
pub struct Transformer {
    pub(crate) embed_tokens: Param<Tensor<2>>, // [V, D]
    embed_positions: Option<Param<Tensor<2>>>, // [context_length, D]; None if rotary
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Norm,
    pub(crate) lm_head: Option<Param<Tensor<2>>>, // [V, D]; None if tied
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    precision: Precision,
}

#[derive(Module, Debug)]
pub(crate) struct Layer {
    input_layernorm: Option<Norm>,
    pub(crate) self_attn: Attention,
    attention_output_norm: Option<Norm>,
    post_attention_layernorm: Option<Norm>,
    pub(crate) mlp: Mlp,
    mlp_output_norm: Option<Norm>,
}

#[derive(Module, Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear, // [H C, D]
    pub(crate) k_proj: Linear, // [K C, D]
    pub(crate) v_proj: Linear, // [K C, D]
    pub(crate) o_proj: Linear, // [D, H C]
    q_norm: Option<Norm>,      // [C] or [H C]
    k_norm: Option<Norm>,      // [C] or [K C]
}

#[derive(Module, Debug)]
#[allow(clippy::struct_field_names, reason = "the names of the tensors")]
pub(crate) struct Mlp {
    pub(crate) gate_proj: Option<Linear>, // [F, D]; None if not gated
    pub(crate) up_proj: Linear,           // [F, D]
    pub(crate) down_proj: Linear,         // [D, F]
    #[module(skip)]
    activation: Activation,
}

impl Transformer {
    /// Returns the model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the model with the same weights, computing in a different number type.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Returns the model without one of its layers.
    pub(crate) fn without_layer(mut self, index: usize) -> Self {
        self.layers.remove(index);
        self.config.n_layer -= 1;
        let mut layers = std::mem::take(&mut self.config.layers);
        if !layers.is_empty() {
            layers.remove(index);
            let window = self.config.sliding_window;
            self.config.set_layers(layers, window);
        }
        self
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> Device {
        self.embed_tokens.val().device()
    }

    /// Returns the logits of the next token after each token.
    ///
    /// # Shapes
    /// - tokens: `[B, T]`, T at most the context length
    /// - output: `[B, T, V]`
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.logits(self.hidden(tokens, None, None, None))
    }

    /// As [`Transformer::forward`], with the documents of a batch apart.
    ///
    /// # Shapes
    /// - output: `[B, T, V]`
    pub fn forward_batch(&self, batch: Batch) -> Tensor<3> {
        self.logits(self.hidden(batch.tokens, batch.segment_starts, None, None))
    }

    /// Returns the logits of the next token after the last one, and appends the keys and values of the tokens to the
    /// cache.
    ///
    /// # Shapes
    /// - tokens: `[B, T]`, S + T at most the context length
    /// - output: `[B, V]`
    pub fn forward_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Tensor<2> {
        self.forward_cached_rows(tokens, cache, 1).squeeze_dim(1) // [B, V]
    }

    /// As [`Transformer::forward_cached`], with the logits after each of the last `rows` tokens.
    ///
    /// # Shapes
    /// - tokens: `[B, T]`, S + T at most the context length
    /// - output: `[B, rows, V]`
    pub fn forward_cached_rows(&self, tokens: Tensor<2, Int>, cache: &mut KvCache, rows: usize) -> Tensor<3> {
        self.logits(self.hidden_cached_rows(tokens, cache, rows)) // [B, rows, V]
    }

    /// As [`Transformer::forward_cached_rows`], with the hidden states after the last norm in place of the logits.
    ///
    /// # Shapes
    /// - tokens: `[B, T]`, S + T at most the context length
    /// - output: `[B, rows, D]`
    pub fn hidden_cached_rows(&self, tokens: Tensor<2, Int>, cache: &mut KvCache, rows: usize) -> Tensor<3> {
        let [_, t] = tokens.dims();
        let hidden = self.hidden(tokens, None, None, Some(cache)); // [B, T, D]
        hidden.narrow(1, t - rows, rows) // [B, rows, D]
    }

    /// Returns the training loss: the sum over targets that are not ignored of (cross-entropy in nats + z-loss) × loss
    /// scale.
    ///
    /// If all micro-batches of a step have the loss scale 1 / (targets of the step), their losses and gradients add up
    /// to those of one large batch.
    ///
    /// # Shapes
    /// - output: `[1]`
    pub fn loss(&self, batch: Batch, options: &LossOptions) -> Tensor<1> {
        let Batch { tokens, targets, segment_starts } = batch;
        self.loss_from_hidden(self.hidden(tokens, segment_starts, options.dropout, None), targets, options)
    }

    /// As [`Transformer::loss`], from the hidden states of [`Transformer::gradients`].
    ///
    /// # Shapes
    /// - hidden: `[B, T, D]`
    /// - targets: `[B, T]`
    /// - output: `[1]`
    pub fn loss_from_hidden(&self, hidden: Tensor<3>, targets: Tensor<2, Int>, options: &LossOptions) -> Tensor<1> {
        let [b, t] = targets.dims();
        let logits = self.logits(hidden).reshape([b * t, self.config.vocab_size]); // [B T, V]
        kernels::cross_entropy(logits, targets.reshape([b * t]), options.loss_scale, options.z_loss) // [1]
    }

    /// As [`Transformer::loss_from_hidden`], with the loss of distillation beside it: the sum over targets that are not
    /// ignored of the divergence from the teacher × temperature² × loss scale, as [`kernels::kl_divergence`]. The
    /// distributions are over the tokens that both models have.
    ///
    /// # Shapes
    /// - hidden: `[B, T, D]`
    /// - targets: `[B, T]`
    /// - teacher: `[B, T, V]` of the teacher's vocabulary, its logits
    /// - output: `[1]` both
    pub fn distillation_losses_from_hidden(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        teacher: Tensor<3>,
        temperature: f64,
        options: &LossOptions,
    ) -> [Tensor<1>; 2] {
        let ([b, t], [.., v]) = (targets.dims(), teacher.dims());
        let logits = self.logits(hidden).reshape([b * t, self.config.vocab_size]); // [B T, V]
        let (teacher, targets) = (teacher.reshape([b * t, v]), targets.reshape([b * t]));
        let shared = v.min(self.config.vocab_size);
        let (student, teacher) = (logits.clone().narrow(1, 0, shared), teacher.narrow(1, 0, shared));
        let scale = options.loss_scale;
        let divergence = kernels::kl_divergence(student, teacher, targets.clone(), temperature, scale); // [1]
        [kernels::cross_entropy(logits, targets, scale, options.z_loss), divergence]
    }

    /// Returns the log-probability of each target; zero if it is ignored.
    ///
    /// # Shapes
    /// - output: `[B, T]`
    pub fn log_probabilities(&self, batch: Batch, dropout: Option<Dropout>) -> Tensor<2> {
        let Batch { tokens, targets, segment_starts } = batch;
        self.log_probabilities_from_hidden(self.hidden(tokens, segment_starts, dropout, None), targets)
    }

    /// As [`Transformer::log_probabilities`], from the hidden states of [`Transformer::gradients`].
    ///
    /// # Shapes
    /// - hidden: `[B, T, D]`
    /// - targets, output: `[B, T]`
    pub fn log_probabilities_from_hidden(&self, hidden: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2> {
        let log_probs = log_softmax(self.logits(hidden), 2); // [B, T, V]
        let own = log_probs.gather(2, targets.clone().clamp_min(0).unsqueeze_dim(2)).squeeze_dim(2); // [B, T]
        own.mask_fill(targets.lower_elem(0), 0.0)
    }

    /// Returns the hidden states after the last norm.
    ///
    /// # Shapes
    /// - output: `[B, T, D]`
    pub(crate) fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        segment_starts: Option<Tensor<2, Int>>,
        dropout: Option<Dropout>,
        mut cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let s = cache.as_ref().map_or(0, |cache| cache.len());
        let context = ForwardContext::new(self, &tokens, segment_starts, dropout, s);
        let mut x = self.embed(tokens, &context); // [B, T, D]
        for (i, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, i));
            x = layer.forward(x, i, &context, cache); // [B, T, D]
        }
        context.norm(Some(&self.norm), x)
    }

    /// Returns the sums over all tokens of the squared activations of each layer's neurons, `[F]`.
    pub(crate) fn feed_forward_energies(&self, batch: Batch) -> Vec<Tensor<1>> {
        let Batch { tokens, segment_starts, .. } = batch;
        let energies = RefCell::new(Vec::new());
        let mut context = ForwardContext::new(self, &tokens, segment_starts, None, 0);
        context.energies = Some(&energies);
        let mut x = self.embed(tokens, &context); // [B, T, D]
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, i, &context, None); // [B, T, D]
        }
        energies.into_inner()
    }

    /// Returns the input of the first layer.
    ///
    /// # Shapes
    /// - output: `[B, T, D]`
    pub(crate) fn embed(&self, tokens: Tensor<2, Int>, context: &ForwardContext) -> Tensor<3> {
        let ([b, t], s, device) = (tokens.dims(), context.s, tokens.device());
        let mut x = kernels::embedding(self.embed_tokens.val(), tokens); // [B, T, D]
        if self.config.family.architecture().scaled_embeddings {
            x = x.mul_scalar(self.precision.round((self.config.d_model as f32).sqrt()));
        }
        if let Some(embed_positions) = &self.embed_positions {
            let positions = Tensor::<1, Int>::arange(s as i64..(s + t) as i64, &device).unsqueeze(); // [1, T]
            let positions = match &context.segment_starts {
                Some(segment_starts) => positions - segment_starts.clone(),
                None => positions.expand([b, t]),
            };
            x = x + kernels::embedding(embed_positions.val(), positions); // [B, T, D]
        }
        debug_assert_eq!(x.dims(), [b, t, self.config.d_model]);
        context.dropout(x, 0)
    }

    fn logits(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = self.lm_head.as_ref().unwrap_or(&self.embed_tokens).val().cast(x.dtype()); // [V, D]
        let logits = kernels::linear(x, weight, None, None).cast(DType::F32); // [B, T, V]
        match self.config.logit_softcap {
            Some(cap) => softcap(logits, 1.0, cap),
            None => logits,
        }
    }
}

/// The state that the layers share during one forward pass.
pub(crate) struct ForwardContext<'a> {
    config: &'a ModelConfig,
    precision: Precision,
    s: usize,
    rope: Option<RopeTables>,
    local_rope: Option<RopeTables>, // of layers with a sliding window, if it differs
    segment_starts: Option<Tensor<2, Int>>, // [B, T]
    window_starts: Option<Tensor<2, Int>>, // [B, T]; None if no token is beyond the sliding window
    dropout: Option<Dropout>,
    energies: Option<&'a RefCell<Vec<Tensor<1>>>>, // receives Σ activation² of each layer's neurons, [F]
}

impl<'a> ForwardContext<'a> {
    /// Returns the context for tokens `[B, T]` after S cached ones, on the device of the tokens.
    pub(crate) fn new(
        model: &'a Transformer,
        tokens: &Tensor<2, Int>,
        segment_starts: Option<Tensor<2, Int>>,
        dropout: Option<Dropout>,
        s: usize,
    ) -> Self {
        let Transformer { config, precision, .. } = model;
        let ([b, t], device) = (tokens.dims(), tokens.device());
        assert!(s + t <= config.context_length, "{s} + {t} tokens exceed the context length");
        let rope = config
            .family
            .is_rotary()
            .then(|| RopeTables::new(&rope::frequencies(config, s + t), rope::factor(config), s..s + t, &device));
        let local_rope = rope::local_frequencies(config);
        let local_rope = local_rope.map(|frequencies| RopeTables::new(&frequencies, 1.0, s..s + t, &device));
        let window_starts = config.sliding_window.filter(|window| s + t > *window).map(|window| {
            let positions = Tensor::<1, Int>::arange(s as i64..(s + t) as i64, &device);
            let starts = positions.sub_scalar(window as i64 - 1).clamp_min(0).reshape([1, t]).expand([b, t]); // [B, T]
            match &segment_starts {
                Some(segment_starts) => starts.max_pair(segment_starts.clone()),
                None => starts,
            }
        });
        Self {
            config,
            precision: *precision,
            s,
            rope,
            local_rope,
            segment_starts,
            window_starts,
            dropout,
            energies: None,
        }
    }

    /// Returns the tables that rotate the queries and keys of a layer, if it has rotary positions.
    fn rope_tables(&self, layer: LayerAttention) -> Option<&RopeTables> {
        let local = self.local_rope.as_ref().filter(|_| layer.sliding);
        local.or(self.rope.as_ref()).filter(|_| layer.rotary)
    }

    /// Returns the first position that each token attends to in a layer; None for 0.
    fn first_keys(&self, layer: LayerAttention) -> Option<Tensor<2, Int>> {
        let window_starts = self.window_starts.clone().filter(|_| layer.sliding);
        window_starts.or_else(|| self.segment_starts.clone())
    }

    /// Returns the dropout of a stream: stream 0 is after the embeddings, and each layer has three.
    fn dropout_of(&self, stream: u64) -> Option<kernels::Dropout> {
        self.dropout.map(|Dropout { rate, seed }| kernels::Dropout { rate, seed, stream })
    }

    fn dropout(&self, x: Tensor<3>, stream: u64) -> Tensor<3> {
        match self.dropout_of(stream) {
            Some(dropout) => kernels::dropout(x, dropout),
            None => x,
        }
    }

    /// Returns the norm of the residual stream, if there is one, in the number type of the projections after it.
    pub(crate) fn norm(&self, norm: Option<&Norm>, x: Tensor<3>) -> Tensor<3> {
        let normed = match norm {
            Some(norm) => norm.forward(x, self.config.norm_epsilon),
            None => x,
        };
        normed.cast(self.precision.dtype())
    }

    /// Adds the projection of y, after its norm, to the residual stream x.
    fn add_projection(
        &self,
        x: Tensor<3>,
        y: Tensor<3>,
        projection: &Linear,
        norm: Option<&Norm>,
        stream: u64,
    ) -> Tensor<3> {
        if norm.is_none() && self.dropout.is_none() && self.precision == Precision::F32 {
            return projection.forward_with_residual(y, Some(x));
        }
        let y = projection.forward(y).cast(DType::F32);
        let y = match norm {
            Some(norm) => norm.forward(y, self.config.norm_epsilon),
            None => y,
        };
        x + self.dropout(y, stream)
    }
}

impl Layer {
    pub(crate) fn forward(
        &self,
        x: Tensor<3>, // [B, T, D]
        index: usize,
        context: &ForwardContext,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let stream = 3 * index as u64;
        let (attention, mlp) = (&self.self_attn, &self.mlp);
        let normed = context.norm(self.input_layernorm.as_ref(), x.clone());
        let kind = context.config.layer(index);
        let y = attention.forward(&normed, kind, context, context.dropout_of(stream + 1), cache); // [B, T, H C]
        let norm = self.attention_output_norm.as_ref();
        let x = context.add_projection(x, y, &attention.o_proj, norm, stream + 2); // [B, T, D]
        let normed = context.norm(self.post_attention_layernorm.as_ref(), x.clone());
        let y = mlp.forward(normed); // [B, T, F]
        if let Some(energies) = context.energies {
            let [b, t, f] = y.dims();
            energies.borrow_mut().push(y.clone().reshape([b * t, f]).square().sum_dim(0).squeeze_dim(0)); // [F]
        }
        let norm = self.mlp_output_norm.as_ref();
        context.add_projection(x, y, &mlp.down_proj, norm, stream + 3) // [B, T, D]
    }
}

impl Attention {
    /// Returns the outputs of the heads, before `o_proj`.
    fn forward(
        &self,
        x: &Tensor<3>, // [B, T, D]
        layer: LayerAttention,
        context: &ForwardContext,
        dropout: Option<kernels::Dropout>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let ModelConfig { n_head: h, n_kv_head: k, head_dim: c, norm_epsilon: epsilon, .. } = *context.config;
        let project = |projection: &Linear, norm: Option<&Norm>| {
            let y = projection.forward(x.clone()); // [B, T, n C]
            let y = match norm {
                Some(norm) => norm.forward(y, epsilon),
                None => y,
            };
            match context.rope_tables(layer) {
                Some(tables) => tables.rotate(y, c),
                None => y,
            }
        };
        let queries = project(&self.q_proj, self.q_norm.as_ref()); // [B, T, H C]
        let keys = project(&self.k_proj, self.k_norm.as_ref()); // [B, T, K C]
        let values = self.v_proj.forward(x.clone()); // [B, T, K C]
        let (scale, cap) = (context.config.attention_scale(), context.config.attention_softcap);
        let first_keys = context.first_keys(layer); // [B, T]
        if cache.is_none() && cap.is_none() {
            return kernels::attention(queries, keys, values, first_keys, c, scale, dropout); // [B, T, H C]
        }
        let split = |x: Tensor<3>| x.reshape([b, t, k, c]).swap_dims(1, 2); // [B, K, T, C]
        let (keys, values) = match cache {
            Some((cache, layer)) => cache.append(layer, split(keys), split(values)), // [B, K, S + T, C]
            None => (split(keys), split(values)),
        };
        // The G query heads of a key/value head are stacked, so that keys and values are not repeated.
        let g = h / k;
        let queries = queries.reshape([b, t, h, c]).swap_dims(1, 2).reshape([b, k, g * t, c]); // [B, K, G T, C]
        let scores = queries.matmul(keys.swap_dims(2, 3)); // [B, K, G T, S + T]
        let (scores, scale) = match cap {
            Some(cap) => (softcap(scores, scale, cap), 1.0),
            None => (scores, scale),
        };
        let scores = match first_keys {
            Some(first_keys) => without_early_keys(scores, first_keys),
            None => scores,
        };
        let probs = kernels::causal_softmax(scores, t, scale); // [B, K, G T, S + T]
        let probs = match dropout {
            Some(dropout) => kernels::dropout(probs, dropout),
            None => probs,
        };
        let y = probs.matmul(values); // [B, K, G T, C]
        y.reshape([b, h, t, c]).swap_dims(1, 2).reshape([b, t, h * c]) // [B, T, H C]
    }
}

/// Returns cap × tanh(scale × x / cap).
fn softcap<const N: usize>(x: Tensor<N>, scale: f64, cap: f64) -> Tensor<N> {
    x.mul_scalar(scale / cap).tanh().mul_scalar(cap)
}

/// Returns the scores with those of keys before the first one of each query so low that their probability is 0.
///
/// # Shapes
/// - scores, output: `[B, K, G T, S]`
/// - `first_keys`: `[B, T]`
fn without_early_keys(scores: Tensor<4>, first_keys: Tensor<2, Int>) -> Tensor<4> {
    let ([b, k, rows, s], [_, t]) = (scores.dims(), first_keys.dims());
    let keys = Tensor::<1, Int>::arange(0..s as i64, &scores.device()).reshape([1, 1, s]);
    let early = keys.expand([b, t, s]).lower(first_keys.reshape([b, t, 1]).expand([b, t, s])); // [B, T, S]
    let early = early.reshape([b, 1, 1, t, s]).expand([b, k, rows / t, t, s]); // [B, K, G, T, S]
    scores.mask_fill(early.reshape([b, k, rows, s]), -1e30)
}

impl Mlp {
    /// Returns the activations `[B, T, F]`, before `down_proj`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = self.gate_proj.as_ref().map(|gate| gate.forward(x.clone())); // [B, T, F]
        let up = self.up_proj.forward(x); // [B, T, F]
        match (self.activation, gate) {
            (Activation::Geglu, Some(gate)) => kernels::gelu(gate) * up,
            (_, Some(gate)) => kernels::swiglu(gate, up),
            (Activation::Gelu, None) => gelu(up),
            (_, None) => kernels::gelu(up),
        }
    }
}
