//! Training objectives: next-token cross-entropy, alone or with the divergence from a teacher, DPO, and a codec's
//! reconstruction, each with the data that it reads.

pub mod cross_entropy;
pub mod dpo;
pub mod reconstruction;
pub mod rounded;
pub mod teacher;

use burn::optim::GradientsParams;
use model::ActivationCheckpointing;

use crate::{Config, Error};
use teacher::LossParts;

/// What the trainer minimizes: the loss of each step and of the validation split, for models of type `M`.
pub trait Objective<M> {
    /// Computes what depends on the model that training starts from, before a state is restored.
    ///
    /// # Errors
    /// Returns an error if the device fails or the run was asked to stop, and on I/O errors.
    fn prepare(&mut self, _initial: &M) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the loss and the gradients of a step, counted from 0. They depend on nothing but the model and the step,
    /// so that a resumed training continues to the same bits.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn step(&mut self, model: &M, step: u64) -> Result<Step, Error>;

    /// Returns the loss on the validation split.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn validate(&self, model: &M) -> Result<ValidationLoss, Error>;
}

/// The results of a step.
pub struct Step {
    /// The mean loss: in nats, or a codec's squared error.
    pub loss: f64,
    /// Distillation: the parts of the loss.
    pub parts: Option<LossParts>,
    /// The gradients of the mean loss.
    pub gradients: GradientsParams,
    /// The number of tokens read, without padding, or of a codec's codes.
    pub n_tokens: u64,
}

/// The results of a validation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ValidationLoss {
    /// The mean loss: in nats, or a codec's squared error.
    pub loss: f64,
    /// The loss in bits per byte of the text; None if only parts of the text are learned.
    pub bits_per_byte: Option<f64>,
    /// DPO: the fraction of pairs whose chosen answer became more likely relative to the rejected one.
    pub accuracy: Option<f64>,
    /// DPO: the mean reward margin, β times the change of the difference of log-probabilities.
    pub margin: Option<f64>,
}

/// The options of a step, beside its data.
#[derive(Debug, Clone, Copy)]
pub struct StepOptions {
    /// The weight of the z-loss.
    pub z_loss: f64,
    /// Dropout probability.
    pub dropout: f64,
    /// The seed of the training.
    pub seed: u64,
    /// The step, counted from 0.
    pub step: u64,
    /// Activation checkpointing policy.
    pub activations: ActivationCheckpointing,
}

impl StepOptions {
    /// Returns the configured options of a step.
    pub fn new(config: &Config, seed: u64, step: u64) -> Self {
        Self { z_loss: config.z_loss, dropout: config.dropout, seed, step, activations: config.activations() }
    }

    /// Returns the dropout seed of a micro-batch: different for each step and micro-batch, the same in a resumed run.
    pub fn dropout_seed(&self, index: usize, micro_batches: usize) -> u64 {
        let number = self.step * micro_batches as u64 + index as u64 + 1;
        self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
