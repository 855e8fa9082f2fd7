//! Stage optimize: a checkpoint becomes a bundle ready to serve.
//!
//! In: a checkpoint and the tokens it was trained on. Out: the same Hugging Face layout with the weights in the dtype
//! asked for, and `parity.json`: how far the logits and the loss of the *written* weights are from the checkpoint's on
//! real validation tokens. A bundle beyond a limit of the configuration is an error, never an artifact.
//!
//! This crate never trains, never samples, and never holds a second copy of the weights to convert them: they pass
//! through a buffer of a few hundred kilobytes.

mod config;
mod error;
mod parity;
mod weights;

pub use config::Config;
pub use error::Error;
pub use model::Dtype;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use artifact::{Context, Outcome, Sealed, Unsealed};
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::parity::Parity;

/// The stage's name.
pub const NAME: &str = "optimize";

/// Raised when the output would change for the same inputs.
pub const VERSION: u32 = 1;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = model::hub_layout::WEIGHTS;
const INDEX: &str = model::hub_layout::INDEX;
const TOKENIZER: &str = "tokenizer.json";
const PARITY: &str = "parity.json";

/// Files of the Hugging Face layout that pass unchanged, and whether a checkpoint must have them.
const PASSED_ON: [(&str, bool); 5] = [
    (TOKENIZER, true),
    ("tokenizer_config.json", true),
    ("generation_config.json", true),
    ("special_tokens_map.json", false),
    ("chat_template.jinja", false),
];

/// Writes the bundle of `checkpoint` into `out`, and compares it with the checkpoint on validation tokens.
///
/// # Errors
/// When a file cannot be read or does not fit the others, a weight does not fit the dtype, or the bundle differs from
/// the checkpoint by more than a limit of `config`; [`Error::Interrupted`] when the context asks to stop.
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
    for (name, required) in PASSED_ON {
        if required || checkpoint.manifest().files.contains_key(name) {
            copy(&checkpoint.verified(name)?, &out.path(name))?;
        }
    }
    let weights_bytes = write_weights(config, checkpoint, out, context)?;

    let device = model::device::resolve(&context.device)?;
    let parity = parity::measure(config, checkpoint.folder(), out.folder(), &validation, &device, context)?;
    artifact::file::write_atomically(&out.path(PARITY), &pretty(&parity.to_json(config), PARITY)?)?;
    parity.check(config)?;

    Ok(Outcome {
        counts: counts(&parity, weights_bytes),
        headline: format!(
            "{}, {:.1} MB, Δloss {}",
            weights::name(config.dtype),
            weights_bytes as f64 / 1e6,
            short(parity.loss_difference())
        ),
        device: model::device::describe(&context.device)?,
        ..Outcome::default()
    })
}

/// Opens the validation split and checks that it was written with the checkpoint's tokenizer.
fn open_validation(checkpoint: &Sealed, tokens: &Sealed) -> Result<Split, Error> {
    let path = checkpoint.verified(TOKENIZER)?;
    let split = Split::open(tokens, "validation")?;
    let (found, expected) = (Tokenizer::from_file(&path)?.digest().to_string(), split.tokenizer_digest().to_string());
    if found != expected {
        return Err(Error::Tokenizer { path, found, expected });
    }
    Ok(split)
}

/// Writes `config.json` and the weights in the dtype of `config`; returns the length of the weights' files.
fn write_weights(config: &Config, checkpoint: &Sealed, out: &Unsealed, context: &Context) -> Result<u64, Error> {
    let source = checkpoint.verified(CONFIG)?;
    let mut model_config = read_json(&source)?;
    let Value::Object(fields) = &mut model_config else {
        return Err(Error::Weights { path: source, reason: "the file holds no JSON object".to_owned() });
    };
    // The one is of transformers 4, the other of 5.
    for key in ["torch_dtype", "dtype"] {
        fields.insert(key.to_owned(), config.dtype.torch_name().into());
    }
    artifact::file::write_atomically(&out.path(CONFIG), &pretty(&model_config, CONFIG)?)?;
    if checkpoint.manifest().files.contains_key(WEIGHTS) {
        return weights::convert(&checkpoint.verified(WEIGHTS)?, &out.path(WEIGHTS), config.dtype, context);
    }
    write_shards(config, checkpoint, out, context)
}

/// Writes the shards that the checkpoint's index names, and their index.
fn write_shards(config: &Config, checkpoint: &Sealed, out: &Unsealed, context: &Context) -> Result<u64, Error> {
    let index = read_json(&checkpoint.verified(INDEX)?)?;
    let names = index["weight_map"].as_object().into_iter().flatten().filter_map(|(_, name)| name.as_str());
    let mut total = 0;
    for name in names.collect::<BTreeSet<_>>() {
        // A name that is not in the manifest is not in the folder either.
        total += weights::convert(&checkpoint.verified(name)?, &out.path(name), config.dtype, context)?;
    }
    let mut renewed = index;
    if let Some(parameters) = renewed["metadata"]["total_parameters"].as_u64() {
        renewed["metadata"]["total_size"] = (parameters * config.dtype.bytes()).into();
    }
    artifact::file::write_atomically(&out.path(INDEX), &pretty(&renewed, INDEX)?)?;
    Ok(total)
}

fn read_json(path: &Path) -> Result<Value, Error> {
    let text = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn counts(parity: &Parity, weights_bytes: u64) -> serde_json::Map<String, Value> {
    let figures = json!({
        "weights_bytes": weights_bytes,
        "parity_tokens": parity.tokens,
        "max_logit_difference": parity.max_logit_difference,
        "mean_logit_difference": parity.mean_logit_difference(),
        "kl_divergence_nats": parity.kl_divergence_nats(),
        "top_1_agreement": parity.top_1_agreement(),
        "checkpoint_loss_nats": parity.checkpoint_loss_nats(),
        "bundle_loss_nats": parity.bundle_loss_nats(),
        "loss_difference_nats": parity.loss_difference(),
    });
    figures.as_object().cloned().unwrap_or_default()
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    // Read and written rather than `fs::copy`d: permissions of the source, and whether it shares blocks with the copy,
    // are no business of the bundle's.
    let bytes = fs::read(from).map_err(|e| artifact::Error::io("read", from, e))?;
    fs::write(to, bytes).map_err(|e| artifact::Error::io("write", to, e))?;
    Ok(())
}

fn pretty(value: &Value, name: &str) -> Result<Vec<u8>, Error> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|source| Error::Json { path: name.into(), source })?;
    text.push(b'\n');
    Ok(text)
}

/// Formats a small difference: four decimals, or scientific notation where those would all be noughts.
fn short(difference: f64) -> String {
    if difference == 0.0 || difference.abs() >= 5e-5 { format!("{difference:.4}") } else { format!("{difference:.0e}") }
}
