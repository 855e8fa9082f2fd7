//! Records of runs: `<store>/runs/<name>-<number>/run.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use artifact::{Digest, Host, Recipe, Sealed, StoreLayout, file};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::platform::clock;
use crate::platform::host::host;
use crate::run::stage::{Artifacts, Stage};

/// The record's file name.
pub const RECORD: &str = "run.json";

/// The file name of the log.
pub const LOG: &str = "log.txt";

/// The version of the record's layout.
const SCHEMA_VERSION: u32 = 1;

/// What `run.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The version of this layout.
    pub schema_version: u32,
    /// The run's name, which its folder has too.
    pub name: String,
    /// How it ended, or that it has not ended.
    pub status: Status,
    /// The error, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The start, UTC, RFC 3339.
    pub started: String,
    /// Wall-clock seconds of all stages.
    pub wall_seconds: f64,
    /// The machine and the program.
    pub host: Host,
    /// The stages that are done, in their order.
    pub stages: Vec<StageRecord>,
    /// The stage that is running, or in which the run stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
}

/// A stage that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// The stage.
    pub stage: Stage,
    /// The name of its folder, `artifacts/<stage>/<fingerprint>` of the store, which keeps what it wrote.
    pub fingerprint: Digest,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has not ended, or its process was killed.
    Running,
    /// Every selected stage is done.
    Finished,
    /// It was interrupted.
    Interrupted,
    /// A stage failed.
    Failed,
}

/// One finished stage of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageRecord {
    /// The stage.
    pub stage: Stage,
    /// Whether the stage ran in this run.
    pub ran: bool,
    /// Why.
    pub reason: String,
    /// Wall-clock seconds of the stage, in the run in which it ran.
    pub wall_seconds: f64,
    /// The artifact's size.
    pub bytes: u64,
    /// The artifact's main figure.
    pub headline: String,
    /// The artifact's counts and figures, by name; the unit is part of the name.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub counts: Map<String, Value>,
    /// What a reader should know: what was left out, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// The gates that its model did not pass: only of stage evaluate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_gates: Vec<String>,
    /// The digest of what decides the artifact; its folder is `artifacts/<stage>/<fingerprint>` of the store.
    pub fingerprint: Digest,
    /// The digest of the artifact's content.
    pub digest: Digest,
    /// What decides the artifact, so that a later run can say what changed even if the artifact is gone.
    pub recipe: Recipe,
}

impl Status {
    /// Returns the status in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running or killed",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

impl StageRecord {
    /// Returns the record of `sealed`.
    pub fn new(stage: Stage, ran: bool, reason: String, sealed: &Sealed) -> Self {
        let manifest = sealed.manifest();
        let counts = manifest.counts.iter().filter(|(_, value)| value.is_number());
        Self {
            stage,
            ran,
            reason,
            wall_seconds: manifest.wall_seconds,
            bytes: manifest.total_bytes(),
            headline: manifest.headline.clone(),
            counts: counts.map(|(name, value)| (name.clone(), value.clone())).collect(),
            notices: notices(sealed),
            failed_gates: evaluate::failed_gates(sealed),
            fingerprint: manifest.fingerprint,
            digest: manifest.digest,
            recipe: manifest.recipe.clone(),
        }
    }
}

/// Returns the notices of an artifact: what its stage left out, and why.
pub fn notices(sealed: &Sealed) -> Vec<String> {
    let list = sealed.manifest().counts.get(artifact::NOTICES).and_then(serde_json::Value::as_array);
    list.into_iter().flatten().filter_map(|notice| notice.as_str().map(str::to_owned)).collect()
}

/// A run on disk.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// Its record.
    pub record: Record,
}

impl Run {
    /// Creates the next run of `name` in a folder of its own.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn create(layout: &StoreLayout, name: &str) -> anyhow::Result<Self> {
        let (name, folder) = Self::reserve(layout, name)?;
        let record = Record {
            schema_version: SCHEMA_VERSION,
            name,
            status: Status::Running,
            error: None,
            started: clock::now(),
            wall_seconds: 0.0,
            host: host(),
            stages: Vec::new(),
            unfinished: None,
        };
        let run = Self { folder, record };
        run.save()?;
        Ok(run)
    }

    /// Creates the folder of the next run of `name`, and returns the run's name and the folder, which is a run once it
    /// has a record.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn reserve(layout: &StoreLayout, name: &str) -> anyhow::Result<(String, PathBuf)> {
        let runs = layout.runs();
        file::create_folder(&runs)?;
        let taken = names(&runs)?.iter().filter_map(|found| number(found, name)).max().unwrap_or(0);
        for next in taken + 1.. {
            let name = format!("{name}-{next:03}");
            let folder = runs.join(&name);
            match fs::create_dir(&folder) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(artifact::Error::io("create folder", folder, e).into()),
                Ok(()) => return Ok((name, folder)),
            }
        }
        bail!("no number is left for a run named {name}")
    }

    /// Opens the run in `folder`.
    ///
    /// # Errors
    /// Returns an error if it has no record, or not one of this version.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(RECORD);
        let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        let record: Record = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not the record of a run of this version", path.display()))?;
        Ok(Self { folder: folder.to_owned(), record })
    }

    /// Writes the record.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.record)?;
        Ok(file::write_atomically(&self.folder.join(RECORD), &text)?)
    }

    /// Returns the paths of the store that the run is in.
    pub fn layout(&self) -> StoreLayout {
        StoreLayout::of_run(&self.folder)
    }

    /// Returns the folder of a stage's artifact.
    pub fn artifact_folder(&self, stage: &StageRecord) -> PathBuf {
        self.layout().artifacts().folder(&stage.recipe)
    }

    /// Returns the folder of the stage that is running, or in which the run stopped.
    pub fn unfinished_folder(&self) -> Option<PathBuf> {
        let Unfinished { stage, fingerprint } = self.record.unfinished?;
        Some(self.layout().artifacts().root().join(stage.name()).join(fingerprint.to_string()))
    }

    /// Returns the path of the log.
    pub fn log(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// Returns the record of a stage, if the run has it.
    pub fn stage(&self, stage: Stage) -> Option<&StageRecord> {
        self.record.stages.iter().find(|record| record.stage == stage)
    }

    /// Opens the artifact of a stage.
    ///
    /// # Errors
    /// Returns an error if the run has none, or its folder is gone.
    pub fn artifact(&self, stage: Stage) -> anyhow::Result<Sealed> {
        let record = self.stage(stage).with_context(|| {
            format!(
                "run {} has no {} (stage {stage} is not done); `pipeline run` continues it",
                self.record.name,
                stage.artifact()
            )
        })?;
        Ok(Sealed::open(&self.artifact_folder(record))?)
    }

    /// Returns true if the run is finished and has exactly the artifacts in `made`, for the stages in it.
    pub fn has_all_of(&self, made: &Artifacts) -> bool {
        self.record.status == Status::Finished
            && made.iter().all(|(stage, sealed)| {
                self.stage(*stage).is_some_and(|record| {
                    record.fingerprint == sealed.manifest().fingerprint && record.digest == sealed.digest()
                })
            })
    }
}

/// Returns the names of the entries of a folder that do not begin with a dot, in no order; none if it does not exist.
///
/// # Errors
/// Returns an error if the folder cannot be listed.
pub fn names(folder: &Path) -> Result<Vec<String>, artifact::Error> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| artifact::Error::io("list", folder, e))?,
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

/// Returns true if the run named `run` is one of those that are numbered under `name`.
pub fn is_of(run: &str, name: &str) -> bool {
    number(run, name).is_some()
}

/// Returns true if `name` ends as the names of runs do, which [`Run::reserve`] numbers with at least three digits.
pub fn is_numbered(name: &str) -> bool {
    let digits = name.rsplit_once('-').map(|(_, digits)| digits);
    digits.is_some_and(|digits| digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn number(folder: &str, name: &str) -> Option<u64> {
    folder.strip_prefix(name)?.strip_prefix('-')?.parse().ok()
}
