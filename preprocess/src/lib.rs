//! Stage preprocess: a corpus becomes token shards.
//!
//! In: the corpus artifact, documents of any encoding. Out: clean text, each document once, divided into train,
//! validation and test, as the tokens of a tokenizer trained on it (or of a given one); beside them `signals.parquet`
//! with what happened to every document, and `report.json` with the totals.
//!
//! Where a document goes, and its place there, is decided by its content alone: adding documents to a corpus moves none
//! of the others, and neither the number of threads nor the order of files on disk shows in the output.
//!
//! This stage never reads anything but the corpus and a given `tokenizer.json`, and never changes a word: it mends
//! encodings, line ends and Unicode's equal forms, and leaves out whole documents. It holds the clean text in memory.

mod config;
mod corpus;
mod encoding;
mod report;
mod selection;
mod signals;
mod text;

pub use config::{Config, InvalidUtf8, LongDocuments, TokenizerConfig, inputs};
pub use tokenizer::Pattern;

use std::path::PathBuf;

use artifact::{Context, Outcome, Sealed, Unsealed, file};

/// The stage's name.
pub const NAME: &str = "preprocess";

/// Raised when the output would change for the same inputs.
pub const VERSION: u32 = 1;

/// Turns `corpus` into the tokens artifact in `out`.
///
/// # Errors
/// When the corpus cannot be read, nothing is left of it or of one split, the given tokenizer cannot be used, the disk
/// refuses, or a stop was asked for.
pub fn run(config: &Config, corpus: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    out.clear()?;
    let mut collection = corpus::read(config, corpus, context)?;
    selection::divide(config, &mut collection)?;
    let tokenizer = encoding::tokenizer(config, &collection, context)?;
    let written = encoding::encode(config, &tokenizer, &mut collection, out, context)?;
    file::write_atomically(&out.path("tokenizer.json"), tokenizer.to_json().as_bytes())?;
    signals::write(&collection, &out.path("signals.parquet"))?;
    let report = report::Report::new(config, &collection, &tokenizer, &written);
    report.write(&out.path("report.json"))?;
    Ok(report.outcome())
}

/// What can go wrong in this stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or a sealed artifact.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The tokenizer, or its shards.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// A configured value makes no sense.
    #[error("{key} {problem}")]
    Config {
        /// The dotted key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// A file of the corpus is not what stage collect writes.
    #[error("cannot read documents from {}", path.display())]
    Corpus {
        /// The file.
        path: PathBuf,
        /// The reader's answer.
        #[source]
        source: polars::error::PolarsError,
    },
    /// A document of the corpus has neither text nor bytes.
    #[error("document {id} in {} has neither text nor raw bytes", path.display())]
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
    /// Every document was dropped.
    #[error("none of {documents} documents is left: {dropped}")]
    NothingLeft {
        /// Documents in the corpus.
        documents: usize,
        /// How many were dropped for which reason, and what to change.
        dropped: String,
    },
    /// A split has no documents.
    #[error(
        "split {split} is empty: a share of {share} of {documents} documents came to none. Add documents, {advice}"
    )]
    EmptySplit {
        /// The split.
        split: &'static str,
        /// Its share as configured.
        share: f64,
        /// Documents to divide.
        documents: usize,
        /// What to change in the configuration.
        advice: String,
    },
    /// A given tokenizer has no token to end documents with.
    #[error("{} has no end-of-text token; add `{}` to it as a special token", path.display(), tokenizer::END_OF_TEXT)]
    NoEndOfText {
        /// The `tokenizer.json`.
        path: PathBuf,
    },
    /// The signals could not be written.
    #[error("cannot write {}", path.display())]
    Signals {
        /// The file.
        path: PathBuf,
        /// The writer's answer.
        #[source]
        source: polars::error::PolarsError,
    },
    /// A stop was asked for.
    #[error("preprocess was stopped; run the same command again to start it anew")]
    Interrupted,
}
