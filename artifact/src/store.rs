//! The store: `<root>/<stage>/<fingerprint>/`, one folder an artifact.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::manifest::{self, FILE_NAME, FileEntry, Host, Manifest};
use crate::{Digest, Error, Recipe, file};

/// A folder of artifacts.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Returns the store in `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder that the artifact of `recipe` has or would have.
    pub fn folder(&self, recipe: &Recipe) -> PathBuf {
        self.root.join(&recipe.stage).join(recipe.fingerprint().to_string())
    }

    /// Returns the sealed artifact of `recipe`, if it is there with every file at its length.
    ///
    /// # Errors
    /// When there is a manifest and it cannot be understood.
    pub fn find(&self, recipe: &Recipe) -> Result<Option<Sealed>, Error> {
        let folder = self.folder(recipe);
        match Sealed::open(&folder) {
            Ok(sealed) => Ok(sealed.has_all_files().then_some(sealed)),
            Err(Error::Unsealed { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Returns every sealed artifact of `stage`; folders that are unfinished or unreadable are passed over.
    ///
    /// # Errors
    /// When the stage's folder cannot be listed.
    pub fn list(&self, stage: &str) -> Result<Vec<Sealed>, Error> {
        let folder = self.root.join(stage);
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io("list", &folder, e))?,
        };
        Ok(entries.flatten().filter_map(|entry| Sealed::open(&entry.path()).ok()).collect())
    }

    /// Opens the folder of `recipe` for writing. What an attempt that was cut off left there stays, for the stage to
    /// use or to remove ([`Unsealed::clear`]); a manifest is removed first, so the folder is unfinished until sealed
    /// again.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn begin(&self, recipe: Recipe) -> Result<Unsealed, Error> {
        let path = self.folder(&recipe);
        file::create_folder(&path)?;
        match fs::remove_file(path.join(FILE_NAME)) {
            // It was sealed: what was kept to go on from is of no more use.
            Ok(()) => remove_temporary(&path)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", path.join(FILE_NAME), e)),
        }
        Ok(Unsealed { path, recipe })
    }

    /// Takes the store for this process. The operating system lets go of the lock when the process ends, however it
    /// ends, so a crash blocks nobody.
    ///
    /// # Errors
    /// [`Error::Locked`] with the other process's id, when another has it.
    pub fn lock(&self) -> Result<StoreLock, Error> {
        file::create_folder(&self.root)?;
        let path = self.root.join(".lock");
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
        // The id is for people; a store that cannot record it is locked all the same.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(StoreLock { _file: file })
    }
}

/// The right to write in a store, for as long as it lives.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

/// What a stage says when it is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Counts and figures, by name; the unit is part of the name.
    pub counts: Map<String, Value>,
    /// The one figure to show in a table.
    pub headline: String,
    /// Names of files that differ between two equal runs (they hold times, or an address).
    pub volatile: Vec<String>,
    /// Seconds that earlier attempts took, where the stage resumed one.
    pub earlier_seconds: f64,
    /// The device that computed, in words; empty where the stage computes nothing.
    pub device: String,
}

/// A folder that a stage is writing.
#[derive(Debug)]
pub struct Unsealed {
    path: PathBuf,
    recipe: Recipe,
}

impl Unsealed {
    /// Returns an unsealed folder outside any store, for a test or a tool.
    pub fn at(path: impl Into<PathBuf>, recipe: Recipe) -> Self {
        Self { path: path.into(), recipe }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns what the artifact is made from.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Removes whatever an earlier attempt left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clear(&self) -> Result<(), Error> {
        let failed = |e| Error::io("clear", &self.path, e);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            remove(&entry.map_err(failed)?.path())?;
        }
        Ok(())
    }

    /// Seals the folder: flushes every file in it to the disk, hashes it, and writes the manifest last. Only then are
    /// temporary files (names that begin with a dot) removed: until it is sealed, a stage may need them to go on.
    ///
    /// # Errors
    /// When the disk refuses; the folder then stays unfinished.
    pub fn seal(self, outcome: Outcome, wall_seconds: f64, host: Host) -> Result<Sealed, Error> {
        let mut names = Vec::new();
        list_files(&self.path, "", &mut names)?;
        let entries: Vec<(String, FileEntry)> = names
            .into_par_iter()
            .map(|name| {
                let path = self.path.join(&name);
                file::sync(&path)?;
                let (sha256, bytes) = Digest::of_file(&path)?;
                let volatile = outcome.volatile.contains(&name);
                Ok((name, FileEntry { bytes, sha256, volatile }))
            })
            .collect::<Result<_, Error>>()?;
        let files: BTreeMap<String, FileEntry> = entries.into_iter().collect();
        let manifest = Manifest {
            schema_version: manifest::SCHEMA_VERSION,
            fingerprint: self.recipe.fingerprint(),
            digest: manifest::digest_of(&files),
            recipe: self.recipe,
            files,
            counts: outcome.counts,
            headline: outcome.headline,
            wall_seconds: wall_seconds + outcome.earlier_seconds,
            host: Host { device: outcome.device, ..host },
        };
        let path = self.path.join(FILE_NAME);
        let text =
            serde_json::to_vec_pretty(&manifest).map_err(|source| Error::Manifest { path: path.clone(), source })?;
        file::sync_folder(&self.path)?;
        file::write_atomically(&path, &text)?;
        remove_temporary(&self.path)?;
        Ok(Sealed { path: self.path, manifest })
    }
}

fn list_files(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), Error> {
    let failed = |e| Error::io("list", folder, e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if is_temporary(&entry) {
            continue;
        }
        if path.is_dir() {
            list_files(&path, &format!("{name}/"), names)?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

fn is_temporary(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

fn remove_temporary(folder: &Path) -> Result<(), Error> {
    let failed = |e| Error::io("list", folder, e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_temporary(&entry) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|e| Error::io("remove", path, e))
}

/// A finished artifact.
#[derive(Debug, Clone)]
pub struct Sealed {
    path: PathBuf,
    manifest: Manifest,
}

impl Sealed {
    /// Opens the artifact in `folder`.
    ///
    /// # Errors
    /// When it has no manifest, or one that cannot be understood.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self { path: folder.to_owned(), manifest: Manifest::read(folder)? })
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the digest that downstream stages depend on.
    pub fn digest(&self) -> Digest {
        self.manifest.digest
    }

    /// Returns the names of the files that begin with `prefix`, sorted.
    pub fn files(&self, prefix: &str) -> Vec<String> {
        self.manifest.files.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// Returns the path of a file after comparing its content with the manifest.
    ///
    /// # Errors
    /// [`Error::Truncated`] or [`Error::Corrupt`], with both values, when it is not what was sealed;
    /// [`Error::NoSuchFile`] when the artifact never had it.
    pub fn verified(&self, name: &str) -> Result<PathBuf, Error> {
        let Some(entry) = self.manifest.files.get(name) else {
            return Err(Error::NoSuchFile { path: self.path.clone(), file: name.to_owned() });
        };
        let path = self.path.join(name);
        let found = fs::metadata(&path).map_or(0, |m| m.len());
        if found != entry.bytes || !path.exists() {
            return Err(Error::Truncated { path, expected: entry.bytes, found });
        }
        let (found, _) = Digest::of_file(&path)?;
        if found != entry.sha256 {
            return Err(Error::Corrupt { path, expected: entry.sha256, found });
        }
        Ok(path)
    }

    /// Compares every file with the manifest, and the manifest with itself; returns what is wrong, nothing when all is
    /// well.
    pub fn verify(&self) -> Vec<Error> {
        let names: Vec<&String> = self.manifest.files.keys().collect();
        let mut wrong: Vec<Error> = names.into_par_iter().filter_map(|name| self.verified(name).err()).collect();
        let path = self.path.join(FILE_NAME);
        let parts = [
            (self.manifest.fingerprint, self.manifest.recipe.fingerprint()),
            (self.manifest.digest, manifest::digest_of(&self.manifest.files)),
        ];
        for (expected, found) in parts.into_iter().filter(|(expected, found)| expected != found) {
            wrong.push(Error::Corrupt { path: path.clone(), expected, found });
        }
        wrong
    }

    fn has_all_files(&self) -> bool {
        self.manifest
            .files
            .iter()
            .all(|(name, entry)| fs::metadata(self.path.join(name)).is_ok_and(|m| m.len() == entry.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_sealed_artifact_is_found_again_and_an_unfinished_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        assert!(store.find(&recipe(1)).unwrap().is_none());
        let unsealed = store.begin(recipe(1)).unwrap();
        fs::write(unsealed.path("data.txt"), "half").unwrap();
        assert!(store.find(&recipe(1)).unwrap().is_none());
        let made = sealed(&store, 1, "whole");
        assert_eq!(made.files(""), ["data.txt", "times.txt"]);
        let found = store.find(&recipe(1)).unwrap().unwrap();
        assert_eq!(found.manifest(), made.manifest());
        assert!(found.verify().is_empty());
        assert_eq!(store.list("collect").unwrap().len(), 1);
        store.begin(recipe(1)).unwrap();
        assert!(store.find(&recipe(1)).unwrap().is_none(), "a folder that is written again is unfinished");
    }

    #[test]
    fn the_digest_is_of_the_lasting_content() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let one = sealed(&store, 1, "same");
        let two = sealed(&store, 2, "same");
        let three = sealed(&store, 3, "other");
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), three.digest());
    }

    #[test]
    fn one_flipped_bit_is_found_and_named() {
        let root = tempfile::tempdir().unwrap();
        let made = sealed(&Store::new(root.path()), 1, "whole");
        let path = made.folder().join("data.txt");
        fs::write(&path, "whome").unwrap();
        let error = made.verified("data.txt").unwrap_err();
        assert!(matches!(&error, Error::Corrupt { path: p, .. } if *p == path), "{error}");
        assert_eq!(made.verify().len(), 1);
        fs::write(&path, "who").unwrap();
        assert!(matches!(made.verified("data.txt"), Err(Error::Truncated { expected: 5, found: 3, .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(made.verified("data.txt"), Err(Error::Truncated { found: 0, .. })));
        assert!(matches!(made.verified("other"), Err(Error::NoSuchFile { .. })));
    }

    #[test]
    fn a_store_has_one_user_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let lock = store.lock().unwrap();
        let error = store.lock().unwrap_err();
        assert!(matches!(&error, Error::Locked { holder, .. } if *holder == std::process::id().to_string()));
        drop(lock);
        store.lock().unwrap();
    }
}
