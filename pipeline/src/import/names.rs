//! The names that imported models go by: `<store>/models/<name>.json`, a file each.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use artifact::{Recipe, Sealed, StoreLayout, file};
use serde::{Deserialize, Serialize};

/// What a name stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// Where the model was found, in words.
    place: String,
    /// What its artifact was made from, which says where in the store it is.
    recipe: Recipe,
}

/// Gives an artifact of the store a name, in place of what had it before.
///
/// # Errors
/// When the name cannot be that of a file, or the disk refuses.
pub fn give(layout: &StoreLayout, name: &str, place: &str, sealed: &Sealed) -> anyhow::Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        !name.is_empty() && !name.starts_with('.') && name.chars().all(known),
        "--name {name}: use letters, digits, `.`, `_` and `-`"
    );
    let record = Record { place: place.to_owned(), recipe: sealed.manifest().recipe.clone() };
    let path = path(layout, name);
    file::create_folder(&layout.models())?;
    Ok(file::write_atomically(&path, &serde_json::to_vec_pretty(&record)?)?)
}

/// Returns the artifact that a name stands for, and where the model was found; none where there is no such name.
///
/// # Errors
/// When the artifact is gone.
pub fn find(layout: &StoreLayout, name: &str) -> anyhow::Result<Option<(Sealed, String)>> {
    let path = path(layout, name);
    if name.contains(['/', '\\']) || !path.is_file() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let record: Record =
        serde_json::from_slice(&text).with_context(|| format!("{} is not the name of a model", path.display()))?;
    let folder = layout.artifacts().folder(&record.recipe);
    let sealed = Sealed::open(&folder)
        .with_context(|| format!("the model {name} is gone; import it again: {}", record.place))?;
    Ok(Some((sealed, record.place)))
}

fn path(layout: &StoreLayout, name: &str) -> PathBuf {
    layout.models().join(format!("{name}.json"))
}
