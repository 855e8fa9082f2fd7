//! What works row by row, or element by element.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};

use super::{Primitive, give, in_order, last, take, take_integers, values};
use crate::dropout::Dropout;
use crate::rows;

/// The operations; shapes and types are checked by the faces in the crate's root.
#[backend_extension(Flex, Autodiff)]
pub trait Rows: Backend {
    /// Cross-entropy of logits `[N, V]`.
    fn cross_entropy(logits: FloatTensor<Self>, targets: IntTensor<Self>, share: f64, z_loss: f64)
    -> FloatTensor<Self>;
    /// Shares of causal attention.
    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f64) -> FloatTensor<Self>;
    /// RMSNorm over the last dimension.
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self>;
    /// LayerNorm over the last dimension.
    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;
    /// GELU by the hyperbolic tangent.
    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Dropout.
    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
    /// The gated unit.
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Rotary positions.
    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// What takes no part in a backward pass.
#[backend_extension(Flex)]
pub trait Sums: Backend {
    /// The sum of the squares of all elements.
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Sums for Flex {
    fn square_sum(x: FloatTensor<Self>) -> FloatTensor<Self> {
        give(vec![rows::square_sum(values(&in_order(x))) as f32], [1])
    }
}

/// Returns the loss and the gradient of the logits.
fn cross_entropy_with_gradient(
    logits: Primitive,
    targets: IntTensor<Flex>,
    share: f64,
    z_loss: f64,
) -> (Primitive, Primitive) {
    let (mut logits, shape) = take(logits);
    let targets = take_integers(targets);
    let loss = rows::cross_entropy(&mut logits, last(&shape), &targets, share, z_loss);
    (give(vec![loss], [1]), give(logits, shape))
}

impl Rows for Flex {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        share: f64,
        z_loss: f64,
    ) -> FloatTensor<Self> {
        cross_entropy_with_gradient(logits, targets, share, z_loss).0
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f64) -> FloatTensor<Self> {
        let (mut scores, shape) = take(scores);
        rows::causal_softmax(&mut scores, last(&shape), queries, scale as f32);
        give(scores, shape)
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        let (x, weight) = (in_order(x), in_order(weight));
        give(rows::rms_norm(values(&x), values(&weight), epsilon as f32), x.shape())
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let [x, weight, bias] = [x, weight, bias].map(in_order);
        give(rows::layer_norm(values(&x), values(&weight), values(&bias), epsilon as f32), x.shape())
    }

    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = in_order(x);
        give(rows::gelu(values(&x)), x.shape())
    }

    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (mut x, shape) = take(x);
        rows::dropout(&mut x, dropout.mask());
        give(x, shape)
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate, up) = (in_order(gate), in_order(up));
        give(rows::swiglu(values(&gate), values(&up)), gate.shape())
    }

    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        turn(x, &in_order(cos), &in_order(sin), false)
    }
}

fn turn(x: Primitive, cos: &Primitive, sin: &Primitive, back: bool) -> Primitive {
    let (mut x, shape) = take(x);
    let half = last(&cos.shape());
    rows::rope(&mut x, shape[2] / (2 * half), values(cos), values(sin), half, back);
    give(x, shape)
}

impl<C: CheckpointStrategy> Rows for Autodiff<Flex, C> {
    fn cross_entropy(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        share: f64,
        z_loss: f64,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct CrossEntropy;
        impl Backward<Flex, 1> for CrossEntropy {
            type State = Primitive;
            fn backward(self, ops: Ops<Primitive, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (of_loss, _) = take(grads.consume::<Flex>(&ops.node));
                if let [Some(logits)] = ops.parents {
                    let (mut gradient, shape) = take(ops.state);
                    for x in &mut gradient {
                        *x *= of_loss[0];
                    }
                    grads.register::<Flex>(logits.id, give(gradient, shape));
                }
            }
        }
        let (logits, node) = logits.into_parts();
        match CrossEntropy.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (loss, gradient) = cross_entropy_with_gradient(logits, targets, share, z_loss);
                prep.finish(gradient, loss)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::cross_entropy(logits, targets, share, z_loss)),
        }
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f64) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct CausalSoftmax;
        impl Backward<Flex, 1> for CausalSoftmax {
            type State = (Primitive, usize, f32);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (mut gradient, shape) = take(grads.consume::<Flex>(&ops.node));
                if let [Some(scores)] = ops.parents {
                    let (shares, queries, scale) = ops.state;
                    rows::causal_softmax_backward(values(&shares), &mut gradient, last(&shape), queries, scale);
                    grads.register::<Flex>(scores.id, give(gradient, shape));
                }
            }
        }
        let (scores, node) = scores.into_parts();
        let shares = Flex::causal_softmax(scores, queries, scale);
        match CausalSoftmax.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((shares.clone(), queries, scale as f32), shares),
            OpsKind::UnTracked(prep) => prep.finish(shares),
        }
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f64) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RmsNorm;
        impl Backward<Flex, 2> for RmsNorm {
            type State = (Primitive, Primitive, f32);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (mut gradient, shape) = take(grads.consume::<Flex>(&ops.node));
                let (x, weight, epsilon) = ops.state;
                let of_weight = rows::rms_norm_backward(values(&x), values(&weight), &mut gradient, epsilon);
                let [x_node, weight_node] = ops.parents;
                if let Some(x) = x_node {
                    grads.register::<Flex>(x.id, give(gradient, shape));
                }
                if let Some(node) = weight_node {
                    grads.register::<Flex>(node.id, give(of_weight, weight.shape()));
                }
            }
        }
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (x, weight) = (in_order(x), in_order(weight));
        let y = Flex::rms_norm(x.clone(), weight.clone(), epsilon);
        match RmsNorm.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, epsilon as f32), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct LayerNorm;
        impl Backward<Flex, 3> for LayerNorm {
            type State = (Primitive, Primitive, f32);
            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (mut gradient, shape) = take(grads.consume::<Flex>(&ops.node));
                let (x, weight, epsilon) = ops.state;
                let mut of_weight = rows::layer_norm_backward(values(&x), values(&weight), &mut gradient, epsilon);
                let of_bias = of_weight.split_off(of_weight.len() / 2);
                let of_inputs = [(gradient, shape), (of_weight, weight.shape()), (of_bias, weight.shape())];
                for (node, (gradient, shape)) in ops.parents.into_iter().zip(of_inputs) {
                    if let Some(node) = node {
                        grads.register::<Flex>(node.id, give(gradient, shape));
                    }
                }
            }
        }
        let ((x, x_node), (weight, weight_node), (bias, bias_node)) =
            (x.into_parts(), weight.into_parts(), bias.into_parts());
        let (x, weight) = (in_order(x), in_order(weight));
        let y = Flex::layer_norm(x.clone(), weight.clone(), bias, epsilon);
        match LayerNorm.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, epsilon as f32), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Gelu;
        impl Backward<Flex, 1> for Gelu {
            type State = Primitive;
            fn backward(self, ops: Ops<Primitive, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (mut gradient, shape) = take(grads.consume::<Flex>(&ops.node));
                if let [Some(node)] = ops.parents {
                    rows::gelu_backward(values(&ops.state), &mut gradient);
                    grads.register::<Flex>(node.id, give(gradient, shape));
                }
            }
        }
        let (x, node) = x.into_parts();
        let x = in_order(x);
        let y = Flex::gelu(x.clone());
        match Gelu.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Drop;
        impl Backward<Flex, 1> for Drop {
            type State = Dropout;
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                if let [Some(node)] = ops.parents {
                    grads.register::<Flex>(node.id, Flex::dropout(gradient, ops.state));
                }
            }
        }
        let (x, node) = x.into_parts();
        let y = Flex::dropout(x, dropout);
        match Drop.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dropout, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Swiglu;
        impl Backward<Flex, 2> for Swiglu {
            type State = (Primitive, Primitive);
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let (mut gradient, shape) = take(grads.consume::<Flex>(&ops.node));
                let (gate, up) = ops.state;
                let of_up = rows::swiglu_backward(values(&gate), values(&up), &mut gradient);
                let [gate_node, up_node] = ops.parents;
                if let Some(node) = gate_node {
                    grads.register::<Flex>(node.id, give(gradient, shape.clone()));
                }
                if let Some(node) = up_node {
                    grads.register::<Flex>(node.id, give(of_up, shape));
                }
            }
        }
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (in_order(gate), in_order(up));
        let y = Flex::swiglu(gate.clone(), up.clone());
        match Swiglu.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((gate, up), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Rope;
        impl Backward<Flex, 1> for Rope {
            type State = (Primitive, Primitive);
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                if let [Some(x)] = ops.parents {
                    let (cos, sin) = ops.state;
                    grads.register::<Flex>(x.id, turn(gradient, &cos, &sin, true));
                }
            }
        }
        // The angles are constants: nothing flows back into them.
        let (cos, sin) = (in_order(cos.into_primitive()), in_order(sin.into_primitive()));
        let (x, node) = x.into_parts();
        let y = turn(x, &cos, &sin, false);
        match Rope.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
