//! The answers that models have given to tasks outside of runs: a cache of one file per model.
//!
//! Those of a model of the store are named by the digest of its artifact, so that they are exported, imported and
//! removed with it. The others are only removed by hand, since nothing says whether their model is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::{Digest, Manifest, StoreLayout};
use serde_json::json;

/// The start of the names of answers of models outside the store.
const OUTSIDE: &str = "outside-";

/// Returns the file with the answers of the model in an artifact.
pub fn of_artifact(layout: &StoreLayout, digest: Digest) -> PathBuf {
    layout.answers().join(format!("{}.jsonl", digest.short()))
}

/// Returns the file with the answers of the model in a folder.
///
/// # Errors
/// On I/O errors.
pub fn of_folder(layout: &StoreLayout, folder: &Path) -> anyhow::Result<PathBuf> {
    Ok(match Manifest::read(folder) {
        Ok(manifest) => of_artifact(layout, manifest.digest),
        Err(_) => outside(layout, model_digest(folder)?),
    })
}

/// Returns the digest of the model in a folder: of its artifact, else of its files.
///
/// # Errors
/// On I/O errors.
pub fn model_digest(folder: &Path) -> anyhow::Result<Digest> {
    if let Ok(manifest) = Manifest::read(folder) {
        return Ok(manifest.digest);
    }
    let failed = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        if path.is_file() {
            files.push((path.file_name().map(|name| name.to_string_lossy().into_owned()), Digest::of_file(&path)?.0));
        }
    }
    files.sort();
    Ok(Digest::of_json(&json!(files)))
}

/// Returns the file with the answers of a model behind an address.
pub fn of_server(layout: &StoreLayout, address: &str, model: &str) -> PathBuf {
    outside(layout, Digest::of_json(&json!([address, model])))
}

fn outside(layout: &StoreLayout, identity: Digest) -> PathBuf {
    layout.answers().join(format!("{OUTSIDE}{}.jsonl", identity.short()))
}

/// Returns the answers of models that are none of these artifacts of the store, with their sizes in bytes.
pub fn unneeded(layout: &StoreLayout, needed: impl Iterator<Item = Digest>) -> Vec<(PathBuf, u64)> {
    let needed: BTreeSet<PathBuf> = needed.map(|digest| of_artifact(layout, digest)).collect();
    let is_garbage = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".jsonl") && !name.starts_with(OUTSIDE) && !needed.contains(path)
    };
    let files = fs::read_dir(layout.answers()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut garbage: Vec<(PathBuf, u64)> = files
        .filter(is_garbage)
        .filter_map(|path| {
            let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
            Some((path, metadata.len()))
        })
        .collect();
    garbage.sort();
    garbage
}
