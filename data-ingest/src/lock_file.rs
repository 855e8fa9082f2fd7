//! The file `dataset.lock`: its layout, and whether an entry is for what a source says.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use artifact::{Digest, file};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Error;
use crate::config::Declared;
use crate::remote::{Remote, written_address};

/// The version of the layout of the lock.
const VERSION: u32 = 1;

/// The first lines of a lock.
const HEAD: &str = "# What was fetched from other machines. Written by `pipeline`; keep it under version control, \
    and do not edit it.\n\n";

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    version: u32,
    /// One entry a source, sorted by name.
    #[serde(default)]
    pub source: Vec<Entry>,
}

/// What was fetched of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The source's name.
    pub name: String,
    /// Its address, as it is written in the dataset.
    pub address: String,
    /// The branch, tag or commit that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The licence that the source's own card named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The digest of what the source says about which files it takes.
    pub selection: Digest,
    /// Text files above the size cap.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub too_large: u64,
    /// Files that were there and not taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_selected: u64,
    /// The files, sorted by path.
    #[serde(default)]
    pub file: Vec<LockedFile>,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedFile {
    /// Its path inside the source.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
    /// The `ETag` that its server told this version by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A file that the lock did not have before, has with another digest now, or has no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockChange {
    /// The source.
    pub source: String,
    /// The file's path inside the source.
    pub file: String,
    /// The digest that it had.
    pub before: Option<Digest>,
    /// The digest that it has.
    pub after: Option<Digest>,
}

impl Lock {
    /// Returns the lock in a file; where there is no file, an empty one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |message: String| Error::Lock { path: path.to_owned(), message };
        match fs::read_to_string(path) {
            Ok(text) => {
                let lock: Self = toml::from_str(&text).map_err(|e| wrong(e.message().replace('\n', "; ")))?;
                if lock.version != VERSION {
                    return Err(wrong(format!("its version is {}, this program's is {VERSION}", lock.version)));
                }
                Ok(lock)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self { version: VERSION, source: Vec::new() }),
            Err(e) => Err(artifact::Error::io("read", path, e).into()),
        }
    }

    /// Writes the lock, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|e| Error::Lock { path: path.to_owned(), message: e.to_string() })?;
        Ok(file::write_atomically(path, format!("{HEAD}{text}").as_bytes())?)
    }

    /// Adds an entry, in place of one of the same name.
    pub fn insert(&mut self, entry: Entry) {
        self.source.retain(|known| known.name != entry.name);
        self.source.push(entry);
        self.source.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    }

    /// Returns the entry of a source, after checking that it was written for what the source says now.
    pub fn entry(&self, path: &Path, declared: &Declared, remote: &Remote) -> Result<Option<&Entry>, Error> {
        let name = declared.source.known_as();
        let Some(entry) = self.source.iter().find(|entry| entry.name == name) else { return Ok(None) };
        let or_none = |revision: Option<&str>| revision.unwrap_or("none").to_owned();
        let parts = [
            ("address", entry.address.clone(), written_address(declared).to_owned()),
            ("revision", or_none(entry.revision.as_deref()), or_none(remote.revision())),
            (
                "a choice of files (include, exclude, format, max_file_bytes) with digest",
                entry.selection.short(),
                selection(declared).short(),
            ),
        ];
        match parts.into_iter().find(|(_, locked, declared)| locked != declared) {
            Some((what, locked, declared)) => {
                Err(Error::LockedOtherwise { name, lock: path.to_owned(), what, locked, declared })
            }
            None => Ok(Some(entry)),
        }
    }

    /// Returns what differs in a later lock, sorted by source and file.
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

/// Returns the digest of what a source says about which of its files are taken.
pub(crate) fn selection(declared: &Declared) -> Digest {
    let source = &declared.source;
    Digest::of_json(&json!({
        "include": source.include,
        "exclude": source.exclude,
        "format": source.format,
        "max_file_bytes": declared.max_file_bytes,
    }))
}
