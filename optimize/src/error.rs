//! Errors of stage optimize.

use std::path::PathBuf;

/// An error of stage optimize.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key of `[optimize]` has an invalid value.
    #[error("{key} {reason}")]
    Config {
        /// The dotted key.
        key: String,
        /// Why the value is invalid.
        reason: String,
    },
    /// A file of the checkpoint is not JSON.
    #[error("{} is not JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: serde_json::Error,
    },
    /// The checkpoint's `config.json` is not a JSON object.
    #[error("{} holds no JSON object", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
    },
    /// A file does not hold the weights of a model.
    #[error("{} cannot be read as weights: {reason}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A weight is NaN or infinite: training has diverged.
    #[error(
        "{}: tensor {tensor} holds {value} at element {element}; the checkpoint contains NaN or Inf",
        path.display()
    )]
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
        "tensor {tensor} holds {value} at element {element}, beyond the {largest} that {dtype} can hold; choose bf16 \
         or f32 in optimize.formats"
    )]
    Overflow {
        /// The tensor's name.
        tensor: String,
        /// The index of the element, row by row.
        element: usize,
        /// The weight.
        value: f32,
        /// The dtype that it should have.
        dtype: &'static str,
        /// The largest value of that dtype.
        largest: f32,
    },
    /// The validation tokens were made with another tokenizer than the checkpoint's.
    #[error("{} has digest {found}, but the validation tokens were made with tokenizer {expected}", path.display())]
    Tokenizer {
        /// The checkpoint's tokenizer.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The digest of the tokenizer that made the tokens.
        expected: String,
    },
    /// The model has fewer tokens than the validation split.
    #[error("{} has a vocabulary of {found} tokens, but the validation split one of {expected}", path.display())]
    Vocabulary {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The model's vocabulary size.
        found: usize,
        /// The split's vocabulary size.
        expected: usize,
    },
    /// The validation split is too short to predict a token.
    #[error(
        "the validation split has {tokens} tokens, but at least 2 are needed to compare the bundle with the \
         checkpoint: use more data"
    )]
    TooFewTokens {
        /// Its length.
        tokens: u64,
    },
    /// A format is too far from the checkpoint.
    #[error(
        "format {format} is too far from the checkpoint: {measure} {value:.6}, but {key} allows {limit} (all measures \
         are in parity.json)"
    )]
    Parity {
        /// The measure: "largest logit difference".
        measure: &'static str,
        /// Its value, in nats.
        value: f64,
        /// The key of the limit.
        key: String,
        /// The limit, in nats.
        limit: f64,
        /// The format.
        format: &'static str,
    },
    /// No tensor can be quantised.
    #[error("{format} cannot be written, because no matrix of this checkpoint can be quantised: {reason}")]
    NotQuantizable {
        /// The format.
        format: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A model or its tokenizer cannot be written as GGUF.
    #[error("{format} cannot be written; remove it from optimize.formats")]
    Gguf {
        /// The format.
        format: &'static str,
        /// The reason.
        #[source]
        source: Box<registry::Error>,
    },
    /// The checkpoint computes numbers that are not finite.
    #[error(
        "the inputs of the projections of layer {layer} are not finite on validation tokens, so that \
         optimize.method cannot weigh them: check the training, or set it to \"nearest\""
    )]
    Activations {
        /// The layer, from 0.
        layer: usize,
    },
    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The logits of a model cannot be computed.
    #[error(transparent)]
    Inference(#[from] inference::Error),
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// A model cannot be loaded.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A tokenizer or a token shard cannot be read.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
}
