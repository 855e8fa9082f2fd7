//! What can go wrong while a model is measured.

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
    /// A file of an input is no JSON.
    #[error("{} is not JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where it stopped making sense.
        #[source]
        source: serde_json::Error,
    },
    /// A model was trained with another tokenizer than the one that made the tokens.
    #[error("{} has digest {found}, and the held-out tokens were made with the tokenizer {expected}", path.display())]
    Tokenizer {
        /// The tokenizer beside the model.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The digest of the tokenizer that made the tokens.
        expected: String,
    },
    /// A split has nothing to predict.
    #[error(
        "the {split} split has {tokens} tokens; at least 2 are needed to score a model: add documents, or enlarge its share in [preprocess]"
    )]
    TooFewTokens {
        /// The split's name.
        split: &'static str,
        /// Its length.
        tokens: usize,
    },
    /// A compressor failed, or a thread could not be started.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The report's template failed: a fault of this program.
    #[error("cannot write report.html")]
    Template(#[from] minijinja::Error),
    /// The run was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// A model cannot be loaded or scored.
    #[error(transparent)]
    Model(model::Error),
    /// A sample cannot be drawn.
    #[error(transparent)]
    Generate(#[from] generate::Error),
    /// A tokenizer or a shard cannot be read.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        match error {
            model::Error::Interrupted => Self::Interrupted,
            other => Self::Model(other),
        }
    }
}
