//! An artifact being written, and a sealed one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::manifest::{self, FILE_NAME, FileEntry, Host, Manifest};
use crate::{Digest, Error, Recipe, file};

/// The key of [`Outcome::counts`] for a list of sentences that a reader should see: what a stage dropped, skipped or
/// replaced beyond one in [`NOTICED_FRACTION`].
pub const NOTICES: &str = "notices";

/// A stage says so if it leaves out more than one in this many of what it read.
pub const NOTICED_FRACTION: u64 = 10;

/// The recipe of a folder that is being written, so that unfinished work says what it needs. Sealing removes it, as it
/// does all temporary files.
pub(crate) const RECIPE: &str = ".recipe.json";

/// The result of a stage.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Counts and figures, by name; the unit is part of the name.
    pub counts: Map<String, Value>,
    /// The most important figure, for tables.
    pub headline: String,
    /// Names of files that differ between two equal runs, since they have times or an address.
    pub volatile: Vec<String>,
    /// Seconds of earlier attempts, if the stage was resumed.
    pub earlier_seconds: f64,
    /// The description of the device; empty if the stage computes nothing.
    pub device: String,
}

/// The folder of an artifact that is being written.
#[derive(Debug)]
pub struct Unsealed {
    path: PathBuf,
    recipe: Recipe,
}

impl Unsealed {
    /// Returns an unsealed folder at `path`, which may be outside any store.
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

    /// Returns the recipe of the artifact.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Removes the files of earlier attempts.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn clear(&self) -> Result<(), Error> {
        self.clear_except(&[])
    }

    /// Removes the files of earlier attempts, except those with some names.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn clear_except(&self, kept: &[String]) -> Result<(), Error> {
        let failed = |e| Error::io("clear", &self.path, e);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name != RECIPE && !kept.iter().any(|kept| name == kept.as_str()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the folder and all that was written.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn discard(self) -> Result<(), Error> {
        remove(&self.path)
    }

    /// Seals the folder: flushes every file to the disk, hashes it, and writes the manifest last. Temporary files
    /// (names that begin with a dot) are removed after that, since a stage may need them to resume.
    ///
    /// # Errors
    /// On I/O errors; the folder then stays unfinished.
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

/// Removes the temporary files of a folder: those whose names begin with a dot.
pub(crate) fn remove_temporary(folder: &Path) -> Result<(), Error> {
    let failed = |e| Error::io("list", folder, e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if is_temporary(&entry) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn remove(path: &Path) -> Result<(), Error> {
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
    /// Returns an error if it has no manifest, or if the manifest cannot be parsed.
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

    /// Returns the path of a file after verifying its content against the manifest.
    ///
    /// # Errors
    /// Returns [`Error::Truncated`] or [`Error::Corrupt`], with both values, if the file differs from the sealed one,
    /// and [`Error::NoSuchFile`] if it is not in the manifest.
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

    /// Verifies every file against the manifest, and the manifest's digests; returns all errors.
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

    /// Returns true if every file has its length.
    pub(crate) fn has_all_files(&self) -> bool {
        self.manifest
            .files
            .iter()
            .all(|(name, entry)| fs::metadata(self.path.join(name)).is_ok_and(|m| m.len() == entry.bytes))
    }
}
