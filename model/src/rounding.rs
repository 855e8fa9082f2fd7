//! Weights rounded to the integers of a quantised format, for quantisation-aware training.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use kernels::blocks::{BLOCK, BlockType, quantize_q4_0, quantize_q8_0};

use crate::compressed_tensors::Integers;
use crate::{Error, Transformer, named_parameters};

/// Returns the model with the weights of the projections of its layers rounded; those whose rows are not whole blocks,
/// embeddings, biases and norms are as they were, as in the quantised formats. What is rounded already stays as it is.
///
/// The parameters keep their ids, so that a gradient at the rounded weights is one for the weights of `model`: the
/// straight-through estimator (Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
/// Computation, 2013).
///
/// # Errors
/// Returns an error if the device fails.
pub fn rounded(model: &Transformer, integers: Integers) -> Result<Transformer, Error> {
    let mut rounder = Rounder { integers, error: None };
    let rounded = named_parameters::map(model.clone(), &mut rounder);
    rounder.error.map_or(Ok(rounded), Err)
}

/// Rounds whole blocks of weights to what a quantised format stores of them.
fn round(values: &mut [f32], integers: Integers) {
    for block in values.as_chunks_mut::<BLOCK>().0 {
        let rounded = match integers {
            Integers::Int8 => BlockType::Q8_0.dequantize(&quantize_q8_0(block)),
            Integers::Int4 => BlockType::Q4_0.dequantize(&quantize_q4_0(block)),
        };
        block.copy_from_slice(&rounded);
    }
}

struct Rounder {
    integers: Integers,
    error: Option<Error>,
}

impl named_parameters::Mapper for Rounder {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_projection = D == 2 && name.starts_with("layers.") && !name.contains(".lora.");
        let shape = param.val().dims();
        if !is_projection || !shape[D - 1].is_multiple_of(BLOCK) {
            return param;
        }
        let inner = param.val().inner();
        let device = inner.device();
        let mut values: Vec<f32> = match inner.try_into_vec_as() {
            Ok(values) => values,
            Err(error) => {
                self.error = Some(Error::Compute { what: "weights", source: Box::new(error) });
                return param;
            }
        };
        round(&mut values, self.integers);
        let is_trainable = param.is_require_grad();
        param.map(|old| {
            let rounded = Tensor::from_data(TensorData::new(values, shape), &device);
            if old.device().is_autodiff() {
                Tensor::from_inner(rounded).set_require_grad(is_trainable)
            } else {
                rounded
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};

    use super::*;
    use crate::checkpoint;
    use crate::config::{Family, tests::tiny};

    #[test]
    fn rounding_twice_is_rounding_once() {
        let values: Vec<f32> = (0..4096).map(|i| ((i * i * 37 + i) % 1001) as f32 / 500.0 - 1.0).collect();
        for integers in [Integers::Int8, Integers::Int4] {
            let mut once = values.clone();
            round(&mut once, integers);
            assert_ne!(once, values);
            let mut twice = once.clone();
            round(&mut twice, integers);
            assert_eq!(once, twice, "{integers:?}");
        }
    }

    #[test]
    fn only_whole_blocks_of_projections_are_rounded() {
        let model = Transformer::init(&tiny(Family::Qwen3), 1, &Device::flex().autodiff());
        let rounded = super::rounded(&model, Integers::Int4).unwrap();
        let (before, after) = (checkpoint::weights(&model).unwrap(), checkpoint::weights(&rounded).unwrap());
        for (name, weight) in &before {
            // d_model is 32, d_ff 48.
            let expected = name.starts_with("layers.") && weight.shape.len() == 2 && weight.shape[1] == 32;
            assert_eq!(after[name] != *weight, expected, "{name}");
        }
    }

    #[test]
    fn gradients_pass_through_the_rounding() {
        let device = Device::flex().autodiff();
        let model = Transformer::init(&tiny(Family::Qwen3), 1, &device);
        let rounded = super::rounded(&model, Integers::Int4).unwrap();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(vec![1i64, 2, 3, 4], vec![1, 4]), &device);
        let gradients = rounded.forward(tokens).square().sum().backward();
        let gradients = burn::optim::GradientsParams::from_grads(gradients, &rounded);
        let mut trained = Trained { gradients, found: 0 };
        named_parameters::visit(&model, &mut trained);
        assert_eq!(
            trained.found,
            checkpoint::weights(&model).unwrap().len(),
            "a gradient for each weight of the model"
        );
    }

    struct Trained {
        gradients: burn::optim::GradientsParams,
        found: usize,
    }

    impl named_parameters::Visitor for Trained {
        fn parameter<const D: usize>(&mut self, _: &str, param: &Param<Tensor<D>>) {
            self.found += usize::from(self.gradients.get::<D>(param.id).is_some());
        }
    }
}
