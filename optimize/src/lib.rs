//! Stage optimize: a checkpoint becomes a bundle that is ready to serve.
//!
//! In: a checkpoint and the tokens that it was trained on. Out: the same Hugging Face layout with the weights in the
//! first of the configured formats, the others in folders within, and `parity.json`: how far the logits and the loss of
//! the *written* weights are from the checkpoint's on real validation tokens. A format that exceeds a configured limit
//! is an error, never an artifact.
//!
//! This crate never trains or samples. Weights are converted in chunks of a few hundred kilobytes, or one matrix at a
//! time where they are quantised; what rounding needs to know of the inputs is in memory for one layer at a time.
//!
//! Modules in reading order: [`Config`] and [`Format`]; `run` (copies the files and writes the formats); `rounded` (the
//! matrices in blocks of integers, layer by layer), from `calibration` (statistics of their inputs) and `quantize`
//! (rounding); `weights` (safetensors, from file to file) and `gguf_file`; `parity` (compares each format with the
//! checkpoint); `speed` (measures decoding).

mod calibration;
mod config;
mod error;
mod format;
mod gguf_file;
mod parity;
mod quantize;
mod rounded;
mod run;
mod speed;
mod weights;

pub use config::{Config, IntegerLimits, Method, RENAMED_KEYS};
pub use error::Error;
pub use format::Format;
pub use run::run;

/// The stage's name.
pub const NAME: &str = "optimize";

/// Raised when the output would change for the same inputs.
pub const VERSION: u32 = 2;
