//! The paths of a store.

use std::path::{Path, PathBuf};

use crate::Store;
use crate::file::tidy;

/// The paths of a store, a folder with artifacts, runs, their tags, sweeps, the names of imported models, answers to
/// tasks and people's judgements of answers.
#[derive(Debug, Clone)]
pub struct StoreLayout {
    root: PathBuf,
}

impl StoreLayout {
    /// Returns the layout of the store in the folder `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the layout of the store that contains the run in `folder`.
    pub fn of_run(folder: &Path) -> Self {
        Self::new(tidy(folder.parent().and_then(Path::parent).unwrap_or(Path::new("."))))
    }

    /// Returns the store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the store of artifacts.
    pub fn artifacts(&self) -> Store {
        Store::new(self.root.join("artifacts"))
    }

    /// Returns the folder of runs.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Returns the folder of tags, the names that people give to runs.
    pub fn tags(&self) -> PathBuf {
        self.root.join("tags")
    }

    /// Returns the folder of the results of sweeps.
    pub fn sweeps(&self) -> PathBuf {
        self.root.join("sweeps")
    }

    /// Returns the folder with the answers of models that were evaluated outside of runs.
    pub fn answers(&self) -> PathBuf {
        self.root.join("answers")
    }

    /// Returns the file of people's judgements of answers.
    pub fn votes(&self) -> PathBuf {
        self.root.join("votes.jsonl")
    }

    /// Returns the folder with the names of imported models.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }
}
