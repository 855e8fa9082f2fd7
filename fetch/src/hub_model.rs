//! Models of the hub: the files of a revision, pinned to its commit, in the cache.
//!
//! The lock of models is a file of its own, `model.lock`, beside the configuration that names them.

use std::path::{Path, PathBuf};

use artifact::Digest;
use serde_json::json;

use crate::Error;
use crate::address::hub::HubRepository;
use crate::address::printable;
use crate::context::RemoteContext;
use crate::download::cache::{CachedFile, cached_path, is_cached};
use crate::download::request::{DigestSource, ExpectedDigest};
use crate::lock::{Lock, LockEntry, LockedFile};
use crate::scheduler::{FetchBatch, FetchItem, check_offline, fetch};
use crate::sources::listing::{Listing, RemoteFile};
use crate::sources::{Remote, hub};

/// The default revision.
const DEFAULT_BRANCH: &str = "main";

/// Selects the files to fetch from the names of all, or says why there is nothing to select.
pub type FileChooser<'a> = dyn Fn(&[&str]) -> Result<Vec<String>, String> + 'a;

/// A model of the hub, `owner/name` or `owner/name@revision`, or a dataset of which some files are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    written: String,
    repository: HubRepository,
    revision: String,
}

/// The files of a model at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: String,
    /// The licence in the model's card.
    pub licence: Option<String>,
    /// The files, sorted by path.
    pub files: Vec<SnapshotFile>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its path inside the repository.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
    /// Its path in the cache; it exists once the model is fetched.
    pub place: PathBuf,
}

impl HubModel {
    /// Parses `owner/name` or `name`, each with an optional `@revision`.
    ///
    /// # Errors
    /// Returns what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (id, revision) = text.split_once('@').unwrap_or((text, DEFAULT_BRANCH));
        if id.starts_with("datasets/") {
            return Err(format!("`{id}` is a dataset, not a model"));
        }
        if revision.is_empty() {
            return Err(format!("`{text}` has no revision after the @"));
        }
        let repository = HubRepository::parse(id).map_err(|_| format!("`{id}` is not `owner/name`"))?;
        Ok(Self { written: text.to_owned(), repository, revision: revision.to_owned() })
    }

    /// Returns a dataset, `owner/name`, at a revision.
    ///
    /// # Errors
    /// Returns what is wrong with the name.
    pub fn dataset(id: &str, revision: &str) -> Result<Self, String> {
        let name = format!("datasets/{id}");
        let repository = HubRepository::parse(&name)?;
        Ok(Self { written: format!("{name}@{revision}"), repository, revision: revision.to_owned() })
    }

    /// Returns the model as it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Returns the files in the lock at `lock_path`, whether or not they are in the cache; none if it has no entry.
    ///
    /// # Errors
    /// Returns an error if the lock cannot be parsed, or has no entry although [`crate::Options::locked`] requires one.
    pub fn locked(&self, lock_path: &Path, remote: &RemoteContext<'_>) -> Result<Option<Snapshot>, Error> {
        match Lock::read(lock_path)?.entry(&self.written) {
            Some(entry) => Ok(Some(snapshot(entry, remote))),
            None if remote.options.locked => Err(self.not_locked(lock_path)),
            None => Ok(None),
        }
    }

    /// Fetches the files into the cache: those in the lock at `lock_path`, else those that `choose` selects from the
    /// current revision, which are added to the lock. With `refresh`, the revision is resolved again whatever is in the
    /// lock.
    ///
    /// # Errors
    /// Returns an error if a file is missing and [`crate::Options::locked`] or `--offline` forbids to fetch it, if the
    /// hub rejects the request, and if `choose` fails.
    pub fn fetch(
        &self,
        lock_path: &Path,
        refresh: bool,
        choose: &FileChooser<'_>,
        remote: &RemoteContext<'_>,
    ) -> Result<Snapshot, Error> {
        let mut lock = Lock::read(lock_path)?;
        if let Some(entry) = lock.entry(&self.written).filter(|_| !refresh) {
            self.fetch_locked(entry, lock_path, remote)?;
            return Ok(snapshot(entry, remote));
        }
        if remote.options.locked && !refresh {
            return Err(self.not_locked(lock_path));
        }
        let connection = hub::Connection::new(&self.repository, remote)?;
        if remote.context.offline {
            let (name, url) = (self.written.clone(), printable(&connection.page()));
            return Err(Error::Offline { name, url, cache: remote.cache.clone() });
        }
        let _guard = remote.lock_cache()?;
        remote.context.progress.begin(&format!("listing {}", self.written), 0, "files");
        let listing = connection.list(&self.written, &self.revision)?;
        let names: Vec<&str> = listing.files.iter().map(|file| file.path.as_str()).collect();
        let mut chosen = choose(&names).map_err(|message| connection.error(&self.written, message))?;
        chosen.sort_unstable();
        let selected: Vec<&RemoteFile> =
            chosen.iter().filter_map(|path| listing.files.iter().find(|file| file.path == *path)).collect();
        let entry = self.download(&listing, &selected, remote)?;
        let snapshot = snapshot(&entry, remote);
        lock.insert(entry);
        lock.write(lock_path)?;
        Ok(snapshot)
    }

    /// Fetches the files of a lock entry that are not in the cache.
    fn fetch_locked(&self, entry: &LockEntry, lock_path: &Path, remote: &RemoteContext<'_>) -> Result<(), Error> {
        let source = DigestSource::Lock { path: lock_path, update_command: "pipeline import" };
        let mut missing = Vec::new();
        for file in &entry.file {
            if !is_cached(&remote.cache, file.sha256)? {
                let expected = Some(ExpectedDigest { sha256: file.sha256, source });
                missing.push(FetchItem { path: &file.path, bytes: Some(file.bytes), version: None, expected });
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let hub = self.remote();
        let commit = entry.commit.as_deref().or(Some(&self.revision));
        let batches = [FetchBatch { name: &self.written, remote: &hub, commit, files: missing }];
        check_offline(&batches, remote)?;
        let _guard = remote.lock_cache()?;
        fetch(&batches, remote).1
    }

    /// Downloads the selected files of a listing; returns the lock entry.
    fn download(
        &self,
        listing: &Listing,
        selected: &[&RemoteFile],
        remote: &RemoteContext<'_>,
    ) -> Result<LockEntry, Error> {
        let hub = self.remote();
        let files = selected.iter().map(|file| FetchItem::from(*file)).collect();
        let batch = FetchBatch { name: &self.written, remote: &hub, commit: listing.commit.as_deref(), files };
        let (fetched, outcome) = fetch(&[batch], remote);
        outcome?;
        let locked_file = |(file, fetched): (&&RemoteFile, CachedFile)| LockedFile {
            path: file.path.clone(),
            bytes: fetched.bytes,
            sha256: fetched.sha256,
            etag: None,
        };
        Ok(LockEntry {
            name: self.written.clone(),
            address: self.repository.id().to_owned(),
            revision: Some(self.revision.clone()),
            commit: listing.commit.clone(),
            licence: listing.licence.clone(),
            selection: Digest::of_json(&json!("model")),
            too_large: 0,
            not_selected: (listing.files.len() - selected.len()) as u64,
            file: selected.iter().zip(fetched.into_iter().flatten().flatten()).map(locked_file).collect(),
        })
    }

    fn remote(&self) -> Remote {
        Remote::Hub(self.repository.clone(), self.revision.clone())
    }

    fn not_locked(&self, lock_path: &Path) -> Error {
        Error::ModelNotLocked { model: self.written.clone(), lock: lock_path.to_owned() }
    }
}

/// Returns the files of a lock entry, with their paths in the cache.
fn snapshot(entry: &LockEntry, remote: &RemoteContext<'_>) -> Snapshot {
    let files = entry.file.iter().map(|file| SnapshotFile {
        path: file.path.clone(),
        bytes: file.bytes,
        sha256: file.sha256,
        place: cached_path(&remote.cache, file.sha256),
    });
    let commit = entry.commit.clone().unwrap_or_default();
    Snapshot { commit, licence: entry.licence.clone(), files: files.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_by_owner_name_and_revision() {
        let check = |text: &str, expected: Result<(&str, &str), &str>| {
            let found = HubModel::parse(text).map(|model| (model.repository.id().to_owned(), model.revision));
            assert_eq!(found, expected.map(|(id, r)| (id.to_owned(), r.to_owned())).map_err(str::to_owned), "{text}");
        };
        check("owner/name", Ok(("owner/name", "main")));
        check("owner/name@v1.0", Ok(("owner/name", "v1.0")));
        check("owner/name@refs/pr/3", Ok(("owner/name", "refs/pr/3")));
        check("gpt2", Ok(("gpt2", "main")));
        check("owner/name@", Err("`owner/name@` has no revision after the @"));
        check("datasets/owner/name", Err("`datasets/owner/name` is a dataset, not a model"));
        check("a/b/c", Err("`a/b/c` is not `owner/name`"));
        check("../name", Err("`../name` is not `owner/name`"));
        check("spaces/owner", Err("`spaces/owner` is not `owner/name`"));
    }
}
