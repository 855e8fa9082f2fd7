//! Errors.

use std::path::PathBuf;

use crate::Backend;

/// An error of a model, of its files, or of its device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the model's configuration is missing, wrong or unsupported.
    #[error("{key}: {reason}")]
    Config {
        /// The field or key.
        key: &'static str,
        /// The reason.
        reason: String,
    },
    /// A file of a checkpoint cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// `config.json` is not JSON, or not a configuration this crate builds.
    #[error("cannot use {}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The key, and the reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The index of a sharded checkpoint cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// The reason.
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
        /// The error of the parser.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// A tensor is missing or unexpected, or has the wrong shape or an unsupported number type.
    #[error("{}: tensor {tensor} {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The reason.
        reason: String,
    },
    /// A GGUF file is damaged or not supported.
    #[error("cannot use {}: {reason}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A value in the metadata of a GGUF file is missing, wrong or not supported.
    #[error("{}: key {key} {reason}", path.display())]
    GgufKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The reason.
        reason: String,
    },
    /// An adapter was trained on weights other than those it is loaded onto.
    #[error(
        "{} is an adapter of another base: it was trained on weights with the digest {}, these have {}",
        path.display(), expected.short(), found.short()
    )]
    AdapterBase {
        /// The adapter's file.
        path: PathBuf,
        /// The digest of the weights that it was trained on.
        expected: artifact::Digest,
        /// The digest of the weights it is loaded onto.
        found: artifact::Digest,
    },
    /// No device has that name.
    #[error("unknown device `{name}`; one of auto, {}", Backend::ALL.map(Backend::name).join(", "))]
    UnknownDevice {
        /// The requested name.
        name: String,
    },
    /// This build was made without a device's cargo feature.
    #[error("this build has no `{feature}`; build it with `--features {feature}`, or use device `auto`")]
    DeviceFeature {
        /// The cargo feature.
        feature: &'static str,
    },
    /// This machine has no such device.
    #[error("device `{name}` was requested, but this machine has {reason}; use `auto` or `cpu`")]
    DeviceAbsent {
        /// The requested name.
        name: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The device does not compute in a number type.
    #[error(
        "device `{device}` does not compute in {precision}, only in {supported}: set train.precision = \"f32\", or use \
         another device (bf16 needs `cuda`, or `vulkan` with a driver for it)"
    )]
    Precision {
        /// The number type.
        precision: &'static str,
        /// The name of the device.
        device: String,
        /// The number types that it supports.
        supported: String,
    },
    /// The vocabulary of the tokens is not the model's.
    #[error(
        "the tokens have a vocabulary of {tokens}, the model one of {model}: they were made with another tokenizer"
    )]
    Vocabulary {
        /// The vocabulary of the tokens.
        tokens: usize,
        /// The vocabulary of the model.
        model: usize,
    },
    /// A split of the data has no token to score.
    #[error(
        "a split with {tokens} tokens is too short to score: add documents, or increase its fraction in [preprocess]"
    )]
    TooFewTokens {
        /// The number of its tokens.
        tokens: usize,
    },
    /// The device failed while its results were read.
    #[error("the device failed while computing {what}; use device `cpu`, or a smaller batch")]
    Compute {
        /// The result that was computed.
        what: &'static str,
        /// The error of the device.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The sealed artifact could not be used.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The token shards could not be used.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
}
