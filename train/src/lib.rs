//! Stage train: token shards become a checkpoint.
//!
//! In: the tokens artifact. Out: a checkpoint in the Hugging Face layout with the optimizer's state, how far it came, and
//! the metrics of the way. The loop is our own, since exact resume is what this project exists for: a run killed at any
//! instant goes on from its last saved state and reaches the same bits.
//!
//! This crate never reads text, except to print a sample, and never touches the network.
//!
//! Reading order: [`Config`], `run` below, `windows` (the order of the data), `gradients`, `optimizer`, `state`.

mod config;
mod gradients;
mod metrics;
mod optimizer;
mod sample;
mod state;
mod windows;

use std::path::PathBuf;
use std::time::Instant;

use artifact::{Context, Outcome, Sealed, Unsealed};
use burn::module::Module;
use model::scoring::{self, Walk};
use model::{Dtype, Transformer, checkpoint, device};
use serde_json::json;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

pub use config::{Config, Model, OptimizerKind};

use gradients::{MicroBatch, Workers};
use metrics::{Metrics, StepMetrics};
use optimizer::Optimizer;
use state::{Best, States, TrainerState};
use windows::Windows;

/// The stage's name.
pub const NAME: &str = "train";

/// Raised when the same inputs would give another checkpoint.
pub const VERSION: u32 = 1;

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
    /// The loss or the gradients are no longer numbers.
    #[error(
        "the {what} is {value} at step {step} (learning rate {learning_rate:.2e}); the last good state is kept: lower \
         train.learning_rate, or raise train.warmup_steps"
    )]
    NotFinite {
        /// "loss", "gradient norm" or "validation loss".
        what: &'static str,
        /// Its value.
        value: f64,
        /// The step.
        step: u64,
        /// The learning rate of the step.
        learning_rate: f64,
    },
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

/// Trains a model on the tokens, or goes on where an earlier attempt in the same folder was cut off.
///
/// # Errors
/// See [`Error`]; the last saved state stays in the folder.
pub fn run(config: &Config, tokens: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    let tokenizer = Tokenizer::from_file(&tokens.verified("tokenizer.json")?)?;
    let train = Split::open(tokens, "train")?;
    let validation = Split::open(tokens, "validation")?;
    let model_config = config.model_config(tokenizer.vocab_size(), tokenizer.end_of_text())?;
    let needed = config.batch_size * model_config.context_length + 1;
    let too_few = || Error::TooFewTokens {
        found: train.len(),
        needed,
        batch_size: config.batch_size,
        context_length: model_config.context_length,
    };
    if train.len() < needed {
        return Err(too_few());
    }
    let windows = Windows::new(context.seed, train.len(), model_config.context_length).ok_or_else(too_few)?;

    let on_cpu = device::class(&context.device)? == "cpu";
    let device = device::resolve(&context.device)?.autodiff();
    let states = States::new(out.folder());
    let model = Transformer::init(&model_config, context.seed, &device);
    let (model, optimizer, state) = if let Some(resumed) = states.load(config, &model)? {
        resumed
    } else {
        out.clear()?;
        (model, Optimizer::new(config), TrainerState::start())
    };
    let loop_ = Loop {
        config,
        context,
        tokenizer: &tokenizer,
        train: &train,
        validation: &validation,
        windows,
        workers: Workers::new(on_cpu, config.micro_batches),
        best_path: out.path(".best.safetensors"),
        metrics: Metrics::resume(out.folder(), state.step)?,
        states,
        earlier_seconds: state.wall_seconds,
        started: Instant::now(),
    };
    let earlier_seconds = state.wall_seconds;
    let (model, optimizer, state) = loop_.run(model, optimizer, state)?;
    finish(config, &tokenizer, &model, &optimizer, &state, out)?;

    let best = state.best.unwrap_or(Best { step: state.step, validation_loss: f64::NAN });
    let mut counts = serde_json::Map::new();
    for (name, value) in [
        ("parameters", json!(model_config.parameters())),
        ("steps", json!(state.step)),
        ("tokens", json!(state.tokens)),
        (
            "training_flops",
            json!(model_config.training_flops_per_token(model_config.context_length) * state.tokens as f64),
        ),
        ("best_step", json!(best.step)),
        ("validation_loss", json!(best.validation_loss)),
    ] {
        counts.insert(name.to_owned(), value);
    }
    let millions = model_config.parameters() as f64 / 1e6;
    Ok(Outcome {
        counts,
        headline: format!("{millions:.2} M parameters, validation loss {:.3}", best.validation_loss),
        volatile: vec![metrics::FILE.to_owned(), state::FILE.to_owned()],
        earlier_seconds,
        device: device::describe(&context.device)?,
    })
}

/// Writes the checkpoint: the weights of the best measurement, and those of the last step beside them where they differ.
fn finish(
    config: &Config,
    tokenizer: &Tokenizer,
    model: &Transformer,
    optimizer: &Optimizer,
    state: &TrainerState,
    out: &Unsealed,
) -> Result<(), Error> {
    let best_path = out.path(".best.safetensors");
    if state.best.is_some_and(|best| best.step != state.step) {
        let weights = checkpoint::load_weights(&best_path, model.config())?;
        let best = checkpoint::with_weights(model.config(), weights, &model.device());
        checkpoint::save(&best, out.folder(), Dtype::F32)?;
        let last = out.path("last.safetensors");
        checkpoint::save_weights(&checkpoint::weights(model)?, model.config().family, &last, Dtype::F32)?;
    } else {
        checkpoint::save(model, out.folder(), Dtype::F32)?;
    }
    optimizer.save(model, &out.path(optimizer::FILE))?;
    state.write(out.folder())?;
    tokenizer.write_hugging_face(out.folder(), config.model.context_length)?;
    Ok(())
}

/// Everything that does not change while the loop runs, and the log.
struct Loop<'a> {
    config: &'a Config,
    context: &'a Context,
    tokenizer: &'a Tokenizer,
    train: &'a Split,
    validation: &'a Split,
    windows: Windows,
    workers: Workers,
    best_path: PathBuf,
    metrics: Metrics,
    states: States,
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
        while state.step < config.steps {
            let learning_rate = config.learning_rate_at(state.step);
            let batches = self.batches(state.step);
            let (loss, gradients) = self.workers.gradients(&model, &batches, 0.0)?;
            check("loss", loss, state.step, learning_rate)?;
            let (stepped, norm) = self.workers.alone(|| {
                let norm = gradients::norm(&model, &gradients)?;
                check("gradient norm", norm, state.step, learning_rate)?;
                let factor = config.clip_norm / norm;
                let clips = config.clip_norm > 0.0 && factor < 1.0;
                let gradients = if clips { gradients::scaled(&model, gradients, factor) } else { gradients };
                Ok::<_, Error>((optimizer.step(learning_rate, model, gradients), norm))
            })?;
            model = stepped;
            state.step += 1;
            state.tokens += config.tokens_per_step();

            if state.step.is_multiple_of(config.log_every) || state.step == config.steps {
                let tokens_per_second = (state.tokens - logged.1) as f64 / logged.0.elapsed().as_secs_f64();
                logged = (Instant::now(), state.tokens);
                let (step, tokens) = (state.step, state.tokens);
                self.metrics.step(&StepMetrics {
                    step,
                    tokens,
                    loss,
                    learning_rate,
                    gradient_norm: norm,
                    tokens_per_second,
                })?;
                context.progress.figures(&format!("loss {loss:.3}, {tokens_per_second:.0} tokens/s"));
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
                self.states.save(&model, &optimizer, &state)?;
                saved = state.step;
            }
            if cancelled && state.step < config.steps {
                return Err(Error::InterruptedAt { step: saved, steps: config.steps });
            }
        }
        state.wall_seconds = self.earlier_seconds + self.started.elapsed().as_secs_f64();
        Ok((model, optimizer, state))
    }

    fn batches(&mut self, step: u64) -> Vec<MicroBatch> {
        let width = self.config.model.context_length + 1;
        let first = step * self.config.batch_size as u64;
        let mut window = vec![0; width];
        let per_part = self.config.batch_size / self.config.micro_batches;
        (0..self.config.micro_batches)
            .map(|part| {
                let mut tokens = Vec::with_capacity(per_part * (width - 1));
                let mut targets = Vec::with_capacity(per_part * (width - 1));
                for row in 0..per_part {
                    let start = self.windows.start(first + (part * per_part + row) as u64);
                    self.train.copy(start, &mut window);
                    tokens.extend(window[..width - 1].iter().map(|id| i64::from(*id)));
                    targets.extend(window[1..].iter().map(|id| i64::from(*id)));
                }
                MicroBatch { tokens, targets, starts: None, rows: per_part, dropout: None }
            })
            .collect()
    }

    /// Measures the loss on the validation split and keeps the weights where it is the lowest so far.
    fn validate(&mut self, model: &Transformer, state: &mut TrainerState) -> Result<(), Error> {
        let plain = model.valid();
        let walk = Walk::plain(&plain, Some(self.config.validation_tokens));
        let scores = scoring::score(&plain, self.validation, &walk, |_| true)?;
        check("validation loss", scores.loss_nats, state.step, self.config.learning_rate_at(state.step))?;
        let bytes_per_token = self.validation.bytes() as f64 / self.validation.len() as f64;
        let bits_per_byte = scores.loss_nats / std::f64::consts::LN_2 / bytes_per_token;
        self.metrics.validation(state.step, state.tokens, scores.loss_nats, bits_per_byte)?;
        self.context.progress.line(&format!(
            "step {}: validation loss {:.4}, {bits_per_byte:.3} bits per byte",
            state.step, scores.loss_nats
        ));
        if state.best.is_none_or(|best| scores.loss_nats < best.validation_loss) {
            state.best = Some(Best { step: state.step, validation_loss: scores.loss_nats });
            if state.step < self.config.steps {
                let weights = checkpoint::weights(model)?;
                checkpoint::save_weights(&weights, model.config().family, &self.best_path, Dtype::F32)?;
            }
        }
        Ok(())
    }
}

fn check(what: &'static str, value: f64, step: u64, learning_rate: f64) -> Result<(), Error> {
    if value.is_finite() { Ok(()) } else { Err(Error::NotFinite { what, value, step, learning_rate }) }
}
