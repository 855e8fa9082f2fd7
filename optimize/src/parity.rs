//! How far the formats of a model are from its checkpoint, on real tokens.
//!
//! All models read the same windows of the validation split, and every logit of every position is compared. All are
//! loaded from their files and computed as they are served, so that the measurement is of what will be served.

use std::path::Path;

use artifact::Context;
use burn::tensor::Device;
use inference::{ForwardPass, Parity, Row};
use model::{ModelConfig, checkpoint};
use serde_json::{Value, json};
use tokenizer::shard::Split;

use crate::{Config, Error, Format};

/// The maximum number of positions compared at once. Heuristic, not measured: because each position has as many logits
/// as there are tokens, so that a long context with a large vocabulary would take gigabytes.
pub(crate) const MAX_WINDOW: usize = 1024;

/// Compares the models in `folders` with the checkpoint on the first `parity_tokens` tokens of the validation split. In
/// memory are the checkpoint, which reads the tokens again for each, and one of them.
///
/// # Errors
/// Returns an error if a model cannot be loaded or its vocabulary is too small for the split, the split has no token to
/// predict, or the device fails; [`Error::Interrupted`] if the run was asked to stop.
pub(crate) fn measure(
    config: &Config,
    checkpoint: &Path,
    folders: &[&Path],
    validation: &Split,
    device: &Device,
    context: &Context,
) -> Result<Vec<Parity>, Error> {
    let shape = check_split(checkpoint, validation)?;
    let (window, vocab_size) = (shape.context_length.min(MAX_WINDOW), shape.vocab_size);
    let load = |folder: &Path| inference::load(folder, device, Some(window));
    let mut reference = load(checkpoint)?;
    let total = config.parity_tokens.min(validation.len() as u64 - 1);

    context.progress.begin("comparing", total * folders.len() as u64, "tokens");
    let mut parities = Vec::with_capacity(folders.len());
    let (mut expected, mut found) = (Vec::new(), Vec::new());
    for folder in folders {
        let mut candidate = load(folder)?;
        let mut parity = Parity::default();
        let mut done = 0;
        while done < total {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            // One more token than is read, as the target of the last position.
            let mut tokens = vec![0; (window as u64).min(total - done) as usize + 1];
            validation.copy(done as usize, &mut tokens);
            let inputs = &tokens[..tokens.len() - 1];
            logits(&mut *reference, inputs, &mut expected)?;
            logits(&mut *candidate, inputs, &mut found)?;
            let rows = expected.chunks_exact(vocab_size).zip(found.chunks_exact(vocab_size));
            for ((expected, found), &target) in rows.zip(&tokens[1..]) {
                parity.add(expected, found, target as usize);
            }
            done += inputs.len() as u64;
            context.progress.position(parities.len() as u64 * total + done);
            context.progress.figures(&format!("Δlogit {:.4}", parity.max_logit_difference));
        }
        parities.push(parity);
    }
    Ok(parities)
}

/// Checks that the model in `checkpoint` can read the split and that there is a token to predict; returns the model's
/// configuration.
///
/// # Errors
/// Returns an error that names what does not fit.
pub(crate) fn check_split(checkpoint: &Path, validation: &Split) -> Result<ModelConfig, Error> {
    let shape = checkpoint::load_config(checkpoint)?;
    // A model may have more rows than there are tokens.
    if shape.vocab_size < validation.vocab_size() {
        let (found, expected) = (shape.vocab_size, validation.vocab_size());
        return Err(Error::Vocabulary { path: checkpoint.to_owned(), found, expected });
    }
    if validation.len() < 2 {
        return Err(Error::TooFewTokens { tokens: validation.len() as u64 });
    }
    Ok(shape)
}

/// Computes the logits of all positions of a text.
fn logits(model: &mut dyn ForwardPass, tokens: &[u32], logits: &mut Vec<f32>) -> Result<(), Error> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(model.block_tokens()) as u32).collect();
    let row = |(position, token): (usize, &u32)| Row { sequence: 0, position, token: *token, wants_logits: true };
    let rows: Vec<Row> = tokens.iter().enumerate().map(row).collect();
    logits.clear();
    Ok(model.forward(&rows, &[&blocks], logits)?)
}

/// Compares the measurement of a format with its limits.
///
/// # Errors
/// Returns [`Error::Parity`] with the first measure that exceeds its limit. The loss must not be lower than the
/// checkpoint's either: an improvement beyond rounding means a different model.
pub(crate) fn check(parity: &Parity, format: Format, config: &Config) -> Result<(), Error> {
    let limits = config.limits(format);
    let [logit_key, loss_key] = limits.keys();
    let measures = [
        ("largest logit difference", parity.max_logit_difference, logit_key, limits.max_logit_difference),
        ("loss difference", parity.loss_difference_nats(), loss_key, limits.max_loss_difference),
    ];
    for (measure, value, key, limit) in measures {
        // Not `value > limit`, which is false for NaN.
        let within = value.abs() <= limit;
        if !within {
            return Err(Error::Parity { measure, value, key, limit, format: format.name() });
        }
    }
    Ok(())
}

/// Returns the content of `parity.json`; a value that is not finite is null there.
pub(crate) fn report(parities: &[Parity], weights_bytes: &[u64], validation: &Split, config: &Config) -> Value {
    // Bits per byte at the split's mean length of a token.
    let bits_per_byte =
        |nats: f64| nats / std::f64::consts::LN_2 * validation.len() as f64 / validation.text_bytes() as f64;
    let entry = |((parity, format), bytes): ((&Parity, &Format), &u64)| {
        let limits = config.limits(*format);
        let mut entry = json!({
            "format": format,
            "weights_bytes": bytes,
            "max_logit_difference": parity.max_logit_difference,
            "mean_logit_difference": parity.mean_logit_difference(),
            "kl_divergence_nats": parity.kl_divergence_nats(),
            "top_1_agreement": parity.top_1_agreement(),
            "loss_nats": parity.candidate_loss_nats(),
            "bits_per_byte": bits_per_byte(parity.candidate_loss_nats()),
            "loss_difference_nats": parity.loss_difference_nats(),
            "limits": {
                "max_logit_difference": limits.max_logit_difference,
                "max_loss_difference": limits.max_loss_difference,
            },
        });
        if format.is_quantized() {
            entry["method"] = json!(config.method());
        }
        entry
    };
    let checkpoint = parities[0].reference_loss_nats();
    json!({
        "split": "validation",
        "tokens": parities[0].tokens,
        "checkpoint": { "loss_nats": checkpoint, "bits_per_byte": bits_per_byte(checkpoint) },
        "formats": parities.iter().zip(&config.formats).zip(weights_bytes).map(entry).collect::<Vec<_>>(),
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
            match (check(&parity, Format::Bf16, &config), expected) {
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
