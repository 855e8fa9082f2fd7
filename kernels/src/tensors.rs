//! The fused operations on tensors: on the CPU in f32, else their reference implementations.

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::autodiff::{ElementwiseOps, MatrixOps, ReduceOps};
use crate::{AdamW, Dropout, Muon, optimizers, reference};

/// Returns `x weightᵀ`, plus a bias and a residual if given.
///
/// # Shapes
/// - x: `[B, T, I]`, weight: `[O, I]`, bias: `[O]`
/// - residual, output: `[B, T, O]`
///
/// # Panics
/// Panics if the shapes do not match.
pub fn linear(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>, residual: Option<Tensor<3>>) -> Tensor<3> {
    let ([b, t, i], [o, _]) = (x.dims(), weight.dims());
    assert_eq!(weight.dims(), [o, i], "weight: one column for each element of a row");
    assert!(bias.as_ref().is_none_or(|bias| bias.dims() == [o]), "bias: one element for each row of the weight");
    assert!(residual.as_ref().is_none_or(|x| x.dims() == [b, t, o]), "residual: the shape of the output");
    if !is_fused(&x) {
        return reference::linear(x, weight, bias, residual);
    }
    let device = x.device();
    let bias = bias.unwrap_or_else(|| Tensor::empty([0], &device)).into_dispatch();
    let residual = residual.unwrap_or_else(|| Tensor::empty([0, 0, 0], &device)).into_dispatch();
    Tensor::from_dispatch(<Dispatch as MatrixOps>::linear(x.into_dispatch(), weight.into_dispatch(), bias, residual))
}

/// Returns the rows of a table that the ids name.
///
/// # Shapes
/// - table: `[V, D]`
/// - ids: `[B, T]`, each below V
/// - output: `[B, T, D]`
///
/// # Panics
/// Panics if an id is not below V.
pub fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    if !is_fused(&table) {
        return reference::embedding(table, ids);
    }
    Tensor::from_dispatch(<Dispatch as MatrixOps>::embedding(table.into_dispatch(), ids.into_dispatch()))
}

/// Returns the sum over the targets that are not ignored of (cross-entropy in nats + `z_loss` × lse²) × `loss_scale`,
/// lse being the logarithm of the sum of the exponentials of a row (z-loss: `PaLM`, 2022).
///
/// # Shapes
/// - logits: `[N, V]`
/// - targets: `[N]`, each below V; negative if ignored
/// - output: `[1]`
///
/// # Panics
/// Panics if the number of targets is not N, or one is not below V.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, loss_scale: f64, z_loss: f64) -> Tensor<1> {
    let [n, _] = logits.dims();
    assert_eq!(targets.dims(), [n], "targets: one for each row of logits");
    if !is_fused(&logits) {
        return reference::cross_entropy(logits, targets, loss_scale, z_loss);
    }
    let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::cross_entropy(logits, targets, loss_scale, z_loss))
}

/// Returns the sum over the targets that are not ignored of the divergence KL(teacher ‖ student) in nats × temperature²
/// × `loss_scale`, both distributions being softmax(logits / temperature); the factor temperature² keeps the size of
/// the gradients (Distilling the Knowledge in a Neural Network, 2015). No gradient flows to the teacher.
///
/// # Shapes
/// - student, teacher: `[N, V]`
/// - targets: `[N]`; negative if ignored
/// - output: `[1]`
///
/// # Panics
/// Panics if the shapes do not match.
pub fn kl_divergence(
    student: Tensor<2>,
    teacher: Tensor<2>,
    targets: Tensor<1, Int>,
    temperature: f64,
    loss_scale: f64,
) -> Tensor<1> {
    let [n, v] = student.dims();
    assert_eq!((teacher.dims(), targets.dims()), ([n, v], [n]), "teacher and targets: one row for each of the student");
    if !is_fused(&student) || !is_fused(&teacher) {
        return reference::kl_divergence(student, teacher, targets, temperature, loss_scale);
    }
    let (student, teacher, targets) = (student.into_dispatch(), teacher.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::kl_divergence(
        student,
        teacher,
        targets,
        temperature,
        loss_scale,
    ))
}

/// Returns causal attention (Attention Is All You Need, 2017): for each query the mean of the values, weighted by
/// softmax(`scale` × query · key) over the keys from the start of its segment up to its own position. Dropout applies
/// to the probabilities.
///
/// # Shapes
/// - queries: `[B, T, H C]`, C being `head_dim`
/// - keys, values: `[B, T, K C]`, each head used by H / K query heads (GQA, 2023)
/// - `segment_starts`: `[B, T]`, the first position that a token attends to, at most its own; None means 0
/// - output: `[B, T, H C]`
///
/// # Panics
/// Panics if the shapes do not match, or the dropout probability is not at least 0 and below 1.
pub fn attention(
    queries: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    segment_starts: Option<Tensor<2, Int>>,
    head_dim: usize,
    scale: f64,
    dropout: Option<Dropout>,
) -> Tensor<3> {
    let ([b, t, q], [.., k]) = (queries.dims(), keys.dims());
    assert_eq!((keys.dims(), values.dims()), ([b, t, k], [b, t, k]), "keys and values: one for each query");
    assert!(k.is_multiple_of(head_dim) && q.is_multiple_of(k), "queries of {q}, keys of {k}, heads of {head_dim}");
    assert!(
        segment_starts.as_ref().is_none_or(|segment_starts| segment_starts.dims() == [b, t]),
        "segment_starts: one for each token"
    );
    if !is_fused(&queries) {
        return reference::attention(queries, keys, values, segment_starts, head_dim, scale, dropout);
    }
    let segment_starts = segment_starts.unwrap_or_else(|| Tensor::empty([0, 0], &queries.device())).into_dispatch();
    let (queries, keys, values) = (queries.into_dispatch(), keys.into_dispatch(), values.into_dispatch());
    Tensor::from_dispatch(<Dispatch as MatrixOps>::attention(
        queries,
        keys,
        values,
        segment_starts,
        head_dim,
        scale,
        dropout,
    ))
}

/// Returns x with dropout applied.
///
/// # Shapes
/// - x, output: the same
///
/// # Panics
/// Panics if the dropout probability is not at least 0 and below 1.
pub fn dropout<const N: usize>(x: Tensor<N>, dropout: Dropout) -> Tensor<N> {
    if !is_fused(&x) {
        return reference::dropout(x, dropout);
    }
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::dropout(x.into_dispatch(), dropout))
}

/// Returns the probabilities of causal attention: softmax(`scale` × scores) over the keys, zero for the keys after a
/// query's own. The last of the T queries attends to all S keys.
///
/// # Shapes
/// - scores: `[B, H, G T, S]`: G groups of T queries, T at most S
/// - output: as scores
///
/// # Panics
/// Panics if the rows are not whole groups of queries, or there are fewer keys than queries.
pub fn causal_softmax(scores: Tensor<4>, queries: usize, scale: f64) -> Tensor<4> {
    let [_, _, rows, keys] = scores.dims();
    assert!(
        queries > 0 && rows.is_multiple_of(queries) && queries <= keys,
        "{rows} rows in groups of {queries} queries, {keys} keys"
    );
    if !is_fused(&scores) {
        return reference::causal_softmax(scores, queries, scale);
    }
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::causal_softmax(scores.into_dispatch(), queries, scale))
}

/// Returns `x / √(mean(x²) + ε) × weight` over each D elements of the last dimension, which is a multiple of D (Root
/// Mean Square Layer Normalization, 2019).
///
/// # Shapes
/// - x: `[.., H D]`
/// - weight: `[D]`
/// - output: `[.., H D]`
///
/// # Panics
/// Panics if the last dimension is not a multiple of D.
pub fn rms_norm<const N: usize>(x: Tensor<N>, weight: Tensor<1>, epsilon: f64) -> Tensor<N> {
    assert!(x.dims()[N - 1].is_multiple_of(weight.dims()[0]), "the last dimension is a multiple of the weight's");
    if !is_fused(&x) {
        return reference::rms_norm(x, weight, epsilon);
    }
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::rms_norm(x.into_dispatch(), weight.into_dispatch(), epsilon))
}

/// Returns `(x − mean) / √(variance + ε) × weight + bias` over the last dimension (Layer Normalization, 2016).
///
/// # Shapes
/// - x: `[.., D]`
/// - weight, bias: `[D]`
/// - output: `[.., D]`
///
/// # Panics
/// Panics if the last dimension is not D.
pub fn layer_norm<const N: usize>(x: Tensor<N>, weight: Tensor<1>, bias: Tensor<1>, epsilon: f64) -> Tensor<N> {
    let d = x.dims()[N - 1];
    assert_eq!((weight.dims(), bias.dims()), ([d], [d]), "weight and bias: one element for each element of a row");
    if !is_fused(&x) {
        return reference::layer_norm(x, weight, bias, epsilon);
    }
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::layer_norm(x, weight, bias, epsilon))
}

/// Returns x / 2 × (1 + tanh(√(2 / π) (x + 0.044715 x³))): the tanh approximation of GELU (Gaussian Error Linear Units,
/// 2016).
///
/// # Shapes
/// - x, output: the same
pub fn gelu<const N: usize>(x: Tensor<N>) -> Tensor<N> {
    if !is_fused(&x) {
        return reference::gelu(x);
    }
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::gelu(x.into_dispatch()))
}

/// Returns gate × σ(gate) × up (GLU Variants Improve Transformer, 2020).
///
/// # Shapes
/// - gate, up, output: the same
///
/// # Panics
/// Panics if the shapes differ.
pub fn swiglu<const N: usize>(gate: Tensor<N>, up: Tensor<N>) -> Tensor<N> {
    assert_eq!(gate.dims(), up.dims(), "gate and up have the same shape");
    if !is_fused(&gate) {
        return reference::swiglu(gate, up);
    }
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// Rotates the pairs of each head by the angles of their position; a pair is one element of the first half and one of
/// the second (RoFormer, 2021, in the arrangement of Hugging Face).
///
/// # Shapes
/// - x: `[B, T, H C]`, C even
/// - cos, sin: `[T, C / 2]`
/// - output: `[B, T, H C]`
///
/// # Panics
/// Panics if the tables are not `[T, C / 2]`.
pub fn rope(x: Tensor<3>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<3> {
    let ([_, t, n], [_, half]) = (x.dims(), cos.dims());
    assert_eq!((cos.dims(), sin.dims()), ([t, half], [t, half]), "cos and sin: one for each pair of each position");
    assert!(half > 0 && n.is_multiple_of(2 * half), "{n} elements are not whole heads of {half} pairs");
    if !is_fused(&x) {
        return reference::rope(x, cos, sin);
    }
    Tensor::from_dispatch(<Dispatch as ElementwiseOps>::rope(
        x.into_dispatch(),
        cos.into_dispatch(),
        sin.into_dispatch(),
    ))
}

/// Returns the sum of the squares of all elements; no gradient flows through it.
///
/// # Shapes
/// - output: `[1]`
pub fn square_sum<const N: usize>(x: Tensor<N>) -> Tensor<1> {
    if !is_fused(&x) {
        return reference::square_sum(x);
    }
    Tensor::from_dispatch(<Dispatch as ReduceOps>::square_sum(x.into_dispatch()))
}

/// Returns a parameter and the two moments of its gradient after a step of `AdamW`; in place if nothing else refers to
/// them.
///
/// # Shapes
/// - all tensors: the same
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
    let (mut x, gradient) = (into_vec(x), into_vec(gradient));
    let [mut moment_1, mut moment_2] =
        moments.map_or_else(|| [vec![0.0; x.len()], vec![0.0; x.len()]], |moments| moments.map(into_vec));
    optimizers::adamw(&mut x, &gradient, &mut moment_1, &mut moment_2, step);
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
    (tensor(x), [tensor(moment_1), tensor(moment_2)])
}

/// Returns a parameter and the velocity of its gradient after a step of Muon; in place if nothing else refers to them.
///
/// # Shapes
/// - all tensors: the same
pub fn muon(x: Tensor<2>, gradient: Tensor<2>, velocity: Option<Tensor<2>>, step: &Muon) -> (Tensor<2>, Tensor<2>) {
    if !is_fused(&x) {
        return reference::muon(x, gradient, velocity, step);
    }
    let (shape, device) = (x.dims(), x.device());
    let (mut x, mut gradient) = (into_vec(x), into_vec(gradient));
    let mut velocity = velocity.map_or_else(|| vec![0.0; x.len()], into_vec);
    optimizers::muon(&mut x, &mut gradient, &mut velocity, shape[0], step);
    let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
    (tensor(x), tensor(velocity))
}

/// Returns the values of an f32 tensor on the CPU, without a copy if nothing else refers to them.
fn into_vec<const N: usize>(x: Tensor<N>) -> Vec<f32> {
    match x.into_data().try_into_vec() {
        Ok(values) => values,
        Err(error) => unreachable!("the values of an f32 tensor on the CPU: {error:?}"),
    }
}

/// Returns true if `device`, with or without autodiff, is the CPU that the fused operations run on.
pub fn is_cpu(device: &Device) -> bool {
    *device == Device::flex()
}

fn is_fused<const N: usize>(x: &Tensor<N>) -> bool {
    x.dtype() == DType::F32 && is_cpu(&x.device())
}
