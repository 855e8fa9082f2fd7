//! The short names of imported models: `<store>/models/<name>.json`, one file each.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::{Digest, Recipe, Sealed, StoreLayout, file};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What a name refers to.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// Where the model was found, in words.
    place: String,
    /// The recipe of its artifact, which says where in the store it is.
    recipe: Recipe,
}

/// Gives an artifact of the store a name; an earlier import of that name loses it.
///
/// # Errors
/// Returns an error if the name cannot name a file, or on I/O errors.
pub fn give(layout: &StoreLayout, name: &str, place: &str, sealed: &Sealed) -> Result<(), Error> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(known) {
        return Err(Error::Name { name: name.to_owned() });
    }
    let record = Record { place: place.to_owned(), recipe: sealed.manifest().recipe.clone() };
    let path = path(layout, name);
    file::create_folder(&layout.models())?;
    Ok(file::write_atomically(&path, format!("{:#}", serde_json::json!(record)).as_bytes())?)
}

/// Returns the artifact of a name and where the model was found; none if there is no such name.
///
/// # Errors
/// Returns an error if the artifact was deleted.
pub fn find(layout: &StoreLayout, name: &str) -> Result<Option<(Sealed, String)>, Error> {
    let path = path(layout, name);
    if name.contains(['/', '\\']) || !path.is_file() {
        return Ok(None);
    }
    let record = read(&path)?;
    let folder = layout.artifacts().folder(&record.recipe);
    let sealed = Sealed::open(&folder).map_err(|source| Error::Deleted {
        name: name.to_owned(),
        place: record.place.clone(),
        source: Box::new(source),
    })?;
    Ok(Some((sealed, record.place)))
}

/// Returns the fingerprints of all named artifacts, whether they exist or not.
///
/// # Errors
/// Returns an error if a name cannot be read.
pub fn fingerprints(layout: &StoreLayout) -> Result<Vec<Digest>, Error> {
    let folder = layout.models();
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| artifact::Error::io("list", &folder, e))?,
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.map(|path| Ok(read(&path)?.recipe.fingerprint())).collect()
}

fn read(path: &Path) -> Result<Record, Error> {
    let text = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::File { file: path.display().to_string(), source: Box::new(error) })
}

fn path(layout: &StoreLayout, name: &str) -> PathBuf {
    layout.models().join(format!("{name}.json"))
}
