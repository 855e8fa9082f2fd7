//! Errors.

use std::path::PathBuf;

/// An error of a codec, of its files, or of its device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of a codec's configuration is wrong.
    #[error("{key}: {reason}")]
    Config {
        /// The dotted field.
        key: String,
        /// The reason.
        reason: String,
    },
    /// `config.json` is not JSON, or not the configuration of a codec.
    #[error("cannot use {}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// The field, and the reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file of weights has another size than those of the codec.
    #[error("{} has {found} bytes, but the weights of its config.json take at most {expected}", path.display())]
    WeightsSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The maximum size in bytes.
        expected: u64,
    },
    /// The pixels or codes are not those of whole items.
    #[error("{found} {unit} are not whole {items} of {each} {unit}")]
    Incomplete {
        /// "pixel values" or "codes".
        unit: &'static str,
        /// "pictures" or "patches of sound".
        items: &'static str,
        /// The number given.
        found: usize,
        /// The number of each item.
        each: usize,
    },
    /// A code is outside the codebook.
    #[error("code {code} is not below {vocab_size}, the size of the codec's vocabulary")]
    Code {
        /// The code.
        code: u32,
        /// The size of the codebook.
        vocab_size: usize,
    },
    /// The weights cannot be used, or the device failed.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// An I/O error.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}

impl Error {
    pub(crate) fn compute(what: &'static str) -> impl Fn(burn::tensor::TensorReadError) -> Self {
        move |source| Self::Model(model::Error::Compute { what, source: Box::new(source) })
    }
}
