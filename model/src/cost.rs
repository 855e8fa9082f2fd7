//! What a model costs: parameters, floating-point operations, and memory of activations.

use crate::config::{ModelConfig, NormKind, NormPlacement, QkNorm};
use crate::precision::{ActivationCheckpointing, Precision};

impl ModelConfig {
    /// Returns the number of parameters; tied ones count once.
    pub fn parameters(&self) -> u64 {
        let (d, f) = (self.d_model as u64, self.d_ff as u64);
        let (q, kv) = ((self.n_head * self.head_dim) as u64, (self.n_kv_head * self.head_dim) as u64);
        let embedding = self.vocab_size as u64 * d;
        let head = if self.tied_embeddings { 0 } else { embedding };
        let if_present = |present: bool, count: u64| if present { count } else { 0 };
        let architecture = self.family.architecture();
        let attention =
            2 * d * (q + kv) + if_present(self.attention_bias, q + 2 * kv) + if_present(self.output_bias(), d);
        let up = if self.activation.is_gated() { 2 * f } else { f };
        let feed_forward = up * d + f * d + if_present(self.mlp_bias, up + d);
        let qk_norms = match architecture.qk_norm {
            None => 0,
            Some(QkNorm::Head) => 2 * self.head_dim as u64,
            Some(QkNorm::Projection) => q + kv,
        };
        let norm = if architecture.norm == NormKind::Layer { 2 * d } else { d };
        let norms = if architecture.norm_placement == NormPlacement::Both { 4 } else { 2 };
        let positions = if_present(architecture.learned_positions, self.context_length as u64 * d);
        let layer = attention + feed_forward + norms * norm + qk_norms;
        embedding + head + self.n_layer as u64 * layer + norm + positions
    }

    /// Returns the floating-point operations of training on one token: forward and backward, 2 per multiply-add, matrix
    /// products only, attention over `context` tokens (Training Compute-Optimal Large Language Models, 2022, appendix
    /// F, except that causal attention counts as half, and only the tokens within a sliding window).
    pub fn training_flops_per_token(&self, context: usize) -> f64 {
        let positions = if self.family.is_rotary() { 0 } else { self.context_length * self.d_model };
        let embedding = self.vocab_size * self.d_model;
        let untied = if self.tied_embeddings { 0 } else { embedding };
        let matrices = self.parameters() as f64 - positions as f64 - untied as f64;
        // Twice the mean number of tokens that a token attends to.
        let visible = |window: usize| window * (2 * context - window) / context.max(1);
        let window = self.sliding_window.unwrap_or(context).min(context);
        let windows = self.layers.iter().filter(|layer| layer.sliding).count();
        let visible = (self.n_layer - windows) * context + windows * visible(window);
        let attention = (visible * self.n_head * self.head_dim) as f64;
        6.0 * (matrices + attention)
    }

    /// Returns an estimate of the peak bytes of activations, for `batch` sequences of `context` tokens at a time. On
    /// the CPU, attention in f32 does not keep its T × T probabilities, unless its scores are capped.
    pub fn activation_bytes(
        &self,
        batch: usize,
        context: usize,
        on_cpu: bool,
        precision: Precision,
        checkpointing: ActivationCheckpointing,
        dropout: bool,
    ) -> u64 {
        let tokens = (batch * context) as u64;
        let probs = (self.n_head * batch * context * context) as u64;
        // Scores and probabilities in the precision, with dropout its mask and its result too; the softmax in f32.
        let is_fused = on_cpu && precision == Precision::F32 && self.attention_softcap.is_none();
        let in_precision = if dropout { 4 } else { 2 } + if self.attention_softcap.is_some() { 3 } else { 0 };
        let attention = if is_fused { 0 } else { probs * (in_precision * precision.bytes() + 4) };
        // The residual stream is f32.
        let residual = 4 * self.d_model as u64;
        let output_norms = if self.family.architecture().norm_placement.is_after() { 2 } else { 0 };
        let inner = (8 * self.d_model + 6 * self.n_head * self.head_dim + 5 * self.d_ff) as u64 * precision.bytes();
        let layer = attention + tokens * ((4 + output_norms) * residual + inner);
        let n_layer = self.n_layer as u64;
        let layers = match checkpointing {
            ActivationCheckpointing::Off => n_layer * layer,
            ActivationCheckpointing::On => n_layer * tokens * residual + layer,
        };
        layers + 16 * tokens * self.vocab_size as u64
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;

    use super::*;
    use crate::config::tests::tiny;
    use crate::config::{Family, LayerAttention};

    #[test]
    fn the_count_of_parameters_is_that_of_the_model() {
        let check = |config: ModelConfig| {
            let model = crate::Transformer::zeros(&config, &Device::flex());
            assert_eq!(config.parameters(), model.num_params() as u64, "{config:?}");
        };
        for family in Family::ALL {
            check(tiny(family));
            check(ModelConfig { tied_embeddings: false, ..tiny(family) });
        }
        check(ModelConfig { attention_bias: true, mlp_bias: true, ..tiny(Family::Llama) });
        check(ModelConfig { attention_bias: true, head_dim: 6, ..tiny(Family::Qwen3) });
    }

    #[test]
    fn a_sliding_window_saves_attention() {
        let flops = |window: Option<usize>| {
            let mut config = tiny(Family::Mistral);
            config.set_layers(vec![LayerAttention { sliding: true, rotary: true }; 2], window);
            config.training_flops_per_token(24)
        };
        let per_token = 6.0 * 2.0 * 32.0;
        assert!((flops(Some(24)) - flops(Some(100))).abs() < 1e-6);
        assert!((flops(Some(24)) - flops(Some(12)) - per_token * 6.0).abs() < 1e-6);
    }
}
