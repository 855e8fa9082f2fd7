//! Errors of settings files.

use std::path::PathBuf;

/// An error in a settings file or an override.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not exist.
    #[error("there is no {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A line of the file, or an override, is not valid.
    #[error("{place}: {message}")]
    At {
        /// `pipeline.toml:12`, or `--set train.steps=many`.
        place: String,
        /// The reason, with the most similar known name if there is one.
        message: String,
    },
}
