//! Records of runs: `<store>/runs/<name>-<number>/run.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use artifact::file::tidy;
use artifact::{Digest, Host, Recipe, Sealed, StoreLayout, file};
use serde::{Deserialize, Serialize};

use settings::suggest;

use crate::platform::clock;
use crate::platform::host::host;
use crate::run::stage::{Artifacts, Stage};

/// The record's file name.
pub const RECORD: &str = "run.json";

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

impl StageRecord {
    /// Returns the record of `sealed`.
    pub fn new(stage: Stage, ran: bool, reason: String, sealed: &Sealed) -> Self {
        let manifest = sealed.manifest();
        Self {
            stage,
            ran,
            reason,
            wall_seconds: manifest.wall_seconds,
            bytes: manifest.total_bytes(),
            headline: manifest.headline.clone(),
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
        let runs = layout.runs();
        file::create_folder(&runs)?;
        let taken = names(&runs)?.iter().filter_map(|found| number(found, name)).max().unwrap_or(0);
        for next in taken + 1.. {
            let name = format!("{name}-{next:03}");
            let folder = runs.join(&name);
            match fs::create_dir(&folder) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(artifact::Error::io("create folder", folder, e).into()),
                Ok(()) => {
                    let record = Record {
                        schema_version: SCHEMA_VERSION,
                        name,
                        status: Status::Running,
                        error: None,
                        started: clock::now(),
                        wall_seconds: 0.0,
                        host: host(),
                        stages: Vec::new(),
                    };
                    let run = Self { folder, record };
                    run.save()?;
                    return Ok(run);
                }
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

/// Returns every run of a store whose record can be read, earliest first.
///
/// # Errors
/// On I/O errors.
pub fn list(layout: &StoreLayout) -> anyhow::Result<Vec<Run>> {
    let folder = layout.runs();
    let mut runs: Vec<Run> = names(&folder)?.iter().filter_map(|name| Run::open(&folder.join(name)).ok()).collect();
    runs.sort_by(|a, b| order(a).cmp(&order(b)));
    Ok(runs)
}

/// Runs of the same second are ordered by their number.
fn order(run: &Run) -> (&str, u64, &str) {
    let name = &run.record.name;
    let number = name.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (&run.record.started, number, name)
}

/// Returns the run that `name` means: a folder, the name of a run in the store, or `latest`.
///
/// # Errors
/// Returns an error if there is none, with the nearest name.
pub fn find(layout: &StoreLayout, name: &str) -> anyhow::Result<Run> {
    let path = Path::new(name);
    if path.join(RECORD).is_file() {
        return Run::open(path);
    }
    let folder = layout.runs().join(name);
    if folder.join(RECORD).is_file() {
        return Run::open(&folder);
    }
    let runs = list(layout)?;
    let nothing = runs.is_empty();
    if name == "latest" && !nothing {
        return runs.into_iter().next_back().context("no run");
    }
    if nothing {
        let runs = tidy(&layout.runs());
        let named = if name == "latest" { String::new() } else { format!("there is no run {name}: ") };
        bail!("{named}there is no run in {} yet; `pipeline run` makes one", runs.display());
    }
    let names: Vec<&str> = runs.iter().map(|run| run.record.name.as_str()).collect();
    match suggest(name, names.iter().copied()) {
        Some(near) => bail!("there is no run {name}; did you mean {near}?"),
        None => bail!("there is no run {name}; `pipeline runs` lists them, and `latest` is {}", names[names.len() - 1]),
    }
}

/// Returns the run that `name` means; `latest` is the newest that has the artifact of `stage`.
///
/// # Errors
/// Returns an error as [`find`] does.
pub fn find_with(layout: &StoreLayout, name: &str, stage: Stage) -> anyhow::Result<Run> {
    let run = find(layout, name)?;
    if name != "latest" || run.stage(stage).is_some() {
        return Ok(run);
    }
    Ok(list(layout)?.into_iter().rev().find(|run| run.stage(stage).is_some()).unwrap_or(run))
}

/// Returns true if a run is one of those that are numbered under `name`.
pub fn is_of(run: &Run, name: &str) -> bool {
    number(&run.record.name, name).is_some()
}

fn names(folder: &Path) -> Result<Vec<String>, artifact::Error> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| artifact::Error::io("list", folder, e))?,
    };
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

fn number(folder: &str, name: &str) -> Option<u64> {
    folder.strip_prefix(name)?.strip_prefix('-')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_numbered_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let layout = &StoreLayout::new(folder.path());
        let found = |name: &str| find(layout, name).map(|run| run.record.name).map_err(|e| e.to_string());
        assert!(found("latest").unwrap_err().contains("no run in"));
        for expected in ["code-001", "code-002"] {
            assert_eq!(Run::create(layout, "code").unwrap().record.name, expected);
        }
        assert_eq!(Run::create(layout, "code-b").unwrap().record.name, "code-b-001");
        fs::create_dir(folder.path().join("runs/code-1000")).unwrap();
        assert_eq!(Run::create(layout, "code").unwrap().record.name, "code-1001");
        let all: Vec<String> = list(layout).unwrap().into_iter().map(|run| run.record.name).collect();
        assert_eq!(all.len(), 4, "a folder without a record is not a run: {all:?}");
        assert_eq!(found("latest").unwrap(), "code-1001");
        assert_eq!(found("code-002").unwrap(), "code-002");
        assert_eq!(found(&folder.path().join("runs/code-001").display().to_string()).unwrap(), "code-001");
        assert_eq!(found("cod-002").unwrap_err(), "there is no run cod-002; did you mean code-002?");
        assert_eq!(
            found("other").unwrap_err(),
            "there is no run other; `pipeline runs` lists them, and `latest` is code-1001"
        );
    }
}
