//! Models of the hub: the files of a revision, pinned to its commit, in the cache of downloads.
//!
//! A model is no source of a corpus. It is fetched by the same client into the same cache, and locked in the same layout, in a
//! file of its own: `model.lock`, beside the configuration that names it.

use std::path::{Path, PathBuf};

use artifact::{Context, Digest};
use serde_json::json;

use crate::cache::{cached, is_cached};
use crate::download::{Promise, Promiser};
use crate::environment::Environment;
use crate::fetch::{self, Item, Order};
use crate::lock_file::{Entry, Lock, LockedFile};
use crate::remote::{Found, Reach, Remote};
use crate::{Config, Error, address, hub};

/// The branch of a model that names none.
const BRANCH: &str = "main";

/// Chooses the files to fetch among the names of all, or says why there is nothing to choose.
pub type Choose<'a> = dyn Fn(&[&str]) -> Result<Vec<String>, String> + 'a;

/// A model of the hub: `owner/name`, or `owner/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubModel {
    written: String,
    repository: hub::Repository,
    revision: String,
}

/// The files of a model at a commit, all in the cache unless it was read from the lock alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: String,
    /// The licence that the model's card names.
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
    /// Where the cache keeps it.
    pub place: PathBuf,
}

impl HubModel {
    /// Returns the model that a text names, or what is wrong with the text.
    ///
    /// # Errors
    /// When it is neither `owner/name` nor `name`, each with `@revision` or without.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (id, revision) = text.split_once('@').unwrap_or((text, BRANCH));
        if id.starts_with("datasets/") {
            return Err(format!("`{id}` is a dataset, not a model"));
        }
        if revision.is_empty() {
            return Err(format!("`{text}` has no revision after the @"));
        }
        let repository = hub::Repository::parse(id).map_err(|_| format!("`{id}` is not `owner/name`"))?;
        Ok(Self { written: text.to_owned(), repository, revision: revision.to_owned() })
    }

    /// Returns the model as it was written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Returns the files as the lock has them, whether or not the cache has them, too; none where the lock has no entry.
    ///
    /// # Errors
    /// When the lock cannot be understood, or has no entry and `config.locked` wants one.
    pub fn locked(&self, lock: &Path, config: &Config, context: &Context) -> Result<Option<Snapshot>, Error> {
        let reach = Reach::new(config, context, Environment::of_process())?;
        match Lock::read(lock)?.source.iter().find(|entry| entry.name == self.written) {
            Some(entry) => Ok(Some(snapshot(entry, &reach))),
            None if config.locked => Err(self.not_locked(lock)),
            None => Ok(None),
        }
    }

    /// Brings the files into the cache: those of the lock's commit, or else those that `choose` takes of what the revision
    /// is now, which are added to the lock. With `anew`, the revision is looked up whatever the lock has.
    ///
    /// # Errors
    /// When something is missing and `config.locked` or `context.offline` forbids to fetch it, when the hub does not give
    /// it, and when `choose` refuses.
    pub fn fetch(
        &self,
        lock: &Path,
        anew: bool,
        choose: &Choose<'_>,
        config: &Config,
        context: &Context,
    ) -> Result<Snapshot, Error> {
        self.fetch_in(lock, anew, choose, config, context, Environment::of_process())
    }

    fn fetch_in(
        &self,
        lock_path: &Path,
        anew: bool,
        choose: &Choose<'_>,
        config: &Config,
        context: &Context,
        environment: Environment,
    ) -> Result<Snapshot, Error> {
        let reach = Reach::new(config, context, environment)?;
        let mut lock = Lock::read(lock_path)?;
        if let Some(entry) = lock.source.iter().find(|entry| entry.name == self.written && !anew) {
            self.fetch_locked(entry, lock_path, &reach)?;
            return Ok(snapshot(entry, &reach));
        }
        if config.locked && !anew {
            return Err(self.not_locked(lock_path));
        }
        let connection = hub::Connection::new(&self.repository, &reach)?;
        if context.offline {
            let (name, url) = (self.written.clone(), address::shown(&connection.page()));
            return Err(Error::Offline { name, url, cache: reach.cache });
        }
        let _others_wait = reach.lock_cache()?;
        context.progress.begin(&format!("listing {}", self.written), 0, "files");
        let hub::Revision { commit, licence, files } = connection.revision(&self.written, &self.revision, &reach)?;
        let names: Vec<&str> = files.iter().map(|found| found.path.as_str()).collect();
        let mut chosen = choose(&names).map_err(|message| connection.error(&self.written, message))?;
        chosen.sort_unstable();
        let found: Vec<&Found> =
            chosen.iter().filter_map(|path| files.iter().find(|found| found.path == *path)).collect();
        let items = found.iter().map(|found| Item {
            path: &found.path,
            bytes: found.bytes,
            version: None,
            promise: found.sha256.map(|sha256| Promise { sha256, by: Promiser::Listing }),
        });
        let arrived = self.download(items.collect(), &commit, &reach)?;
        let file = found.iter().zip(arrived).map(|(found, (sha256, bytes))| LockedFile {
            path: found.path.clone(),
            bytes,
            sha256,
            etag: None,
        });
        let entry = Entry {
            name: self.written.clone(),
            address: self.repository.id().to_owned(),
            revision: Some(self.revision.clone()),
            commit: Some(commit),
            licence,
            selection: Digest::of_json(&json!("model")),
            too_large: 0,
            not_selected: (files.len() - found.len()) as u64,
            file: file.collect(),
        };
        let snapshot = snapshot(&entry, &reach);
        lock.insert(entry);
        lock.write(lock_path)?;
        Ok(snapshot)
    }

    /// Brings what the lock has into the cache, as far as it is not there.
    fn fetch_locked(&self, entry: &Entry, lock: &Path, reach: &Reach<'_>) -> Result<(), Error> {
        let mut absent = Vec::new();
        for file in &entry.file {
            if !is_cached(&reach.cache, file.sha256)? {
                let promise = Some(Promise { sha256: file.sha256, by: Promiser::Lock(lock) });
                absent.push(Item { path: &file.path, bytes: Some(file.bytes), version: None, promise });
            }
        }
        if absent.is_empty() {
            return Ok(());
        }
        let commit = entry.commit.as_deref().unwrap_or(&self.revision);
        let remote = self.remote();
        let order = Order { name: &self.written, remote: &remote, commit: Some(commit), files: absent };
        let orders = [order];
        fetch::refuse_offline(&orders, reach)?;
        let _others_wait = reach.lock_cache()?;
        fetch::fetch(&orders, reach).1
    }

    /// Downloads files of a commit; returns their digests and lengths.
    fn download(&self, files: Vec<Item<'_>>, commit: &str, reach: &Reach<'_>) -> Result<Vec<(Digest, u64)>, Error> {
        let remote = self.remote();
        let order = Order { name: &self.written, remote: &remote, commit: Some(commit), files };
        let (fetched, outcome) = fetch::fetch(&[order], reach);
        outcome?;
        let fetched = fetched.into_iter().flatten().flatten();
        Ok(fetched.map(|fetched| (fetched.sha256, fetched.bytes)).collect())
    }

    fn remote(&self) -> Remote {
        Remote::Hub(self.repository.clone(), self.revision.clone())
    }

    fn not_locked(&self, lock: &Path) -> Error {
        Error::ModelNotLocked { model: self.written.clone(), lock: lock.to_owned() }
    }
}

/// Returns the files of an entry, each where the cache keeps it.
fn snapshot(entry: &Entry, reach: &Reach<'_>) -> Snapshot {
    let files = entry.file.iter().map(|file| SnapshotFile {
        path: file.path.clone(),
        bytes: file.bytes,
        sha256: file.sha256,
        place: cached(&reach.cache, file.sha256),
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
