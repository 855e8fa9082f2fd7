//! Settings files in TOML: positions of keys, unknown and renamed keys, and suggestions for misspelt ones.
//!
//! In: the text of a file, overrides from the command line. Out: a value of the caller's type, or an [`Error`] that
//! names the file and the line, or the override. Must not depend on any stage.
//!
//! - [`ConfigSource`] is a file with its overrides, which knows where each key is.
//! - [`suggest`] returns the name that a wrong one was likely meant to be.

mod error;
mod keys;
mod renamed;
mod source;
mod suggest;

pub use error::Error;
pub use source::{ConfigSource, Parsed};
pub use suggest::suggest;
