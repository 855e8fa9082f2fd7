//! What has weights, and attention.
//!
//! An argument that may be absent is a tensor of no elements where it is.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};
use burn::tensor::Shape;

use super::{Primitive, give, in_order, last, take, take_integers, values};
use crate::attention::{self, Forward, Heads};
use crate::dropout::Dropout;
use crate::products::{Matrix, product, product_into};
use crate::rows;

/// The operations; shapes and types are checked by the faces in the crate's root.
#[backend_extension(Flex, Autodiff)]
pub trait Products: Backend {
    /// A projection `[.., O]` of x `[.., I]`, plus a bias and a residual.
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    /// Attention of queries `[B, T, H C]` on keys and values `[B, T, K C]`.
    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        starts: IntTensor<Self>,
        width: usize,
        scale: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self>;
    /// The rows of a table `[V, D]` that ids `[B, T]` name.
    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
}

/// Returns a tensor as a matrix of its last dimension.
fn matrix(tensor: &Primitive) -> Matrix<'_> {
    let (columns, values) = (last(&tensor.shape()), values(tensor));
    Matrix::new(values, values.len() / columns, columns, columns)
}

fn heads(queries: &Primitive, keys: &Primitive, width: usize, scale: f64, dropout: Option<Dropout>) -> Heads {
    let (q, k) = (queries.shape(), keys.shape());
    let mask = dropout.map(Dropout::mask);
    Heads { tokens: q[1], queries: q[2] / width, keys: k[2] / width, width, scale: scale as f32, mask }
}

impl Products for Flex {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, weight, bias) = (in_order(x), in_order(weight), in_order(bias));
        let mut shape = x.shape();
        let (at, o) = (shape.num_dims() - 1, weight.shape()[0]);
        shape[at] = o;
        let (a, b) = (matrix(&x), matrix(&weight).transposed());
        let mut y = if residual.shape().num_elements() > 0 {
            let (mut y, _) = take(residual);
            product_into(&mut y, o, a, b, true);
            y
        } else {
            product(a, b)
        };
        if bias.shape().num_elements() > 0 {
            rows::add_to_each(&mut y, values(&bias));
        }
        give(y, shape)
    }

    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        starts: IntTensor<Self>,
        width: usize,
        scale: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        let [queries, keys, values] = [queries, keys, values].map(in_order);
        let heads = heads(&queries, &keys, width, scale, dropout);
        attend(&queries, &keys, &values, &take_integers(starts), heads).0
    }

    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let shape = ids.shape();
        embedded(&in_order(table), &take_integers(ids), &shape)
    }
}

fn embedded(table: &Primitive, ids: &[i64], shape: &Shape) -> Primitive {
    let d = last(&table.shape());
    give(rows::embedding(values(table), d, ids), [shape[0], shape[1], d])
}

fn attend(q: &Primitive, k: &Primitive, v: &Primitive, starts: &[i64], heads: Heads) -> (Primitive, Arc<Vec<f32>>) {
    let (y, lse) = attention::forward(values(q), values(k), values(v), starts, heads);
    (give(y, q.shape()), Arc::new(lse))
}

impl<C: CheckpointStrategy> Products for Autodiff<Flex, C> {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Linear;
        impl Backward<Flex, 4> for Linear {
            type State = (Primitive, Primitive);
            fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = in_order(grads.consume::<Flex>(&ops.node));
                let (x, weight) = ops.state;
                let [x_node, weight_node, bias_node, residual_node] = ops.parents;
                let of_y = matrix(&gradient);
                if let Some(node) = x_node {
                    grads.register::<Flex>(node.id, give(product(of_y, matrix(&weight)), x.shape()));
                }
                if let Some(node) = weight_node {
                    grads.register::<Flex>(node.id, give(product(of_y.transposed(), matrix(&x)), weight.shape()));
                }
                if let Some(node) = bias_node {
                    let o = weight.shape()[0];
                    grads.register::<Flex>(node.id, give(rows::column_sums(values(&gradient), o), [o]));
                }
                if let Some(node) = residual_node {
                    grads.register::<Flex>(node.id, gradient);
                }
            }
        }
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let ((bias, bias_node), (residual, residual_node)) = (bias.into_parts(), residual.into_parts());
        let (x, weight) = (in_order(x), in_order(weight));
        let y = Flex::linear(x.clone(), weight.clone(), bias, residual);
        match Linear.prepare::<C>([x_node, weight_node, bias_node, residual_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        starts: IntTensor<Self>,
        width: usize,
        scale: f64,
        dropout: Option<Dropout>,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Attention;
        #[derive(Debug, Clone)]
        struct State {
            inputs: [Primitive; 3],
            y: Primitive,
            starts: Arc<Vec<i64>>,
            lse: Arc<Vec<f32>>,
            heads: Heads,
        }
        impl Backward<Flex, 3> for Attention {
            type State = State;
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = in_order(grads.consume::<Flex>(&ops.node));
                let State { inputs, y, starts, lse, heads } = ops.state;
                let forward = Forward {
                    queries: super::values(&inputs[0]),
                    keys: super::values(&inputs[1]),
                    values: super::values(&inputs[2]),
                    starts: &starts,
                    y: super::values(&y),
                    lse: &lse,
                };
                let of_inputs = attention::backward(&forward, super::values(&gradient), heads);
                for ((node, gradient), input) in ops.parents.into_iter().zip(of_inputs).zip(&inputs) {
                    if let Some(node) = node {
                        grads.register::<Flex>(node.id, give(gradient, input.shape()));
                    }
                }
            }
        }
        let ((q, q_node), (k, k_node), (v, v_node)) = (queries.into_parts(), keys.into_parts(), values.into_parts());
        let inputs = [q, k, v].map(in_order);
        let starts = Arc::new(take_integers(starts));
        let heads = heads(&inputs[0], &inputs[1], width, scale, dropout);
        let (y, lse) = attend(&inputs[0], &inputs[1], &inputs[2], &starts, heads);
        match Attention.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(State { inputs, y: y.clone(), starts, lse, heads }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Embedding;
        impl Backward<Flex, 1> for Embedding {
            type State = (Shape, Arc<Vec<i64>>);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = in_order(grads.consume::<Flex>(&ops.node));
                if let [Some(node)] = ops.parents {
                    let (shape, ids) = ops.state;
                    let mut of_table = vec![0.0; shape.num_elements()];
                    rows::add_to_rows(&mut of_table, last(&shape), &ids, values(&gradient));
                    grads.register::<Flex>(node.id, give(of_table, shape));
                }
            }
        }
        let (table, node) = table.into_parts();
        let (table, shape) = (in_order(table), ids.shape());
        let ids = Arc::new(take_integers(ids));
        let y = embedded(&table, &ids, &shape);
        match Embedding.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((table.shape(), ids), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
