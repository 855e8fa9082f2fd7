//! Sealed artifacts: what travels between the stages.
//!
//! In: the files a stage wrote into its own folder. Out: a folder whose `manifest.json`, written last and atomically,
//! says what the files are, what they were made from and by whom. The store finds an artifact by its fingerprint, so a
//! stage whose inputs did not change is skipped, and one whose inputs did can say which.
//!
//! This crate never touches a tensor, a tokenizer or the network.

pub mod context;
pub mod digest;
pub mod file;
pub mod fingerprint;
pub mod format;
pub mod layout;
pub mod manifest;
pub mod store;

pub use context::{Cancel, Context, Event, Progress};
pub use digest::Digest;
pub use fingerprint::{Change, Recipe};
pub use layout::StoreLayout;
pub use manifest::{FileEntry, Host, Manifest};
pub use store::{Outcome, Sealed, Store, StoreLock, Unsealed};

use std::path::PathBuf;

/// What can go wrong between a stage and the disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation of the file system failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried: "read", "write", "create folder".
        operation: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full (or a quota is reached): nothing sealed is lost.
    #[error(
        "no space left while writing {}; free some and run the same command again, finished stages are kept",
        path.display()
    )]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// A manifest cannot be read as one.
    #[error("{} is not a manifest this version understands; delete that folder and run again", path.display())]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// Where the JSON stopped making sense.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest was written by a later version of this program.
    #[error("{} has schema version {found}; this program reads {supported}: update it, or delete that folder", path.display())]
    Schema {
        /// The manifest's path.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The version this program writes and reads.
        supported: u32,
    },
    /// A file's content is not what its manifest says.
    #[error(
        "{} is corrupt: its SHA-256 is {found}, its manifest says {expected}; delete the folder it lies in and run again",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of the bytes on disk.
        found: Digest,
    },
    /// A file named by the manifest is gone, or has another length.
    #[error("{} should have {expected} bytes and has {found}; delete the folder it lies in and run again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes in the manifest.
        expected: u64,
        /// Bytes on disk (0 where the file is missing).
        found: u64,
    },
    /// A reader asked for a file that the artifact does not have.
    #[error("{} has no file {file}", path.display())]
    NoSuchFile {
        /// The artifact's folder.
        path: PathBuf,
        /// The file asked for.
        file: String,
    },
    /// A folder has no manifest: it is unfinished, or no artifact at all.
    #[error("{} is not a finished artifact (it has no manifest.json)", path.display())]
    Unsealed {
        /// The folder.
        path: PathBuf,
    },
    /// Another process works in this store.
    #[error("another run (process {holder}) is using {}; wait for it, or give this one another folder", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process id written in it, or "unknown".
        holder: String,
    },
}

impl Error {
    /// Returns an error for `operation` on `path`, telling a full disk from everything else.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let path = path.into();
        match source.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { operation, path, source },
        }
    }
}
