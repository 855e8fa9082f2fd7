//! GGUF, the file format of llama.cpp: one file with metadata, the tokenizer and the weights.
//!
//! The format is described at <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; version 3 is written,
//! versions 2 and 3 are read. Of the metadata, this module knows what describes the model; the tokenizer's is passed
//! through.
//!
//! Reading order: [`Metadata`] and [`TensorType`], the container in [`File`] and `write`, then what llama.cpp calls the
//! parts of each family: `config` (keys) and `layout` (tensors), [`Quantization`], [`save`], and `read`, through which
//! [`crate::checkpoint`] reads.

mod config;
mod file;
mod layout;
mod metadata;
mod model;
mod parse;
mod quantization;
mod read;
mod rope_factors;
mod tensor_type;
mod write;

pub use file::{File, TensorInfo};
pub use metadata::{Array, Metadata, Value};
pub use model::{Parameters, save, save_parameters, stored_dtype};
pub use quantization::Quantization;
pub(crate) use read::weights;
pub use tensor_type::TensorType;

/// The end of the names of such files.
pub const EXTENSION: &str = "gguf";

/// The bytes at the beginning of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written.
const VERSION: u32 = 3;

/// The alignment of tensors where none is declared, in bytes.
const DEFAULT_ALIGNMENT: usize = 32;

/// The key of the alignment.
const ALIGNMENT: &str = "general.alignment";

/// The key of the architecture, which prefixes the keys that describe the model.
const ARCHITECTURE: &str = "general.architecture";

/// The tokens, one for each row of the embedding.
pub const TOKENS: &str = "tokenizer.ggml.tokens";
