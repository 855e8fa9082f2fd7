//! What a killed run resumes from.
//!
//! A state is a folder `.resume/step-<n>` whose `trainer_state.json` is written last; an older state is removed only
//! after. Everything else a step needs is a function of seed and step.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::file;
use model::Transformer;
use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;

use crate::guard::RecentLosses;
use crate::optimizer::{self, Optimizer};
use crate::{Config, Error, lora};

/// The name of the file that says how far training came.
pub const FILE: &str = "trainer_state.json";

const SCHEMA_VERSION: u32 = 2;

/// How far training came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// The version of this layout.
    pub schema_version: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// Tokens trained on, padding not counted.
    pub tokens: u64,
    /// The losses of the latest steps.
    pub recent_losses: RecentLosses,
    /// The best measurement on the validation split.
    pub best: Option<Measured>,
    /// The latest one.
    pub latest: Option<Measured>,
    /// Seconds that training took until here, all attempts together.
    pub wall_seconds: f64,
}

/// A measurement on the validation split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// After this many steps.
    pub step: u64,
    /// Its mean cross-entropy in nats.
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

    /// Saves a state, a folder that opens as a model too, or as an adapter where adapters are trained, and removes all but
    /// the `keep_last` latest.
    ///
    /// # Errors
    /// When the disk refuses; the states before it are still there.
    pub fn save(
        &self,
        config: &Config,
        model: &Transformer,
        optimizer: &Optimizer,
        tokenizer: &Tokenizer,
        state: &TrainerState,
    ) -> Result<(), Error> {
        let folder = self.root.join(format!("step-{:09}", state.step));
        let written = write(config, model, optimizer, tokenizer, state, &folder);
        if written.is_err() {
            // What was written of it takes room that may be what is missing.
            let _ = fs::remove_dir_all(&folder);
        }
        written?;
        file::sync_folder(&self.root)?;
        let mut folders = self.folders()?;
        folders.sort();
        folders.reverse();
        for older in folders.into_iter().filter(|other| *other < folder).skip(config.keep_last - 1) {
            fs::remove_dir_all(&older).map_err(|e| artifact::Error::io("remove", &older, e))?;
        }
        Ok(())
    }

    /// Returns the folder of the latest whole state.
    pub fn latest(&self) -> Option<PathBuf> {
        let folders = self.folders().unwrap_or_default();
        folders.into_iter().filter(|folder| folder.join(FILE).exists()).max()
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

fn write(
    config: &Config,
    model: &Transformer,
    optimizer: &Optimizer,
    tokenizer: &Tokenizer,
    state: &TrainerState,
    folder: &Path,
) -> Result<(), Error> {
    file::create_folder(folder)?;
    lora::save(model, config.init.as_deref().unwrap_or_default(), folder)?;
    tokenizer.write_hugging_face(folder, model.config().context_length)?;
    optimizer.save(model, &folder.join(optimizer::FILE))?;
    state.write(folder)
}

fn read(
    config: &Config,
    model: &Transformer,
    folder: &Path,
) -> Result<Option<(Transformer, Optimizer, TrainerState)>, Error> {
    let path = folder.join(FILE);
    let Ok(text) = fs::read(&path) else { return Ok(None) };
    let unreadable = |source| Error::State { path: path.clone(), source };
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(unreadable)?;
    let version = value["schema_version"].as_u64().unwrap_or(0);
    if version != u64::from(SCHEMA_VERSION) {
        return Err(Error::StateVersion { path, found: version, expected: SCHEMA_VERSION });
    }
    let state: TrainerState = serde_json::from_value(value).map_err(unreadable)?;
    let model = lora::load(model, &config.freeze, folder)?;
    let optimizer = Optimizer::load(config, &model, &folder.join(optimizer::FILE))?;
    Ok(Some((model, optimizer, state)))
}
