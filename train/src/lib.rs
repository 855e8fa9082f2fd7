//! Stage train: token shards become a checkpoint.
//!
//! In: the tokens artifact. Out: a checkpoint in the Hugging Face layout with the optimizer's state, how far it came, and
//! the metrics of the way. The loop is our own, since exact resume is what this project exists for: a run killed at any
//! instant goes on from its last saved state and reaches the same bits.
//!
//! This crate never reads text, except to print a sample, and never touches the network.
//!
//! Reading order: [`Config`], `run` below, `batches` (the order of the data, with `windows` and `packing`), `gradients`,
//! `optimizer`, `schedule`, `guard`, `state`.

mod batches;
pub mod budget;
mod config;
mod gradients;
mod guard;
mod init;
mod lora;
pub mod memory;
mod metrics;
mod objective;
mod optimizer;
#[cfg(test)]
mod oracle;
mod packing;
mod preference;
mod sample;
mod schedule;
mod state;
mod tensorboard;
mod windows;

use std::path::PathBuf;
use std::time::Instant;

use artifact::{Context, Outcome, Sealed, Unsealed};
use model::{Dtype, ModelConfig, Transformer, checkpoint, device};
use serde_json::json;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

pub use batches::Rows;
pub use config::{Config, Model, OptimizerKind, Weights};
pub use preference::DpoConfig;
pub use schedule::Schedule;

use budget::Data;
use gradients::{Loss, Workers};
use metrics::{Metrics, StepMetrics};
use objective::{Objective, Step};
use optimizer::Optimizer;
use state::{Measured, States, TrainerState};

/// The stage's name.
pub const NAME: &str = "train";

/// Raised when the same inputs would give another checkpoint.
pub const VERSION: u32 = 3;

/// What can go wrong in training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of `[train]` has a value that makes no sense.
    #[error("{key}: {reason}")]
    Config {
        /// The dotted key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The training split is shorter than one step needs.
    #[error(
        "the training split has {found} tokens, and one step needs {needed} (train.batch_size {batch_size} × \
         train.model.context_length {context_length} + 1): add documents, or lower one of the two"
    )]
    TooFewTokens {
        /// Tokens in the split.
        found: usize,
        /// Tokens that one step reads.
        needed: usize,
        /// The configured batch.
        batch_size: usize,
        /// The configured context.
        context_length: usize,
    },
    /// No target of the training split is to be learned.
    #[error("nothing in the training split is to be learned: no document has two tokens, or no chat an answer")]
    NothingToLearn,
    /// The training does not fit into the memory of its device.
    #[error(
        "training needs about {:.1} GB of memory and {:.1} GB are free: {advice}",
        *needed_bytes as f64 / 1e9,
        *free_bytes as f64 / 1e9
    )]
    Memory {
        /// The estimate.
        needed_bytes: u64,
        /// What the device has.
        free_bytes: u64,
        /// What would fit.
        advice: String,
    },
    /// The loss is no longer a number or far above the ones before it, or a gradient is no longer a number.
    #[error("{0}")]
    Diverged(Box<Diverged>),
    /// The state of the optimizer cannot be read or written.
    #[error("cannot use the optimizer's state {}", path.display())]
    OptimizerState {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A whole saved state cannot be used.
    #[error("cannot go on from {}; delete that folder to go on from an older state, or from the start", path.display())]
    Resume {
        /// The state's folder.
        path: PathBuf,
        /// Which file, and what is wrong with it.
        #[source]
        source: Box<Error>,
    },
    /// A saved state has another layout.
    #[error("{} has the layout {found}, this version reads {expected}: go on with the version that wrote it", path.display())]
    StateVersion {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
        /// The layout of this version.
        expected: u32,
    },
    /// `trainer_state.json` cannot be read or written.
    #[error("cannot use the trainer's state {}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Where the JSON stopped making sense.
        #[source]
        source: serde_json::Error,
    },
    /// Somebody asked to stop; the state is saved.
    #[error("interrupted at step {step} of {steps}; the state is saved, run the same command again to go on")]
    InterruptedAt {
        /// Steps taken.
        step: u64,
        /// Steps wanted.
        steps: u64,
    },
    /// Somebody asked to stop before the first step.
    #[error("interrupted")]
    Interrupted,
    /// `[train.dpo]` without pairs.
    #[error(
        "train.dpo learns from pairs of a chosen and a rejected answer, and the {split} split has none that fit in \
         {context_length} tokens: collect a source with `chat = \"preference\"`, or raise train.model.context_length"
    )]
    NoPairs {
        /// The split.
        split: &'static str,
        /// The longest answer that fits, with its prompt.
        context_length: usize,
    },
    /// The model, its checkpoint or its device.
    #[error(transparent)]
    Model(model::Error),
    /// The tokenizer or the shards.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
    /// The disk, or the sealed tokens.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}

/// Where and how a training went wrong.
#[derive(Debug, thiserror::Error)]
#[error(
    "the {what} is {value:.3} at step {step}{} (learning rate {learning_rate:.2e}). Gradient norms: {norms}. {}lower \
     train.learning_rate, or raise train.warmup_steps{}",
    .median.map(|median| format!(", after a median of {median:.3}")).unwrap_or_default(),
    .last_good.as_ref().map_or_else(
        || "Nothing was saved yet: ".to_owned(),
        |folder| format!("The last good state is {} and opens as a model: ", folder.display())
    ),
    if .median.is_some() { ", or train.loss_spike if this text is so uneven" } else { "" }
)]
pub struct Diverged {
    /// "loss", "gradient norm" or "validation loss".
    pub what: &'static str,
    /// Its value.
    pub value: f64,
    /// The median of the losses before, where the loss is a number, but far above it.
    pub median: Option<f64>,
    /// The step.
    pub step: u64,
    /// The learning rate of the step.
    pub learning_rate: f64,
    /// The norm of the gradients of each layer.
    pub norms: String,
    /// The latest saved state.
    pub last_good: Option<PathBuf>,
}

impl Error {
    fn compute(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Model(model::Error::Compute { what: "training", source: Box::new(source) })
    }
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        match error {
            model::Error::Interrupted => Self::Interrupted,
            other => Self::Model(other),
        }
    }
}

/// Trains a model on the tokens, from random weights or from those of the checkpoint `init`, or goes on where an earlier
/// attempt in the same folder was cut off.
///
/// # Errors
/// See [`Error`]; the last saved state stays in the folder.
pub fn run(
    config: &Config,
    init: Option<&Sealed>,
    tokens: &Sealed,
    out: &Unsealed,
    context: &Context,
) -> Result<Outcome, Error> {
    config.validate()?;
    let tokenizer = Tokenizer::from_file(&tokens.verified("tokenizer.json")?)?;
    let train = Split::open(tokens, "train")?;
    let validation = Split::open(tokens, "validation")?;
    let backend = device::backend(&context.device)?;
    let device = device::resolve(&context.device)?;
    config.precision.check(&device, backend.name())?;
    let device = device.autodiff();
    let data = Data { tokens: train.len() as u64, vocab_size: tokenizer.vocab_size() };
    let choice = budget::kept_or_chosen(config, &data, init, &device, out, context)?;
    let config = &choice.as_ref().map_or_else(|| config.clone(), |choice| choice.applied(config));
    let model_config = match init {
        Some(init) => init::config(config, init, &tokenizer)?,
        None => config.model_config(tokenizer.vocab_size(), tokenizer.end_of_text())?,
    };
    // A model to start from may read more at a time than it is trained on here.
    let context_length = config.model.context_length;
    let mut objective = Objective::new(config, context.seed, &train, &validation)?;
    let workers = Workers::new(backend.is_cpu(), config.micro_batches);
    let as_trained = ModelConfig { context_length, ..model_config.clone() };
    memory::check(config, &as_trained, backend)?;
    let states = States::new(out.folder());
    let model = match init {
        Some(init) => checkpoint::load(init.folder(), &device)?,
        None => Transformer::init(&model_config, context.seed, &device),
    };
    let model = lora::attach(model, &config.freeze, config.lora.as_ref(), context.seed)?;
    let model = model.with_precision(config.precision);
    let initial = model.clone();
    let (model, optimizer, state) = if let Some(resumed) = states.load(config, &model)? {
        resumed
    } else {
        out.clear()?;
        if let Some(choice) = &choice {
            choice.keep(out)?;
        }
        (model, Optimizer::new(config), TrainerState::start())
    };
    let model = model.with_precision(config.precision);
    objective.prepare(&initial, out.folder(), context)?;
    // Its weights would take room, or be copied by the first step.
    drop(initial);
    let loop_ = Loop {
        config,
        context,
        tokenizer: &tokenizer,
        objective,
        workers,
        best_folder: out.path(".best"),
        metrics: Metrics::resume(out.folder(), state.step)?,
        states,
        flops_per_token: model_config.training_flops_per_token(context_length),
        peak_flops_per_second: device::matmul_flops_per_second(&device.clone().inner(), config.precision)?,
        earlier_seconds: state.wall_seconds,
        started: Instant::now(),
    };
    let earlier_seconds = state.wall_seconds;
    let (model, optimizer, state) = loop_.run(model, optimizer, state)?;
    finish(config, &tokenizer, &model, &optimizer, &state, out)?;
    if let Some(init) = init {
        init::pass_on(init, &tokenizer, out)?;
    }

    let kept = if config.weights == Weights::Best { state.best } else { state.latest };
    let kept = kept.unwrap_or(Measured { step: state.step, validation_loss: f64::NAN });
    let mut counts = serde_json::Map::new();
    for (name, value) in [
        ("parameters", json!(model_config.parameters())),
        ("steps", json!(state.step)),
        ("tokens", json!(state.tokens)),
        ("training_flops", json!(model_config.training_flops_per_token(context_length) * state.tokens as f64)),
        ("best_step", json!(kept.step)),
        ("validation_loss", json!(kept.validation_loss)),
    ] {
        counts.insert(name.to_owned(), value);
    }
    let millions = model_config.parameters() as f64 / 1e6;
    let is_older = config.weights == Weights::Best && kept.step < state.step;
    Ok(Outcome {
        counts,
        headline: format!(
            "{millions:.2} M parameters, validation loss {:.3}{}",
            kept.validation_loss,
            if is_older { format!(" at step {}, which is kept", kept.step) } else { String::new() }
        ),
        volatile: [metrics::FILE, tensorboard::FILE, state::FILE].map(str::to_owned).to_vec(),
        earlier_seconds,
        device: device::describe(&context.device)?,
    })
}

/// Writes the checkpoint: the weights of the best measurement with those of the last step beside them where they differ, or
/// the last alone, as `train.weights` says.
fn finish(
    config: &Config,
    tokenizer: &Tokenizer,
    model: &Transformer,
    optimizer: &Optimizer,
    state: &TrainerState,
    out: &Unsealed,
) -> Result<(), Error> {
    let best_is_older = state.best.is_some_and(|best| best.step != state.step);
    let best = if best_is_older && config.weights == Weights::Best {
        let last = checkpoint::weights(&lora::whole(model))?;
        checkpoint::save_weights(&last, model.config().family, &out.path("last.safetensors"), Dtype::F32)?;
        lora::load(model, &config.freeze, &out.path(".best"))?
    } else {
        model.clone()
    };
    if config.lora.is_some() {
        let folder = out.path(lora::FOLDER);
        artifact::file::create_folder(&folder)?;
        lora::save(&best, config.init.as_deref().unwrap_or_default(), &folder)?;
    }
    checkpoint::save(&lora::whole(&best), out.folder(), Dtype::F32)?;
    optimizer.save(model, &out.path(optimizer::FILE))?;
    state.write(out.folder())?;
    tokenizer.write_hugging_face(out.folder(), model.config().context_length)?;
    Ok(())
}

/// Everything that does not change while the loop runs, and the log.
struct Loop<'a> {
    config: &'a Config,
    context: &'a Context,
    tokenizer: &'a Tokenizer,
    objective: Objective<'a>,
    workers: Workers,
    best_folder: PathBuf,
    metrics: Metrics,
    states: States,
    flops_per_token: f64,
    peak_flops_per_second: f64,
    earlier_seconds: f64,
    started: Instant,
}

impl Loop<'_> {
    fn run(
        mut self,
        mut model: Transformer,
        mut optimizer: Optimizer,
        mut state: TrainerState,
    ) -> Result<(Transformer, Optimizer, TrainerState), Error> {
        let Self { config, context, .. } = self;
        context.progress.begin("training", config.steps, "steps");
        context.progress.position(state.step);
        let mut logged = (Instant::now(), state.tokens);
        let mut saved = state.step;
        if config.init.is_some() && state.best.is_none() {
            // What the training has to beat.
            self.validate(&model, &mut state)?;
        }
        while state.step < config.steps {
            let learning_rate = config.learning_rate_at(state.step);
            let loss = Loss {
                z_loss: config.z_loss,
                dropout: config.dropout,
                seed: context.seed,
                step: state.step,
                activations: config.activations(),
            };
            let Step { loss, gradients, n_tokens } = self.objective.step(config, &self.workers, &model, &loss)?;
            let norm = gradients::norm(&model, &gradients)?;
            let median = state.recent_losses.spike(loss, config.loss_spike);
            let wrong = match (loss.is_finite(), norm.is_finite()) {
                (false, _) => Some(("loss", loss)),
                (_, false) => Some(("gradient norm", norm)),
                _ => median.map(|_| ("loss", loss)),
            };
            if let Some((what, value)) = wrong {
                let norms = guard::norms_by_layer(&model, &gradients);
                return Err(self.diverged(what, value, median, norms, state.step));
            }
            let clips = config.clip_norm > 0.0 && norm > config.clip_norm;
            let scale = if clips { config.clip_norm / norm } else { 1.0 };
            model = optimizer.step(learning_rate, model, gradients, scale);
            state.step += 1;
            state.tokens += n_tokens;

            if state.step.is_multiple_of(config.log_every) || state.step == config.steps {
                let tokens_per_second = (state.tokens - logged.1) as f64 / logged.0.elapsed().as_secs_f64();
                let flops_per_second = tokens_per_second * self.flops_per_token;
                logged = (Instant::now(), state.tokens);
                let (step, tokens) = (state.step, state.tokens);
                self.metrics.step(&StepMetrics {
                    step,
                    tokens,
                    loss,
                    learning_rate,
                    gradient_norm: norm,
                    tokens_per_second,
                    flops_per_second,
                })?;
                context.progress.figures(&format!(
                    "loss {:.3}, {tokens_per_second:.0} tokens/s, {:.0} GFLOP/s ({:.0} % of a matrix product's)",
                    state.recent_losses.smoothed(),
                    flops_per_second / 1e9,
                    100.0 * flops_per_second / self.peak_flops_per_second,
                ));
            }
            context.progress.position(state.step);
            if state.step.is_multiple_of(config.validation_every) || state.step == config.steps {
                self.validate(&model, &mut state)?;
            }
            if config.sample_every > 0 && state.step.is_multiple_of(config.sample_every) {
                let text = sample::sample(&model, self.tokenizer, &config.sample_prompt, context.seed)?;
                context.progress.line(&format!("sample after {} steps: {text:?}", state.step));
            }
            let cancelled = context.cancel.is_requested();
            if cancelled || state.step.is_multiple_of(config.save_every) {
                state.wall_seconds = self.earlier_seconds + self.started.elapsed().as_secs_f64();
                self.states.save(config, &model, &optimizer, self.tokenizer, &state)?;
                saved = state.step;
            }
            if cancelled && state.step < config.steps {
                return Err(Error::InterruptedAt { step: saved, steps: config.steps });
            }
        }
        state.wall_seconds = self.earlier_seconds + self.started.elapsed().as_secs_f64();
        Ok((model, optimizer, state))
    }

    /// Measures the loss on the validation split and keeps the weights where it is the lowest so far.
    fn validate(&mut self, model: &Transformer, state: &mut TrainerState) -> Result<(), Error> {
        let measured = self.objective.measure(self.config, model)?;
        let loss = measured.loss;
        if !loss.is_finite() {
            return Err(self.diverged("validation loss", loss, None, "not known".to_owned(), state.step));
        }
        self.metrics.validation(state.step, state.tokens, &measured)?;
        let figure = match (measured.bits_per_byte, measured.accuracy) {
            (Some(bits), _) => format!(", {bits:.3} bits per byte"),
            (_, Some(accuracy)) => format!(", the chosen answer wins in {:.1} % of the pairs", 100.0 * accuracy),
            _ => String::new(),
        };
        self.context.progress.line(&format!("step {}: validation loss {loss:.4}{figure}", state.step));
        let measurement = Measured { step: state.step, validation_loss: loss };
        state.latest = Some(measurement);
        if state.best.is_none_or(|best| loss < best.validation_loss) {
            state.best = Some(measurement);
            if state.step < self.config.steps {
                artifact::file::create_folder(&self.best_folder)?;
                lora::save(model, self.config.init.as_deref().unwrap_or_default(), &self.best_folder)?;
            }
        }
        Ok(())
    }

    fn diverged(&self, what: &'static str, value: f64, median: Option<f64>, norms: String, step: u64) -> Error {
        let learning_rate = self.config.learning_rate_at(step);
        let last_good = self.states.latest();
        Error::Diverged(Box::new(Diverged { what, value, median, step, learning_rate, norms, last_good }))
    }
}
