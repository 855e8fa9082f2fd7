//! What can go wrong in this stage.

use std::io;
use std::path::{Path, PathBuf};

use crate::output::refusals::Dropped;

/// What can go wrong in this stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error, or a damaged artifact.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The tokenizer or its shards.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// A configured value is invalid.
    #[error("{key} {problem}")]
    Config {
        /// The dotted key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A Parquet file, of the corpus or of the signals, cannot be read or written.
    #[error("cannot {operation} {}", path.display())]
    Parquet {
        /// "read" or "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the Parquet library.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A column of a Parquet file is missing or has other values than expected.
    #[error("column {column} of {} {problem}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A document of the corpus has neither text, bytes nor messages.
    #[error("document {id} in {} has neither text nor raw bytes nor messages", path.display())]
    NoContent {
        /// The file.
        path: PathBuf,
        /// The document.
        id: String,
    },
    /// The corpus has no documents.
    #[error("the corpus in {} has no documents: check the sources and patterns of [collect]", path.display())]
    EmptyCorpus {
        /// The artifact's folder.
        path: PathBuf,
    },
    /// The corpus has pictures or sounds.
    #[error(
        "the corpus in {} has pictures or sounds, which stage preprocess cannot turn into tokens yet; train on sources \
         without `format = \"media\"` and `media_columns`",
        path.display()
    )]
    Media {
        /// The artifact's folder.
        path: PathBuf,
    },
    /// The corpus has more documents than a 32-bit number can count.
    #[error("{} has more than 4294967295 documents; split the corpus into several runs", path.display())]
    TooManyDocuments {
        /// The working folder.
        path: PathBuf,
    },
    /// The unfinished work of an earlier attempt cannot be read.
    #[error("{} is damaged; delete the folder .work that contains it and run again", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
    },
    /// A file of records for deduplication does not have the format that its writer produces.
    #[error("{} is damaged: {problem}; delete its folder and run again", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Another version of the stage wrote the signals.
    #[error(
        "{} was written by version {version} of stage preprocess, whose signals mean something else than those of \
         version {}; run `pipeline run --until preprocess` again",
        path.display(),
        crate::VERSION
    )]
    OtherVersion {
        /// The artifact's folder.
        path: PathBuf,
        /// The version that its manifest records.
        version: u32,
    },
    /// An evaluation set cannot be parsed.
    #[error("evaluation set {}: {problem}", path.display())]
    EvaluationSet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Every document was filtered out.
    #[error("all {documents} documents were filtered out: {dropped}")]
    NothingLeft {
        /// Documents in the corpus.
        documents: usize,
        /// How many were dropped by which step, and what to change.
        dropped: String,
    },
    /// A split has no documents.
    #[error(
        "split {split} is empty: a fraction of {fraction} of {documents} documents gave none. Add documents, {advice}"
    )]
    EmptySplit {
        /// The split.
        split: &'static str,
        /// The configured fraction of the documents.
        fraction: f64,
        /// Documents to split.
        documents: usize,
        /// What to change in the configuration.
        advice: String,
    },
    /// A split mixes preference pairs with other documents.
    #[error(
        "split {split} mixes preference pairs (`chat = \"preference\"`) with other documents, but preference tuning \
         reads only pairs; use a separate run for them"
    )]
    MixedPairs {
        /// The split.
        split: &'static str,
    },
    /// A document cannot be encoded.
    #[error("document {id} of source {name} cannot be encoded; remove it from the data")]
    Encode {
        /// The document's id.
        id: String,
        /// Its source.
        name: String,
        /// Why.
        #[source]
        reason: Box<tokenizer::Error>,
    },
    /// The given tokenizer has no token that ends a document.
    #[error("{} has no end-of-text token; add `{}` to it as a special token", path.display(), tokenizer::END_OF_TEXT)]
    NoEndOfText {
        /// The `tokenizer.json`.
        path: PathBuf,
    },
    /// The run was interrupted.
    #[error("preprocess was interrupted; run the same command again to resume")]
    Interrupted,
}

impl Error {
    /// Returns a function that makes an error of an I/O error of `operation` on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| artifact::Error::io(operation, path, source).into()
    }

    /// Adds the first conversation that the chat template refused to the error that nothing is left.
    pub(crate) fn with_refusal(self, refused: Dropped) -> Self {
        match (self, refused.first) {
            (Self::NothingLeft { documents, dropped }, Some(first)) => {
                Self::NothingLeft { documents, dropped: format!("{dropped}; {first}") }
            }
            (error, _) => error,
        }
    }

    /// Returns the error of an invalid value of `key`.
    pub(crate) fn config(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { key: key.into(), problem: problem.into() }
    }
}
