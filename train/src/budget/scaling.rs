//! Scaling laws: the predicted loss of a model size, the batch size and the learning rate.
//!
//! They were fitted to models a thousand times larger. Here they rank the sizes that a budget can afford; they do not
//! predict the loss that a training reaches.

use model::ModelConfig;

/// The ratio of the batch size to that of [`batch_tokens`]' law. Measured: with 2 M tokens through a model of 0.4 M
/// parameters, the loss was lowest with 16 sequences of 256 tokens, where the law says 20 (of 4, 8, 16, 20 and 24).
pub const BATCH_RATIO: f64 = 0.7;

/// The ratio of Muon's learning rate to that of [`learning_rate`]'s law, which was fitted to `AdamW`. Measured: with 2
/// M tokens through a model of 0.4 M parameters, a loss of 3.30 with the law's 0.0074 became 3.22 with 0.015.
pub const MUON_LEARNING_RATE_RATIO: f64 = 2.0;

/// Returns the loss predicted for a model trained on `tokens` tokens, of which `unique_tokens` are different, in nats
/// per token (Hoffmann et al., Training Compute-Optimal Large Language Models, 2022; repeated tokens count less and
/// less: Scaling Data-Constrained Language Models, 2023). Comparable only between models with the same vocabulary.
pub fn predicted_loss(model: &ModelConfig, tokens: f64, unique_tokens: u64) -> f64 {
    // Appendix D.3 of the paper of 2022; R* from that of 2023.
    const IRREDUCIBLE: f64 = 1.69;
    const A: f64 = 406.4;
    const B: f64 = 410.7;
    const ALPHA: f64 = 0.34;
    const BETA: f64 = 0.28;
    const R_STAR: f64 = 15.39;
    let unique = (unique_tokens as f64).max(1.0);
    let repeats = (tokens / unique - 1.0).max(0.0);
    let effective = tokens.min(unique) + unique * R_STAR * (1.0 - (-repeats / R_STAR).exp());
    IRREDUCIBLE + A / (model.parameters() as f64).powf(ALPHA) + B / effective.powf(BETA)
}

/// Returns the tokens in a batch for a training of so many floating-point operations, times [`BATCH_RATIO`] (`DeepSeek`
/// LLM: Scaling Open-Source Language Models with Longtermism, 2024).
pub fn batch_tokens(flops: f64) -> f64 {
    BATCH_RATIO * 0.2920 * flops.powf(0.3271)
}

/// Returns `AdamW`'s learning rate for a training of so many floating-point operations (the same paper).
pub fn learning_rate(flops: f64) -> f64 {
    0.3118 * flops.powf(-0.1250)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    #[test]
    fn repeated_tokens_count_less() {
        let model = Config::default().model_config(4096, None).unwrap();
        let loss = |tokens, unique| predicted_loss(&model, tokens, unique);
        assert!(loss(1e7, 10_000_000) < loss(1e7, 1_000_000));
        assert!(loss(1e7, 1_000_000) < loss(1e6, 1_000_000));
        // Four epochs are nearly as good as new tokens.
        assert!((loss(4e6, 1_000_000) - loss(4e6, 4_000_000)).abs() < 0.2);
    }
}
