//! Errors of this crate.

use std::path::{Path, PathBuf};

use artifact::format::grouped;

/// An error of stage index, or of its index.
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
    /// The training data was too large to be indexed.
    #[error(
        "there is no index: the training data has {} tokens, and index.max_tokens is {}; raise it and run again",
        grouped(*tokens),
        grouped(*max_tokens)
    )]
    NotBuilt {
        /// The tokens of the training data.
        tokens: u64,
        /// The configured limit.
        max_tokens: u64,
    },
    /// A document is longer than a suffix array can be.
    #[error(
        "document {document} of the train split has {tokens} tokens, and at most 2147483646 can be indexed; set \
         preprocess.length.max_bytes to cut it"
    )]
    DocumentTooLong {
        /// Its index in the split.
        document: usize,
        /// Its length.
        tokens: usize,
    },
    /// A suffix array could not be built.
    #[error("cannot index a block of {symbols} tokens; lower index.block_tokens if there is not enough memory")]
    SuffixArray {
        /// The symbols of the block.
        symbols: usize,
        /// The library's error.
        #[source]
        source: libsais::LibsaisError,
    },
    /// A file of the index is invalid.
    #[error("{} is not a file of an index: {problem}; delete its folder and run again", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A table of the documents cannot be read.
    #[error("cannot read {}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The library's error.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A table of the documents is not the one of these shards.
    #[error("{} does not match the shards: {problem}; delete its folder and run again", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The caller cancelled.
    #[error("interrupted")]
    Interrupted,
    /// An artifact cannot be read or written.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The tokens cannot be read, or a text cannot be encoded.
    #[error(transparent)]
    Tokens(#[from] tokenizer::Error),
}

impl Error {
    /// Returns the error of a file that is no part of an index.
    pub(crate) fn invalid(path: &Path, problem: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_owned(), problem: problem.into() }
    }
}
