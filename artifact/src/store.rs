//! The store of artifacts: `<root>/<stage>/<fingerprint>/`.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::manifest::FILE_NAME;
use crate::sealed::{RECIPE, remove_temporary};
use crate::{Error, Recipe, Sealed, Unsealed, file};

/// The file that a process locks, with its id.
const LOCK: &str = ".lock";

/// A folder of artifacts.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Returns the store in the folder `root`, which may not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of the artifact of `recipe`, which may not exist yet.
    pub fn folder(&self, recipe: &Recipe) -> PathBuf {
        self.root.join(&recipe.stage).join(recipe.fingerprint().to_string())
    }

    /// Returns the sealed artifact of `recipe`, if it exists and every file has its length.
    ///
    /// # Errors
    /// Returns an error if its manifest cannot be parsed.
    pub fn find(&self, recipe: &Recipe) -> Result<Option<Sealed>, Error> {
        let folder = self.folder(recipe);
        match Sealed::open(&folder) {
            Ok(sealed) => Ok(sealed.has_all_files().then_some(sealed)),
            Err(Error::Unsealed { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Returns all sealed artifacts of `stage`, skipping folders that are unfinished or unreadable.
    ///
    /// # Errors
    /// Returns an error if the stage's folder cannot be listed.
    pub fn list(&self, stage: &str) -> Result<Vec<Sealed>, Error> {
        let folder = self.root.join(stage);
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io("list", &folder, e))?,
        };
        Ok(entries.flatten().filter_map(|entry| Sealed::open(&entry.path()).ok()).collect())
    }

    /// Opens the folder of `recipe` for writing. Files of an interrupted attempt stay, for the stage to resume from or
    /// to remove ([`Unsealed::clear`]). A manifest is removed first, so the folder is unfinished until sealed again;
    /// until then it holds its recipe, which says what the unfinished work needs.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn begin(&self, recipe: Recipe) -> Result<Unsealed, Error> {
        let path = self.folder(&recipe);
        file::create_folder(&path)?;
        match fs::remove_file(path.join(FILE_NAME)) {
            // It was sealed, so temporary files are not needed to resume.
            Ok(()) => remove_temporary(&path)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", path.join(FILE_NAME), e)),
        }
        let text =
            serde_json::to_vec_pretty(&recipe).map_err(|source| Error::Manifest { path: path.join(RECIPE), source })?;
        file::write_atomically(&path.join(RECIPE), &text)?;
        Ok(Unsealed::at(path, recipe))
    }

    /// Returns true if the folder of `recipe` has files of an attempt, finished or not.
    pub fn has_work(&self, recipe: &Recipe) -> bool {
        let entries = fs::read_dir(self.folder(recipe));
        entries.is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() != RECIPE))
    }

    /// Returns the id of the process that locked the store last; it may have ended, or be one of another machine.
    pub fn last_holder(&self) -> Option<u32> {
        fs::read_to_string(self.root.join(LOCK)).ok()?.trim().parse().ok()
    }

    /// Locks the store for this process. The operating system releases the lock when the process ends for any reason.
    ///
    /// # Errors
    /// Returns [`Error::Locked`] with the id of the other process if it has the lock, and on I/O errors.
    pub fn lock(&self) -> Result<StoreLock, Error> {
        file::create_folder(&self.root)?;
        let path = self.root.join(LOCK);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                    "unknown".clone_into(&mut holder);
                }
                return Err(Error::Locked { path, holder: holder.trim().to_owned() });
            }
            Err(fs::TryLockError::Error(e)) => return Err(Error::io("lock", &path, e)),
        }
        // The id is only for the error message, so a failure to write it is ignored.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(StoreLock { _file: file })
    }
}

/// The lock of a store, released on drop.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Host, Outcome};

    fn recipe(seed: u64) -> Recipe {
        Recipe {
            stage: "collect".to_owned(),
            stage_version: 1,
            config: serde_json::json!({}),
            inputs: BTreeMap::new(),
            seed,
            device_class: None,
        }
    }

    fn sealed(store: &Store, seed: u64, content: &str) -> Sealed {
        let unsealed = store.begin(recipe(seed)).unwrap();
        fs::write(unsealed.path("data.txt"), content).unwrap();
        fs::write(unsealed.path("times.txt"), format!("{seed}")).unwrap();
        fs::write(unsealed.path(".temporary"), "gone").unwrap();
        let outcome = Outcome { volatile: vec!["times.txt".to_owned()], ..Outcome::default() };
        unsealed.seal(outcome, 1.0, Host::default()).unwrap()
    }

    #[test]
    fn only_sealed_artifacts_are_found() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        assert!(store.find(&recipe(1)).unwrap().is_none());
        let unsealed = store.begin(recipe(1)).unwrap();
        fs::write(unsealed.path("data.txt"), "half").unwrap();
        assert!(store.find(&recipe(1)).unwrap().is_none());
        let artifact = sealed(&store, 1, "whole");
        assert_eq!(artifact.files(""), ["data.txt", "times.txt"]);
        let found = store.find(&recipe(1)).unwrap().unwrap();
        assert_eq!(found.manifest(), artifact.manifest());
        assert!(found.verify().is_empty());
        assert_eq!(store.list("collect").unwrap().len(), 1);
        let again = store.begin(recipe(1)).unwrap();
        assert!(store.find(&recipe(1)).unwrap().is_none(), "a folder that is written again is unfinished");
        assert!(store.has_work(&recipe(1)));
        again.clear().unwrap();
        assert!(!store.has_work(&recipe(1)) && again.path(RECIPE).is_file(), "it stays described");
    }

    #[test]
    fn the_digest_ignores_volatile_files() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let one = sealed(&store, 1, "same");
        let two = sealed(&store, 2, "same");
        let three = sealed(&store, 3, "other");
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), three.digest());
    }

    #[test]
    fn a_changed_file_is_found_and_named() {
        let root = tempfile::tempdir().unwrap();
        let artifact = sealed(&Store::new(root.path()), 1, "whole");
        let path = artifact.folder().join("data.txt");
        fs::write(&path, "whale").unwrap();
        let error = artifact.verified("data.txt").unwrap_err();
        assert!(matches!(&error, Error::Corrupt { path: p, .. } if *p == path), "{error}");
        assert_eq!(artifact.verify().len(), 1);
        fs::write(&path, "who").unwrap();
        assert!(matches!(artifact.verified("data.txt"), Err(Error::Truncated { expected: 5, found: 3, .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(artifact.verified("data.txt"), Err(Error::Truncated { found: 0, .. })));
        assert!(matches!(artifact.verified("other"), Err(Error::NoSuchFile { .. })));
    }

    #[test]
    fn a_store_is_locked_by_one_process() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let lock = store.lock().unwrap();
        let error = store.lock().unwrap_err();
        assert!(matches!(&error, Error::Locked { holder, .. } if *holder == std::process::id().to_string()));
        drop(lock);
        store.lock().unwrap();
        assert_eq!(store.last_holder(), Some(std::process::id()));
    }
}
