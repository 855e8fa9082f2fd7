//! Gradients of a loss, with or without activation checkpointing.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::precision::ActivationCheckpointing;
use crate::transformer::{Batch, Dropout, ForwardContext, Transformer};

impl Transformer {
    /// Computes the hidden states `[B, T, D]`, passes them to `loss`, and returns its second result with the gradients
    /// of its first, the loss `[1]`.
    ///
    /// # Panics
    /// Panics if the model's device has no autodiff.
    pub fn gradients<R>(
        &self,
        batch: &Batch,
        dropout: Option<Dropout>,
        checkpointing: ActivationCheckpointing,
        loss: impl FnOnce(Tensor<3>) -> (Tensor<1>, R),
    ) -> (R, GradientsParams) {
        let (tokens, segment_starts) = (&batch.tokens, &batch.segment_starts);
        if checkpointing == ActivationCheckpointing::Off {
            let (loss, result) = loss(self.hidden(tokens.clone(), segment_starts.clone(), dropout, None));
            return (result, GradientsParams::from_grads(loss.backward(), self));
        }
        let inner_starts = segment_starts.clone().map(Tensor::inner);
        let untracked = ForwardContext::new(self, &tokens.clone().inner(), inner_starts, dropout, 0);
        let tracked = ForwardContext::new(self, tokens, segment_starts.clone(), dropout, 0);
        let embedded = self.embed(tokens.clone(), &tracked); // [B, T, D]
        let mut x = embedded.clone().inner();
        let mut inputs = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            inputs.push(x.clone());
            x = layer.valid().forward(x, i, &untracked, None); // [B, T, D]
        }
        let x = Tensor::from_inner(x).require_grad();
        let (loss, result) = loss(tracked.norm(Some(&self.norm), x.clone()));
        let mut all = GradientsParams::new();
        let mut backward = |loss: Tensor<1>, x: Option<Tensor<3>>| {
            let mut gradients = loss.backward();
            let d_x = x.and_then(|x| x.grad_remove(&mut gradients));
            add_gradients(self, &mut all, GradientsParams::from_grads(gradients, self));
            d_x
        };
        let mut d_output = backward(loss, Some(x));
        // Layers before the first trainable parameter need no backward pass.
        let first = if embedded.is_tracked() {
            0
        } else {
            self.layers.iter().take_while(|layer| !has_trainable_parameters(*layer)).count()
        };
        // The gradient of Σ y × g with respect to y is g, so that whatever y depends on receives the gradients of the
        // loss.
        let chained = |y: Tensor<3>, g: Tensor<3>| (y * Tensor::from_inner(g)).sum();
        for (i, (layer, x)) in self.layers.iter().zip(inputs).enumerate().skip(first).rev() {
            let x = Tensor::from_inner(x).require_grad();
            let g = d_output.expect("the loss depends on the output of every layer");
            d_output = backward(chained(layer.forward(x.clone(), i, &tracked, None), g), Some(x));
        }
        if let Some(g) = d_output.filter(|_| embedded.is_tracked()) {
            backward(chained(embedded, g), None);
        }
        (result, all)
    }
}

/// Returns true if any parameter of a module requires a gradient.
fn has_trainable_parameters(module: &impl Module) -> bool {
    struct Trainable(bool);
    impl ModuleVisitor for Trainable {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut trainable = Trainable(false);
    module.visit(&mut trainable);
    trainable.0
}

/// Adds the gradients in `more` to those in `all`.
pub fn add_gradients(module: &impl Module, all: &mut GradientsParams, more: GradientsParams) {
    struct Add<'a> {
        all: &'a mut GradientsParams,
        more: GradientsParams,
    }
    impl ModuleVisitor for Add<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.more.remove::<D>(param.id) {
                let sum = match self.all.remove::<D>(param.id) {
                    Some(sum) => sum + gradient,
                    None => gradient,
                };
                self.all.register(param.id, sum);
            }
        }
    }
    module.visit(&mut Add { all, more });
}
