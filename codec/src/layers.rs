//! Convolutions over a grid of patches: a gather of each patch's neighbours, and a matrix product.
//!
//! On the CPU, both are the fused operations of `kernels`, forward and backward.
//!
//! Dimensions: R rows, one for each patch of each item; K positions of a kernel; I inputs and O outputs; C channels.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// The arrangement of an item's patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Rows of patches; 1 for sound.
    pub height: usize,
    /// Patches in a row.
    pub width: usize,
}

impl Grid {
    /// Returns the number of patches.
    pub fn patches(self) -> usize {
        self.height * self.width
    }
}

/// The neighbours of each patch: rows of the item's own patches, or a row of zeros beyond its edges.
#[derive(Debug, Clone)]
pub(crate) struct Neighbours {
    ids: Tensor<2, Int>, // [R, K]
}

impl Neighbours {
    /// Returns the neighbours within a kernel of odd height and width, for `items` items.
    pub(crate) fn new(grid: Grid, items: usize, kernel: [usize; 2], device: &Device) -> Self {
        let beyond = (items * grid.patches()) as i64;
        let [height, width] = [grid.height as i64, grid.width as i64];
        let [reach_y, reach_x] = kernel.map(|size| size as i64 / 2);
        let mut ids = Vec::with_capacity(items * grid.patches() * kernel[0] * kernel[1]);
        for item in 0..items as i64 {
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                for (dy, dx) in (-reach_y..=reach_y).flat_map(|dy| (-reach_x..=reach_x).map(move |dx| (dy, dx))) {
                    let (y, x) = (y + dy, x + dx);
                    let inside = (0..height).contains(&y) && (0..width).contains(&x);
                    ids.push(if inside { (item * height + y) * width + x } else { beyond });
                }
            }
        }
        let shape = [items * grid.patches(), kernel[0] * kernel[1]];
        Self { ids: Tensor::from_data(TensorData::new(ids, shape), device) }
    }

    /// Returns the neighbours of each row side by side.
    ///
    /// # Shapes
    /// - x: `[1, R, I]`
    /// - output: `[1, R, K I]`
    pub(crate) fn gather(&self, x: Tensor<3>) -> Tensor<3> {
        let ([_, r, i], [_, k]) = (x.dims(), self.ids.dims());
        let zeros = Tensor::zeros([1, i], &x.device());
        let table = Tensor::cat(vec![x.reshape([r, i]), zeros], 0); // [R + 1, I]
        kernels::embedding(table, self.ids.clone()).reshape([1, r, k * i]) // [1, R, K I]
    }
}

/// A projection of each row, which after [`Neighbours::gather`] is a convolution.
#[derive(Module, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Param<Tensor<2>>, // [O, I]
    pub(crate) bias: Param<Tensor<1>>,   // [O]
}

impl Projection {
    /// Returns a projection with uniform random weights up to 1 / √I, which is PyTorch's default.
    pub(crate) fn random(outputs: usize, inputs: usize, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let bound = 1.0 / (inputs as f32).sqrt();
        let mut values = |count: usize| (0..count).map(|_| rng.random_range(-bound..bound)).collect();
        let weight = values(outputs * inputs);
        Self::new(weight, values(outputs), device)
    }

    /// Returns a projection of zeros.
    pub(crate) fn zeros(outputs: usize, inputs: usize, device: &Device) -> Self {
        Self::new(vec![0.0; outputs * inputs], vec![0.0; outputs], device)
    }

    /// Returns a projection with these weights, row by row.
    pub(crate) fn new(weight: Vec<f32>, bias: Vec<f32>, device: &Device) -> Self {
        let shape = [bias.len(), weight.len() / bias.len()];
        Self { weight: parameter(weight, shape, device), bias: parameter(bias, [shape[0]], device) }
    }

    /// Returns the projection of x, plus a residual.
    ///
    /// # Shapes
    /// - x: `[1, R, I]`
    /// - residual, output: `[1, R, O]`
    pub(crate) fn forward(&self, x: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        kernels::linear(x, self.weight.val(), Some(self.bias.val()), residual)
    }
}

/// Two convolutions with GELU before each (Identity Mappings in Deep Residual Networks, 2016; without its norms, which
/// so few layers do without).
#[derive(Module, Debug)]
pub(crate) struct Block {
    first: Projection,  // [C, K C]
    second: Projection, // [C, K C]
}

impl Block {
    fn forward(&self, x: Tensor<3>, neighbours: &Neighbours) -> Tensor<3> {
        let inner = self.first.forward(neighbours.gather(gelu(x.clone())), None); // [1, R, C]
        self.second.forward(neighbours.gather(gelu(inner)), Some(x)) // [1, R, C]
    }
}

/// A convolution, residual blocks, and a projection that starts as zero.
#[derive(Module, Debug)]
pub(crate) struct Stack {
    first: Projection, // [C, K I]
    blocks: Vec<Block>,
    last: Projection, // [O, C]
}

/// The sizes of a stack.
pub(crate) struct StackShape {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) channels: usize,
    pub(crate) blocks: usize,
    /// K.
    pub(crate) positions: usize,
}

impl Stack {
    pub(crate) fn random(shape: &StackShape, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let StackShape { inputs, outputs, channels, blocks, positions } = *shape;
        let first = Projection::random(channels, positions * inputs, rng, device);
        let mut convolution = || Projection::random(channels, positions * channels, rng, device);
        let blocks = (0..blocks).map(|_| Block { first: convolution(), second: convolution() }).collect();
        Self { first, blocks, last: Projection::zeros(outputs, channels, device) }
    }

    pub(crate) fn zeros(shape: &StackShape, device: &Device) -> Self {
        let StackShape { inputs, outputs, channels, blocks, positions } = *shape;
        let convolution = |inputs: usize| Projection::zeros(channels, positions * inputs, device);
        let block = |_| Block { first: convolution(channels), second: convolution(channels) };
        let last = Projection::zeros(outputs, channels, device);
        Self { first: convolution(inputs), blocks: (0..blocks).map(block).collect(), last }
    }

    /// Returns the output of the stack plus a residual.
    ///
    /// # Shapes
    /// - x: `[1, R, I]`
    /// - residual, output: `[1, R, O]`
    pub(crate) fn forward(&self, x: Tensor<3>, neighbours: &Neighbours, residual: Tensor<3>) -> Tensor<3> {
        let x = self.first.forward(neighbours.gather(x), None); // [1, R, C]
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, neighbours)); // [1, R, C]
        self.last.forward(gelu(x), Some(residual)) // [1, R, O]
    }
}

/// Returns GELU of x, as of −8 below that. GELU's values and slopes there are below 10⁻²⁰, and their products with
/// gradients become subnormal numbers, with which matrix products take several times as long.
fn gelu(x: Tensor<3>) -> Tensor<3> {
    kernels::gelu(x.clamp_min(-8.0))
}

/// Returns a parameter, trainable if its device has autodiff.
fn parameter<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::from_tensor(if device.is_autodiff() { tensor.require_grad() } else { tensor })
}

#[cfg(test)]
mod tests {
    use burn::tensor::module::conv2d;
    use burn::tensor::ops::ConvOptions;
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn gather_and_projection_are_a_convolution() {
        let device = Device::flex();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (items, grid, i, o) = (3, Grid { height: 4, width: 5 }, 6, 7);
        let values = |rng: &mut ChaCha8Rng, n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let x = values(&mut rng, items * grid.patches() * i);
        for kernel in [[3, 3], [1, 5], [1, 1]] {
            let k = kernel[0] * kernel[1];
            let projection = Projection::random(o, k * i, &mut rng, &device);
            let neighbours = Neighbours::new(grid, items, kernel, &device);
            let rows = Tensor::from_data(TensorData::new(x.clone(), [1, items * grid.patches(), i]), &device);
            let found = projection.forward(neighbours.gather(rows), None);

            let image =
                Tensor::<4>::from_data(TensorData::new(x.clone(), [items, grid.height, grid.width, i]), &device);
            let weight = projection.weight.val().reshape([o, kernel[0], kernel[1], i]).permute([0, 3, 1, 2]);
            let options = ConvOptions::new([1, 1], [kernel[0] / 2, kernel[1] / 2], [1, 1], 1);
            let expected = conv2d(image.permute([0, 3, 1, 2]), weight, Some(projection.bias.val()), options);
            let expected = expected.permute([0, 2, 3, 1]).reshape([1, items * grid.patches(), o]);
            let difference: f32 = (found - expected).abs().max().try_into_scalar().unwrap();
            assert!(difference < 1e-5, "{kernel:?}: {difference}");
        }
    }
}
