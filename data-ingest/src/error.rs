//! Errors of the stage.

use std::path::PathBuf;

use artifact::Digest;

use crate::config::BadRecordLimit;

/// An error of the stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured value is invalid.
    #[error("{key}: {message}")]
    Value {
        /// The key: `collect.sources[0].url`.
        key: String,
        /// The reason.
        message: String,
    },
    /// A `dataset.toml` is invalid.
    #[error(transparent)]
    Dataset(#[from] settings::Error),
    /// A source's path does not exist.
    #[error("source {name}: {} does not exist", path.display())]
    NoSuchPath {
        /// The source.
        name: String,
        /// Its path, expanded.
        path: PathBuf,
    },
    /// A folder cannot be listed.
    #[error("source {name}: cannot list its files")]
    List {
        /// The source.
        name: String,
        /// The cause, which names the folder.
        #[source]
        source: ignore::Error,
    },
    /// Two sources have the same name.
    #[error("two sources are named `{name}`; give one of them another `name`")]
    SameName {
        /// The name.
        name: String,
    },
    /// A crate is not unpacked on this machine.
    #[error("source {name} {version}: the crate is not under {}; run `cargo fetch` and try again", registry.display())]
    MissingCrate {
        /// The crate.
        name: String,
        /// The version asked for.
        version: String,
        /// The folder of unpacked crates.
        registry: PathBuf,
    },
    /// A crate's manifest cannot be read for its licence.
    #[error("cannot read the licence in {}: {message}", path.display())]
    Manifest {
        /// The crate's `Cargo.toml`.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// A crate's manifest names another licence than the dataset.
    #[error("source {name}: {} has licence `{found}`, but the dataset has `{expected}`", path.display())]
    Licence {
        /// The source.
        name: String,
        /// The crate's `Cargo.toml`.
        path: PathBuf,
        /// The dataset's licence.
        expected: String,
        /// The manifest's licence.
        found: String,
    },
    /// A source does not have its pinned digest.
    #[error("source {name}: its content has SHA-256 {found}, but {key}.sha256 is {expected}")]
    Pinned {
        /// The source.
        name: String,
        /// Where the source is declared.
        key: String,
        /// The pinned digest.
        expected: Digest,
        /// The digest found.
        found: Digest,
    },
    /// A source has no file to read.
    #[error("source {name} selects no file ({passed_over}); see its `path`, `include` and `exclude`")]
    NothingSelected {
        /// The source.
        name: String,
        /// The skipped files, in words.
        passed_over: String,
    },
    /// The sources have no document.
    #[error("the dataset is empty: none of {files} files contained a document ({skipped})")]
    Empty {
        /// The number of files.
        files: u64,
        /// The skipped files, in words.
        skipped: String,
    },
    /// A file changed since the sources were listed.
    #[error("source {name}: {} changed while it was being collected; run again", path.display())]
    Changed {
        /// The source.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A table has no such column.
    #[error("{} has no column `{column}`; it has {available}: set the source's {keys}; or leave \
         the file out with `exclude`, and give it a source of its own", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column asked for.
        column: String,
        /// The columns it has, quoted.
        available: String,
        /// The keys that say which columns are meant.
        keys: &'static str,
    },
    /// A column does not hold text.
    #[error(
        "{}: column `{column}` holds {found}, not text: set `text_column` to another column, or make text of this one \
         with `template`",
        path.display()
    )]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its type.
        found: String,
    },
    /// A table is written in a way that is not supported.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: String,
    },
    /// A source has too many bad records.
    #[error(
        "source {name}: {bad} of {records} records are bad, and collect.max_bad_records is {limit}: {examples}; raise \
         it to skip them, leave out files of another kind with `exclude`, or give them a source of their own \
         (conversations: `chat = \"messages\"`)"
    )]
    BadRecords {
        /// The source.
        name: String,
        /// The number of bad ones.
        bad: u64,
        /// The number of records read.
        records: u64,
        /// The limit.
        limit: BadRecordLimit,
        /// The first of them.
        examples: String,
    },
    /// A compressed file unpacks to more than allowed.
    #[error(
        "{} unpacks to more than {limit} bytes; if this is intended, raise collect.max_unpacked_bytes",
        path.display()
    )]
    Unpacked {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file of the corpus cannot be written.
    #[error("cannot write {} as Parquet", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// Fetching a remote file failed.
    #[error(transparent)]
    Fetch(fetch::Error),
    /// A remote source is not in the lock.
    #[error(
        "source {name}: {} has no entry for {address}; run `pipeline data lock` where the network may be used, without \
         --locked",
        lock.display()
    )]
    NotLocked {
        /// The source.
        name: String,
        /// Its address.
        address: String,
        /// The lock.
        lock: PathBuf,
    },
    /// A source differs from its entry in the lock.
    #[error(
        "source {name}: {} has {what} {locked}, but it is now {declared}; if this is intended, run `pipeline \
         data lock --update {name}`",
        lock.display()
    )]
    LockedOtherwise {
        /// The source.
        name: String,
        /// The lock.
        lock: PathBuf,
        /// What differs: "address", "revision".
        what: &'static str,
        /// The value in the lock.
        locked: String,
        /// The value of the source.
        declared: String,
    },
    /// The stage was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// A file or a sealed artifact.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}

impl From<fetch::Error> for Error {
    fn from(error: fetch::Error) -> Self {
        match error {
            fetch::Error::Value { key, message } => Self::Value { key, message },
            fetch::Error::Interrupted => Self::Interrupted,
            fetch::Error::Artifact(error) => Self::Artifact(error),
            other => Self::Fetch(other),
        }
    }
}

impl Error {
    pub(crate) fn value(key: &str, message: &str) -> Self {
        Self::Value { key: key.to_owned(), message: message.to_owned() }
    }
}
