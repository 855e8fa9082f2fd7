//! Finite scalar quantisation (Finite Scalar Quantization: VQ-VAE Made Simple, 2023): each dimension of a latent vector
//! is bounded by a tanh and rounded to one of a few values, so that the codebook is their product and none of it can
//! die. A code is the number whose digits are the values, the first dimension being the lowest digit.
//!
//! Dimensions: B items, N patches, D dimensions of a code, G codes of a patch.

use burn::tensor::{Tensor, TensorData};

/// How far tanh reaches beyond the outermost values, so that these can be reached with a gradient left; the paper's.
const MARGIN: f64 = 1e-3;

/// A quantiser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fsq {
    levels: Vec<usize>,
}

impl Fsq {
    /// Returns the quantiser with that many values in each dimension, two at least.
    pub fn new(levels: &[usize]) -> Self {
        Self { levels: levels.to_vec() }
    }

    /// Returns D.
    pub fn dims(&self) -> usize {
        self.levels.len()
    }

    /// Returns the number of codes.
    pub fn vocab_size(&self) -> usize {
        self.levels.iter().product()
    }

    /// Returns the latent values rounded to those of the codes, in −1 to 1. The gradient is that of the bounded values,
    /// passed straight through the rounding (Estimating or Propagating Gradients Through Stochastic Neurons, 2013).
    ///
    /// # Shapes
    /// - latent, output: `[B, N, G D]`
    pub fn quantize(&self, latent: Tensor<3>) -> Tensor<3> {
        let (device, [.., dims]) = (latent.device(), latent.dims());
        let row = |value: fn(f64) -> f64| {
            let values = self.levels.iter().cycle().take(dims).map(|levels| value(*levels as f64) as f32);
            Tensor::<3>::from_data(TensorData::new(values.collect::<Vec<_>>(), [1, 1, dims]), &device)
        };
        let bounded = (latent + row(shift)).tanh() * row(reach) - row(offset); // [B, N, G D]
        let rounding = (bounded.clone().round() - bounded.clone()).detach();
        (bounded + rounding) / row(half_width)
    }

    /// Returns the code of D values that [`Fsq::quantize`] returned.
    pub fn code(&self, values: &[f32]) -> u32 {
        let digits = self.levels.iter().zip(values).map(|(levels, value)| {
            let digit = (f64::from(*value) * half_width(*levels as f64)).round() as i64 + (levels / 2) as i64;
            (digit.clamp(0, *levels as i64 - 1) as u32, *levels as u32)
        });
        digits.rev().fold(0, |code, (digit, levels)| code * levels + digit)
    }

    /// Returns the D values of a code.
    pub fn values(&self, code: u32) -> Vec<f32> {
        let mut rest = code as usize;
        let values = self.levels.iter().map(|levels| {
            let digit = rest % levels;
            rest /= levels;
            ((digit as f64 - (levels / 2) as f64) / half_width(*levels as f64)) as f32
        });
        values.collect()
    }
}

/// Half the distance that tanh covers.
fn reach(levels: f64) -> f64 {
    (levels - 1.0) * (1.0 + MARGIN) / 2.0
}

/// With an even number of values, zero is one of them and one more is below it than above it.
fn offset(levels: f64) -> f64 {
    if levels % 2.0 == 0.0 { 0.5 } else { 0.0 }
}

/// Moves the latent zero to the value zero.
fn shift(levels: f64) -> f64 {
    (offset(levels) / reach(levels)).atanh()
}

/// Divides whole numbers so that they are in −1 to 1.
fn half_width(levels: f64) -> f64 {
    (levels / 2.0).floor()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;

    fn quantized(levels: &[usize], latent: Vec<f32>) -> Vec<f32> {
        let shape = [1, 1, latent.len()];
        let latent = Tensor::from_data(TensorData::new(latent, shape), &Device::flex());
        Fsq::new(levels).quantize(latent).try_into_vec_as().unwrap()
    }

    #[test]
    fn every_code_is_that_of_its_values_and_can_be_reached() {
        for levels in [&[7, 5, 5, 5, 5][..], &[8, 8, 8, 5, 5, 5], &[2, 3, 4], &[2], &[255, 256]] {
            let fsq = Fsq::new(levels);
            let mut latent = Vec::new();
            for code in 0..fsq.vocab_size() as u32 {
                let values = fsq.values(code);
                assert_eq!(fsq.code(&values), code, "{levels:?}");
                // The latent values whose bounded values are whole.
                latent.extend(values.iter().zip(levels).map(|(value, levels)| {
                    let l = *levels as f64;
                    (((f64::from(*value) * half_width(l) + offset(l)) / reach(l)).atanh() - shift(l)) as f32
                }));
            }
            let codes = quantized_codes(&fsq, latent);
            assert!(codes.into_iter().eq(0..fsq.vocab_size() as u32), "{levels:?}");
        }
    }

    fn quantized_codes(fsq: &Fsq, latent: Vec<f32>) -> Vec<u32> {
        let shape = [1, latent.len() / fsq.dims(), fsq.dims()];
        let latent = Tensor::from_data(TensorData::new(latent, shape), &Device::flex());
        let values: Vec<f32> = fsq.quantize(latent).try_into_vec_as().unwrap();
        values.chunks(fsq.dims()).map(|values| fsq.code(values)).collect()
    }

    #[test]
    fn codes_of_the_paper() {
        // Levels 3 and 2 have the codes (−1, −1), (0, −1), (1, −1), (−1, 0), (0, 0), (1, 0).
        let fsq = Fsq::new(&[3, 2]);
        assert_eq!(fsq.values(0), [-1.0, -1.0]);
        assert_eq!(fsq.values(4), [0.0, 0.0]);
        assert_eq!(fsq.values(5), [1.0, 0.0]);
        // Zero is a value of every dimension, whether the number of values is odd or even.
        assert!(quantized(&[8, 5, 2], vec![0.0; 3]).iter().all(|value| value.abs() < 1e-6));
    }

    #[test]
    fn the_gradient_is_that_of_the_bounded_values() {
        let device = Device::flex().autodiff();
        let latent: Vec<f32> = (-20..20).map(|i| i as f32 / 8.0).collect();
        for levels in [5_usize, 8] {
            let data = TensorData::new(latent.clone(), [1, 40, 1]);
            let x = Tensor::<3>::from_data(data, &device).require_grad();
            let gradients = Fsq::new(&[levels]).quantize(x.clone()).sum().backward();
            let found: Vec<f32> = x.grad(&gradients).unwrap().try_into_vec_as().unwrap();
            let l = levels as f64;
            for (x, found) in latent.iter().zip(found) {
                let tanh = (f64::from(*x) + shift(l)).tanh();
                let expected = (1.0 - tanh * tanh) * reach(l) / half_width(l);
                assert!((f64::from(found) - expected).abs() < 1e-5, "{levels} levels, {x}: {found}, {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn quantised_values_are_those_of_the_nearest_code(latent in prop::collection::vec(-4.0..4.0_f32, 3)) {
            let levels = [7, 4, 5];
            let fsq = Fsq::new(&levels);
            let found = quantized(&levels, latent.clone());
            let exact = fsq.values(fsq.code(&found));
            for (i, (found, exact)) in found.iter().zip(exact).enumerate() {
                prop_assert!((found - exact).abs() < 1e-5);
                let l = levels[i] as f64;
                let bounded = (f64::from(latent[i]) + shift(l)).tanh() * reach(l) - offset(l);
                prop_assert!((f64::from(exact) * half_width(l) - bounded).abs() < 0.501);
            }
        }
    }
}
