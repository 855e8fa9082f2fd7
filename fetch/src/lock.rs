//! Lock files: what was fetched, so that the same is fetched again or the difference is reported.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use artifact::{Digest, file};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of the layout of a lock file.
const VERSION: u32 = 1;

/// The first lines of a lock file.
const HEADER: &str = "# What was fetched from other machines. Written by `pipeline`; keep it under version control, \
    and do not edit it.\n\n";

/// The content of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// One entry per source, sorted by name.
    #[serde(default)]
    pub source: Vec<LockEntry>,
}

/// What was fetched from one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockEntry {
    /// The source's name.
    pub name: String,
    /// Its address, as it is configured.
    pub address: String,
    /// The branch, tag or commit that was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that the revision was resolved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The licence in the source's own card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The digest of the options that selected its files.
    pub selection: Digest,
    /// The number of files above the size limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub too_large: u64,
    /// The number of files that were not selected.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_selected: u64,
    /// The files, sorted by path.
    #[serde(default)]
    pub file: Vec<LockedFile>,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its path inside the source.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
    /// The `ETag` of this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A file that was added to the lock, has another digest, or was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockChange {
    /// The source.
    pub source: String,
    /// The file's path inside the source.
    pub file: String,
    /// The digest before.
    pub before: Option<Digest>,
    /// The digest after.
    pub after: Option<Digest>,
}

impl Lock {
    /// Reads a lock file; returns an empty lock if there is none.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or parsed, or has another version.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let invalid = |message: String| Error::InvalidLock { path: path.to_owned(), message };
        match fs::read_to_string(path) {
            Ok(text) => {
                let lock: Self = toml::from_str(&text).map_err(|e| invalid(e.message().replace('\n', "; ")))?;
                if lock.version != VERSION {
                    return Err(invalid(format!("its version is {}, expected {VERSION}", lock.version)));
                }
                Ok(lock)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self { version: VERSION, source: Vec::new() }),
            Err(e) => Err(artifact::Error::io("read", path, e).into()),
        }
    }

    /// Writes the lock file atomically.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let invalid = |e: toml::ser::Error| Error::InvalidLock { path: path.to_owned(), message: e.to_string() };
        let text = toml::to_string(self).map_err(invalid)?;
        Ok(file::write_atomically(path, format!("{HEADER}{text}").as_bytes())?)
    }

    /// Returns the entry of a source.
    pub fn entry(&self, name: &str) -> Option<&LockEntry> {
        self.source.iter().find(|entry| entry.name == name)
    }

    /// Adds an entry, or replaces that of the same name.
    pub fn insert(&mut self, entry: LockEntry) {
        self.source.retain(|existing| existing.name != entry.name);
        self.source.push(entry);
        self.source.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }

    /// Returns the differences to a later lock, sorted by source and file.
    pub fn changes(&self, later: &Self) -> Vec<LockChange> {
        let mut digests: BTreeMap<(&str, &str), [Option<Digest>; 2]> = BTreeMap::new();
        for (i, lock) in [self, later].into_iter().enumerate() {
            for entry in &lock.source {
                for file in &entry.file {
                    digests.entry((&entry.name, &file.path)).or_default()[i] = Some(file.sha256);
                }
            }
        }
        let changed = digests.into_iter().filter(|(_, [before, after])| before != after);
        let change = |((source, file), [before, after]): ((&str, &str), [Option<Digest>; 2])| LockChange {
            source: source.to_owned(),
            file: file.to_owned(),
            before,
            after,
        };
        changed.map(change).collect()
    }
}
