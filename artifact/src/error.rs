//! Errors of artifacts and of the store.

use std::path::PathBuf;

use crate::Digest;

/// An error of an artifact or of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file system operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// The operation: "read", "write", "create folder".
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full or a quota is reached; sealed artifacts are not lost.
    #[error(
        "no space left while writing {}; free some and run the same command again, finished stages are kept",
        path.display()
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A manifest cannot be parsed.
    #[error("{} is not a manifest that this version can read; delete that folder and run again", path.display())]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// The error of the JSON parser, with its position.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest was written by a later version of this program.
    #[error(
        "{} has schema version {found}; this program reads {supported}: update it, or delete that folder",
        path.display()
    )]
    Schema {
        /// The manifest's path.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version that this program reads and writes.
        supported: u32,
    },
    /// A file's content differs from its digest in the manifest.
    #[error(
        "{} is corrupt: its SHA-256 is {found}, but the manifest has {expected}; delete its folder and \
         run again",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The digest in the manifest.
        expected: Digest,
        /// The digest of the file.
        found: Digest,
    },
    /// A file of the manifest is missing or has another length.
    #[error(
        "{} should have {expected} bytes but has {found}; delete its folder and run again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The length in the manifest, in bytes.
        expected: u64,
        /// The length of the file, in bytes; 0 if it is missing.
        found: u64,
    },
    /// The artifact does not have the requested file.
    #[error("{} has no file {file}", path.display())]
    NoSuchFile {
        /// The artifact's folder.
        path: PathBuf,
        /// The requested file.
        file: String,
    },
    /// A folder has no manifest: it is unfinished, or not an artifact.
    #[error("{} is not a finished artifact (it has no manifest.json)", path.display())]
    Unsealed {
        /// The folder.
        path: PathBuf,
    },
    /// Another process uses this store.
    #[error(
        "another run (process {holder}) is using {}; wait for it to finish, or run this one in another folder",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process id written in it, or "unknown".
        holder: String,
    },
}

impl Error {
    /// Returns the error of `operation` on `path`: [`Error::DiskFull`] or [`Error::Io`].
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.into();
        match source.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { operation, path, source },
        }
    }
}
