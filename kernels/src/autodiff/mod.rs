//! The fused operations as burn sees them: extensions of its backends, with backward passes.

mod products;
mod rows;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Shape, TensorData};

pub use products::Products;
pub use rows::{Rows, Sums};

type Primitive = FloatTensor<Flex>;

/// Takes a tensor's values, in its own memory where nobody else uses it.
fn take(tensor: Primitive) -> (Vec<f32>, Shape) {
    let shape = tensor.shape();
    let data = if tensor.is_contiguous() { tensor.into_data() } else { tensor.to_contiguous().into_data() };
    match data.try_into_vec() {
        Ok(values) => (values, shape),
        Err(error) => unreachable!("the values of an f32 tensor on the CPU: {error:?}"),
    }
}

fn give(values: Vec<f32>, shape: impl Into<Shape>) -> Primitive {
    Primitive::from_data(TensorData::new(values, shape.into()))
}

fn take_integers(tensor: IntTensor<Flex>) -> Vec<i64> {
    match tensor.into_data().try_into_vec_as() {
        Ok(values) => values,
        Err(error) => unreachable!("the values of an integer tensor on the CPU: {error:?}"),
    }
}

/// Returns a tensor whose values lie in order, itself where they do.
fn in_order(tensor: Primitive) -> Primitive {
    if tensor.as_slice::<f32>().is_some() { tensor } else { tensor.to_contiguous() }
}

/// Returns the values of a tensor that is [`in_order`].
fn values(tensor: &Primitive) -> &[f32] {
    tensor.as_slice().unwrap_or_default()
}

fn last(shape: &Shape) -> usize {
    shape[shape.num_dims() - 1]
}
