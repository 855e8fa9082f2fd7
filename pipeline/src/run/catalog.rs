//! The runs of a store in short, from an index of their records.
//!
//! Ten thousand records are 150 MB of JSON. The index `runs/.index.json` has a line's worth of each and is only a
//! cache: an entry counts while `run.json` has the length and the time of change at which it was read, so runs may be
//! written, moved and deleted by any program, at any time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use artifact::{Recipe, StoreLayout, file};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::record::{RECORD, Run, Status, names};
use super::stage::Stage;

/// The index's file name.
const INDEX: &str = ".index.json";

/// The version of the index's layout; an index of another version is ignored.
const VERSION: u32 = 1;

/// A record that changed less long ago may change again within the resolution of its time, and is not indexed, as git
/// does it: heuristic, the coarsest file systems count in steps of two seconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Records that are read again before the index is rewritten: heuristic, reading so many is faster than writing it.
const MAX_REREAD: usize = 16;

/// A run in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run's name.
    pub name: String,
    /// How it ended, or that it has not ended.
    pub status: Status,
    /// The start, UTC, RFC 3339.
    pub started: String,
    /// Wall-clock seconds of all stages.
    pub wall_seconds: f64,
    /// The stages that are done, and whether each ran in this run.
    pub stages: Vec<(Stage, bool)>,
    /// The main figure: of the report, else of the checkpoint.
    pub result: String,
}

#[derive(Serialize, Deserialize)]
struct Index {
    version: u32,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    run: Summary,
}

/// What tells that a record has not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_nanoseconds: u64,
}

impl Summary {
    /// Returns a run in short.
    pub fn of(run: &Run) -> Self {
        let record = &run.record;
        let result = [Stage::Evaluate, Stage::Train].iter().find_map(|stage| run.stage(*stage));
        Self {
            name: record.name.clone(),
            status: record.status,
            started: record.started.clone(),
            wall_seconds: record.wall_seconds,
            stages: record.stages.iter().map(|stage| (stage.stage, stage.ran)).collect(),
            result: result.map(|stage| stage.headline.clone()).unwrap_or_default(),
        }
    }

    /// Returns true if the run has the artifact of `stage`.
    pub fn has(&self, stage: Stage) -> bool {
        self.stages.iter().any(|(found, _)| *found == stage)
    }

    /// Opens the run.
    ///
    /// # Errors
    /// Returns an error if it was removed, or its record cannot be read.
    pub fn open(&self, layout: &StoreLayout) -> anyhow::Result<Run> {
        Run::open(&layout.runs().join(&self.name))
    }
}

/// Returns every run of a store whose record can be read, earliest first.
///
/// # Errors
/// On I/O errors.
pub fn summaries(layout: &StoreLayout) -> anyhow::Result<Vec<Summary>> {
    let folder = layout.runs();
    let old = read(&folder.join(INDEX)).unwrap_or_default();
    let found: Vec<(String, Entry, bool)> = names(&folder)?
        .into_par_iter()
        .filter_map(|name| {
            let stamp = stamp(&folder.join(&name).join(RECORD))?;
            if let Some(entry) = old.get(&name).filter(|entry| entry.stamp == stamp) {
                return Some((name, entry.clone(), true));
            }
            let run = Run::open(&folder.join(&name)).ok()?;
            // A folder that was copied or renamed has a record of another name.
            let run = Summary { name: name.clone(), ..Summary::of(&run) };
            Some((name, Entry { stamp, run }, false))
        })
        .collect();
    let reread = found.iter().filter(|(.., is_indexed)| !is_indexed).count();
    if reread > MAX_REREAD || found.len() + MAX_REREAD < old.len() {
        write(&folder.join(INDEX), &found);
    }
    let mut runs: Vec<Summary> = found.into_iter().map(|(_, entry, _)| entry.run).collect();
    runs.sort_by(|a, b| order(a).cmp(&order(b)));
    Ok(runs)
}

/// Returns every run of a store whose record can be read, with its whole record, earliest first.
///
/// # Errors
/// On I/O errors.
pub fn records(layout: &StoreLayout) -> anyhow::Result<Vec<Run>> {
    Ok(summaries(layout)?.par_iter().filter_map(|run| run.open(layout).ok()).collect())
}

/// Returns the newest run, if there is one.
///
/// # Errors
/// On I/O errors.
pub fn latest(layout: &StoreLayout) -> anyhow::Result<Option<Run>> {
    summaries(layout)?.last().map(|run| run.open(layout)).transpose()
}

/// Returns the recipe of each stage in the latest run that has it.
///
/// # Errors
/// On I/O errors.
pub fn earlier_recipes(layout: &StoreLayout) -> anyhow::Result<BTreeMap<Stage, Recipe>> {
    let mut recipes: BTreeMap<Stage, Recipe> = BTreeMap::new();
    for summary in summaries(layout)?.iter().rev() {
        if recipes.len() == Stage::ALL.len() {
            break;
        }
        if summary.stages.iter().all(|(stage, _)| recipes.contains_key(stage)) {
            continue;
        }
        let Ok(run) = summary.open(layout) else { continue };
        for record in run.record.stages {
            recipes.entry(record.stage).or_insert(record.recipe);
        }
    }
    Ok(recipes)
}

/// Returns every run of a store.
///
/// # Errors
/// Returns an error if a record cannot be read, unlike [`records`]: for commands that remove what no run needs.
pub fn all_or_error(layout: &StoreLayout) -> anyhow::Result<Vec<Run>> {
    let folder = layout.runs();
    let names = names(&folder)?.into_par_iter().filter(|name| folder.join(name).join(RECORD).is_file());
    names
        .map(|name| {
            Run::open(&folder.join(&name))
                .with_context(|| format!("cannot tell what run {name} needs; remove it first"))
        })
        .collect()
}

/// Runs of the same second are ordered by their number.
fn order(run: &Summary) -> (&str, u64, &str) {
    let number = run.name.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (&run.started, number, &run.name)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Stamp { bytes: metadata.len(), modified_nanoseconds: modified.as_nanos() as u64 })
}

fn read(path: &Path) -> Option<BTreeMap<String, Entry>> {
    let index: Index = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (index.version == VERSION).then_some(index.entries)
}

/// Writes the index; in a store that cannot be written to, the records are read each time.
fn write(path: &Path, found: &[(String, Entry, bool)]) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let settled = now.saturating_sub(SETTLED).as_nanos() as u64;
    let entries = found.iter().filter(|(_, entry, _)| entry.stamp.modified_nanoseconds < settled);
    let entries = entries.map(|(name, entry, _)| (name.clone(), entry.clone())).collect();
    if let Ok(text) = serde_json::to_vec(&Index { version: VERSION, entries }) {
        let _ = file::write_atomically(path, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets the time of change of a run's record to `seconds` ago.
    fn age(layout: &StoreLayout, name: &str, seconds: u64) {
        let record = fs::File::options().append(true).open(layout.runs().join(name).join(RECORD)).unwrap();
        record.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn the_index_is_never_older_than_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::new(folder.path());
        let index = layout.runs().join(INDEX);
        let statuses = || -> Vec<(String, Status)> {
            summaries(&layout).unwrap().into_iter().map(|run| (run.name, run.status)).collect()
        };
        let mut runs: Vec<Run> = (0..40).map(|_| Run::create(&layout, "code").unwrap()).collect();
        assert_eq!(statuses().len(), 40);
        assert!(read(&index).unwrap().is_empty(), "records that have just been written are not indexed");
        for run in &runs[..30] {
            age(&layout, &run.record.name, 60);
        }
        assert_eq!(statuses().len(), 40);
        assert_eq!(read(&index).unwrap().len(), 30);

        runs[3].record.status = Status::Finished;
        runs[3].save().unwrap();
        fs::remove_dir_all(&runs[7].folder).unwrap();
        let found = statuses();
        assert_eq!(found.len(), 39);
        assert_eq!(found[3], ("code-004".to_owned(), Status::Finished));
        assert!(found.iter().all(|(name, _)| name != "code-008"));

        for damage in ["", "{", "{\"version\": 1, \"entries\": {\"code-001\": 7}}", "{\"version\": 2, \"entries\": {}}"]
        {
            fs::write(&index, damage).unwrap();
            assert_eq!(statuses(), found, "{damage}");
        }
    }

    #[test]
    fn an_unreadable_record_is_skipped_and_never_passed_over_by_a_collection() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::new(folder.path());
        for _ in 0..2 {
            Run::create(&layout, "code").unwrap();
        }
        fs::create_dir(layout.runs().join("not-a-run")).unwrap();
        assert_eq!(all_or_error(&layout).unwrap().len(), 2);
        fs::write(layout.runs().join("code-001").join(RECORD), "{}").unwrap();
        assert_eq!(records(&layout).unwrap().len(), 1);
        assert_eq!(latest(&layout).unwrap().unwrap().record.name, "code-002");
        let error = all_or_error(&layout).unwrap_err().to_string();
        assert_eq!(error, "cannot tell what run code-001 needs; remove it first");
    }
}
