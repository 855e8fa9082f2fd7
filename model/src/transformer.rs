//! The model, top to bottom.
//!
//! Dimensions: B sequences, T tokens, V vocabulary, D model width, H query heads, K key/value heads, G = H / K query heads
//! a key/value head, C width of a head, F width of the feed-forward layer, S cached tokens before this call.
//!
//! Four families share the file. `llama`: RMSNorm (Root Mean Square Layer Normalization, 2019), rotary positions turned
//! by halves (RoFormer, 2021, in Hugging Face's arrangement), SwiGLU (GLU Variants Improve Transformer, 2020),
//! grouped-query attention (GQA, 2023). `qwen2` adds biases to queries, keys and values, `qwen3` norms on those of each
//! head. `gpt2`: LayerNorm, learned positions, GELU, biases (Language Models are Unsupervised Multitask Learners, 2019).
//! Norms stand before each block in all.
//!
//! Fields have the names of Hugging Face's `qwen3` tensors, so a parameter's path is nearly its name in a checkpoint.

use burn::module::{Module, Param, ParamId};
use burn::tensor::activation::{gelu, gelu_approximate};
use burn::tensor::module::{embedding, layer_norm};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::{Activation, Family, ModelConfig};
use crate::kv_cache::KvCache;
use crate::rope;

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
}

/// LayerNorm where there is a bias, else RMSNorm.
#[derive(Module, Debug)]
pub(crate) struct Norm {
    pub(crate) weight: Param<Tensor<1>>,
    pub(crate) bias: Option<Param<Tensor<1>>>,
}

impl Transformer {
    /// Returns a model with random weights: normal with deviation 0.02, the projections back into the residual stream
    /// divided by √(2 L) (GPT-2's scheme), norms one, biases zero. The same seed gives the same weights on every device.
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
                    Linear { weight, bias }
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
        Self { embed_tokens, embed_positions, layers, norm, lm_head, config: config.clone() }
    }

    /// Returns the model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
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
        self.head(self.hidden(tokens, None))
    }

    /// Returns the logits of the token after the last one, and appends the tokens' keys and values to the cache.
    ///
    /// # Shapes
    /// - tokens: `[B, T]`, S + T at most the context length
    /// - output: `[B, V]`
    pub fn forward_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Tensor<2> {
        let [_, t] = tokens.dims();
        let hidden = self.hidden(tokens, Some(cache)); // [B, T, D]
        self.head(hidden.narrow(1, t - 1, 1)).squeeze_dim(1) // [B, V]
    }

    /// Returns the mean cross-entropy of the targets, in nats.
    ///
    /// # Shapes
    /// - tokens, targets: `[B, T]`
    /// - output: `[1]`
    pub fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<1> {
        let [b, t] = tokens.dims();
        let logits = self.forward(tokens).reshape([b * t, self.config.vocab_size]); // [B T, V]
        kernels::cross_entropy(logits, targets.reshape([b * t])) // [1]
    }

    fn hidden(&self, tokens: Tensor<2, Int>, mut cache: Option<&mut KvCache>) -> Tensor<3> {
        let [b, t] = tokens.dims();
        let s = cache.as_ref().map_or(0, |cache| cache.len());
        assert!(s + t <= self.config.context_length, "{s} + {t} tokens are more than the context");
        let device = tokens.device();
        let mut x = embedding(self.embed_tokens.val(), tokens); // [B, T, D]
        if let Some(positions) = &self.embed_positions {
            x = x + positions.val().narrow(0, s, t).unsqueeze(); // [B, T, D]
        }
        let rope = self.config.family.is_rotary().then(|| Rope::new(&self.config, s, t, &device));
        for (i, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, i));
            x = layer.forward(x, &self.config, rope.as_ref(), cache); // [B, T, D]
        }
        debug_assert_eq!(x.dims(), [b, t, self.config.d_model]);
        self.norm.forward(x, self.config.norm_epsilon)
    }

    fn head(&self, x: Tensor<3>) -> Tensor<3> {
        let weight = self.lm_head.as_ref().unwrap_or(&self.embed_tokens).val(); // [V, D]
        project(x, weight, None) // [B, T, V]
    }
}

impl Layer {
    fn forward(
        &self,
        x: Tensor<3>, // [B, T, D]
        config: &ModelConfig,
        rope: Option<&Rope>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let epsilon = config.norm_epsilon;
        let normed = self.input_layernorm.forward(x.clone(), epsilon);
        let x = x + self.self_attn.forward(&normed, config, rope, cache); // [B, T, D]
        let normed = self.post_attention_layernorm.forward(x.clone(), epsilon);
        x + self.mlp.forward(normed) // [B, T, D]
    }
}

impl Attention {
    fn forward(
        &self,
        x: &Tensor<3>, // [B, T, D]
        config: &ModelConfig,
        rope: Option<&Rope>,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<3> {
        let [b, t, _] = x.dims();
        let (h, k, c) = (config.n_head, config.n_kv_head, config.head_dim);
        let epsilon = config.norm_epsilon;
        let heads = |projection: &Linear, norm: Option<&Norm>, rope: Option<&Rope>, n: usize| {
            let y = projection.forward(x.clone()).reshape([b, t, n, c]); // [B, T, n, C]
            let y = match norm {
                Some(norm) => norm.forward(y, epsilon),
                None => y,
            };
            let y = match rope {
                Some(rope) => kernels::rope(y, rope.cos.clone(), rope.sin.clone()),
                None => y,
            };
            y.swap_dims(1, 2) // [B, n, T, C]
        };
        let queries = heads(&self.q_proj, self.q_norm.as_ref(), rope, h); // [B, H, T, C]
        let mut keys = heads(&self.k_proj, self.k_norm.as_ref(), rope, k); // [B, K, T, C]
        let mut values = heads(&self.v_proj, None, None, k); // [B, K, T, C]
        if let Some((cache, layer)) = cache {
            (keys, values) = cache.append(layer, keys, values); // [B, K, S + T, C]
        }
        // The G query heads of a key/value head stand one below the other, so keys and values are not repeated.
        let queries = if h == k { queries } else { queries.reshape([b, k, h / k * t, c]) }; // [B, K, G T, C]
        let scores = queries.matmul(keys.swap_dims(2, 3)); // [B, K, G T, S + T]
        let shares = kernels::causal_softmax(scores, t, 1.0 / (c as f64).sqrt()); // [B, K, G T, S + T]
        let y = shares.matmul(values); // [B, K, G T, C]
        let y = y.reshape([b, h, t, c]).swap_dims(1, 2).reshape([b, t, h * c]); // [B, T, H C]
        self.o_proj.forward(y) // [B, T, D]
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = match &self.gate_proj {
            Some(gate) => {
                let gate = gate.forward(x.clone()); // [B, T, F]
                kernels::swiglu(gate, self.up_proj.forward(x))
            }
            None if self.activation == Activation::Gelu => gelu(self.up_proj.forward(x)), // [B, T, F]
            None => gelu_approximate(self.up_proj.forward(x)),                            // [B, T, F]
        };
        self.down_proj.forward(hidden) // [B, T, D]
    }
}

/// Returns `x` times a weight as files have it, plus a bias.
///
/// burn's own `linear` turns the transposed weight into a batch of one, which copies it on every call where B is 1 or T a
/// multiple of 32: nine tenths of the time of a cached step. As a product of two matrices nothing is copied.
///
/// # Shapes
/// - x: `[B, T, I]`, weight: `[O, I]`, bias: `[O]`
/// - output: `[B, T, O]`
fn project(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [b, t, i] = x.dims();
    let [o, _] = weight.dims();
    let y = x.reshape([b * t, i]).matmul(weight.transpose()); // [B T, O]
    let y = match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    };
    y.reshape([b, t, o])
}

impl Linear {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        project(x, self.weight.val(), self.bias.as_ref().map(Param::val))
    }
}

impl Norm {
    fn forward<const N: usize>(&self, x: Tensor<N>, epsilon: f64) -> Tensor<N> {
        match &self.bias {
            Some(bias) => layer_norm(x, self.weight.val(), Some(bias.val()), epsilon),
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
