//! Fused operations of the Transformer for the CPU, each with its plain reference beside it.
//!
//! A small model on burn-flex spends most of its time between matrix products: each element-wise operation walks over
//! its tensor once and takes fresh memory for the result, and the backward pass does so several times more. Here one
//! walk does the work of many, forward and backward.
//!
//! In: tensors. Out: the same tensors as [`reference`] gives, gradients included, to the last bits of f32. On any other
//! device, and for any other number type, the plain operations run. This crate knows shapes, not models.
//!
//! Sums are taken in an order that depends on the shape alone, so results do not depend on how many threads there are.

mod attention;
mod autodiff;
mod dropout;
mod instructions;
mod lanes;
mod optimizers;
mod products;
pub mod reference;
mod rows;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

pub use dropout::Dropout;
pub use optimizers::{AdamW, Muon};

use autodiff::{Products, Rows, Sums};

/// Returns x times a weight as files have it, plus a bias and a residual where there are any.
///
/// # Shapes
/// - x: `[B, T, I]`, weight: `[O, I]`, bias: `[O]`
/// - residual, output: `[B, T, O]`
///
/// # Panics
/// When the shapes do not fit together.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>, residual: Option<Tensor<3>>) -> Tensor<3> {
    let ([b, t, i], [o, _]) = (x.dims(), weight.dims());
    assert_eq!(weight.dims(), [o, i], "a weight for each element of a row");
    assert!(bias.as_ref().is_none_or(|bias| bias.dims() == [o]), "a bias for each row of the weight");
    assert!(residual.as_ref().is_none_or(|x| x.dims() == [b, t, o]), "a residual for each element of the output");
    if !is_fused(&x) {
        return reference::linear(x, weight, bias, residual);
    }
    let device = x.device();
    let bias = bias.unwrap_or_else(|| Tensor::empty([0], &device)).into_dispatch();
    let residual = residual.unwrap_or_else(|| Tensor::empty([0, 0, 0], &device)).into_dispatch();
    Tensor::from_dispatch(<Dispatch as Products>::linear(x.into_dispatch(), weight.into_dispatch(), bias, residual))
}

/// Returns the rows of a table that the ids name.
///
/// # Shapes
/// - table: `[V, D]`
/// - ids: `[B, T]`, each below V
/// - output: `[B, T, D]`
///
/// # Panics
/// When an id is not below V.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    if !is_fused(&table) {
        return reference::embedding(table, ids);
    }
    Tensor::from_dispatch(<Dispatch as Products>::embedding(table.into_dispatch(), ids.into_dispatch()))
}

/// Returns the sum over the learned targets of (cross-entropy in nats + `z_loss` × lse²) × share, lse being the logarithm of
/// the sum of the exponentials of a row (z-loss: `PaLM`, 2022).
///
/// # Shapes
/// - logits: `[N, V]`
/// - targets: `[N]`, each below V, −1 where it is not learned
/// - output: `[1]`
///
/// # Panics
/// When a target is missing, or not below V.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, share: f64, z_loss: f64) -> Tensor<1> {
    let [n, _] = logits.dims();
    assert_eq!(targets.dims(), [n], "a target for each row of logits");
    if !is_fused(&logits) {
        return reference::cross_entropy(logits, targets, share, z_loss);
    }
    let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Rows>::cross_entropy(logits, targets, share, z_loss))
}

/// Returns causal attention: for each query the values, weighted by the softmax of `scale` × query · key over the keys that
/// stand no later than the query and no earlier than its document's start (Attention Is All You Need, 2017). With dropout,
/// some of the shares that the softmax gives are left out.
///
/// # Shapes
/// - queries: `[B, T, H C]`, C being `head_dim`
/// - keys, values: `[B, T, K C]`; H / K query heads share each (GQA, 2023)
/// - starts: `[B, T]`, the first token of the row that a token sees, at most its own place; none means 0
/// - output: `[B, T, H C]`
///
/// # Panics
/// When the shapes do not fit together, or the rate of the dropout is not at least 0 and below 1.
pub fn attention(
    queries: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    starts: Option<Tensor<2, Int>>,
    head_dim: usize,
    scale: f64,
    dropout: Option<Dropout>,
) -> Tensor<3> {
    let ([b, t, q], [.., k]) = (queries.dims(), keys.dims());
    assert_eq!((keys.dims(), values.dims()), ([b, t, k], [b, t, k]), "a key and a value for each query");
    assert!(k.is_multiple_of(head_dim) && q.is_multiple_of(k), "{q} of queries on {k} of keys by {head_dim}");
    assert!(starts.as_ref().is_none_or(|starts| starts.dims() == [b, t]), "a start for each token");
    if !is_fused(&queries) {
        return reference::attention(queries, keys, values, starts, head_dim, scale, dropout);
    }
    let starts = starts.unwrap_or_else(|| Tensor::empty([0, 0], &queries.device())).into_dispatch();
    let (queries, keys, values) = (queries.into_dispatch(), keys.into_dispatch(), values.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Products>::attention(queries, keys, values, starts, head_dim, scale, dropout))
}

/// Returns x without the elements that dropout leaves out.
///
/// # Shapes
/// - x, output: the same
///
/// # Panics
/// When the rate is not at least 0 and below 1.
pub fn dropout<const N: usize>(x: Tensor<N>, dropout: Dropout) -> Tensor<N> {
    if !is_fused(&x) {
        return reference::dropout(x, dropout);
    }
    Tensor::from_dispatch(<Dispatch as Rows>::dropout(x.into_dispatch(), dropout))
}

/// Returns the shares that causal attention gives to each key: softmax over the last dimension of `scale` × scores,
/// with zeros for the keys after a query's own. The last of the T queries sees all S keys.
///
/// # Shapes
/// - scores: `[B, H, G T, S]`: G groups of the same T queries, one below the other, T at most S
/// - output: as scores
///
/// # Panics
/// When the rows are no whole groups of queries, or there are fewer keys than queries.
pub fn causal_softmax(scores: Tensor<4>, queries: usize, scale: f64) -> Tensor<4> {
    let [_, _, rows, keys] = scores.dims();
    assert!(queries > 0 && rows.is_multiple_of(queries) && queries <= keys, "{rows} rows of {queries} on {keys}");
    if !is_fused(&scores) {
        return reference::causal_softmax(scores, queries, scale);
    }
    Tensor::from_dispatch(<Dispatch as Rows>::causal_softmax(scores.into_dispatch(), queries, scale))
}

/// Returns `x / √(mean(x²) + ε) × weight` over each D elements of the last dimension, once or several times D (Root Mean
/// Square Layer Normalization, 2019).
///
/// # Shapes
/// - x: `[.., H D]`
/// - weight: `[D]`
/// - output: `[.., H D]`
///
/// # Panics
/// When the last dimension is no multiple of that of the weight.
pub fn rms_norm<const N: usize>(x: Tensor<N>, weight: Tensor<1>, epsilon: f64) -> Tensor<N> {
    assert!(x.dims()[N - 1].is_multiple_of(weight.dims()[0]), "a weight for each element of a row");
    if !is_fused(&x) {
        return reference::rms_norm(x, weight, epsilon);
    }
    Tensor::from_dispatch(<Dispatch as Rows>::rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon))
}

/// Returns `(x − mean) / √(variance + ε) × weight + bias` over the last dimension (Layer Normalization, 2016).
///
/// # Shapes
/// - x: `[.., D]`
/// - weight, bias: `[D]`
/// - output: `[.., D]`
///
/// # Panics
/// When the last dimension is not that of weight and bias.
pub fn layer_norm<const N: usize>(x: Tensor<N>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<N> {
    let d = x.dims()[N - 1];
    assert_eq!((weight.dims(), bias.dims()), ([d], [d]), "a weight and a bias for each element of a row");
    if !is_fused(&x) {
        return reference::layer_norm(x, weight, bias, epsilon);
    }
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as Rows>::layer_norm(x, weight, bias, epsilon))
}

/// Returns x / 2 × (1 + tanh(√(2 / π) (x + 0.044715 x³))) (Gaussian Error Linear Units, 2016, its approximation).
///
/// # Shapes
/// - x, output: the same
pub fn gelu<const N: usize>(x: Tensor<N>) -> Tensor<N> {
    if !is_fused(&x) {
        return reference::gelu(x);
    }
    Tensor::from_dispatch(<Dispatch as Rows>::gelu(x.into_dispatch()))
}

/// Returns gate × σ(gate) × up (GLU Variants Improve Transformer, 2020).
///
/// # Shapes
/// - gate, up, output: the same
///
/// # Panics
/// When the shapes differ.
pub fn swiglu<const N: usize>(gate: Tensor<N>, up: Tensor<N>) -> Tensor<N> {
    assert_eq!(gate.dims(), up.dims(), "gate and up have one shape");
    if !is_fused(&gate) {
        return reference::swiglu(gate, up);
    }
    Tensor::from_dispatch(<Dispatch as Rows>::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// Turns the first half of each head against the second by the angle of its position (RoFormer, 2021, in the
/// arrangement of Hugging Face).
///
/// # Shapes
/// - x: `[B, T, H C]`, C even
/// - cos, sin: `[T, C / 2]`
/// - output: `[B, T, H C]`
///
/// # Panics
/// When the tables are not `[T, C / 2]`.
pub fn rope(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<3> {
    let ([_, t, n], [_, half]) = (x.dims(), cos.dims());
    assert_eq!((cos.dims(), sin.dims()), ([t, half], [t, half]), "an angle for each pair of each position");
    assert!(half > 0 && n.is_multiple_of(2 * half), "{n} elements are no whole heads of {half} pairs");
    if !is_fused(&x) {
        return reference::rope(x, cos, sin);
    }
    Tensor::from_dispatch(<Dispatch as Rows>::rope(x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch()))
}

/// Returns the sum of the squares of all elements; no gradient flows through it.
///
/// # Shapes
/// - output: `[1]`
pub fn square_sum<const N: usize>(x: Tensor<N>) -> Tensor<1> {
    if !is_fused(&x) {
        return reference::square_sum(x);
    }
    Tensor::from_dispatch(<Dispatch as Sums>::square_sum(x.into_dispatch()))
}

/// Returns a parameter and the two moments of its gradient after a step of `AdamW`, in their own memory where nobody else
/// uses it.
///
/// # Shapes
/// - all the same
pub fn adamw<const N: usize>(
    x: Tensor<N>,
    gradient: Tensor<N>,
    moments: Option<[Tensor<N>; 2]>,
    step: &AdamW,
) -> (Tensor<N>, [Tensor<N>; 2]) {
    if !is_fused(&x) {
        return reference::adamw(x, gradient, moments, step);
    }
    let (shape, device) = (x.dims(), x.device());
    let (mut x, gradient) = (memory(x), memory(gradient));
    let [mut moment_1, mut moment_2] =
        moments.map_or_else(|| [vec![0.0; x.len()], vec![0.0; x.len()]], |moments| moments.map(memory));
    optimizers::adamw(&mut x, &gradient, &mut moment_1, &mut moment_2, step);
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
    (tensor(x), [tensor(moment_1), tensor(moment_2)])
}

/// Returns a parameter and the velocity of its gradient after a step of Muon, in their own memory where nobody else uses it.
///
/// # Shapes
/// - all the same
pub fn muon(x: Tensor<2>, gradient: Tensor<2>, velocity: Option<Tensor<2>>, step: &Muon) -> (Tensor<2>, Tensor<2>) {
    if !is_fused(&x) {
        return reference::muon(x, gradient, velocity, step);
    }
    let (shape, device) = (x.dims(), x.device());
    let (mut x, mut gradient) = (memory(x), memory(gradient));
    let mut velocity = velocity.map_or_else(|| vec![0.0; x.len()], memory);
    optimizers::muon(&mut x, &mut gradient, &mut velocity, shape[0], step);
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
    (tensor(x), tensor(velocity))
}

/// Takes the values of a tensor of f32 on the CPU, without a copy where it is the only one that has them.
fn memory<const N: usize>(x: Tensor<N>) -> Vec<f32> {
    match x.into_data().try_into_vec() {
        Ok(values) => values,
        Err(error) => unreachable!("the values of an f32 tensor on the CPU: {error:?}"),
    }
}

/// Returns true if `device`, with or without autodiff, is the one that the fused operations run on.
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

fn is_fused<const N: usize>(x: &Tensor<N>) -> bool {
    x.dtype() == DType::F32 && is_cpu(&x.device())
}
