//! How far a bundle is from its checkpoint, on real tokens.
//!
//! Both models read the same windows of the validation split, and every logit of every position is compared. Both are
//! loaded from their files, so that the measurement is of what will be served.

use std::path::Path;

use artifact::Context;
use burn::tensor::Device;
use inference::{Parity, logits};
use model::checkpoint;
use serde_json::{Value, json};
use tokenizer::shard::Split;

use crate::{Config, Error};

/// The maximum number of positions compared at once. Heuristic, not measured: because each position has as many logits
/// as there are tokens, so that a long context with a large vocabulary would take gigabytes.
const MAX_WINDOW: usize = 1024;

/// Compares the bundle with the checkpoint on the first `parity_tokens` tokens of the validation split.
///
/// # Errors
/// Returns an error if a model cannot be loaded or its vocabulary is too small for the split, the split has no token to
/// predict, or the device fails; [`Error::Interrupted`] if the run was asked to stop.
pub(crate) fn measure(
    config: &Config,
    checkpoint: &Path,
    bundle: &Path,
    validation: &Split,
    device: &Device,
    context: &Context,
) -> Result<Parity, Error> {
    let reference = checkpoint::load(checkpoint, device)?;
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
    let candidate = checkpoint::load(bundle, device)?;
    let (window, vocab_size) = (shape.context_length.min(MAX_WINDOW) as u64, shape.vocab_size);
    let total = config.parity_tokens.min(available - 1);

    context.progress.begin("comparing", total, "tokens");
    let mut parity = Parity::default();
    while parity.tokens < total {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        // One more token than is read, as the target of the last position.
        let mut tokens = vec![0; window.min(total - parity.tokens) as usize + 1];
        validation.copy(parity.tokens as usize, &mut tokens);
        let inputs = &tokens[..tokens.len() - 1];
        let (expected, found) = (logits(&reference, inputs)?, logits(&candidate, inputs)?);
        let rows = expected.chunks_exact(vocab_size).zip(found.chunks_exact(vocab_size));
        for ((expected, found), &target) in rows.zip(&tokens[1..]) {
            parity.add(expected, found, target as usize);
        }
        context.progress.position(parity.tokens);
        context.progress.figures(&format!("Δlogit {:.4}", parity.max_logit_difference));
    }
    Ok(parity)
}

/// Compares the measurement with the limits of `config`.
///
/// # Errors
/// Returns [`Error::Parity`] with the first measure that exceeds its limit. The loss must not be lower than the
/// checkpoint's either: an improvement beyond rounding means a different model.
pub(crate) fn check(parity: &Parity, config: &Config) -> Result<(), Error> {
    let measures = [
        (
            "largest logit difference",
            parity.max_logit_difference,
            "optimize.max_logit_difference",
            config.max_logit_difference,
        ),
        ("loss difference", parity.loss_difference_nats(), "optimize.max_loss_difference", config.max_loss_difference),
    ];
    for (measure, value, key, limit) in measures {
        // Not `value > limit`, which is false for NaN.
        let within = value.abs() <= limit;
        if !within {
            return Err(Error::Parity { measure, value, key, limit, dtype: config.dtype.name() });
        }
    }
    Ok(())
}

/// Returns the content of `parity.json`; a value that is not finite is null there.
pub(crate) fn report(parity: &Parity, config: &Config) -> Value {
    json!({
        "dtype": config.dtype,
        "split": "validation",
        "tokens": parity.tokens,
        "max_logit_difference": parity.max_logit_difference,
        "mean_logit_difference": parity.mean_logit_difference(),
        "kl_divergence_nats": parity.kl_divergence_nats(),
        "top_1_agreement": parity.top_1_agreement(),
        "checkpoint_loss_nats": parity.reference_loss_nats(),
        "bundle_loss_nats": parity.candidate_loss_nats(),
        "loss_difference_nats": parity.loss_difference_nats(),
        "limits": {
            "max_logit_difference": config.max_logit_difference,
            "max_loss_difference": config.max_loss_difference,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_is_named_by_the_error() {
        let check = |reference: [f32; 2], candidate: [f32; 2], limits: (f64, f64), expected: Option<&str>| {
            let mut parity = Parity::default();
            parity.add(&reference, &candidate, 0);
            let config = Config { max_logit_difference: limits.0, max_loss_difference: limits.1, ..Config::default() };
            match (check(&parity, &config), expected) {
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
        // The same constant added to all logits changes no probability.
        check([0.0, 0.0], [0.5, 0.5], (1.0, 1e-6), None);
        check([0.0, 0.0], [f32::NAN, 0.0], (1e30, 1e30), Some("optimize.max_logit_difference"));
        check([0.0, 0.0], [0.0, f32::INFINITY], (1e30, 1e30), Some("optimize.max_logit_difference"));
    }
}
