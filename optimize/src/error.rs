//! What can go wrong while a checkpoint becomes a bundle.

use std::path::PathBuf;

/// What can go wrong in this stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration makes no sense.
    #[error("{key} {reason}")]
    Config {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the checkpoint is no JSON.
    #[error("{} is not JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stopped making sense.
        #[source]
        source: serde_json::Error,
    },
    /// A file does not hold the weights of a model.
    #[error("{} cannot be read as weights: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A weight is not a number: training has diverged.
    #[error("{}: tensor {tensor} holds {value} at element {element}; the checkpoint is of no use", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The index of the element, row by row.
        element: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// A weight is too large for the dtype.
    #[error(
        "tensor {tensor} holds {value} at element {element}, beyond the {largest} that {dtype} can hold; choose a wider optimize.dtype"
    )]
    Overflow {
        /// The tensor's name.
        tensor: String,
        /// The index of the element, row by row.
        element: usize,
        /// The weight.
        value: f32,
        /// The dtype asked for.
        dtype: &'static str,
        /// The largest value of that dtype.
        largest: f32,
    },
    /// The validation tokens come from another tokenizer than the checkpoint's.
    #[error("{} has digest {found}, and the validation tokens were made with the tokenizer {expected}", path.display())]
    Tokenizer {
        /// The checkpoint's tokenizer.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The digest of the tokenizer that made the tokens.
        expected: String,
    },
    /// The model and the tokens have different vocabularies.
    #[error("{} has a vocabulary of {found} tokens, and the validation split one of {expected}", path.display())]
    Vocabulary {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The model's vocabulary size.
        found: usize,
        /// The split's.
        expected: usize,
    },
    /// The validation split is too short to predict anything.
    #[error(
        "the validation split has {tokens} tokens; at least 2 are needed to compare the bundle with the checkpoint: use more data"
    )]
    TooFewTokens {
        /// Its length.
        tokens: u64,
    },
    /// The bundle is too far from the checkpoint.
    #[error(
        "the bundle is too far from the checkpoint: {figure} {value:.6}, and {key} allows {limit} (optimize.dtype is {dtype}; every figure is in parity.json)"
    )]
    Parity {
        /// What was measured: "largest logit difference".
        figure: &'static str,
        /// How much it is, in nats.
        value: f64,
        /// The key of the limit.
        key: &'static str,
        /// The limit, in nats.
        limit: f64,
        /// The bundle's dtype.
        dtype: &'static str,
    },
    /// Logits could not be read back from the device.
    #[error("cannot read the logits back from the device: {reason}")]
    Device {
        /// What the backend said.
        reason: String,
    },
    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// A model cannot be loaded.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A tokenizer or a shard cannot be read.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
}
