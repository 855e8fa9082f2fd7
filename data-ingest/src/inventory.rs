//! The inventory of a run: every source listed and hashed, before anything is written.

mod listing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artifact::{Context, Digest};
use fetch::{DigestSource, Environment, ExpectedDigest, FetchBatch, FetchItem, Remote, RemoteContext};
use serde_json::{Value, json};

use crate::documents::mapping::Columns;
use crate::formats::format::Kind;
use crate::formats::html::Html;
use crate::lock;
use crate::sources::filter::Filter;
use crate::{Config, Error};

pub use listing::inventory;

/// Everything that a run would collect, by source.
#[derive(Debug, Clone)]
pub struct Inventory {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) sources: Vec<ListedSource>,
    environment: Environment,
}

/// One source, with its files and their digests.
#[derive(Debug, Clone)]
pub(crate) struct ListedSource {
    /// Its name, unique in the inventory.
    pub name: String,
    /// Where it comes from, as in `sources.json`; never an absolute path.
    pub origin: Value,
    /// The licence of its text.
    pub licence: String,
    /// The meaning of table columns.
    pub columns: Columns,
    /// The encoding of its text, if it is configured.
    pub encoding: Option<String>,
    /// Which part of web pages is read.
    pub html: Html,
    /// The largest text, page or row that is read, in bytes.
    pub max_file_bytes: u64,
    /// Which members of archives are read, and how.
    pub filter: Filter,
    /// Its files, sorted by their path inside the source.
    pub files: Vec<HashedFile>,
    /// The digest that `sha256` pins: of a download's bytes, else of the listing of the files.
    pub content: Digest,
    /// Text files above the size cap.
    pub too_large: u64,
    /// Files of another kind.
    pub not_selected: u64,
    /// Symbolic links to files that are read under another path.
    pub repeated_links: u64,
    /// Symbolic links that lead nowhere.
    pub broken_links: Vec<String>,
    /// Whether a format is configured.
    pub is_format_set: bool,
    /// Whether its files are pictures and sounds.
    pub is_media: bool,
    /// The configured keys that need rows.
    pub keys_of_rows: Vec<&'static str>,
    /// Where it is, if it is remote.
    pub remote: Option<RemoteSource>,
}

/// A remote source.
#[derive(Debug, Clone)]
pub(crate) struct RemoteSource {
    /// Where it is.
    pub remote: Remote,
    /// Its address, as written.
    pub address: String,
    /// The commit of its revision.
    pub commit: Option<String>,
    /// The lock file with its digests; none if the configuration has them.
    pub lock: Option<PathBuf>,
    /// Whether the lock has no entry for it yet, so that its files are not known.
    pub is_unlocked: bool,
}

/// A file and its digest.
#[derive(Debug, Clone)]
pub(crate) struct HashedFile {
    /// Its path inside the source.
    pub relative: String,
    /// Where its bytes are.
    pub place: Place,
    /// Its length; 0 if it is not downloaded yet.
    pub bytes: u64,
    /// Its kind.
    pub kind: Kind,
    /// The digest of its bytes.
    pub sha256: Digest,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// On this machine.
    Disk(PathBuf),
    /// In the download cache, named by its digest, or still to be fetched.
    Download(PathBuf),
}

impl Place {
    /// Returns where the bytes are, or will be once downloaded.
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(path) => path,
            Self::Download(cached) => cached,
        }
    }
}

/// The summary of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSummary {
    /// Its name: `serde 1.0.228`.
    pub name: String,
    /// The licence of its text.
    pub licence: String,
    /// The digest that `sha256` in `dataset.toml` pins.
    pub sha256: Digest,
    /// The number of its files.
    pub files: usize,
    /// Their total length; a file that is not downloaded yet counts 0.
    pub bytes: u64,
}

impl Inventory {
    /// Returns one digest per source, by name, for the recipe of the stage: of its content and of its configuration
    /// (licence, format, column), so that a change of either names the source.
    pub fn inputs(&self) -> BTreeMap<String, Digest> {
        self.sources.iter().map(|source| (format!("source {}", source.name), source.input_digest())).collect()
    }

    /// Returns the summaries of all sources, sorted by name.
    pub fn summaries(&self) -> Vec<SourceSummary> {
        let summary = |source: &ListedSource| SourceSummary {
            name: source.name.clone(),
            licence: source.licence.clone(),
            sha256: source.content,
            files: source.files.len(),
            bytes: source.bytes(),
        };
        self.sources.iter().map(summary).collect()
    }

    /// Fetches all remote files that are not in the cache.
    ///
    /// # Errors
    /// Returns an error if a source is not locked, if network access is disabled, and if a download fails or does not
    /// have the expected digest.
    pub(crate) fn fetch_missing(&self, config: &Config, context: &Context) -> Result<(), Error> {
        let options = config.fetch_options();
        let remote = RemoteContext::new(&options, context, &self.environment)?;
        let mut batches = Vec::new();
        for source in &self.sources {
            let Some(mut batch) = source.batch() else { continue };
            if let Some(RemoteSource { lock: Some(lock), address, is_unlocked: true, .. }) = &source.remote {
                let (name, address) = (source.name.clone(), address.clone());
                return Err(Error::NotLocked { name, address, lock: lock.clone() });
            }
            let mut missing = Vec::with_capacity(batch.files.len());
            for item in batch.files {
                let is_cached = |expected: ExpectedDigest<'_>| fetch::is_cached(remote.cache(), expected.sha256);
                if !item.expected.map_or(Ok(false), is_cached)? {
                    missing.push(item);
                }
            }
            batch.files = missing;
            if !batch.files.is_empty() {
                batches.push(batch);
            }
        }
        if batches.is_empty() {
            return Ok(());
        }
        fetch::check_offline(&batches, &remote)?;
        let _guard = remote.lock_cache()?;
        Ok(fetch::fetch(&batches, &remote).1?)
    }
}

impl ListedSource {
    /// Returns the total length of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Returns the files that must be in the cache before the source can be read; none for a source on this machine.
    fn batch(&self) -> Option<FetchBatch<'_>> {
        let RemoteSource { remote, commit, lock, .. } = self.remote.as_ref()?;
        let source = match lock {
            Some(path) => DigestSource::Lock { path, update_command: lock::UPDATE_COMMAND },
            None => DigestSource::Key,
        };
        let files = self.files.iter().map(|file| FetchItem {
            path: &file.relative,
            bytes: lock.is_some().then_some(file.bytes),
            version: None,
            expected: Some(ExpectedDigest { sha256: file.sha256, source }),
        });
        Some(FetchBatch { name: &self.name, remote, commit: commit.as_deref(), files: files.collect() })
    }

    fn input_digest(&self) -> Digest {
        // Two files of equal content can be read in two ways.
        let kinds: Vec<Kind> = self.files.iter().map(|file| file.kind).collect();
        Digest::of_json(&json!({
            "origin": self.origin,
            "content": self.content,
            "licence": self.licence,
            "kinds": kinds,
            "columns": self.columns,
            "html": self.html,
            "encoding": self.encoding,
            "members": self.filter.described(),
            "max_file_bytes": self.max_file_bytes,
            "too_large": self.too_large,
            "broken_links": self.broken_links,
        }))
    }
}
