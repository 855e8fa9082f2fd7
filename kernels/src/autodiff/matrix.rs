//! Operations with matrix products, and embedding.
//!
//! An absent optional argument is a tensor of no elements.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::Shape;

use super::{Primitive, contiguous, from_vec, into_vec, ints_into_vec, last_dim, record, values};
use crate::attention::{self, Forward, Heads};
use crate::dropout::Dropout;
use crate::gemm::{Matrix, matmul, matmul_into};
use crate::{embedding, reduce};

/// The operations. The public functions of the crate check shapes and number types before they call them.
#[backend_extension(Flex, Autodiff)]
pub trait MatrixOps: Backend {
    /// The product of x `[.., I]` and a weight `[O, I]`, plus a bias and a residual: `[.., O]`.
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Attention of queries `[B, T, H C]` to keys and values `[B, T, K C]`.
    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        segment_starts: IntTensor<Self>,
        head_dim: usize,
        scale: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;
    /// The rows of a table `[V, D]` that ids `[B, T]` name.
    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

/// Returns a tensor as a matrix whose columns are its last dimension.
fn matrix(tensor: &Primitive) -> Matrix<'_> {
    let (columns, values) = (last_dim(&tensor.shape()), values(tensor));
    Matrix::new(values, values.len() / columns, columns, columns)
}

fn heads(queries: &Primitive, keys: &Primitive, head_dim: usize, scale: f64, dropout: Option<Dropout>) -> Heads {
    let (q, k) = (queries.shape(), keys.shape());
    let (n_head, n_kv_head) = (q[2] / head_dim, k[2] / head_dim);
    Heads { tokens: q[1], n_head, n_kv_head, head_dim, scale: scale as f32, mask: dropout.map(Dropout::mask) }
}

fn attend(
    [queries, keys, queried_values]: &[Primitive; 3],
    segment_starts: &[i64],
    heads: Heads,
) -> (Primitive, Vec<f32>) {
    let (y, lse) = attention::forward(values(queries), values(keys), values(queried_values), segment_starts, heads);
    (from_vec(y, queries.shape()), lse)
}

fn embed(table: &Primitive, ids: &[i64], shape: &Shape) -> Primitive {
    let d = last_dim(&table.shape());
    from_vec(embedding::embedding(values(table), d, ids), [shape[0], shape[1], d])
}

impl MatrixOps for Flex {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (contiguous(x), contiguous(weight), contiguous(bias));
        let mut shape = x.shape();
        let (last, o) = (shape.num_dims() - 1, weight.shape()[0]);
        shape[last] = o;
        let (a, b) = (matrix(&x), matrix(&weight).transposed());
        let mut y = if residual.shape().num_elements() > 0 {
            let (mut y, _) = into_vec(residual);
            matmul_into(&mut y, o, a, b, true);
            y
        } else {
            matmul(a, b)
        };
        if bias.shape().num_elements() > 0 {
            reduce::add_to_rows(&mut y, values(&bias));
        }
        from_vec(y, shape)
    }

    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        segment_starts: IntTensor<Self>,
        head_dim: usize,
        scale: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let inputs = [queries, keys, values].map(contiguous);
        let heads = heads(&inputs[0], &inputs[1], head_dim, scale, dropout);
        attend(&inputs, &ints_into_vec(segment_starts), heads).0
    }

    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let shape = ids.shape();
        embed(&contiguous(table), &ints_into_vec(ids), &shape)
    }
}

/// What attention saves for its backward pass.
#[derive(Debug, Clone)]
struct AttentionState {
    inputs: [Primitive; 3],
    y: Primitive,
    segment_starts: Arc<Vec<i64>>,
    lse: Arc<Vec<f32>>,
    heads: Heads,
}

impl<C: CheckpointStrategy> MatrixOps for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let ((bias, bias_node), (residual, residual_node)) = (bias.into_parts(), residual.into_parts());
        let (x, weight) = (contiguous(x), contiguous(weight));
        let y = Flex::linear(x.clone(), weight.clone(), bias, residual);
        let inputs = [x_node, weight_node, bias_node, residual_node];
        record::<C, _, _>(
            inputs,
            (x, weight),
            y,
            |(x, weight), gradient, [needs_x, needs_weight, needs_bias, needs_residual]| {
                let gradient = contiguous(gradient);
                let d_y = matrix(&gradient);
                let o = weight.shape()[0];
                [
                    needs_x.then(|| from_vec(matmul(d_y, matrix(&weight)), x.shape())),
                    needs_weight.then(|| from_vec(matmul(d_y.transposed(), matrix(&x)), weight.shape())),
                    needs_bias.then(|| from_vec(reduce::column_sums(values(&gradient), o), [o])),
                    needs_residual.then(|| gradient.clone()),
                ]
            },
        )
    }

    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        segment_starts: IntTensor<Self>,
        head_dim: usize,
        scale: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let ((q, q_node), (k, k_node), (v, v_node)) = (queries.into_parts(), keys.into_parts(), values.into_parts());
        let inputs = [q, k, v].map(contiguous);
        let segment_starts = Arc::new(ints_into_vec(segment_starts));
        let heads = heads(&inputs[0], &inputs[1], head_dim, scale, dropout);
        let (y, lse) = attend(&inputs, &segment_starts, heads);
        let state = AttentionState { inputs, y: y.clone(), segment_starts, lse: Arc::new(lse), heads };
        record::<C, _, _>([q_node, k_node, v_node], state, y, |state, gradient, _| {
            let gradient = contiguous(gradient);
            let [queries, keys, values] = state.inputs.each_ref().map(super::values);
            let forward = Forward {
                queries,
                keys,
                values,
                segment_starts: &state.segment_starts,
                y: super::values(&state.y),
                lse: &state.lse,
            };
            let [d_queries, d_keys, d_values] = attention::backward(&forward, super::values(&gradient), state.heads);
            let [queries, keys, values] = state.inputs.each_ref().map(TensorMetadata::shape);
            [from_vec(d_queries, queries), from_vec(d_keys, keys), from_vec(d_values, values)].map(Some)
        })
    }

    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let (table, node) = table.into_parts();
        let (table, shape) = (contiguous(table), ids.shape());
        let ids = Arc::new(ints_into_vec(ids));
        let y = embed(&table, &ids, &shape);
        record::<C, _, _>([node], (table.shape(), ids), y, |(shape, ids), gradient, _| {
            let gradient = contiguous(gradient);
            let mut d_table = vec![0.0; shape.num_elements()];
            embedding::embedding_backward(&mut d_table, last_dim(&shape), &ids, values(&gradient));
            [Some(from_vec(d_table, shape))]
        })
    }
}
