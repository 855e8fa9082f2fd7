//! The model, top to bottom.
//!
//! Dimensions: B sequences, T tokens, V vocabulary, D model width, H query heads, K key/value heads, G = H / K query
//! heads a key/value head, C width of a head, F width of the feed-forward layer, S cached tokens before this call.
//!
//! Four families share the file. `llama`: RMSNorm (Root Mean Square Layer Normalization, 2019), rotary positions turned
//! by halves (RoFormer, 2021, in Hugging Face's arrangement), SwiGLU (GLU Variants Improve Transformer, 2020),
//! grouped-query attention (GQA, 2023). `qwen2` adds biases to queries, keys and values, `qwen3` norms on those of each
//! head. `gpt2`: LayerNorm, learned positions, GELU, biases (Language Models are Unsupervised Multitask Learners,
//! 2019). Norms stand before each block in all.
//!
//! Fields have the names of Hugging Face's `qwen3` tensors, so a parameter's path is nearly its name in a checkpoint.

use burn::module::{Module, Param, ParamId};
use burn::tensor::activation::{gelu, log_softmax};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{Activation, Family, ModelConfig};
use crate::kv_cache::KvCache;
use crate::lora::Adapter;
use crate::precision::Precision;
use crate::rope;

/// Sequences to learn from.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, T]`, T at most the context length.
    pub tokens: Tensor<2, Int>,
    /// `[B, T]`: the token after each, −1 where it is not learned.
    pub targets: Tensor<2, Int>,
    /// `[B, T]`: the index in its row where the document of each token begins. Attention looks back no further, and
    /// learned positions count from it. None: one document a row.
    pub segment_starts: Option<Tensor<2, Int>>,
}

/// What is added up to the loss.
#[derive(Debug, Clone, Copy)]
pub struct LossOptions {
    /// The weight of each learned target: 1 / those of the whole step gives their mean.
    pub loss_scale: f64,
    /// The weight of the squared logarithm of the softmax's denominator (`PaLM`, 2022); 0 for none.
    pub z_loss: f64,
    /// Dropout after the embeddings, in attention and before each sum; none where it is not trained.
    pub dropout: Option<Dropout>,
}

/// Dropout (Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014), the same elements for the same
/// seed.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The share of elements that become zero, below 1.
    pub rate: f64,
    /// Decides which: give every micro-batch of every step its own.
    pub seed: u64,
}

/// A decoder-only Transformer.
#[derive(Module, Debug)]
pub struct Transformer {
    pub(crate) embed_tokens: Param<Tensor<2>>,            // [V, D]
    pub(crate) embed_positions: Option<Param<Tensor<2>>>, // [context_length, D]; gpt2
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Norm,
    pub(crate) lm_head: Option<Param<Tensor<2>>>, // [V, D]; none when tied
    #[module(skip)]
    config: ModelConfig,
    #[module(skip)]
    precision: Precision,
}

#[derive(Module, Debug)]
pub(crate) struct Layer {
    pub(crate) input_layernorm: Norm,
    pub(crate) self_attn: Attention,
    pub(crate) post_attention_layernorm: Norm,
    pub(crate) mlp: Mlp,
}

#[derive(Module, Debug)]
pub(crate) struct Attention {
    pub(crate) q_proj: Linear, // [H C, D]
    pub(crate) k_proj: Linear, // [K C, D]
    pub(crate) v_proj: Linear, // [K C, D]
    pub(crate) o_proj: Linear, // [D, H C]
    pub(crate) q_norm: Option<Norm>,
    pub(crate) k_norm: Option<Norm>,
}

#[derive(Module, Debug)]
#[allow(clippy::struct_field_names, reason = "the names of the tensors")]
pub(crate) struct Mlp {
    pub(crate) gate_proj: Option<Linear>, // [F, D]; not gpt2
    pub(crate) up_proj: Linear,           // [F, D]
    pub(crate) down_proj: Linear,         // [D, F]
    #[module(skip)]
    activation: Activation,
}

/// A projection, its weight as `[out, in]` like PyTorch's.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Param<Tensor<2>>,
    pub(crate) bias: Option<Param<Tensor<1>>>,
    pub(crate) lora: Option<Adapter>,
}

/// LayerNorm where there is a bias, else RMSNorm.
#[derive(Module, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Param<Tensor<1>>,
    pub(crate) bias: Option<Param<Tensor<1>>>,
}

impl Transformer {
    /// Returns a model with random weights: normal with deviation 0.02, the projections back into the residual stream
    /// divided by √(2 L) (GPT-2's scheme), norms one, biases zero. The same seed gives the same weights on every
    /// device.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let residual = 0.02 / (2.0 * config.n_layer as f32).sqrt();
        Self::build(config, &mut |kind, shape| {
            let count = shape.iter().product();
            let values = match kind {
                Weight::Matrix => normal(&mut rng, count, 0.02),
                Weight::Residual => normal(&mut rng, count, residual),
                Weight::One => vec![1.0; count],
                Weight::Zero => vec![0.0; count],
            };
            (TensorData::new(values, shape.to_vec()), device.clone())
        })
    }

    /// Returns a model with zeros everywhere, to load weights into.
    pub(crate) fn zeros(config: &ModelConfig, device: &Device) -> Self {
        Self::build(config, &mut |_, shape| {
            (TensorData::new(vec![0.0f32; shape.iter().product()], shape.to_vec()), device.clone())
        })
    }

    fn build(config: &ModelConfig, weight: &mut impl FnMut(Weight, &[usize]) -> (TensorData, Device)) -> Self {
        let gpt2 = config.family == Family::Gpt2;
        // Ids count up in this order, so that two models of one configuration agree on them: the optimizer's state is
        // kept by id.
        let mut next_id = 0;
        let mut id = || {
            next_id += 1;
            ParamId::from(next_id)
        };
        let mut matrix = |kind, shape: [usize; 2]| {
            let (data, device) = weight(kind, &shape);
            Param::initialized(id(), leaf(Tensor::<2>::from_data(data, &device)))
        };
        // The matrices come first and the vectors after them, each kind in reading order.
        let (d, f, c) = (config.d_model, config.d_ff, config.head_dim);
        let (q, kv) = (config.n_head * c, config.n_kv_head * c);
        let embed_tokens = matrix(Weight::Matrix, [config.vocab_size, d]);
        let embed_positions = gpt2.then(|| matrix(Weight::Matrix, [config.context_length, d]));
        let projections: Vec<_> = (0..config.n_layer)
            .map(|_| {
                (
                    [
                        matrix(Weight::Matrix, [q, d]),
                        matrix(Weight::Matrix, [kv, d]),
                        matrix(Weight::Matrix, [kv, d]),
                        matrix(Weight::Residual, [d, q]),
                    ],
                    (!gpt2).then(|| matrix(Weight::Matrix, [f, d])),
                    [matrix(Weight::Matrix, [f, d]), matrix(Weight::Residual, [d, f])],
                )
            })
            .collect();
        let lm_head = (!config.tied_embeddings).then(|| matrix(Weight::Matrix, [config.vocab_size, d]));
        let mut vector = |kind, length: usize| {
            let (data, device) = weight(kind, &[length]);
            Param::initialized(id(), leaf(Tensor::<1>::from_data(data, &device)))
        };
        let layers = projections
            .into_iter()
            .map(|([q_proj, k_proj, v_proj, o_proj], gate_proj, [up_proj, down_proj])| {
                let mut linear = |weight, out: usize, bias: bool| {
                    let bias = bias.then(|| vector(Weight::Zero, out));
                    Linear { weight, bias, lora: None }
                };
                let qkv_bias = config.attention_bias;
                let (q_proj, k_proj) = (linear(q_proj, q, qkv_bias), linear(k_proj, kv, qkv_bias));
                let (v_proj, o_proj) = (linear(v_proj, kv, qkv_bias), linear(o_proj, d, config.output_bias()));
                let (up_proj, down_proj) = (linear(up_proj, f, config.mlp_bias), linear(down_proj, d, config.mlp_bias));
                let gate_proj = gate_proj.map(|weight| linear(weight, f, config.mlp_bias));
                let mut norm = |length: usize| Norm {
                    weight: vector(Weight::One, length),
                    bias: gpt2.then(|| vector(Weight::Zero, length)),
                };
                let (input_layernorm, post_attention_layernorm) = (norm(d), norm(d));
                let qk_norm = config.family == Family::Qwen3;
                let (q_norm, k_norm) = (qk_norm.then(|| norm(c)), qk_norm.then(|| norm(c)));
                Layer {
                    input_layernorm,
                    self_attn: Attention { q_proj, k_proj, v_proj, o_proj, q_norm, k_norm },
                    post_attention_layernorm,
                    mlp: Mlp { gate_proj, up_proj, down_proj, activation: config.activation },
                }
            })
            .collect();
        let norm = Norm { weight: vector(Weight::One, d), bias: gpt2.then(|| vector(Weight::Zero, d)) };
        let (config, precision) = (config.clone(), Precision::F32);
        Self { embed_tokens, embed_positions, layers, norm, lm_head, config, precision }
    }

    /// Returns the model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the model with the same weights that computes in another number type.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Returns the device that the weights lie on.
    pub fn device(&self) -> Device {
        self.embed_tokens.val().device()
    }

    /// Returns the logits of the next token after every token.
    ///
    /// # Shapes
    /// - tokens: `[B, T]`, T at most the context length
    /// - output: `[B, T, V]`
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.head(self.hidden(tokens, None, None, None))
    }

    /// Returns the logits of the token after the last one, and appends the tokens' keys and values to the cache.
    ///
    /// # Shapes
    /// - tokens: `[B, T]`, S + T at most the context length
    /// - output: `[B, V]`
    pub fn forward_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Tensor<2> {
        let [_, t] = tokens.dims();
        let hidden = self.hidden(tokens, None, None, Some(cache)); // [B, T, D]
        self.head(hidden.narrow(1, t - 1, 1)).squeeze_dim(1) // [B, V]
    }

    /// Returns what training makes small: Σ over the learned targets of (cross-entropy in nats + z-loss) × share.
    ///
    /// With the same share for all micro-batches of a step, 1 / its learned targets, their losses and gradients add up
    /// to those of one large batch.
    ///
    /// # Shapes
    /// - output: `[1]`
    pub fn loss(&self, batch: Batch, options: &LossOptions) -> Tensor<1> {
        let Batch { tokens, targets, segment_starts } = batch;
        self.loss_from_hidden(self.hidden(tokens, segment_starts, options.dropout, None), targets, options)
    }

    /// As [`Transformer::loss`], of the hidden states `[B, T, D]` that [`Transformer::gradients`] shows and targets
    /// `[B, T]`.
    pub fn loss_from_hidden(&self, hidden: Tensor<3>, targets: Tensor<2, Int>, options: &LossOptions) -> Tensor<1> {
        let [b, t] = targets.dims();
        let logits = self.head(hidden).reshape([b * t, self.config.vocab_size]); // [B T, V]
        kernels::cross_entropy(logits, targets.reshape([b * t]), options.loss_scale, options.z_loss) // [1]
    }

    /// Returns the logarithm of the probability that the model gives each target, zero where it is not learned.
    ///
    /// # Shapes
    /// - output: `[B, T]`
    pub fn log_probabilities(&self, batch: Batch, dropout: Option<Dropout>) -> Tensor<2> {
        let Batch { tokens, targets, segment_starts } = batch;
        self.log_probabilities_from_hidden(self.hidden(tokens, segment_starts, dropout, None), targets)
    }

    /// As [`Transformer::log_probabilities`], of the hidden states `[B, T, D]` that [`Transformer::gradients`] shows
    /// and targets `[B, T]`.
    pub fn log_probabilities_from_hidden(&self, hidden: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2> {
        let shares = log_softmax(self.head(hidden), 2); // [B, T, V]
        let own = shares.gather(2, targets.clone().clamp_min(0).unsqueeze_dim(2)).squeeze_dim(2); // [B, T]
        own.mask_fill(targets.lower_elem(0), 0.0)
    }

    pub(crate) fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        segment_starts: Option<Tensor<2, Int>>,
        dropout: Option<Dropout>,
        mut cache: Option<&mut KvCache>,
    ) -> Tensor<3> {
        let s = cache.as_ref().map_or(0, |cache| cache.len());
        let context = ForwardContext::new(self, &tokens, segment_starts, dropout, s);
        let mut x = self.embedded(tokens, &context); // [B, T, D]
        for (i, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, i));
            x = layer.forward(x, i, &context, cache); // [B, T, D]
        }
        context.normed(&self.norm, x)
    }

    /// Returns what goes into the first layer.
    pub(crate) fn embedded(&self, tokens: Tensor<2, Int>, context: &ForwardContext) -> Tensor<3> {
        let ([b, t], s, device) = (tokens.dims(), context.s, tokens.device());
        let mut x = kernels::embedding(self.embed_tokens.val(), tokens); // [B, T, D]
        if let Some(positions) = &self.embed_positions {
            let places = Tensor::<1, Int>::arange(s as i64..(s + t) as i64, &device).unsqueeze(); // [1, T]
            let places = match &context.segment_starts {
                Some(segment_starts) => places - segment_starts.clone(),
                None => places.expand([b, t]),
            };
            x = x + kernels::embedding(positions.val(), places); // [B, T, D]
        }
        debug_assert_eq!(x.dims(), [b, t, self.config.d_model]);
        context.dropout(x, 0)
    }

    fn head(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = self.lm_head.as_ref().unwrap_or(&self.embed_tokens).val().cast(x.dtype()); // [V, D]
        kernels::linear(x, weight, None, None).cast(DType::F32) // [B, T, V]
    }
}

/// What the layers of one forward pass share.
pub(crate) struct ForwardContext<'a> {
    config: &'a ModelConfig,
    precision: Precision,
    s: usize,
    rope: Option<Rope>,
    segment_starts: Option<Tensor<2, Int>>, // [B, T]
    dropout: Option<Dropout>,
}

impl<'a> ForwardContext<'a> {
    /// Returns what a pass over tokens `[B, T]` needs, S others being cached; on the device of the tokens.
    pub(crate) fn new(
        model: &'a Transformer,
        tokens: &Tensor<2, Int>,
        segment_starts: Option<Tensor<2, Int>>,
        dropout: Option<Dropout>,
        s: usize,
    ) -> Self {
        let Transformer { config, precision, .. } = model;
        let [_, t] = tokens.dims();
        assert!(s + t <= config.context_length, "{s} + {t} tokens are more than the context");
        let rope = config.family.is_rotary().then(|| Rope::new(config, s, t, &tokens.device()));
        Self { config, precision: *precision, s, rope, segment_starts, dropout }
    }

    /// Returns the dropout of a stream of the model: 0 is after the embeddings, and each layer has three.
    fn dropout_at(&self, stream: u64) -> Option<kernels::Dropout> {
        self.dropout.map(|Dropout { rate, seed }| kernels::Dropout { rate, seed, stream })
    }

    fn dropout(&self, x: Tensor<3>, stream: u64) -> Tensor<3> {
        match self.dropout_at(stream) {
            Some(dropout) => kernels::dropout(x, dropout),
            None => x,
        }
    }

    /// Returns the norm of the residual stream, in the type that the projections after it compute in.
    pub(crate) fn normed(&self, norm: &Norm, x: Tensor<3>) -> Tensor<3> {
        norm.forward(x, self.config.norm_epsilon).cast(self.precision.dtype())
    }

    /// Adds the projection of y to the residual stream x.
    fn added(&self, x: Tensor<3>, y: Tensor<3>, projection: &Linear, stream: u64) -> Tensor<3> {
        if self.dropout.is_none() && self.precision == Precision::F32 {
            return projection.forward_onto(y, Some(x));
        }
        x + self.dropout(projection.forward(y).cast(DType::F32), stream)
    }
}

impl Layer {
    pub(crate) fn forward(
        &self,
        x: Tensor<3>, // [B, T, D]
        layer: usize,
        context: &ForwardContext,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let stream = 3 * layer as u64;
        let normed = context.normed(&self.input_layernorm, x.clone());
        let y = self.self_attn.heads(&normed, context, context.dropout_at(stream + 1), cache); // [B, T, H C]
        let x = context.added(x, y, &self.self_attn.o_proj, stream + 2); // [B, T, D]
        let normed = context.normed(&self.post_attention_layernorm, x.clone());
        context.added(x, self.mlp.hidden(normed), &self.mlp.down_proj, stream + 3) // [B, T, D]
    }
}

impl Attention {
    /// Returns what the heads gathered, before the projection back into the residual stream.
    fn heads(
        &self,
        x: &Tensor<3>, // [B, T, D]
        context: &ForwardContext,
        dropout: Option<kernels::Dropout>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let ModelConfig { n_head: h, n_kv_head: k, head_dim: c, norm_epsilon: epsilon, .. } = *context.config;
        let heads = |projection: &Linear, norm: Option<&Norm>| {
            let y = projection.forward(x.clone()); // [B, T, n C]
            let y = match norm {
                Some(norm) => norm.forward(y, epsilon),
                None => y,
            };
            match &context.rope {
                Some(rope) => kernels::rope(y, rope.cos.clone(), rope.sin.clone()),
                None => y,
            }
        };
        let queries = heads(&self.q_proj, self.q_norm.as_ref()); // [B, T, H C]
        let keys = heads(&self.k_proj, self.k_norm.as_ref()); // [B, T, K C]
        let values = self.v_proj.forward(x.clone()); // [B, T, K C]
        let scale = 1.0 / (c as f64).sqrt();
        let Some((cache, layer)) = cache else {
            return kernels::attention(queries, keys, values, context.segment_starts.clone(), c, scale, dropout); // [B, T, H C]
        };
        let split = |x: Tensor<3>| x.reshape([b, t, k, c]).swap_dims(1, 2); // [B, K, T, C]
        let (keys, values) = cache.append(layer, split(keys), split(values)); // [B, K, S + T, C]
        // The G query heads of a key/value head stand one below the other, so keys and values are not repeated.
        let queries = queries.reshape([b, t, h, c]).swap_dims(1, 2).reshape([b, k, h / k * t, c]); // [B, K, G T, C]
        let scores = queries.matmul(keys.swap_dims(2, 3)); // [B, K, G T, S + T]
        let shares = kernels::causal_softmax(scores, t, scale); // [B, K, G T, S + T]
        let y = shares.matmul(values); // [B, K, G T, C]
        y.reshape([b, h, t, c]).swap_dims(1, 2).reshape([b, t, h * c]) // [B, T, H C]
    }
}

impl Mlp {
    fn hidden(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.gate_proj {
            Some(gate) => {
                let gate = gate.forward(x.clone()); // [B, T, F]
                kernels::swiglu(gate, self.up_proj.forward(x))
            }
            None if self.activation == Activation::Gelu => gelu(self.up_proj.forward(x)), // [B, T, F]
            None => kernels::gelu(self.up_proj.forward(x)),                               // [B, T, F]
        }
    }
}

impl Linear {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_onto(x, None)
    }

    /// Returns the projection of x, plus a residual.
    fn forward_onto(&self, x: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        let added = self.lora.as_ref().map(|adapter| adapter.forward(x.clone())); // [B, T, O]
        let residual = match (residual, added) {
            (Some(residual), Some(added)) => Some(residual + added),
            (one, other) => one.or(other),
        };
        let dtype = x.dtype();
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(dtype));
        kernels::linear(x, self.weight.val().cast(dtype), bias, residual)
    }
}

impl Norm {
    fn forward(&self, x: Tensor<3>, epsilon: f64) -> Tensor<3> {
        match &self.bias {
            Some(bias) => kernels::layer_norm(x, self.weight.val(), bias.val(), epsilon),
            None => kernels::rms_norm(x, self.weight.val(), epsilon),
        }
    }
}

/// The cosines and sines of the rotary positions S to S + T.
struct Rope {
    cos: Tensor<2>, // [T, C / 2]
    sin: Tensor<2>,
}

impl Rope {
    fn new(config: &ModelConfig, s: usize, t: usize, device: &Device) -> Self {
        let frequencies = rope::frequencies(config);
        let half = frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(t * half), Vec::with_capacity(t * half));
        for position in s..s + t {
            for frequency in &frequencies {
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let table = |values| Tensor::from_data(TensorData::new(values, vec![t, half]), device);
        Self { cos: table(cos), sin: table(sin) }
    }
}

/// Marks a weight as one whose gradient is wanted, where its device takes gradients.
pub(crate) fn leaf<const D: usize>(weight: Tensor<D>) -> Tensor<D> {
    if weight.device().is_autodiff() { weight.require_grad() } else { weight }
}

#[derive(Clone, Copy)]
enum Weight {
    Matrix,
    Residual,
    One,
    Zero,
}

/// Returns normal numbers by the method of Box and Muller (A Note on the Generation of Random Normal Deviates, 1958),
/// which has no rejections, so that the stream's position depends on the count alone.
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
