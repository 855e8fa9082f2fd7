//! Stage optimize: a checkpoint becomes a bundle that is ready to serve.
//!
//! In: a checkpoint and the tokens that it was trained on. Out: the same Hugging Face layout with the weights in the
//! configured dtype, and `parity.json`: how far the logits and the loss of the *written* weights are from the
//! checkpoint's on real validation tokens. A bundle that exceeds a configured limit is an error, never an artifact.
//!
//! This crate never trains or samples, and never holds a second copy of the weights: they are converted in chunks of a
//! few hundred kilobytes.
//!
//! Modules in reading order: [`Config`]; `run` (copies the files and writes the bundle); `weights` (from one dtype to
//! another); `parity` (compares bundle and checkpoint).

mod config;
mod error;
mod parity;
mod run;
mod weights;

pub use config::Config;
pub use error::Error;
pub use model::Dtype;
pub use run::run;

/// The stage's name.
pub const NAME: &str = "optimize";

/// Raised when the output would change for the same inputs.
pub const VERSION: u32 = 1;
