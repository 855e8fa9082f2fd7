//! Resumable training state.
//!
//! A state is a folder `.resume/step-<n>` whose `trainer_state.json` is written last; older states are removed only
//! after that. Everything else that a step depends on is a function of seed and step.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::file;
use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::ModelFiles;
use crate::divergence::RecentLosses;
use crate::optim::optimizer::{self, Optimizer};
use crate::{Config, Error};

/// The name of the file with the progress of the training.
pub const FILE: &str = "trainer_state.json";

/// The folder with the trainable parameters of the best validation; sealing the artifact removes it.
pub const BEST: &str = ".best";

const SCHEMA_VERSION: u32 = 2;

/// The progress of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// The version of this layout.
    pub schema_version: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens trained on, without padding.
    pub tokens: u64,
    /// The losses of the latest steps.
    pub recent_losses: RecentLosses,
    /// The best validation.
    pub best: Option<Validation>,
    /// The latest validation.
    pub latest: Option<Validation>,
    /// Seconds spent on training so far, over all attempts.
    pub wall_seconds: f64,
}

/// The result of a validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps taken before it.
    pub step: u64,
    /// The mean loss on the validation split, in nats.
    pub validation_loss: f64,
}

impl TrainerState {
    /// Returns the state before the first step.
    pub fn start() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            step: 0,
            tokens: 0,
            recent_losses: RecentLosses::default(),
            best: None,
            latest: None,
            wall_seconds: 0.0,
        }
    }

    /// Writes the state to `folder`.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::State { path: path.clone(), source })?;
        Ok(file::write_atomically(&path, &text)?)
    }
}

/// A training as it is saved: the model, the optimizer and the progress.
pub struct Snapshot<'a, M> {
    /// The model.
    pub model: &'a M,
    /// The optimizer.
    pub optimizer: &'a Optimizer,
    /// The progress.
    pub state: &'a TrainerState,
}

/// The saved states of a run.
pub struct States {
    root: PathBuf,
}

impl States {
    /// Returns the states in an artifact's folder; sealing the artifact removes them.
    pub fn new(folder: &Path) -> Self {
        Self { root: folder.join(".resume") }
    }

    /// Saves a state, and removes all but the latest `keep_last`.
    ///
    /// # Errors
    /// Returns an error if the device fails, and on I/O errors; older states are kept then.
    pub fn save<M: Module>(
        &self,
        keep_last: usize,
        files: &dyn ModelFiles<M>,
        snapshot: &Snapshot<'_, M>,
    ) -> Result<(), Error> {
        let folder = self.root.join(format!("step-{:09}", snapshot.state.step));
        let written = write(files, snapshot, &folder);
        if written.is_err() {
            // A partial state takes up space, which may be what is missing.
            let _ = fs::remove_dir_all(&folder);
        }
        written?;
        file::sync_folder(&self.root)?;
        let mut folders = self.folders()?;
        folders.sort();
        folders.reverse();
        for older in folders.into_iter().filter(|other| *other < folder).skip(keep_last - 1) {
            fs::remove_dir_all(&older).map_err(|e| artifact::Error::io("remove", &older, e))?;
        }
        Ok(())
    }

    /// Returns the folder of the latest complete state.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn latest(&self) -> Result<Option<PathBuf>, Error> {
        Ok(self.folders()?.into_iter().filter(|folder| folder.join(FILE).exists()).max())
    }

    /// Restores the latest complete state, if there is one; a state whose writing was interrupted lacks its last file
    /// and is skipped.
    ///
    /// # Errors
    /// Returns an error if the state is damaged or has the layout of another version, and on I/O errors.
    pub fn load<M: Module>(
        &self,
        config: &Config,
        files: &dyn ModelFiles<M>,
        model: &M,
    ) -> Result<Option<(M, Optimizer, TrainerState)>, Error> {
        let Some(folder) = self.latest()? else { return Ok(None) };
        let restored = read(config, files, model, &folder);
        restored.map(Some).map_err(|source| Error::Resume { path: folder, source: Box::new(source) })
    }

    fn folders(&self) -> Result<Vec<PathBuf>, Error> {
        match fs::read_dir(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => Ok(entries
                .map_err(|e| artifact::Error::io("list", &self.root, e))?
                .flatten()
                .map(|entry| entry.path())
                .collect()),
        }
    }
}

fn write<M: Module>(files: &dyn ModelFiles<M>, snapshot: &Snapshot<'_, M>, folder: &Path) -> Result<(), Error> {
    file::create_folder(folder)?;
    files.save(snapshot.model, folder)?;
    snapshot.optimizer.save(snapshot.model, &folder.join(optimizer::FILE))?;
    snapshot.state.write(folder)
}

fn read<M: Module>(
    config: &Config,
    files: &dyn ModelFiles<M>,
    model: &M,
    folder: &Path,
) -> Result<(M, Optimizer, TrainerState), Error> {
    let path = folder.join(FILE);
    let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let invalid = |source| Error::State { path: path.clone(), source };
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(invalid)?;
    let version = value["schema_version"].as_u64().unwrap_or(0);
    if version != u64::from(SCHEMA_VERSION) {
        return Err(Error::StateVersion { path, found: version, expected: SCHEMA_VERSION });
    }
    let state: TrainerState = serde_json::from_value(value).map_err(invalid)?;
    let model = files.load(model, folder)?;
    let optimizer = Optimizer::load(config, &model, &folder.join(optimizer::FILE))?;
    Ok((model, optimizer, state))
}
