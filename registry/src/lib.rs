//! Importing and exporting models.
//!
//! In: what people write for a model (a folder, a GGUF file, a model of the Hub, the name of an earlier import), and a
//! store. Out: an artifact with the model's files in Hugging Face layout, whose digest depends on their content and not
//! on their place; or a folder or GGUF file for other programs, compared with its source. Must not depend on any stage.
//!
//! - [`Origin`] is where a model is, [`Model`] what it consists of, before its files are in the store.
//! - [`names`] are the short names of imported models.
//! - [`Behaviour`] and [`Parity`] compare two models, [`TextParity`] their tokenizers and chat templates.
//! - [`gguf`] writes and reads models with their tokenizers in one file, for llama.cpp.
//! - [`round_trip`] checks an import, [`export`] writes a model for others.

mod error;
mod export;
pub mod gguf;
mod model;
pub mod names;
mod origin;
mod parity;
mod text_parity;

pub use error::{Cause, Error};
pub use export::{Export, GgufExport, export, export_gguf, round_trip, verified};
pub use model::{Model, STAGE, headline};
pub use origin::Origin;
pub use parity::{Behaviour, Parity};
pub use text_parity::TextParity;
