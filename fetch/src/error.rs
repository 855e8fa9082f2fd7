//! Errors of fetching.

use std::path::PathBuf;

use artifact::Digest;

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Errors of fetching.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured value is invalid.
    #[error("{key}: {message}")]
    Value {
        /// The key: `collect.hub_endpoint`.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file is not in the cache, and network access is disabled.
    #[error("source {name}: {url} is not in the cache {}, and network access is disabled (--offline)", cache.display())]
    Offline {
        /// The source.
        name: String,
        /// The address.
        url: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// A server returned an error that retrying does not fix.
    #[error("source {name}: {url} returned HTTP status {status}")]
    Status {
        /// The source.
        name: String,
        /// The address.
        url: String,
        /// The status.
        status: u16,
    },
    /// Every attempt at a download failed.
    #[error("source {name}: cannot download {url} ({}; the partial file is kept for the next run)", count(*attempts))]
    Download {
        /// The source.
        name: String,
        /// The address.
        url: String,
        /// The number of attempts.
        attempts: u32,
        /// The last failure.
        #[source]
        source: BoxedError,
    },
    /// A download does not have the configured digest.
    #[error("source {name}: {url} has SHA-256 {found}, but its `sha256` is {expected}")]
    DigestMismatch {
        /// The source.
        name: String,
        /// The address.
        url: String,
        /// The configured digest.
        expected: Box<Digest>,
        /// The digest of the download.
        found: Box<Digest>,
    },
    /// A download does not have the digest in the lock.
    #[error(
        "source {name}: {file} has SHA-256 {found}, but {} has {expected}; if the new content is wanted, run \
         `{update_command} {name}`",
        lock.display()
    )]
    LockMismatch {
        /// The source.
        name: String,
        /// The file's path inside the source.
        file: String,
        /// The lock file.
        lock: PathBuf,
        /// The digest in the lock.
        expected: Box<Digest>,
        /// The digest of the download.
        found: Box<Digest>,
        /// The command that updates the lock, before the name of the source.
        update_command: &'static str,
    },
    /// Connecting to an address is not allowed.
    #[error("source {name}: {url} is refused: {reason}")]
    Refused {
        /// The source.
        name: String,
        /// The address, without its query.
        url: String,
        /// The reason, and how to allow it.
        reason: String,
    },
    /// A server redirects too often.
    #[error("source {name}: {url} redirects more than {limit} times")]
    TooManyRedirects {
        /// The source.
        name: String,
        /// The address, without its query.
        url: String,
        /// The maximum number of redirects.
        limit: usize,
    },
    /// The files of a source cannot be listed.
    #[error(
        "source {name}: cannot list {address} ({}); try again later, or check that this machine can reach it",
        count(*attempts)
    )]
    List {
        /// The source.
        name: String,
        /// The address.
        address: String,
        /// The number of attempts.
        attempts: u32,
        /// The last failure.
        #[source]
        source: BoxedError,
    },
    /// The Hugging Face Hub rejected a request.
    #[error("source {name}: {address}: {message}")]
    Hub {
        /// The source.
        name: String,
        /// The page of the dataset or model.
        address: String,
        /// The reason, and what to do.
        message: String,
    },
    /// An object store rejected a request.
    #[error("source {name}: {address}: {hint} ({answer})")]
    ObjectStore {
        /// The source.
        name: String,
        /// The object or the pattern.
        address: String,
        /// What to do.
        hint: &'static str,
        /// The store's own message.
        answer: String,
    },
    /// The program `git` failed.
    #[error("source {name}: {address}: `git {command}` failed: {message}")]
    Git {
        /// The source.
        name: String,
        /// The repository.
        address: String,
        /// The git command.
        command: &'static str,
        /// The last line that it printed.
        message: String,
    },
    /// A download exceeds the size limit.
    #[error("source {name}: {url} has at least {bytes} bytes, {key} is {limit}")]
    TooLarge {
        /// The source.
        name: String,
        /// The address.
        url: String,
        /// The bytes announced, or received so far.
        bytes: u64,
        /// The key of the limit.
        key: String,
        /// The limit.
        limit: u64,
    },
    /// A lock file cannot be parsed.
    #[error(
        "{} is not a lock file that this version can read ({message}); restore it from version control, or delete it \
         to have it written again",
        path.display()
    )]
    InvalidLock {
        /// The lock file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A model of the hub is not in the lock.
    #[error(
        "{} has no entry for the model {model}; run the same command with network access and without --locked",
        lock.display()
    )]
    ModelNotLocked {
        /// The model.
        model: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The caller cancelled.
    #[error("interrupted")]
    Interrupted,
    /// An I/O error.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}

fn count(attempts: u32) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") }
}

impl Error {
    /// Returns an error about the value of a key.
    pub(crate) fn value(key: &str, message: &str) -> Self {
        Self::Value { key: key.to_owned(), message: message.to_owned() }
    }
}
