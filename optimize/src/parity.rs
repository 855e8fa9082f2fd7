//! How far a bundle is from its checkpoint, on real tokens.
//!
//! Both models read the same windows of the validation split, and every logit of every position is compared. Both are
//! loaded from their files, so what is measured is what will be served.

use std::path::Path;

use artifact::Context;
use burn::tensor::{Device, Int, Tensor, TensorData};
use model::Transformer;
use serde_json::{Value, json};
use tokenizer::shard::Split;

use crate::{Config, Error, weights};

/// The longest window that is compared at once: each of its positions has as many logits as there are tokens. A guess.
const MOST_WINDOW: usize = 1024;

/// The differences between two models on the same tokens. Sums, so that windows can be added one by one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parity {
    /// Positions compared.
    pub(crate) tokens: u64,
    /// The largest difference between two logits; infinite where one is not a number.
    pub(crate) max_logit_difference: f64,
    logits: u64,
    sum_of_logit_differences: f64,
    sum_of_divergences: f64,
    agreements: u64,
    sum_of_checkpoint_losses: f64,
    sum_of_bundle_losses: f64,
}

/// Compares the bundle with the checkpoint on the first `parity_tokens` tokens of the validation split.
///
/// # Errors
/// When a model cannot be loaded or does not fit the split, or the split has no token to predict.
pub(crate) fn measure(
    config: &Config,
    checkpoint: &Path,
    bundle: &Path,
    validation: &Split,
    device: &Device,
    context: &Context,
) -> Result<Parity, Error> {
    let reference = model::checkpoint::load(checkpoint, device)?;
    let shape = reference.config();
    // A model may have more rows than there are tokens.
    if shape.vocab_size < validation.vocab_size() {
        let (found, expected) = (shape.vocab_size, validation.vocab_size());
        return Err(Error::Vocabulary { path: checkpoint.to_owned(), found, expected });
    }
    let available = validation.len() as u64;
    if available < 2 {
        return Err(Error::TooFewTokens { tokens: available });
    }
    let candidate = model::checkpoint::load(bundle, device)?;
    let (window, vocab_size) = (shape.context_length.min(MOST_WINDOW) as u64, shape.vocab_size);
    let total = config.parity_tokens.min(available - 1);

    context.progress.begin("comparing", total, "tokens");
    let mut parity = Parity::default();
    while parity.tokens < total {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        // One more token than is read: each position predicts the next.
        let mut tokens = vec![0; window.min(total - parity.tokens) as usize + 1];
        validation.copy(parity.tokens as usize, &mut tokens);
        let read = &tokens[..tokens.len() - 1];
        let (expected, found) = (logits(&reference, read, device)?, logits(&candidate, read, device)?);
        let rows = expected.chunks_exact(vocab_size).zip(found.chunks_exact(vocab_size));
        for ((expected, found), &target) in rows.zip(&tokens[1..]) {
            parity.add(expected, found, target as usize);
        }
        context.progress.position(parity.tokens);
        context.progress.figures(&format!("Δlogit {:.4}", parity.max_logit_difference));
    }
    Ok(parity)
}

/// Returns the logits after each of `tokens`, row by row.
///
/// # Shapes
/// `[T]` to `[T, V]`
fn logits(model: &Transformer, tokens: &[u32], device: &Device) -> Result<Vec<f32>, Error> {
    // Vocabularies are far below 2^31.
    let ids: Vec<i32> = tokens.iter().map(|&id| id as i32).collect();
    let shape = [1, ids.len()];
    let tokens = Tensor::<2, Int>::from_ints(TensorData::new(ids, shape), device);
    model.forward(tokens).try_into_vec_as::<f32>().map_err(|e| Error::Device { reason: e.to_string() })
}

impl Parity {
    /// Adds a position: the logits of both models, and the token that came next.
    fn add(&mut self, checkpoint: &[f32], bundle: &[f32], target: usize) {
        let (p, q) = (Row::of(checkpoint), Row::of(bundle));
        let mut divergence = 0.0;
        for (&a, &b) in checkpoint.iter().zip(bundle) {
            let difference = f64::from(a - b).abs();
            // `max` passes over NaN, which must not look like parity.
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            self.max_logit_difference = self.max_logit_difference.max(difference);
            self.sum_of_logit_differences += difference;
            let (log_p, log_q) = (f64::from(a) - p.log_sum_exp, f64::from(b) - q.log_sum_exp);
            divergence += log_p.exp() * (log_p - log_q);
        }
        self.tokens += 1;
        self.logits += checkpoint.len() as u64;
        self.sum_of_divergences += divergence;
        self.agreements += u64::from(p.largest == q.largest);
        self.sum_of_checkpoint_losses += p.log_sum_exp - f64::from(checkpoint[target]);
        self.sum_of_bundle_losses += q.log_sum_exp - f64::from(bundle[target]);
    }

    /// Returns the mean difference between two logits.
    pub(crate) fn mean_logit_difference(&self) -> f64 {
        self.sum_of_logit_differences / self.logits as f64
    }

    /// Returns the mean divergence of the bundle's distribution from the checkpoint's (Kullback and Leibler, On
    /// Information and Sufficiency, 1951), in nats a token.
    pub(crate) fn kl_divergence_nats(&self) -> f64 {
        // Rounding may leave a sum of nothing but noughts a hair below it.
        (self.sum_of_divergences / self.tokens as f64).max(0.0)
    }

    /// Returns the share of positions at which both models find the same token likeliest.
    pub(crate) fn top_1_agreement(&self) -> f64 {
        self.agreements as f64 / self.tokens as f64
    }

    /// Returns the checkpoint's mean loss.
    pub(crate) fn checkpoint_loss_nats(&self) -> f64 {
        self.sum_of_checkpoint_losses / self.tokens as f64
    }

    /// Returns the bundle's mean loss.
    pub(crate) fn bundle_loss_nats(&self) -> f64 {
        self.sum_of_bundle_losses / self.tokens as f64
    }

    /// Returns by how much the bundle's loss is above the checkpoint's.
    pub(crate) fn loss_difference(&self) -> f64 {
        self.bundle_loss_nats() - self.checkpoint_loss_nats()
    }

    /// Compares the figures with the limits of `config`.
    ///
    /// # Errors
    /// [`Error::Parity`] with the first figure beyond its limit. A loss may be too far on either side: one that is better
    /// than the checkpoint's by more than rounding explains is no less a different model.
    pub(crate) fn check(&self, config: &Config) -> Result<(), Error> {
        let figures = [
            (
                "largest logit difference",
                self.max_logit_difference,
                "optimize.max_logit_difference",
                config.max_logit_difference,
            ),
            ("loss difference", self.loss_difference(), "optimize.max_loss_difference", config.max_loss_difference),
        ];
        for (figure, value, key, limit) in figures {
            // Not `value > limit`, which is false of NaN.
            let within = value.abs() <= limit;
            if !within {
                return Err(Error::Parity { figure, value, key, limit, dtype: weights::name(config.dtype) });
            }
        }
        Ok(())
    }

    /// Returns what `parity.json` holds; a figure that is not finite is null there.
    pub(crate) fn to_json(&self, config: &Config) -> Value {
        json!({
            "dtype": config.dtype,
            "split": "validation",
            "tokens": self.tokens,
            "max_logit_difference": self.max_logit_difference,
            "mean_logit_difference": self.mean_logit_difference(),
            "kl_divergence_nats": self.kl_divergence_nats(),
            "top_1_agreement": self.top_1_agreement(),
            "checkpoint_loss_nats": self.checkpoint_loss_nats(),
            "bundle_loss_nats": self.bundle_loss_nats(),
            "loss_difference_nats": self.loss_difference(),
            "limits": {
                "max_logit_difference": config.max_logit_difference,
                "max_loss_difference": config.max_loss_difference,
            },
        })
    }
}

/// What a row of logits says as a whole.
struct Row {
    log_sum_exp: f64,
    largest: usize,
}

impl Row {
    fn of(logits: &[f32]) -> Self {
        let mut largest = 0;
        for (i, &logit) in logits.iter().enumerate() {
            if logit > logits[largest] {
                largest = i;
            }
        }
        let most = f64::from(logits[largest]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum();
        Self { log_sum_exp: most + sum.ln(), largest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    #[test]
    fn the_figures_are_those_computed_by_hand() {
        // Uniform over two tokens against 3:1, and equal rows: every figure is a mean of the two positions.
        let mut parity = Parity::default();
        parity.add(&[0.0, 0.0], &[3f32.ln(), 0.0], 0);
        parity.add(&[1.0, 2.0], &[1.0, 2.0], 1);
        let ln2 = std::f64::consts::LN_2;
        let second = (1.0 + (-1f64).exp()).ln();
        assert_eq!((parity.tokens, parity.logits), (2, 4));
        close(parity.max_logit_difference, 3f64.ln());
        close(parity.mean_logit_difference(), 3f64.ln() / 4.0);
        close(parity.kl_divergence_nats(), 0.5 * ((0.5f64 / 0.75).ln() + (0.5f64 / 0.25).ln()) / 2.0);
        close(parity.top_1_agreement(), 1.0);
        close(parity.checkpoint_loss_nats(), f64::midpoint(ln2, second));
        close(parity.bundle_loss_nats(), f64::midpoint((4f64 / 3.0).ln(), second));
        close(parity.loss_difference(), ((4f64 / 3.0).ln() - ln2) / 2.0);
    }

    #[test]
    fn each_limit_is_named_by_the_error() {
        let check = |reference: [f32; 2], candidate: [f32; 2], limits: (f64, f64), expected: Option<&str>| {
            let mut parity = Parity::default();
            parity.add(&reference, &candidate, 0);
            let config = Config { max_logit_difference: limits.0, max_loss_difference: limits.1, ..Config::default() };
            match (parity.check(&config), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(key)) => assert!(error.to_string().contains(key), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        };
        check([0.0, 0.0], [0.0, 0.0], (0.0, 0.0), None);
        check([0.0, 0.0], [0.5, 0.0], (1.0, 1.0), None);
        check([0.0, 0.0], [0.5, 0.0], (0.4, 1.0), Some("optimize.max_logit_difference allows 0.4"));
        check([0.0, 0.0], [0.5, 0.0], (1.0, 0.1), Some("optimize.max_loss_difference allows 0.1"));
        check([0.0, 0.0], [-0.5, 0.0], (1.0, 0.1), Some("optimize.max_loss_difference"));
        // A shift of all logits changes no probability.
        check([0.0, 0.0], [0.5, 0.5], (1.0, 1e-6), None);
        check([0.0, 0.0], [f32::NAN, 0.0], (1e30, 1e30), Some("optimize.max_logit_difference"));
        check([0.0, 0.0], [0.0, f32::INFINITY], (1e30, 1e30), Some("optimize.max_logit_difference"));
    }
}
