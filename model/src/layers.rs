//! The layers that the Transformer is made of: projections with their adapters, and norms.
//!
//! Dimensions: B sequences, T tokens, I inputs and O outputs of a projection, R rank of its adapter.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

/// A projection, its weight `[O, I]` as in PyTorch.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    weight: Param<Tensor<2>>,       // [O, I]
    bias: Option<Param<Tensor<1>>>, // [O]
    pub(crate) lora: Option<Adapter>,
}

impl Linear {
    pub(crate) fn new(weight: Param<Tensor<2>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight, bias, lora: None }
    }

    /// Returns `[O, I]`.
    pub(crate) fn dims(&self) -> [usize; 2] {
        self.weight.val().dims()
    }

    /// Returns the projection of x.
    ///
    /// # Shapes
    /// - x: `[B, T, I]`
    /// - output: `[B, T, O]`
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_with_residual(x, None)
    }

    /// Returns the projection of x plus a residual.
    ///
    /// # Shapes
    /// - x: `[B, T, I]`
    /// - residual, output: `[B, T, O]`
    pub(crate) fn forward_with_residual(&self, x: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        let adapted = self.lora.as_ref().map(|adapter| adapter.forward(x.clone())); // [B, T, O]
        let residual = match (residual, adapted) {
            (Some(residual), Some(adapted)) => Some(residual + adapted),
            (residual, adapted) => residual.or(adapted),
        };
        let dtype = x.dtype();
        let bias = self.bias.as_ref().map(|bias| bias.val().cast(dtype));
        kernels::linear(x, self.weight.val().cast(dtype), bias, residual)
    }

    /// Adds the adapter to the weight and removes it.
    pub(crate) fn merge_adapter(&mut self) {
        if let Some(adapter) = self.lora.take() {
            self.weight = self.weight.clone().map(|weight| (weight + adapter.delta()).detach());
        }
    }
}

/// A low-rank adapter beside the weight of a projection (LoRA: Low-Rank Adaptation of Large Language Models, 2021).
#[derive(Module, Debug)]
pub(crate) struct Adapter {
    pub(crate) a: Param<Tensor<2>>, // [R, I]
    pub(crate) b: Param<Tensor<2>>, // [O, R]
    /// The output is multiplied by alpha / R.
    #[module(skip)]
    pub(crate) alpha: f64,
    /// The dropout probability of the inputs during training.
    #[module(skip)]
    pub(crate) dropout: f64,
    /// The dropout mask of this forward pass; None outside training.
    #[module(skip)]
    pub(crate) mask: Option<kernels::Dropout>,
}

impl Adapter {
    pub(crate) fn rank(&self) -> usize {
        self.a.val().dims()[0]
    }

    pub(crate) fn scale(&self) -> f64 {
        self.alpha / self.rank() as f64
    }

    /// Returns the term added to the output of the projection.
    ///
    /// # Shapes
    /// - x: `[B, T, I]`
    /// - output: `[B, T, O]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = match self.mask {
            Some(mask) => kernels::dropout(x, mask),
            None => x,
        };
        let dtype = x.dtype();
        let low_rank = kernels::linear(x, self.a.val().cast(dtype), None, None).mul_scalar(self.scale()); // [B, T, R]
        kernels::linear(low_rank, self.b.val().cast(dtype), None, None) // [B, T, O]
    }

    /// Returns the term added to the weight when the adapter is merged: `[O, I]`.
    fn delta(&self) -> Tensor<2> {
        self.b.val().matmul(self.a.val()).mul_scalar(self.scale())
    }
}

/// LayerNorm if there is a bias, else RMSNorm.
#[derive(Module, Debug)]
pub(crate) struct Norm {
    weight: Param<Tensor<1>>,       // [D]
    bias: Option<Param<Tensor<1>>>, // [D]
    /// The factor is 1 + weight.
    #[module(skip)]
    from_one: bool,
}

impl Norm {
    pub(crate) fn new(weight: Param<Tensor<1>>, bias: Option<Param<Tensor<1>>>, from_one: bool) -> Self {
        Self { weight, bias, from_one }
    }

    /// Returns x normalised over each D elements of the last dimension.
    ///
    /// # Shapes
    /// - x, output: `[B, T, n D]`; n is 1 with a bias
    pub(crate) fn forward(&self, x: Tensor<3>, epsilon: f64) -> Tensor<3> {
        let weight = if self.from_one { self.weight.val().add_scalar(1.0) } else { self.weight.val() };
        match &self.bias {
            Some(bias) => kernels::layer_norm(x, weight, bias.val(), epsilon),
            None => kernels::rms_norm(x, weight, epsilon),
        }
    }
}

/// Returns a tensor that requires a gradient if its device has autodiff.
pub(crate) fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.require_grad() } else { tensor }
}
