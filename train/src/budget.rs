//! A training for a given time: measures this machine for some seconds, then chooses the model's size, the batch, the
//! learning rate and the number of steps.
//!
//! Among some shapes, each with the tokens a second that it reaches here, it takes the one whose loss the law of Hoffmann et
//! al. predicts to be lowest (Training Compute-Optimal Large Language Models, 2022); tokens seen again count less and less
//! (Scaling Data-Constrained Language Models, 2023). Batch and learning rate follow the arithmetic spent (DeepSeek LLM:
//! Scaling Open-Source Language Models with Longtermism, 2024), times a factor each that was measured here. These laws were
//! fitted to models a thousand times larger; here they rank what can be afforded, and foretell no loss.

use std::fmt;
use std::time::Instant;

use artifact::file::write_atomically;
use artifact::{Context, Sealed, Unsealed};
use burn::tensor::Device;
use model::{Backend, ModelConfig, Transformer, checkpoint};
use serde::{Deserialize, Serialize};

use crate::batches::MicroBatch;
use crate::gradients::{Loss, Workers, cores};
use crate::optimizer::Optimizer;
use crate::{Config, Error, Model, OptimizerKind};

/// The file in the artifact that keeps the choice: a resumed run does not measure again.
pub const FILE: &str = "budget.json";

/// The keys of `[train]` that a budget chooses.
pub const KEYS: [&str; 6] =
    ["steps", "batch_size", "micro_batches", "learning_rate", "warmup_steps", "validation_every"];

/// The keys of `[train.model]` that a budget chooses where no model is given to start from.
pub const SHAPE_KEYS: [&str; 6] = ["n_layer", "d_model", "n_head", "n_kv_head", "head_dim", "d_ff"];

/// Layers, width and heads to choose from.
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

/// The share of the time that steps get; measuring, validation and saved states take the rest. With 0.88 a budget of two minutes
/// was spent after 112 s, one of fifteen after 760.
const FOR_STEPS: f64 = 0.93;

/// How much smaller the batch is than that of the law: with 2 M tokens through a model of 0.4 M parameters, the lowest loss was
/// that of 16 sequences of 256 tokens, where the law has 20 (of 4, 8, 16, 20 and 24).
const OF_BATCH: f64 = 0.7;

/// How much larger Muon's learning rate is than that of the law, which was fitted to `AdamW`. Measured: with 2 M tokens through
/// a model of 0.4 M parameters, a loss of 3.30 with the law's 0.0074 became 3.22 with 0.015.
const FOR_MUON: f64 = 2.0;

/// Seconds that the slowest measured step may take.
const LONGEST_STEP: f64 = 4.0;

/// The fewest steps that are worth a schedule.
const FEWEST_STEPS: f64 = 50.0;

/// What a budget came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The time given, in seconds.
    pub seconds: f64,
    /// What the chosen model reached when it was measured.
    pub tokens_per_second: f64,
    /// Layers, width and heads; none where the model was given.
    pub shape: Option<(usize, usize, usize)>,
    /// Optimizer steps.
    pub steps: u64,
    /// Sequences a step.
    pub batch_size: usize,
    /// Parts that they are computed in.
    pub micro_batches: usize,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Why, a line each.
    pub why: Vec<String>,
}

/// Reads a time as it is written: `90s`, `10m`, `2h`, `1.5h`.
///
/// # Errors
/// When it is none, or not between a second and a year.
pub fn seconds(text: &str) -> Result<f64, Error> {
    let wrong = || Error::Config {
        key: "train.budget".to_owned(),
        reason: format!("\"{text}\" is no time; write it as \"90s\", \"10m\" or \"2h\""),
    };
    let (number, unit) = text.trim().split_at_checked(text.trim().len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * unit;
    if (1.0..=366.0 * 86_400.0).contains(&seconds) { Ok(seconds) } else { Err(wrong()) }
}

/// Returns the choice that an earlier attempt in the artifact's folder made, else makes one and says why; none where no
/// budget is given.
///
/// # Errors
/// As [`choose`], and when the file of an earlier choice is damaged.
pub(crate) fn kept_or_chosen(
    config: &Config,
    data: &Data,
    init: Option<&Sealed>,
    device: &Device,
    out: &Unsealed,
    context: &Context,
) -> Result<Option<Choice>, Error> {
    let Some(budget) = &config.budget else { return Ok(None) };
    let path = out.path(FILE);
    if let Ok(text) = std::fs::read(&path) {
        return serde_json::from_slice(&text).map(Some).map_err(|source| Error::State { path, source });
    }
    context.progress.begin("measuring this machine", 1, "");
    let init = init.map(|init| checkpoint::load_config(init.folder())).transpose()?;
    let choice = choose(config, budget, data, init.as_ref(), device)?;
    context.progress.line(&choice.to_string());
    Ok(Some(choice))
}

impl Choice {
    /// Writes the choice into the artifact's folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn keep(&self, out: &Unsealed) -> Result<(), Error> {
        let path = out.path(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::State { path: path.clone(), source })?;
        Ok(write_atomically(&path, &text)?)
    }

    /// Returns the configuration with the choice in it.
    pub fn applied(&self, config: &Config) -> Config {
        let mut config = config.clone();
        self.apply(&mut config);
        config
    }

    fn apply(&self, config: &mut Config) {
        config.steps = self.steps;
        config.batch_size = self.batch_size;
        config.micro_batches = self.micro_batches;
        config.learning_rate = self.learning_rate;
        config.warmup_steps = self.steps / 20;
        config.validation_every = (self.steps / 5).max(1);
        if let Some((n_layer, d_model, n_head)) = self.shape {
            let Model { family, context_length, rope_theta, tied_embeddings, .. } = config.model;
            config.model = Model {
                family,
                context_length,
                n_layer,
                d_model,
                n_head,
                n_kv_head: None,
                head_dim: None,
                d_ff: None,
                rope_theta,
                tied_embeddings,
            };
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why.join("\n"))
    }
}

/// What a budget is spent on.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    /// Tokens in the training split.
    pub tokens: u64,
    /// The vocabulary.
    pub vocab_size: usize,
}

/// Measures the device and chooses; `init` is the shape of a model that is given to start from.
///
/// # Errors
/// When the budget is no time, is too short for any model, or the device fails.
pub fn choose(
    config: &Config,
    budget: &str,
    data: &Data,
    init: Option<&ModelConfig>,
    device: &Device,
) -> Result<Choice, Error> {
    let seconds = seconds(budget)?;
    let on_cpu = Backend::is_cpu_device(device);
    let mut best: Option<Candidate> = None;
    let shapes = if init.is_some() { vec![None] } else { SHAPES.into_iter().map(Some).collect() };
    for shape in shapes {
        let mut trial = config.clone();
        if let Some((n_layer, d_model, n_head)) = shape {
            trial.model =
                Model { n_layer, d_model, n_head, n_kv_head: None, head_dim: None, d_ff: None, ..trial.model };
        }
        let model = match init {
            Some(given) => ModelConfig { context_length: config.model.context_length, ..given.clone() },
            None => trial.model_config(data.vocab_size, None)?,
        };
        let (tokens_per_second, step_seconds) = measure(&trial, &model, device, on_cpu)?;
        let tokens = tokens_per_second * seconds * FOR_STEPS;
        let candidate =
            Candidate { shape, loss: predicted_loss(&model, tokens, data.tokens), tokens_per_second, model };
        // A larger one is slower still, and has learned less where this one has.
        let worse = best.as_ref().is_some_and(|best| best.loss <= candidate.loss);
        if !worse {
            best = Some(candidate);
        }
        if worse || step_seconds > LONGEST_STEP {
            break;
        }
    }
    let too_short = || Error::Config {
        key: "train.budget".to_owned(),
        reason: format!("{budget} is too short for {FEWEST_STEPS} steps of the smallest model on this machine"),
    };
    best.and_then(|best| best.choice(config, seconds, data, on_cpu)).ok_or_else(too_short)
}

struct Candidate {
    shape: Option<(usize, usize, usize)>,
    model: ModelConfig,
    tokens_per_second: f64,
    loss: f64,
}

impl Candidate {
    fn choice(&self, config: &Config, seconds: f64, data: &Data, on_cpu: bool) -> Option<Choice> {
        let context = config.model.context_length;
        let tokens = self.tokens_per_second * seconds * FOR_STEPS;
        let flops = tokens * self.model.training_flops_per_token(context);
        let wanted_tokens = OF_BATCH * 0.2920 * flops.powf(0.3271);
        let parts = if on_cpu { cores().min(8) } else { 1 };
        let most = (tokens / FEWEST_STEPS / context as f64).floor();
        let batch = (wanted_tokens / context as f64).round().min(most);
        if batch < 1.0 {
            return None;
        }
        let micro_batches = parts.min(batch as usize);
        let batch_size = batch as usize / micro_batches * micro_batches;
        let steps = (tokens / (batch_size * context) as f64) as u64;
        // A model that has learned already is not to forget it: a tenth.
        let of_law = 0.3118 * flops.powf(-0.1250);
        let of_optimizer = if config.optimizer == OptimizerKind::Muon { FOR_MUON } else { 1.0 };
        let learning_rate = rounded(of_law * of_optimizer / if self.shape.is_none() { 10.0 } else { 1.0 });
        let epochs = tokens / data.tokens as f64;
        let parameters = self.model.parameters() as f64;
        let why = vec![
            match self.shape {
                Some((n_layer, d_model, n_head)) => format!(
                    "model: {n_layer} layers, {d_model} wide, {n_head} heads, {:.2} M parameters: of those measured here, the \
                     lowest loss by the law of Hoffmann et al. (2022) for {seconds:.0} s",
                    parameters / 1e6
                ),
                None => format!("model: the one of train.init, {:.2} M parameters", parameters / 1e6),
            },
            format!(
                "tokens: {:.0} a second were measured, so {:.2} M ({:.1} a parameter, {epochs:.2} epochs) in {:.0} % of the \
                 time; the rest is for validation and saved states",
                self.tokens_per_second,
                tokens / 1e6,
                tokens / parameters,
                FOR_STEPS * 100.0
            ),
            format!(
                "batch: {batch_size} sequences of {context} tokens, {steps} steps ({OF_BATCH} × 0.292 × {flops:.2e}^0.3271 = {wanted_tokens:.0} \
                 tokens, and at least {FEWEST_STEPS} steps)"
            ),
            format!(
                "learning rate: {learning_rate} (0.3118 × {flops:.2e}^-0.125{}{})",
                if of_optimizer > 1.0 { format!(", {of_optimizer} times that for Muon") } else { String::new() },
                if self.shape.is_none() { ", a tenth of it to go on from what was learned" } else { "" }
            ),
        ];
        let tokens_per_second = self.tokens_per_second;
        Some(Choice {
            seconds,
            tokens_per_second,
            shape: self.shape,
            steps,
            batch_size,
            micro_batches,
            learning_rate,
            why,
        })
    }
}

/// Returns the loss that the law predicts, in nats a token of its own vocabulary: for comparing sizes.
fn predicted_loss(model: &ModelConfig, tokens: f64, unique: u64) -> f64 {
    // Appendix D.3 of the paper of 2022; R* from that of 2023.
    const IRREDUCIBLE: f64 = 1.69;
    const A: f64 = 406.4;
    const B: f64 = 410.7;
    const ALPHA: f64 = 0.34;
    const BETA: f64 = 0.28;
    const R_STAR: f64 = 15.39;
    let unique = (unique as f64).max(1.0);
    let repeats = (tokens / unique - 1.0).max(0.0);
    let effective = tokens.min(unique) + unique * R_STAR * (1.0 - (-repeats / R_STAR).exp());
    IRREDUCIBLE + A / (model.parameters() as f64).powf(ALPHA) + B / effective.powf(BETA)
}

/// Returns the tokens a second of whole steps of a model with random weights, and the seconds of the fastest step.
fn measure(config: &Config, model: &ModelConfig, device: &Device, on_cpu: bool) -> Result<(f64, f64), Error> {
    let context = config.model.context_length;
    // Near 2,048 tokens a step: enough to fill the machine, few enough to be quick.
    let parts = if on_cpu { cores().min(8) } else { 1 };
    let rows = (2048 / context / parts).max(1);
    let ids = |offset: usize| (0..rows * context).map(|i| ((i + offset) % model.vocab_size) as i64).collect();
    let batch =
        || MicroBatch { width: context, tokens: ids(0), targets: ids(1), starts: None, n_tokens: rows * context };
    let batches: Vec<MicroBatch> = (0..parts).map(|_| batch()).collect();
    let workers = Workers::new(on_cpu, parts);
    let mut optimizer = Optimizer::new(config);
    let mut trained = Transformer::init(model, 1, device).with_precision(config.precision);
    let mut fastest = f64::INFINITY;
    // The first pays for compiling or choosing kernels.
    for step in 0..4 {
        let started = Instant::now();
        let activations = config.activations();
        let loss = Loss { z_loss: config.z_loss, dropout: config.dropout, seed: 1, step, activations };
        let (_, gradients) = workers.gradients(&trained, &batches, &loss)?;
        trained = optimizer.step(1e-4, trained, gradients, 1.0);
        device.sync().map_err(Error::compute)?;
        if step > 0 {
            fastest = fastest.min(started.elapsed().as_secs_f64());
        }
        if started.elapsed().as_secs_f64() > LONGEST_STEP && step > 0 {
            break;
        }
    }
    Ok(((parts * rows * context) as f64 / fastest, fastest))
}

/// Returns a number to two digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.1e}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(seconds(text).ok(), expected, "{text}");
        check("90s", Some(90.0));
        check("10m", Some(600.0));
        check(" 1.5h ", Some(5400.0));
        check("2 d", Some(172_800.0));
        for wrong in ["", "m", "10", "ten minutes", "-3m", "0s", "1e9h", "NaNm", "5µ"] {
            check(wrong, None);
        }
    }

    #[test]
    fn more_time_buys_a_larger_model_and_more_steps() {
        let config = Config::default();
        let data = Data { tokens: 50_000_000, vocab_size: 4096 };
        // A machine of 40 GFLOP/s, whatever the model.
        let choice = |config: &Config, seconds: f64| {
            let candidate = |shape: (usize, usize, usize)| {
                let (n_layer, d_model, n_head) = shape;
                let model = Config { model: Model { n_layer, d_model, n_head, ..Model::default() }, ..config.clone() }
                    .model_config(4096, None)
                    .unwrap();
                let tokens_per_second = 4e10 / model.training_flops_per_token(256);
                let loss = predicted_loss(&model, tokens_per_second * seconds, data.tokens);
                Candidate { shape: Some(shape), model, tokens_per_second, loss }
            };
            let best = SHAPES.into_iter().map(candidate).min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
            best.choice(config, seconds, &data, true).unwrap()
        };
        let choices = [60.0, 600.0, 6000.0, 60_000.0].map(|seconds| choice(&config, seconds));
        for pair in choices.windows(2) {
            assert!(pair[0].shape <= pair[1].shape, "{pair:?}");
            assert!(pair[0].batch_size <= pair[1].batch_size, "{pair:?}");
            assert!(pair[0].learning_rate > pair[1].learning_rate, "{pair:?}");
        }
        assert!(choices[0].shape < choices[3].shape);
        for choice in &choices {
            choice.applied(&config).validate().unwrap();
        }
        let adamw = Config { optimizer: OptimizerKind::Adamw, ..config.clone() };
        let slower = choice(&adamw, 600.0).learning_rate;
        assert!((choices[1].learning_rate / slower - FOR_MUON).abs() < 0.2, "{slower} for AdamW");
    }

    #[test]
    fn what_is_seen_often_counts_less() {
        let model = Config::default().model_config(4096, None).unwrap();
        let loss = |tokens, unique| predicted_loss(&model, tokens, unique);
        assert!(loss(1e7, 10_000_000) < loss(1e7, 1_000_000));
        assert!(loss(1e7, 1_000_000) < loss(1e6, 1_000_000));
        // Four epochs are nearly as good as new tokens.
        assert!((loss(4e6, 1_000_000) - loss(4e6, 4_000_000)).abs() < 0.2);
    }
}
