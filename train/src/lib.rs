//! Stage train: token shards become a checkpoint.
//!
//! In: the tokens artifact and, for fine-tuning, a model to start from. Out: a checkpoint in the Hugging Face layout,
//! with the states of the optimizer and the trainer, and metrics. The training loop is our own because exact resume is
//! a core guarantee: a run killed at any instant resumes from its latest saved state and reaches the same bits.
//!
//! This crate reads no text except to log samples, and never touches the network.
//!
//! Modules in reading order: [`Config`]; `run` (resolves the configuration and puts a training together); `trainer`
//! (the loop, for any burn module and objective); [`mod@codec`] (puts the training of a codec together); `objective`
//! (cross-entropy, distillation, DPO and reconstruction) over `data` (the order of the data); `optim` (gradients,
//! learning rate, optimizer); `divergence`; `checkpoint` (resumable states and the result); `logging`; [`memory`] and
//! [`budget`] (estimates before the first step).

pub mod budget;
mod checkpoint;
pub mod codec;
mod config;
mod data;
mod divergence;
mod error;
mod logging;
pub mod memory;
mod objective;
mod optim;
mod run;
mod trainer;

pub use config::{
    Config, DistillConfig, DpoConfig, Model, OptimizerKind, Packing, PruneConfig, RENAMED_KEYS, Schedule, Weights,
};
pub use error::{Diverged, Error};
pub use run::{Inputs, run};

/// The stage's name.
pub const NAME: &str = "train";

/// The folder of a checkpoint with the adapters that were trained, in PEFT's layout.
pub const ADAPTER: &str = "adapter";

/// Raised when the same inputs would give another checkpoint.
pub const VERSION: u32 = 5;
