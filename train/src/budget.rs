//! Training for a given time: benchmarks this machine for a few seconds, then chooses the model's size, the batch size,
//! the learning rate and the number of steps.
//!
//! Of a list of shapes, each with the tokens per second that it reaches here, the plan takes the one with the lowest
//! predicted loss (`scaling`).

mod benchmark;
mod scaling;

use std::fmt;

use artifact::file::write_atomically;
use artifact::{Context, Sealed, Unsealed};
use burn::tensor::Device;
use model::{Backend, ModelConfig, checkpoint};
use serde::{Deserialize, Serialize};

use crate::config::{OptimizerKind, budget_seconds};
use crate::{Config, Error, Model};
use benchmark::{MAX_STEP_SECONDS, Speed};
use scaling::{BATCH_RATIO, MUON_LEARNING_RATE_RATIO};

/// The file in the artifact that keeps the plan: a resumed run does not measure again.
pub const FILE: &str = "budget.json";

/// The keys of `[train]` that a budget chooses.
pub const KEYS: [&str; 6] =
    ["steps", "batch_size", "micro_batches", "learning_rate", "warmup_steps", "validation_every"];

/// The keys of `[train.model]` that a budget chooses unless there is a model to start from.
pub const SHAPE_KEYS: [&str; 6] = ["n_layer", "d_model", "n_head", "n_kv_head", "head_dim", "d_ff"];

/// Layers, width and heads of the shapes to choose from, in increasing size.
const SHAPES: [(usize, usize, usize); 12] = [
    (2, 64, 2),
    (3, 96, 3),
    (4, 128, 4),
    (4, 192, 3),
    (6, 256, 4),
    (6, 384, 6),
    (8, 512, 8),
    (12, 640, 10),
    (12, 768, 12),
    (16, 1024, 16),
    (24, 1024, 16),
    (24, 1536, 24),
];

/// The fraction of the time that is spent on steps; the benchmark, validation and saving states take the rest.
/// Measured: with 0.88, a training with a budget of two minutes ended after 112 s, one of fifteen minutes after 760 s.
const STEP_TIME_FRACTION: f64 = 0.93;

/// The minimum number of steps. Heuristic, not measured: because with fewer, warm-up and decay would be a few steps
/// each.
const MIN_STEPS: f64 = 50.0;

/// The ratio of the learning rate to the law's for a model that is already trained. Heuristic, not measured: because
/// the full rate would undo much of what it has learned.
const INIT_LEARNING_RATE_DIVISOR: f64 = 10.0;

/// What a budget comes to on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetPlan {
    /// The budget, in seconds.
    pub seconds: f64,
    /// The benchmarked speed of the chosen model.
    pub tokens_per_second: f64,
    /// Layers, width and heads; None if there is a model to start from.
    pub shape: Option<(usize, usize, usize)>,
    /// Optimizer steps.
    pub steps: u64,
    /// Sequences per step.
    pub batch_size: usize,
    /// Micro-batches per step.
    pub micro_batches: usize,
    /// The peak learning rate.
    pub learning_rate: f64,
    /// The reasons, one line each.
    pub why: Vec<String>,
}

/// The data that a budget is spent on.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    /// Tokens in the training split.
    pub tokens: u64,
    /// The size of the vocabulary.
    pub vocab_size: usize,
}

/// Returns the plan that an earlier attempt in the artifact's folder made; without one, makes and logs it. None if the
/// configuration has no budget.
///
/// # Errors
/// As [`plan`], and if the file of an earlier plan is damaged.
pub(crate) fn plan_or_resume(
    config: &Config,
    data: &Data,
    init: Option<&Sealed>,
    device: &Device,
    out: &Unsealed,
    context: &Context,
) -> Result<Option<BudgetPlan>, Error> {
    let Some(budget) = &config.budget else { return Ok(None) };
    let path = out.path(FILE);
    if let Ok(text) = std::fs::read(&path) {
        return serde_json::from_slice(&text).map(Some).map_err(|source| Error::State { path, source });
    }
    context.progress.begin("benchmarking this machine", 1, "");
    let init = init.map(|init| checkpoint::load_config(init.folder())).transpose()?;
    let plan = plan(config, budget, data, init.as_ref(), device)?;
    context.progress.line(&plan.to_string());
    Ok(Some(plan))
}

/// Benchmarks the device and plans the training; `init` is the configuration of the model to start from.
///
/// # Errors
/// Returns an error if the budget is not a time or too short for any model, or the device fails.
pub fn plan(
    config: &Config,
    budget: &str,
    data: &Data,
    init: Option<&ModelConfig>,
    device: &Device,
) -> Result<BudgetPlan, Error> {
    let seconds = budget_seconds(budget)?;
    let on_cpu = Backend::is_cpu_device(device);
    let mut best: Option<Candidate> = None;
    let shapes = if init.is_some() { vec![None] } else { SHAPES.into_iter().map(Some).collect() };
    for shape in shapes {
        let trial = shape.map_or_else(|| config.clone(), |shape| with_shape(config, shape));
        let model = match init {
            Some(init) => ModelConfig { context_length: config.model.context_length, ..init.clone() },
            None => trial.model_config(data.vocab_size, None)?,
        };
        let Speed { tokens_per_second, step_seconds } = benchmark::measure(&trial, &model, device, on_cpu)?;
        let tokens = tokens_per_second * seconds * STEP_TIME_FRACTION;
        let loss = scaling::predicted_loss(&model, tokens, data.tokens);
        // A larger model is even slower, and would be even less trained.
        let is_worse = best.as_ref().is_some_and(|best| best.loss <= loss);
        if !is_worse {
            best = Some(Candidate { shape, model, tokens_per_second, loss });
        }
        if is_worse || step_seconds > MAX_STEP_SECONDS {
            break;
        }
    }
    let too_short = || Error::Config {
        key: "train.budget".to_owned(),
        reason: format!("{budget} is too short for {MIN_STEPS} steps of the smallest model on this machine"),
    };
    best.and_then(|best| best.plan(config, seconds, data, on_cpu)).ok_or_else(too_short)
}

fn with_shape(config: &Config, (n_layer, d_model, n_head): (usize, usize, usize)) -> Config {
    let model = Model { n_layer, d_model, n_head, n_kv_head: None, head_dim: None, d_ff: None, ..config.model.clone() };
    Config { model, ..config.clone() }
}

impl BudgetPlan {
    /// Writes the plan into the artifact's folder.
    ///
    /// # Errors
    /// On I/O errors.
    pub(crate) fn write(&self, out: &Unsealed) -> Result<(), Error> {
        let path = out.path(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::State { path: path.clone(), source })?;
        Ok(write_atomically(&path, &text)?)
    }

    /// Returns the configuration with the planned values.
    pub fn applied(&self, config: &Config) -> Config {
        Config {
            steps: self.steps,
            batch_size: self.batch_size,
            micro_batches: self.micro_batches,
            learning_rate: self.learning_rate,
            warmup_steps: self.steps / 20,
            validation_every: (self.steps / 5).max(1),
            ..self.shape.map_or_else(|| config.clone(), |shape| with_shape(config, shape))
        }
    }
}

impl fmt::Display for BudgetPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why.join("\n"))
    }
}

/// A model that the budget could be spent on.
struct Candidate {
    shape: Option<(usize, usize, usize)>,
    model: ModelConfig,
    tokens_per_second: f64,
    loss: f64,
}

impl Candidate {
    /// Returns the plan for this model; None if the time is too short for it.
    fn plan(&self, config: &Config, seconds: f64, data: &Data, on_cpu: bool) -> Option<BudgetPlan> {
        let context = config.model.context_length;
        let tokens = self.tokens_per_second * seconds * STEP_TIME_FRACTION;
        let flops = tokens * self.model.training_flops_per_token(context);
        let batch_tokens = scaling::batch_tokens(flops);
        let max_batch = (tokens / MIN_STEPS / context as f64).floor();
        let batch = (batch_tokens / context as f64).round().min(max_batch);
        if batch < 1.0 {
            return None;
        }
        let micro_batches = benchmark::parallelism(on_cpu).min(batch as usize);
        let batch_size = batch as usize / micro_batches * micro_batches;
        let steps = (tokens / (batch_size * context) as f64) as u64;
        let optimizer_ratio = if config.optimizer == OptimizerKind::Muon { MUON_LEARNING_RATE_RATIO } else { 1.0 };
        let divisor = if self.shape.is_none() { INIT_LEARNING_RATE_DIVISOR } else { 1.0 };
        let learning_rate = rounded(scaling::learning_rate(flops) * optimizer_ratio / divisor);
        let epochs = tokens / data.tokens as f64;
        let parameters = self.model.parameters() as f64;
        let why = vec![
            match self.shape {
                Some((n_layer, d_model, n_head)) => format!(
                    "model: {n_layer} layers, width {d_model}, {n_head} heads, {:.2} M parameters: the lowest loss of \
                     the benchmarked models, as predicted for {seconds:.0} s by the scaling law of Hoffmann et al. \
                     (2022)",
                    parameters / 1e6
                ),
                None => format!("model: the one of train.init, {:.2} M parameters", parameters / 1e6),
            },
            format!(
                "tokens: {:.2} M ({:.1} per parameter, {epochs:.2} epochs) at the {:.0} tokens per second of the \
                 benchmark, in {:.0} % of the time; the rest is for validation and saving states",
                tokens / 1e6,
                tokens / parameters,
                self.tokens_per_second,
                STEP_TIME_FRACTION * 100.0
            ),
            format!(
                "batch: {batch_size} sequences of {context} tokens, {steps} steps ({BATCH_RATIO} × 0.292 × \
                 {flops:.2e}^0.3271 = {batch_tokens:.0} tokens, and at least {MIN_STEPS} steps)"
            ),
            format!(
                "learning rate: {learning_rate} (0.3118 × {flops:.2e}^-0.125{}{})",
                if optimizer_ratio > 1.0 { format!(", times {optimizer_ratio} for Muon") } else { String::new() },
                if divisor > 1.0 {
                    format!(", divided by {divisor} because the model is trained already")
                } else {
                    String::new()
                }
            ),
        ];
        let (shape, tokens_per_second) = (self.shape, self.tokens_per_second);
        Some(BudgetPlan { seconds, tokens_per_second, shape, steps, batch_size, micro_batches, learning_rate, why })
    }
}

/// Returns a number rounded to two significant digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_time_gives_a_larger_model_and_more_steps() {
        let config = Config::default();
        let data = Data { tokens: 50_000_000, vocab_size: 4096 };
        // A machine of 40 GFLOP/s, for every model.
        let plan = |config: &Config, seconds: f64| {
            let candidate = |shape: (usize, usize, usize)| {
                let model = with_shape(config, shape).model_config(4096, None).unwrap();
                let tokens_per_second = 4e10 / model.training_flops_per_token(256);
                let loss = scaling::predicted_loss(&model, tokens_per_second * seconds, data.tokens);
                Candidate { shape: Some(shape), model, tokens_per_second, loss }
            };
            let best = SHAPES.into_iter().map(candidate).min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
            best.plan(config, seconds, &data, true).unwrap()
        };
        let plans = [60.0, 600.0, 6000.0, 60_000.0].map(|seconds| plan(&config, seconds));
        for pair in plans.windows(2) {
            assert!(pair[0].shape <= pair[1].shape, "{pair:?}");
            assert!(pair[0].batch_size <= pair[1].batch_size, "{pair:?}");
            assert!(pair[0].learning_rate > pair[1].learning_rate, "{pair:?}");
        }
        assert!(plans[0].shape < plans[3].shape);
        for plan in &plans {
            plan.applied(&config).validate().unwrap();
        }
        let adamw = Config { optimizer: OptimizerKind::Adamw, ..config.clone() };
        let slower = plan(&adamw, 600.0).learning_rate;
        assert!((plans[1].learning_rate / slower - MUON_LEARNING_RATE_RATIO).abs() < 0.2, "{slower} for AdamW");
    }
}
