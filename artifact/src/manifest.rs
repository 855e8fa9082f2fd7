//! The manifest, the description of a sealed artifact.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Digest, Error, Recipe};

/// The manifest's file name.
pub const FILE_NAME: &str = "manifest.json";

/// The version of the manifest's layout that this crate writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// The content of `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this layout.
    pub schema_version: u32,
    /// The digest of [`Manifest::recipe`], and the folder's name.
    pub fingerprint: Digest,
    /// The digest of the files that do not differ between two equal runs: what downstream stages depend on.
    pub digest: Digest,
    /// The recipe that determined the content.
    pub recipe: Recipe,
    /// Every file, by its path inside the folder.
    pub files: BTreeMap<String, FileEntry>,
    /// Counts and figures, by name; the unit is part of the name.
    pub counts: Map<String, Value>,
    /// The most important figure, for tables: "validation loss 2.31".
    pub headline: String,
    /// Wall-clock seconds of the stage, including all attempts if it was resumed.
    pub wall_seconds: f64,
    /// The machine and the program that made it.
    pub host: Host,
}

/// One file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its length.
    pub bytes: u64,
    /// The digest of its content.
    pub sha256: Digest,
    /// True if it has times or addresses that differ between two equal runs; it is then left out of the artifact's
    /// digest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volatile: bool,
}

/// The machine and the program that made an artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The device that computed, in words.
    pub device: String,
    /// Logical cores.
    pub cores: usize,
    /// Operating system and architecture.
    pub platform: String,
    /// The program's version.
    pub version: String,
    /// The git revision that the program was built from, or "unknown".
    pub git_revision: String,
}

impl Manifest {
    /// Reads the manifest of the artifact in `folder`.
    ///
    /// # Errors
    /// Returns an error if there is no manifest, or if it cannot be parsed.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE_NAME);
        let text = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Unsealed { path: folder.to_owned() });
            }
            other => other.map_err(|e| Error::io("read", &path, e))?,
        };
        let parse = |source| Error::Manifest { path: path.clone(), source };
        let value: Value = serde_json::from_slice(&text).map_err(parse)?;
        let found = value["schema_version"].as_u64().unwrap_or(0) as u32;
        if found > SCHEMA_VERSION {
            return Err(Error::Schema { path, found, supported: SCHEMA_VERSION });
        }
        serde_json::from_value(value).map_err(parse)
    }

    /// Returns the total size of the files, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes).sum()
    }
}

/// Returns the digest of an artifact's files: names, lengths and contents, without volatile files.
pub fn digest_of(files: &BTreeMap<String, FileEntry>) -> Digest {
    let lasting = files.iter().filter(|(_, file)| !file.volatile);
    Digest::of_json(&lasting.map(|(name, file)| serde_json::json!([name, file.bytes, file.sha256])).collect())
}
