//! The stage: copies the files of the checkpoint, converts its weights, and checks the result.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::{Context, Outcome, Sealed, Unsealed};
use inference::Parity;
use model::hub_layout::{CONFIG, GGUF, INDEX, TOKENIZER, tokenizer_files, verified_weights};
use model::{Dtype, compressed_tensors, device};
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::format::{Layout, Safetensors};
use crate::rounded::Rounded;
use crate::weights::Written;
use crate::{Config, Error, Format, gguf_file, parity, speed, weights};

/// The measurement of all formats, in the bundle.
const PARITY: &str = "parity.json";

/// The speed of all formats, in the bundle.
const SPEED: &str = "speed.json";

/// The folder of the formats that are not the bundle's.
const FORMATS: &str = "formats";

/// The file of rounded matrices, while the formats are written.
const ROUNDED: &str = ".rounded";

/// Writes `checkpoint` into `out` in every format, and compares each with the checkpoint on validation tokens.
///
/// # Errors
/// Returns an error if a file cannot be read or does not match the others, a weight does not fit a format, or a format
/// differs from the checkpoint by more than a limit of `config`; [`Error::Interrupted`] if the run was asked to stop.
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
    // Before anything is computed from them.
    verified_weights(checkpoint)?;
    let mut rounded = Rounded::new(config, checkpoint.folder(), &validation, &out.path(ROUNDED), context)?;
    let (mut folders, mut weights_bytes, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    for (i, format) in config.formats.iter().enumerate() {
        let folder = match i {
            0 => out.folder().to_owned(),
            _ => out.folder().join(FORMATS).join(format.name()),
        };
        for name in tokenizer_files(checkpoint) {
            copy(checkpoint, &name, &folder)?;
        }
        weights_bytes.push(match format.layout() {
            Layout::Safetensors(layout) => write_model(layout, checkpoint, &folder, &mut rounded, context)?,
            Layout::Gguf(quantization) => {
                let path = folder.join(GGUF);
                let (bytes, notes) = gguf_file::write(*format, quantization, checkpoint, &path, &mut rounded)?;
                notices.extend(notes.into_iter().map(|note| format!("{}: {note}", format.name())));
                let config = model_config(checkpoint, quantization.stored_dtype())?;
                write_config(&config, &folder)?;
                bytes
            }
        });
        folders.push(folder);
    }
    drop(rounded);

    let device = device::resolve(&context.device)?;
    let paths: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let parities = parity::measure(config, checkpoint.folder(), &paths, &validation, &device, context)?;
    let report = parity::report(&parities, &weights_bytes, &validation, config);
    artifact::file::write_atomically(&out.path(PARITY), &pretty(&report, PARITY)?)?;
    for (parity, format) in parities.iter().zip(&config.formats) {
        parity::check(parity, *format, config)?;
    }

    let models: Vec<(Format, &Path)> = config.formats.iter().copied().zip(paths).collect();
    let speed = speed::measure(checkpoint.folder(), &models, &validation, &device, context)?;
    artifact::file::write_atomically(&out.path(SPEED), &pretty(&speed, SPEED)?)?;

    let summary = |((format, parity), bytes): ((&Format, &Parity), &u64)| {
        let (megabytes, loss) = (*bytes as f64 / 1e6, short(parity.loss_difference_nats()));
        format!("{}, {megabytes:.1} MB, Δloss {loss}", format.name())
    };
    let summaries: Vec<String> = config.formats.iter().zip(&parities).zip(&weights_bytes).map(summary).collect();
    let mut counts = counts(&parities[0], weights_bytes[0]);
    if !notices.is_empty() {
        counts.insert(artifact::NOTICES.to_owned(), notices.into());
    }
    Ok(Outcome {
        counts,
        headline: summaries.join("; "),
        volatile: vec![SPEED.to_owned()],
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

/// Writes `config.json`, the weights in `format` and, if they are in shards, their index to `folder`; returns the bytes
/// of the files with weights.
fn write_model(
    format: Safetensors,
    checkpoint: &Sealed,
    folder: &Path,
    rounded: &mut Rounded,
    context: &Context,
) -> Result<u64, Error> {
    let mut fields = model_config(checkpoint, format.dtype)?;
    let files = verified_weights(checkpoint)?;
    let (mut all, mut weight_map) = (Written::default(), Map::new());
    for source in &files {
        let name = source.file_name().unwrap_or_default();
        let written = weights::convert(source, &folder.join(name), format, rounded, context)?;
        let name = name.to_string_lossy();
        weight_map.extend(written.tensors.into_iter().map(|tensor| (tensor, name.as_ref().into())));
        all.bytes += written.bytes;
        all.tensor_bytes += written.tensor_bytes;
        all.ignored.extend(written.ignored);
    }
    if let Some(integers) = format.integers {
        // The output projection is a linear one, too.
        all.ignored.push("lm_head".to_owned());
        fields.insert("quantization_config".to_owned(), compressed_tensors::config(integers, &all.ignored));
    }
    write_config(&fields, folder)?;
    if files.iter().all(|path| !path.ends_with(model::hub_layout::WEIGHTS)) {
        let mut index = read_json(&checkpoint.verified(INDEX)?)?;
        index["metadata"]["total_size"] = all.tensor_bytes.into();
        index["weight_map"] = weight_map.into();
        artifact::file::write_atomically(&folder.join(INDEX), &pretty(&index, INDEX)?)?;
    }
    Ok(all.bytes)
}

/// Returns the checkpoint's `config.json` for weights of another type.
fn model_config(checkpoint: &Sealed, dtype: Dtype) -> Result<Map<String, Value>, Error> {
    let path = checkpoint.verified(CONFIG)?;
    let Value::Object(mut fields) = read_json(&path)? else { return Err(Error::NotAnObject { path }) };
    // transformers 4 reads the first key, transformers 5 the second.
    for key in ["torch_dtype", "dtype"] {
        fields.insert(key.to_owned(), dtype.torch_name().into());
    }
    Ok(fields)
}

fn write_config(fields: &Map<String, Value>, folder: &Path) -> Result<(), Error> {
    Ok(artifact::file::write_atomically(&folder.join(CONFIG), &pretty(&json!(fields), CONFIG)?)?)
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

fn copy(checkpoint: &Sealed, name: &str, folder: &Path) -> Result<(), Error> {
    // Not `fs::copy`: the bundle must not get the permissions of the source, or share its disk blocks.
    let (from, to) = (checkpoint.verified(name)?, folder.join(name));
    let bytes = fs::read(&from).map_err(|e| artifact::Error::io("read", &from, e))?;
    artifact::file::create_folder(to.parent().unwrap_or(folder))?;
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
