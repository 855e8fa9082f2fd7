//! Errors of this crate.

use std::path::PathBuf;

/// An error of stage evaluate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration is invalid.
    #[error("{key} {reason}")]
    Config {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of an input is not JSON.
    #[error("{} is not JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The syntax error.
        #[source]
        source: serde_json::Error,
    },
    /// The model's tokenizer is not the one that encoded the held-out tokens.
    #[error("{} has digest {found}, but the held-out tokens were encoded with tokenizer {expected}", path.display())]
    Tokenizer {
        /// The model's tokenizer.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The digest of the tokenizer that encoded the tokens.
        expected: String,
    },
    /// A split is too short to score.
    #[error(
        "the {split} split has {tokens} tokens; at least 2 are needed to score a model: add documents, or enlarge its \
         fraction in [preprocess]"
    )]
    TooFewTokens {
        /// The split's name.
        split: &'static str,
        /// Its length.
        tokens: usize,
    },
    /// A file of minimal pairs is not one.
    #[error(
        "{}: {reason}; the columns of CrowS-Pairs are needed: sent_more, sent_less, stereo_antistereo, bias_type",
        path.display()
    )]
    Pairs {
        /// The file, or the name of built-in pairs.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// The report to compare with has no losses by document.
    #[error(
        "run {run} cannot be compared with: its report was made by an older version and has no documents.jsonl; \
         repeat that run first"
    )]
    Baseline {
        /// The run.
        run: String,
    },
    /// The settings by which the tokens were redacted are not valid.
    #[error("the tokens were redacted with settings that this version cannot read: {0}; make the tokens again")]
    Redaction(String),
    /// A compressor failed.
    #[error("cannot {operation}")]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
    /// A task cannot be used.
    #[error("the task {task} cannot be used: {problem}")]
    Task {
        /// Its name or its file.
        task: String,
        /// What is missing, not supported or does not fit.
        problem: String,
    },
    /// A request of a task cannot be answered.
    #[error("a request of a task cannot be answered: {problem}")]
    Request {
        /// What does not fit.
        problem: String,
    },
    /// A server does not answer as OpenAI's completions API does.
    #[error("the server at {address} cannot be evaluated: {problem}")]
    Server {
        /// The address of the route.
        address: String,
        /// What it did.
        problem: String,
    },
    /// The report's template failed: a bug of this program.
    #[error("cannot write report.html")]
    Template(#[from] minijinja::Error),
    /// The caller cancelled.
    #[error("interrupted")]
    Interrupted,
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// A model cannot be loaded or scored.
    #[error(transparent)]
    Model(inference::Error),
    /// A sample cannot be drawn.
    #[error(transparent)]
    Generate(#[from] generate::Error),
    /// The index of the training data cannot be read.
    #[error(transparent)]
    Trace(#[from] trace::Error),
    /// A tokenizer or a shard cannot be read.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
}

impl From<model::Error> for Error {
    fn from(error: model::Error) -> Self {
        inference::Error::Model(error).into()
    }
}

impl From<inference::Error> for Error {
    fn from(error: inference::Error) -> Self {
        match error {
            inference::Error::Model(model::Error::Interrupted) => Self::Interrupted,
            other => Self::Model(other),
        }
    }
}
