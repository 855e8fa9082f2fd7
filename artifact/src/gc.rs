//! Garbage collection: which artifacts of a store nothing needs.
//!
//! An artifact is needed if a root names its fingerprint, or if its digest is an input of a needed artifact or of
//! unfinished work. What cannot be read is never removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::sealed::{RECIPE, remove};
use crate::{Digest, Error, Manifest, Recipe, Store, StoreLock, file};

/// Where removed artifacts wait for deletion, so that a crash leaves no artifact with some of its files.
pub const TRASH: &str = ".trash";

/// An artifact on disk, finished or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The stage that makes it.
    pub stage: String,
    /// The name of its folder.
    pub fingerprint: Digest,
    /// Its folder.
    pub folder: PathBuf,
    /// The size of its files, in bytes.
    pub bytes: u64,
    /// The digest of its content; none if it is unfinished.
    pub digest: Option<Digest>,
    /// The digests of what it was, or is, made from.
    inputs: BTreeSet<Digest>,
}

/// The artifacts of a store by whether they are needed, each list in the order of stage and fingerprint.
#[derive(Debug, Default, PartialEq)]
pub struct Survey {
    /// Finished artifacts that something needs.
    pub needed: Vec<Entry>,
    /// Finished artifacts that nothing needs.
    pub unneeded: Vec<Entry>,
    /// Unfinished work that a root names.
    pub unfinished: Vec<Entry>,
    /// Unfinished work that no root names.
    pub abandoned: Vec<Entry>,
}

/// Sorts the artifacts of `store` by whether they are needed, given the fingerprints of those that runs and imports
/// name. Abandoned work keeps its inputs unless `drop_abandoned`.
///
/// # Errors
/// Returns an error if a folder of the store cannot be listed.
pub fn survey(store: &Store, roots: &BTreeSet<Digest>, drop_abandoned: bool) -> Result<Survey, Error> {
    let (sealed, unsealed): (Vec<Entry>, Vec<Entry>) =
        entries(store)?.into_iter().partition(|entry| entry.digest.is_some());
    let (unfinished, abandoned) = unsealed.into_iter().partition(|entry| roots.contains(&entry.fingerprint));
    let mut survey = Survey { unfinished, abandoned, ..Survey::default() };
    let kept_work = survey.unfinished.iter().chain(survey.abandoned.iter().filter(|_| !drop_abandoned));
    let mut wanted: BTreeSet<Digest> = kept_work.flat_map(|entry| entry.inputs.iter().copied()).collect();
    let mut rest = sealed;
    loop {
        let is_needed =
            |entry: &Entry| roots.contains(&entry.fingerprint) || entry.digest.is_some_and(|d| wanted.contains(&d));
        let (found, others): (Vec<Entry>, Vec<Entry>) = rest.into_iter().partition(is_needed);
        rest = others;
        if found.is_empty() {
            break;
        }
        wanted.extend(found.iter().flat_map(|entry| entry.inputs.iter().copied()));
        survey.needed.extend(found);
    }
    survey.unneeded = rest;
    survey.needed.sort_by(|a, b| (&a.stage, a.fingerprint).cmp(&(&b.stage, b.fingerprint)));
    Ok(survey)
}

/// Removes artifacts from a store that this process has locked.
///
/// # Errors
/// On I/O errors; each artifact is then there as a whole, or gone.
pub fn collect(store: &Store, entries: &[Entry], _lock: &StoreLock) -> Result<(), Error> {
    let trash = store.root().join(TRASH);
    // Of an earlier collection that was killed.
    if trash.is_dir() {
        remove(&trash)?;
    }
    file::create_folder(&trash)?;
    for entry in entries {
        let to = trash.join(format!("{}-{}", entry.stage, entry.fingerprint));
        fs::rename(&entry.folder, &to).map_err(|e| Error::io("remove", &entry.folder, e))?;
    }
    remove(&trash)
}

/// Returns every artifact that can be read, in the order of stage and fingerprint.
fn entries(store: &Store) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for (stage, folder) in folders(store.root())? {
        for (name, folder) in folders(&folder)? {
            let Ok(fingerprint) = name.parse::<Digest>() else { continue };
            let (recipe, digest, bytes) = match Manifest::read(&folder) {
                Ok(manifest) => {
                    let bytes = manifest.total_bytes();
                    (Some(manifest.recipe), Some(manifest.digest), bytes)
                }
                Err(Error::Unsealed { .. }) => (unfinished_recipe(&folder), None, size(&folder)?),
                Err(_) => continue,
            };
            let inputs = recipe.map(|recipe| recipe.inputs.into_values().collect()).unwrap_or_default();
            entries.push(Entry { stage: stage.clone(), fingerprint, folder, bytes, digest, inputs });
        }
    }
    Ok(entries)
}

fn unfinished_recipe(folder: &Path) -> Option<Recipe> {
    serde_json::from_slice(&fs::read(folder.join(RECIPE)).ok()?).ok()
}

/// Returns the folders in `folder` whose names do not begin with a dot, sorted by name; none if it does not exist.
fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let list = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| Error::io("list", folder, e))?,
    };
    let named = list.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let mut folders: Vec<_> = named.filter(|(name, path)| !name.starts_with('.') && path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// Returns the size of all files in a folder, in bytes.
fn size(folder: &Path) -> Result<u64, Error> {
    let failed = |e| Error::io("list", folder, e);
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
