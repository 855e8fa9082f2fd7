//! Stage optimize: a checkpoint becomes a bundle that is ready to serve.
//!
//! In: a checkpoint and the tokens that it was trained on. Out: the same Hugging Face layout with the weights in the
//! first of the configured formats, the others in folders within, and `parity.json`: how far the logits and the loss of
//! the *written* weights are from the checkpoint's on real validation tokens. A format that exceeds a configured limit
//! is an error, never an artifact.
//!
//! This crate never trains or samples. Weights are converted in chunks of a few hundred kilobytes, or one matrix at a
//! time where they are quantised.
//!
//! Modules in reading order: [`Config`]; `run` (copies the files and writes the formats); `weights` (from file to
//! file); `quantize` (rounding to integers) and `calibration` (the statistics that it needs); `parity` (compares each
//! format with the checkpoint); `speed` (measures decoding).

mod calibration;
mod config;
mod error;
mod parity;
mod quantize;
mod run;
mod speed;
mod weights;

pub use config::{Config, Format, IntegerLimits, Method, RENAMED_KEYS};
pub use error::Error;
pub use run::run;

/// The stage's name.
pub const NAME: &str = "optimize";

/// Raised when the output would change for the same inputs.
pub const VERSION: u32 = 2;
