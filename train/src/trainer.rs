//! The training loop, for any burn module and objective.
//!
//! Every step is a function of the model, the optimizer's state and the step's number, so that a training resumed from
//! any saved state reaches the same bits as an uninterrupted one.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Instant;

use artifact::Context;
use burn::module::Module;

use crate::checkpoint::ModelFiles;
use crate::checkpoint::state::{BEST, Snapshot, States, TrainerState, Validation};
use crate::error::Diverged;
use crate::logging::metrics::{Metrics, StepMetrics};
use crate::objective::teacher::LossParts;
use crate::objective::{Objective, Step};
use crate::optim::optimizer::Optimizer;
use crate::optim::{gradients, schedule};
use crate::{Config, Error, divergence};

/// Everything that a training needs.
pub struct Setup<'a, M> {
    /// The resolved configuration.
    pub config: &'a Config,
    /// Seed, progress and cancellation.
    pub context: &'a Context,
    /// The folder of states and logs.
    pub folder: &'a Path,
    /// The model that training starts from, on a device with autodiff.
    pub model: M,
    /// The objective.
    pub objective: Box<dyn Objective<M> + 'a>,
    /// How models are saved.
    pub files: &'a dyn ModelFiles<M>,
    /// The samples to log.
    pub sample: SampleFn<'a, M>,
    /// Floating-point operations of the model per token, forward and backward.
    pub flops_per_token: f64,
    /// Floating-point operations per second of a large matrix product on the device.
    pub peak_flops_per_second: f64,
}

/// Returns a sample of a model's output, if it has one.
pub type SampleFn<'a, M> = Box<dyn Fn(&M) -> Result<Option<String>, Error> + 'a>;

/// A training that is ready to run.
pub struct Trainer<'a, M> {
    model: M,
    optimizer: Optimizer,
    state: TrainerState,
    run: Run<'a, M>,
}

/// A finished training.
pub struct Trained<M> {
    /// The model after the last step.
    pub model: M,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The progress.
    pub state: TrainerState,
    /// Seconds spent in earlier, interrupted attempts.
    pub earlier_seconds: f64,
}

impl<'a, M: Module> Trainer<'a, M> {
    /// Restores the latest state saved in the folder, or starts from the model of the setup.
    ///
    /// # Errors
    /// Returns an error if the state cannot be used, the objective cannot be prepared, or on I/O errors.
    pub fn new(setup: Setup<'a, M>) -> Result<Self, Error> {
        let Setup { config, context, folder, model, mut objective, files, sample, .. } = setup;
        let states = States::new(folder);
        let restored = states.load(config, files, &model)?;
        objective.prepare(&model)?;
        // If a state was restored, this drops the initial model, whose weights take up memory.
        let (model, optimizer, state) =
            restored.unwrap_or_else(|| (model, Optimizer::new(config), TrainerState::start()));
        let run = Run {
            config,
            context,
            folder,
            objective,
            files,
            sample,
            metrics: Metrics::resume(folder, state.step)?,
            states,
            flops_per_token: setup.flops_per_token,
            peak_flops_per_second: setup.peak_flops_per_second,
            earlier_seconds: state.wall_seconds,
            started: Instant::now(),
            logged: (Instant::now(), state.tokens),
        };
        Ok(Self { model, optimizer, state, run })
    }

    /// Trains up to the configured number of steps.
    ///
    /// # Errors
    /// Returns [`Error::InterruptedAt`] with the state saved if the run was asked to stop, [`Error::Diverged`], and
    /// other errors if the device fails or on I/O errors.
    pub fn fit(self) -> Result<Trained<M>, Error> {
        let Self { mut model, mut optimizer, mut state, mut run } = self;
        let Run { config, context, .. } = run;
        context.progress.begin("training", config.steps, "steps");
        context.progress.position(state.step);
        if config.init.is_some() && state.best.is_none() {
            // The loss that fine-tuning has to improve on.
            run.validate(&model, &mut state)?;
        }
        while state.step < config.steps {
            let learning_rate = schedule::learning_rate(config, state.step);
            let Step { loss, parts, gradients, n_tokens } = run.objective.step(&model, state.step)?;
            let gradient_norm = gradients::norm(&model, &gradients)?;
            let median = state.recent_losses.spike(loss, config.loss_spike);
            let diverged = match (loss.is_finite(), gradient_norm.is_finite()) {
                (false, _) => Some(("loss", loss)),
                (_, false) => Some(("gradient norm", gradient_norm)),
                _ => median.map(|_| ("loss", loss)),
            };
            if let Some((what, value)) = diverged {
                let norms = divergence::norms_by_layer(&model, &gradients);
                return Err(run.diverged(what, value, median, norms, state.step));
            }
            let clips = config.clip_norm > 0.0 && gradient_norm > config.clip_norm;
            let scale = if clips { config.clip_norm / gradient_norm } else { 1.0 };
            model = optimizer.step(learning_rate, model, gradients, scale);
            state.step += 1;
            state.tokens += n_tokens;

            if state.step.is_multiple_of(config.log_every) || state.step == config.steps {
                run.log(&state, (loss, parts), learning_rate, gradient_norm)?;
            }
            context.progress.position(state.step);
            if state.step.is_multiple_of(config.validation_every) || state.step == config.steps {
                run.validate(&model, &mut state)?;
            }
            if config.sample_every > 0 && state.step.is_multiple_of(config.sample_every) {
                run.log_sample(&model, state.step)?;
            }
            let cancelled = context.cancel.is_requested();
            if cancelled || state.step.is_multiple_of(config.save_every) {
                state.wall_seconds = run.wall_seconds();
                let snapshot = Snapshot { model: &model, optimizer: &optimizer, state: &state };
                run.states.save(config.keep_last, run.files, &snapshot)?;
            }
            if cancelled && state.step < config.steps {
                return Err(Error::InterruptedAt { step: state.step, steps: config.steps });
            }
        }
        state.wall_seconds = run.wall_seconds();
        Ok(Trained { model, optimizer, state, earlier_seconds: run.earlier_seconds })
    }
}

/// What does not change during the loop, and the logs.
struct Run<'a, M> {
    config: &'a Config,
    context: &'a Context,
    folder: &'a Path,
    objective: Box<dyn Objective<M> + 'a>,
    files: &'a dyn ModelFiles<M>,
    sample: SampleFn<'a, M>,
    metrics: Metrics,
    states: States,
    flops_per_token: f64,
    peak_flops_per_second: f64,
    earlier_seconds: f64,
    started: Instant,
    /// The time of the latest log line, and the tokens up to it.
    logged: (Instant, u64),
}

impl<M: Module> Run<'_, M> {
    fn log(
        &mut self,
        state: &TrainerState,
        (loss, parts): (f64, Option<LossParts>),
        learning_rate: f64,
        gradient_norm: f64,
    ) -> Result<(), Error> {
        let (since, tokens) = self.logged;
        let tokens_per_second = (state.tokens - tokens) as f64 / since.elapsed().as_secs_f64();
        let flops_per_second = tokens_per_second * self.flops_per_token;
        self.logged = (Instant::now(), state.tokens);
        self.metrics.step(&StepMetrics {
            step: state.step,
            tokens: state.tokens,
            loss,
            parts,
            learning_rate,
            gradient_norm,
            tokens_per_second,
            flops_per_second,
        })?;
        self.context.progress.figures(&format!(
            "loss {:.3}, {tokens_per_second:.0} tokens/s, {:.0} GFLOP/s ({:.0} % of a matrix product's)",
            state.recent_losses.smoothed(),
            flops_per_second / 1e9,
            100.0 * flops_per_second / self.peak_flops_per_second,
        ));
        Ok(())
    }

    /// Validates the model, and saves it if its loss is the lowest so far.
    fn validate(&mut self, model: &M, state: &mut TrainerState) -> Result<(), Error> {
        let results = self.objective.validate(model)?;
        let loss = results.loss;
        if !loss.is_finite() {
            return Err(self.diverged("validation loss", loss, None, "not known".to_owned(), state.step));
        }
        self.metrics.validation(state.step, state.tokens, &results)?;
        let details = match (results.bits_per_byte, results.accuracy) {
            (Some(bits), _) => format!(", {bits:.3} bits per byte"),
            (_, Some(accuracy)) => format!(", the chosen answer wins in {:.1} % of the pairs", 100.0 * accuracy),
            _ => String::new(),
        };
        self.context.progress.line(&format!("step {}: validation loss {loss:.4}{details}", state.step));
        let validation = Validation { step: state.step, validation_loss: loss };
        state.latest = Some(validation);
        if state.best.is_none_or(|best| loss < best.validation_loss) {
            state.best = Some(validation);
            if state.step < self.config.steps {
                let folder = self.folder.join(BEST);
                artifact::file::create_folder(&folder)?;
                self.files.save(model, &folder)?;
            }
        }
        Ok(())
    }

    fn log_sample(&self, model: &M, step: u64) -> Result<(), Error> {
        if let Some(text) = (self.sample)(model)? {
            self.context.progress.line(&format!("sample after {step} steps: {text:?}"));
        }
        Ok(())
    }

    fn wall_seconds(&self) -> f64 {
        self.earlier_seconds + self.started.elapsed().as_secs_f64()
    }

    fn diverged(&self, what: &'static str, value: f64, median: Option<f64>, norms: String, step: u64) -> Error {
        let learning_rate = schedule::learning_rate(self.config, step);
        let last_good = self.states.latest().ok().flatten();
        Error::Diverged(Box::new(Diverged { what, value, median, step, learning_rate, norms, last_good }))
    }
}
