//! What training would cost: parameters, tokens, FLOP, memory, time.

use artifact::{Sealed, Store};
use model::Precision;
use serde_json::Value;
use train::budget::{self, Data};

use crate::config::Config;
use crate::run::input_model::InputModel;
use crate::run::plan::Planner;
use crate::run::stage::{Artifacts, Stage};
use artifact::format;

/// The fraction of a matrix product's speed that training a small model reaches: measured once with the default
/// configuration on two cores; used only if nothing was trained here before.
const TRAINING_FRACTION: f64 = 0.45;

/// Returns what training would cost, in words.
///
/// # Errors
/// Returns an error if the model's shape is invalid, or the device is not available.
pub fn training(planner: &Planner<'_>, made: &Artifacts) -> anyhow::Result<String> {
    let Planner { config, store, device_class, raw_data, .. } = planner;
    let train = &config.train;
    if let Some(budget) = &train.budget {
        return budgeted(planner, made, budget);
    }
    let model = match &raw_data.models.init {
        Some(InputModel { shape: Some(shape), .. }) => train.pruned_shape(shape)?,
        Some(_) => return Ok("training: its cost is known once the model of train.init is fetched".to_owned()),
        None => {
            let made = made.get(&Stage::Preprocess).and_then(vocab_size);
            train.model_config(made.unwrap_or_else(|| configured_vocab_size(config)), None)?
        }
    };
    let context = train.model.context_length;
    let tokens = train.steps as f64 * (train.batch_size * context) as f64;
    let flops = tokens * model.training_flops_per_token(context);
    let on_cpu = model::device::backend(device_class)?.is_cpu();
    let teacher = raw_data.models.teacher.as_ref().and_then(|teacher| teacher.shape.as_ref());
    let memory = train::memory::estimate_bytes(train, &model, teacher, on_cpu);
    let (seconds, source) = if let Some((speed, fingerprint)) = earlier_speed(store, device_class) {
        (flops / speed, format!("from train {fingerprint}"))
    } else {
        let speed = product_speed(device_class, train.precision)?;
        (flops / (TRAINING_FRACTION * speed), "roughly, from a matrix product".to_owned())
    };
    let parameters = model.parameters();
    let text = format!(
        "training: {} parameters, {} tokens ({:.1} a parameter), {}FLOP, about {} of memory, about {} ({source})",
        format::count(parameters as f64),
        format::count(tokens),
        tokens / parameters as f64,
        spaced(flops),
        format::bytes(memory),
        format::seconds(seconds),
    );
    Ok(match made.get(&Stage::Preprocess).and_then(|tokens| count(tokens, "tokens_train")) {
        None => text,
        Some(there) => {
            format!("{text}\nthe training split has {} tokens: {:.2} epochs", format::count(there), tokens / there)
        }
    })
}

/// Returns what a training with a time budget would choose now, in words.
fn budgeted(planner: &Planner<'_>, made: &Artifacts, budget: &str) -> anyhow::Result<String> {
    let Planner { config, device_class, raw_data, .. } = planner;
    let shape = raw_data.models.init.as_ref().map(|init| init.shape.as_ref());
    let (Some(tokens), None | Some(Some(_))) = (made.get(&Stage::Preprocess), shape) else {
        return Ok(format!("training for {budget}: the choice is known once the tokens are made"));
    };
    let data = Data {
        tokens: count(tokens, "tokens_train").unwrap_or(0.0) as u64,
        vocab_size: vocab_size(tokens).unwrap_or_else(|| configured_vocab_size(config)),
    };
    let device = model::device::resolve(device_class)?;
    config.train.precision.check(&device, device_class)?;
    let device = device.autodiff();
    let plan = budget::plan(&config.train, budget, &data, shape.flatten(), &device)?;
    Ok(format!("training for {budget}, as measured now:\n{plan}"))
}

/// `1.24 P` becomes `1.24 PFLOP`, and `900` becomes `900 FLOP`.
fn spaced(flops: f64) -> String {
    let text = format::count(flops);
    if text.contains(' ') { text } else { format!("{text} ") }
}

fn count(sealed: &Sealed, name: &str) -> Option<f64> {
    sealed.manifest().counts.get(name).and_then(Value::as_f64)
}

fn vocab_size(tokens: &Sealed) -> Option<usize> {
    count(tokens, "vocab_size").map(|size| size as usize)
}

fn configured_vocab_size(config: &Config) -> usize {
    config.preprocess.tokenizer.vocab_size
}

/// Returns the FLOP/s of the latest training on this class of device, and its fingerprint.
fn earlier_speed(store: &Store, device_class: &str) -> Option<(f64, String)> {
    let sealed = store.list(Stage::Train.name()).ok()?;
    let speeds = sealed.iter().filter(|train| train.manifest().recipe.device_class.as_deref() == Some(device_class));
    let newest = speeds.max_by_key(|train| modified(train))?;
    let manifest = newest.manifest();
    let speed = count(newest, "training_flops")? / manifest.wall_seconds;
    (speed.is_finite() && speed > 0.0).then(|| (speed, manifest.fingerprint.short()))
}

fn modified(sealed: &Sealed) -> Option<std::time::SystemTime> {
    std::fs::metadata(sealed.folder().join(artifact::manifest::FILE_NAME)).and_then(|m| m.modified()).ok()
}

fn product_speed(device_class: &str, precision: Precision) -> anyhow::Result<f64> {
    let device = model::device::resolve(device_class)?;
    precision.check(&device, device_class)?;
    Ok(model::device::matmul_flops_per_second(&device, precision)?)
}
