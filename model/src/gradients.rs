//! Gradients of a loss, with or without the activations kept.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::transformer::{Dropout, ForwardContext};
use crate::{Batch, Transformer};

/// Whether the backward pass recomputes activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationCheckpointing {
    /// All activations are kept.
    Off,
    /// Only the input of each layer is kept; the rest is recomputed, one layer at a time (Training Deep Nets with
    /// Sublinear Memory Cost, 2016). The gradients are the same, on the CPU bit for bit.
    On,
}

impl Transformer {
    /// Returns what `loss` makes of the hidden states `[B, T, D]` beside the loss `[1]`, and the gradients of that.
    ///
    /// # Panics
    /// When the model's device takes no gradients.
    pub fn gradients<R>(
        &self,
        batch: &Batch,
        dropout: Option<Dropout>,
        checkpointing: ActivationCheckpointing,
        loss: impl FnOnce(Tensor<3>) -> (Tensor<1>, R),
    ) -> (R, GradientsParams) {
        let (tokens, segment_starts) = (&batch.tokens, &batch.segment_starts);
        if checkpointing == ActivationCheckpointing::Off {
            let (loss, rest) = loss(self.hidden(tokens.clone(), segment_starts.clone(), dropout, None));
            return (rest, GradientsParams::from_grads(loss.backward(), self));
        }
        let once =
            ForwardContext::new(self, &tokens.clone().inner(), segment_starts.clone().map(Tensor::inner), dropout, 0);
        let again = ForwardContext::new(self, tokens, segment_starts.clone(), dropout, 0);
        let embedded = self.embedded(tokens.clone(), &again); // [B, T, D]
        let mut x = embedded.clone().inner();
        let mut inputs = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            inputs.push(x.clone());
            x = layer.valid().forward(x, i, &once, None); // [B, T, D]
        }
        let x = Tensor::from_inner(x).require_grad();
        let (loss, rest) = loss(again.normed(&self.norm, x.clone()));
        let mut all = GradientsParams::new();
        let mut backward = |loss: Tensor<1>, x: Option<Tensor<3>>| {
            let mut gradients = loss.backward();
            let of_x = x.and_then(|x| x.grad_remove(&mut gradients));
            add_gradients(self, &mut all, GradientsParams::from_grads(gradients, self));
            of_x
        };
        let mut of_output = backward(loss, Some(x));
        let lowest =
            if embedded.is_tracked() { 0 } else { self.layers.iter().take_while(|layer| !is_trained(*layer)).count() };
        // The gradient of Σ y × g by y is g: what comes before y is differentiated as if the whole were one graph.
        let chained = |y: Tensor<3>, g: Tensor<3>| (y * Tensor::from_inner(g)).sum();
        for (i, (layer, x)) in self.layers.iter().zip(inputs).enumerate().skip(lowest).rev() {
            let x = Tensor::from_inner(x).require_grad();
            let g = of_output.expect("what a loss depends on has a gradient");
            of_output = backward(chained(layer.forward(x.clone(), i, &again, None), g), Some(x));
        }
        if let Some(g) = of_output.filter(|_| embedded.is_tracked()) {
            backward(chained(embedded, g), None);
        }
        (rest, all)
    }
}

/// Tells whether any parameter of a module wants a gradient.
fn is_trained(module: &impl Module) -> bool {
    struct Trained(bool);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut trained = Trained(false);
    module.visit(&mut trained);
    trained.0
}

/// Adds gradients to others; where only one has that of a parameter, it stays as it is.
pub fn add_gradients(module: &impl Module, all: &mut GradientsParams, more: GradientsParams) {
    struct Add<'a> {
        all: &'a mut GradientsParams,
        more: GradientsParams,
    }
    impl ModuleVisitor for Add<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(one) = self.more.remove::<D>(param.id) {
                let sum = match self.all.remove::<D>(param.id) {
                    Some(other) => other + one,
                    None => one,
                };
                self.all.register(param.id, sum);
            }
        }
    }
    module.visit(&mut Add { all, more });
}
