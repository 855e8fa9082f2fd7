//! The Transformer: one readable file, its KV cache and loss, and checkpoints in the Hugging Face layout.
//!
//! In: token ids, and folders that transformers could have written. Out: logits, losses, and folders that transformers
//! can read. This crate never reads text (only token ids), never optimises a weight, and never samples.
//!
//! Reading order: [`config`] (the numbers), [`transformer`] (the model), [`rope`], [`kv_cache`], [`Precision`],
//! [`ActivationCheckpointing`] (gradients), [`checkpoint`] (in and out), [`named_parameters`], [`lora`] (adapters) and [`freeze`], [`scoring`] (the
//! loss over a split), [`device`].

pub mod checkpoint;
pub mod config;
pub mod device;
mod frozen;
mod gradients;
pub mod kv_cache;
pub mod lora;
pub mod named_parameters;
mod precision;
pub mod rope;
pub mod scoring;
pub mod transformer;

pub use checkpoint::Dtype;
pub use config::{Activation, Family, ModelConfig};
pub use frozen::freeze;
pub use gradients::{ActivationCheckpointing, add_gradients};
pub use kv_cache::KvCache;
pub use precision::Precision;
pub use rope::RopeScaling;
pub use transformer::{Batch, Dropout, LossOptions, Transformer};

use std::path::PathBuf;

/// What can go wrong between a model, a folder and a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the model's configuration is missing, wrong or unsupported.
    #[error("{key}: {reason}")]
    Config {
        /// The field or key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of a checkpoint cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// `config.json` is not JSON, or not a configuration this crate builds.
    #[error("cannot use {}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// Which key, and why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The index of a sharded checkpoint cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The weights are in a format that can run code when it is read.
    #[error("{} is a pickle, which is never read here; convert it to model.safetensors", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// A file of weights is damaged.
    #[error("{} is not a whole safetensors file", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Where it stopped making sense.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// A tensor is missing, has another shape, or a number type this crate does not read.
    #[error("{}: tensor {tensor} {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An adapter was trained on other weights than those it is to be added to.
    #[error(
        "{} is an adapter of another base: it was trained on weights with the digest {}, these have {}",
        path.display(), expected.short(), found.short()
    )]
    AdapterBase {
        /// The adapter's file.
        path: PathBuf,
        /// The digest of the weights that it was trained on.
        expected: artifact::Digest,
        /// The digest of the weights at hand.
        found: artifact::Digest,
    },
    /// No device has that name.
    #[error("unknown device `{name}`; one of {}", device::NAMES.join(", "))]
    UnknownDevice {
        /// The name given.
        name: String,
    },
    /// This build was made without a device's cargo feature.
    #[error("this build has no `{feature}`; build it with `--features {feature}`, or take device `auto`")]
    DeviceFeature {
        /// The cargo feature.
        feature: &'static str,
    },
    /// This machine has no such device.
    #[error("device `{name}` was asked for, but this machine has {reason}; take `auto` or `cpu`")]
    DeviceAbsent {
        /// The name given.
        name: String,
        /// What is missing.
        reason: &'static str,
    },
    /// A device that does not compute in a number type.
    #[error(
        "device `{device}` does not compute in {precision}, only in {supported}: set train.precision = \"f32\", or take \
         another device (bf16 needs `cuda`, or `vulkan` with a driver for it)"
    )]
    Precision {
        /// The number type.
        precision: &'static str,
        /// The device, in words.
        device: String,
        /// The number types that it has.
        supported: String,
    },
    /// Tokens that the model does not know.
    #[error(
        "the tokens have a vocabulary of {tokens}, the model one of {model}: they were made with another tokenizer"
    )]
    Vocabulary {
        /// The vocabulary of the tokens.
        tokens: usize,
        /// The vocabulary of the model.
        model: usize,
    },
    /// A split of the data has nothing to score.
    #[error("a split with {tokens} tokens is too short to score: add documents, or enlarge its share in [preprocess]")]
    TooFewTokens {
        /// How many tokens it has.
        tokens: usize,
    },
    /// The device failed while its results were read.
    #[error("the device failed while computing {what}; take device `cpu`, or a smaller batch")]
    Compute {
        /// What was computed.
        what: &'static str,
        /// The device's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The sealed artifact could not be used.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The token shards could not be used.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
}
