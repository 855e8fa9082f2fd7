//! What can go wrong while looking for duplicates.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong while looking for duplicates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured value makes no sense.
    #[error("{key} {problem}")]
    Config {
        /// The dotted key, from the table `[preprocess]` on.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// The disk refuses; a full one has [`io::ErrorKind::StorageFull`].
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// "create", "write", "rename", "open" or "read".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file of records is not what the map wrote.
    #[error("{} is damaged: {problem}; remove its folder and run again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }

    pub(super) fn config(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Config { key, problem: problem.into() }
    }
}
