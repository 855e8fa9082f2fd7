//! The fused operations as burn sees them: extensions of its backends, with backward passes.

mod elementwise;
mod matrix;

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::{Shape, TensorData};

pub use elementwise::{ElementwiseOps, ReduceOps};
pub use matrix::MatrixOps;

type Primitive = FloatTensor<Flex>;

/// Computes the gradients of N inputs from the saved state and the gradient of the output. The flags say which
/// gradients are needed; others may be None.
type BackwardFn<S, const N: usize> = fn(S, Primitive, [bool; N]) -> [Option<Primitive>; N];

/// Records an operation with the output `y` in the graph, if any of its inputs is tracked.
fn record<C: CheckpointStrategy, S, const N: usize>(
    inputs: [NodeGuard; N],
    state: S,
    y: Primitive,
    backward: BackwardFn<S, N>,
) -> FloatTensor<Autodiff<Flex, C>>
where
    S: Clone + Send + Debug + 'static,
{
    match Recorded(backward).prepare::<C>(inputs).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct Recorded<S, const N: usize>(BackwardFn<S, N>);

impl<S: Clone + Send + Debug + 'static, const N: usize> Backward<Flex, N> for Recorded<S, N> {
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let needed = ops.parents.each_ref().map(Option::is_some);
        for (node, gradient) in ops.parents.into_iter().zip(self.0(ops.state, gradient, needed)) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// Returns a tensor's values, without a copy if nothing else refers to them.
fn into_vec(tensor: Primitive) -> (Vec<f32>, Shape) {
    let shape = tensor.shape();
    let data = if tensor.is_contiguous() { tensor.into_data() } else { tensor.to_contiguous().into_data() };
    match data.try_into_vec() {
        Ok(values) => (values, shape),
        Err(error) => unreachable!("the values of an f32 tensor on the CPU: {error:?}"),
    }
}

fn from_vec(values: Vec<f32>, shape: impl Into<Shape>) -> Primitive {
    Primitive::from_data(TensorData::new(values, shape.into()))
}

fn ints_into_vec(tensor: IntTensor<Flex>) -> Vec<i64> {
    match tensor.into_data().try_into_vec_as() {
        Ok(values) => values,
        Err(error) => unreachable!("the values of an integer tensor on the CPU: {error:?}"),
    }
}

/// Returns a contiguous tensor of the same values, without a copy if the tensor is contiguous.
fn contiguous(tensor: Primitive) -> Primitive {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// Returns the values of a [`contiguous`] tensor.
fn values(tensor: &Primitive) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

fn last_dim(shape: &Shape) -> usize {
    shape[shape.num_dims() - 1]
}
