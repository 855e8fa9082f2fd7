//! How fast the formats decode, on this machine: `speed.json`, which differs from run to run.

use std::path::Path;
use std::time::Instant;

use artifact::Context;
use burn::tensor::Device;
use inference::{Decoder, Sampling};
use serde_json::{Map, Value, json};
use tokenizer::shard::Split;

use crate::{Error, Format};

/// The number of tokens to decode, if the context has room for them. Heuristic: a second or two for a model of a
/// hundred million parameters.
const TOKENS: usize = 64;

/// The number of tokens of the prompt, whose reading is not measured.
const PROMPT_TOKENS: usize = 8;

/// Of as many measurements, the median counts: other programs disturb single ones.
const MEASUREMENTS: usize = 3;

/// Measures the greedy decoding of the checkpoint and of the model of each format, and returns the content of
/// `speed.json`: tokens per second of one sequence.
///
/// # Errors
/// Returns an error if a model cannot be loaded or its logits are not finite, or the device fails;
/// [`Error::Interrupted`] if the run was asked to stop.
pub(crate) fn measure(
    checkpoint: &Path,
    formats: &[(Format, &Path)],
    validation: &Split,
    device: &Device,
    context: &Context,
) -> Result<Value, Error> {
    context.progress.begin("measuring speed", formats.len() as u64 + 1, "models");
    let of_checkpoint = tokens_per_second(checkpoint, validation, device, context)?;
    let mut of_formats = Map::new();
    for (format, folder) in formats {
        context.progress.position(of_formats.len() as u64 + 1);
        let speed = tokens_per_second(folder, validation, device, context)?;
        of_formats.insert(format.name().to_owned(), speed.into());
    }
    Ok(json!({ "unit": "tokens per second", "checkpoint": of_checkpoint, "formats": of_formats }))
}

fn tokens_per_second(folder: &Path, validation: &Split, device: &Device, context: &Context) -> Result<f64, Error> {
    let mut model = inference::load(folder, device, None)?;
    let prompt_tokens = PROMPT_TOKENS.min(validation.len()).min(model.context_length() / 2).max(1);
    let tokens = TOKENS.min(model.context_length().saturating_sub(prompt_tokens)).max(1);
    let mut prompt = vec![0; prompt_tokens];
    validation.copy(0, &mut prompt);
    let mut speeds = Vec::new();
    for _ in 0..MEASUREMENTS {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        let mut decoder = Decoder::new(&mut *model, &prompt, &Sampling::greedy(), tokens + 1)?;
        decoder.next_token()?;
        let start = Instant::now();
        while decoder.next_token()?.is_some() {}
        speeds.push(tokens as f64 / start.elapsed().as_secs_f64());
    }
    speeds.sort_by(f64::total_cmp);
    Ok(speeds[MEASUREMENTS / 2])
}
