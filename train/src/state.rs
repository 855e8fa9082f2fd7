//! What a killed run resumes from.
//!
//! A state is a folder `.resume/step-<n>` whose `trainer_state.json` is written last; an older state is removed only
//! after. Everything else a step needs is a function of seed and step.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::file;
use model::{Dtype, Transformer, checkpoint};
use serde::{Deserialize, Serialize};

use crate::optimizer::{self, Optimizer};
use crate::{Config, Error};

/// The name of the file that says how far training came.
pub const FILE: &str = "trainer_state.json";

const SCHEMA_VERSION: u32 = 1;

/// How far training came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// The version of this layout.
    pub schema_version: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// The best measurement on the validation split.
    pub best: Option<Best>,
    /// Seconds that training took until here, all attempts together.
    pub wall_seconds: f64,
}

/// A measurement on the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// After this many steps.
    pub step: u64,
    /// Its mean cross-entropy in nats.
    pub validation_loss: f64,
}

impl TrainerState {
    /// Returns the state before the first step.
    pub fn start() -> Self {
        Self { schema_version: SCHEMA_VERSION, step: 0, tokens: 0, best: None, wall_seconds: 0.0 }
    }

    /// Writes it to `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|source| Error::State { path: path.clone(), source })?;
        Ok(file::write_atomically(&path, &text)?)
    }
}

/// The states of a run.
pub struct States {
    root: PathBuf,
}

impl States {
    /// Returns the states kept in an artifact's folder; sealing the artifact removes them.
    pub fn new(folder: &Path) -> Self {
        Self { root: folder.join(".resume") }
    }

    /// Saves a state and removes the older ones.
    pub fn save(&self, model: &Transformer, optimizer: &Optimizer, state: &TrainerState) -> Result<(), Error> {
        let folder = self.root.join(format!("step-{:09}", state.step));
        file::create_folder(&folder)?;
        let weights = checkpoint::weights(model)?;
        checkpoint::save_weights(&weights, model.config().family, &folder.join(checkpoint::WEIGHTS), Dtype::F32)?;
        optimizer.save(model, &folder.join(optimizer::FILE))?;
        state.write(&folder)?;
        file::sync_folder(&self.root)?;
        for older in self.folders()?.into_iter().filter(|other| *other != folder) {
            fs::remove_dir_all(&older).map_err(|e| artifact::Error::io("remove", &older, e))?;
        }
        Ok(())
    }

    /// Reads the latest whole state into `model`, if there is one; a state that was cut off lacks its last file and is
    /// passed over.
    pub fn load(
        &self,
        config: &Config,
        model: &Transformer,
    ) -> Result<Option<(Transformer, Optimizer, TrainerState)>, Error> {
        let mut folders = self.folders()?;
        folders.sort();
        for folder in folders.iter().rev().filter(|folder| folder.join(FILE).exists()) {
            let unusable = |source| Error::Resume { path: folder.clone(), source: Box::new(source) };
            if let Some(state) = read(config, model, folder).map_err(unusable)? {
                return Ok(Some(state));
            }
        }
        Ok(None)
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

fn read(
    config: &Config,
    model: &Transformer,
    folder: &Path,
) -> Result<Option<(Transformer, Optimizer, TrainerState)>, Error> {
    let path = folder.join(FILE);
    let Ok(text) = fs::read(&path) else { return Ok(None) };
    let state: TrainerState = serde_json::from_slice(&text).map_err(|source| Error::State { path, source })?;
    if state.schema_version != SCHEMA_VERSION {
        return Ok(None);
    }
    let weights = checkpoint::load_weights(&folder.join(checkpoint::WEIGHTS), model.config())?;
    let model = checkpoint::with_weights(model.config(), weights, &model.device());
    let optimizer = Optimizer::load(config, &model, &folder.join(optimizer::FILE))?;
    Ok(Some((model, optimizer, state)))
}
