//! The stage: copies the files of the checkpoint, converts its weights, and checks the result.

use std::fs;
use std::path::Path;

use artifact::{Context, Outcome, Sealed, Unsealed};
use inference::Parity;
use model::device;
use model::hub_layout::{CONFIG, INDEX, TOKENIZER, tokenizer_files, verified_weights};
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::{Config, Error, parity, weights};

/// The parity measurement in the bundle.
const PARITY: &str = "parity.json";

/// Writes the bundle of `checkpoint` into `out`, and compares it with the checkpoint on validation tokens.
///
/// # Errors
/// Returns an error if a file cannot be read or does not match the others, a weight does not fit the dtype, or the
/// bundle differs from the checkpoint by more than a limit of `config`; [`Error::Interrupted`] if the run was asked to
/// stop.
pub fn run(
    config: &Config,
    checkpoint: &Sealed,
    tokens: &Sealed,
    out: &Unsealed,
    context: &Context,
) -> Result<Outcome, Error> {
    config.validate()?;
    out.clear()?;
    let validation = open_validation(checkpoint, tokens)?;
    for name in tokenizer_files(checkpoint) {
        copy(checkpoint, &name, out)?;
    }
    let weights_bytes = write_model(config, checkpoint, out, context)?;

    let device = device::resolve(&context.device)?;
    let parity = parity::measure(config, checkpoint.folder(), out.folder(), &validation, &device, context)?;
    artifact::file::write_atomically(&out.path(PARITY), &pretty(&parity::report(&parity, config), PARITY)?)?;
    parity::check(&parity, config)?;

    Ok(Outcome {
        counts: counts(&parity, weights_bytes),
        headline: format!(
            "{}, {:.1} MB, Δloss {}",
            config.dtype.name(),
            weights_bytes as f64 / 1e6,
            short(parity.loss_difference_nats())
        ),
        device: device::describe(&context.device)?,
        ..Outcome::default()
    })
}

/// Opens the validation split, and checks that it was written with the checkpoint's tokenizer.
fn open_validation(checkpoint: &Sealed, tokens: &Sealed) -> Result<Split, Error> {
    let path = checkpoint.verified(TOKENIZER)?;
    let split = Split::open(tokens, "validation")?;
    let (found, expected) = (Tokenizer::from_file(&path)?.digest().to_string(), split.tokenizer_digest().to_string());
    if found != expected {
        return Err(Error::Tokenizer { path, found, expected });
    }
    Ok(split)
}

/// Writes `config.json`, the weights in the dtype of `config` and, if they are in shards, their index; returns the
/// bytes of the files with weights.
fn write_model(config: &Config, checkpoint: &Sealed, out: &Unsealed, context: &Context) -> Result<u64, Error> {
    let path = checkpoint.verified(CONFIG)?;
    let mut model_config = read_json(&path)?;
    let Value::Object(fields) = &mut model_config else {
        return Err(Error::NotAnObject { path });
    };
    // transformers 4 reads the first key, transformers 5 the second.
    for key in ["torch_dtype", "dtype"] {
        fields.insert(key.to_owned(), config.dtype.torch_name().into());
    }
    artifact::file::write_atomically(&out.path(CONFIG), &pretty(&model_config, CONFIG)?)?;

    let files = verified_weights(checkpoint)?;
    let mut total = 0;
    for source in &files {
        let name = source.file_name().unwrap_or_default();
        total += weights::convert(source, &out.folder().join(name), config.dtype, context)?;
    }
    if files.iter().all(|path| !path.ends_with(model::hub_layout::WEIGHTS)) {
        let mut index = read_json(&checkpoint.verified(INDEX)?)?;
        if let Some(parameters) = index["metadata"]["total_parameters"].as_u64() {
            index["metadata"]["total_size"] = (parameters * config.dtype.bytes()).into();
        }
        artifact::file::write_atomically(&out.path(INDEX), &pretty(&index, INDEX)?)?;
    }
    Ok(total)
}

fn counts(parity: &Parity, weights_bytes: u64) -> serde_json::Map<String, Value> {
    let counts = json!({
        "weights_bytes": weights_bytes,
        "parity_tokens": parity.tokens,
        "max_logit_difference": parity.max_logit_difference,
        "mean_logit_difference": parity.mean_logit_difference(),
        "kl_divergence_nats": parity.kl_divergence_nats(),
        "top_1_agreement": parity.top_1_agreement(),
        "checkpoint_loss_nats": parity.reference_loss_nats(),
        "bundle_loss_nats": parity.candidate_loss_nats(),
        "loss_difference_nats": parity.loss_difference_nats(),
    });
    counts.as_object().cloned().unwrap_or_default()
}

fn copy(checkpoint: &Sealed, name: &str, out: &Unsealed) -> Result<(), Error> {
    // Not `fs::copy`: the bundle must not get the permissions of the source, or share its disk blocks.
    let (from, to) = (checkpoint.verified(name)?, out.path(name));
    let bytes = fs::read(&from).map_err(|e| artifact::Error::io("read", &from, e))?;
    artifact::file::create_folder(to.parent().unwrap_or(out.folder()))?;
    fs::write(&to, bytes).map_err(|e| artifact::Error::io("write", &to, e))?;
    Ok(())
}

fn read_json(path: &Path) -> Result<Value, Error> {
    let text = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
    artifact::json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn pretty(value: &Value, name: &str) -> Result<Vec<u8>, Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Json { path: name.into(), source })?;
    text.push(b'\n');
    Ok(text)
}

/// Formats a small difference: four decimals, or scientific notation if those would all be zero.
fn short(difference: f64) -> String {
    if difference == 0.0 || difference.abs() >= 5e-5 { format!("{difference:.4}") } else { format!("{difference:.0e}") }
}
