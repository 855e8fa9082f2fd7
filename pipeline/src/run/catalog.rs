//! The runs of a store in short, from an index of their records.
//!
//! Ten thousand records are 150 MB of JSON. The index has a line's worth of each and is only a cache: an entry counts
//! while `run.json` has the length and the time of change at which it was read, so runs may be written, moved and
//! deleted by any program, at any time.

mod index;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use artifact::{Recipe, StoreLayout};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::record::{RECORD, Run, Status, names};
use super::stage::Stage;
use super::values;

use index::Index;

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

/// Every run of a store whose record can be read, earliest first.
pub struct Catalog {
    index: Index,
    runs: Vec<Listed>,
}

struct Listed {
    summary: Summary,
    stamp: Stamp,
    values: Source,
}

/// Where the values of a run are.
enum Source {
    /// In this row of the index.
    Indexed(usize),
    /// In its record, which was read now.
    Read(BTreeMap<String, Value>),
}

impl Catalog {
    /// Lists the runs of a store.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn of(layout: &StoreLayout) -> anyhow::Result<Self> {
        let folder = layout.runs();
        let (mut index, entries) = Index::open(&folder);
        let n_entries = entries.len();
        let rows: HashMap<&str, usize> =
            entries.iter().enumerate().map(|(row, entry)| (entry.run.name.as_str(), row)).collect();
        let found: Vec<(String, Stamp, Option<usize>)> = names(&folder)?
            .into_par_iter()
            .filter_map(|name| {
                let stamp = Stamp::of(&folder.join(&name).join(RECORD))?;
                let row = rows.get(name.as_str()).copied().filter(|row| entries[*row].stamp == stamp);
                Some((name, stamp, row))
            })
            .collect();
        let mut entries: Vec<Option<Summary>> = entries.into_iter().map(|entry| Some(entry.run)).collect();
        let mut runs = Vec::with_capacity(found.len());
        let mut changed = Vec::new();
        for (name, stamp, row) in found {
            match row.and_then(|row| Some((entries[row].take()?, row))) {
                Some((summary, row)) => runs.push(Listed { summary, stamp, values: Source::Indexed(row) }),
                None => changed.push((name, stamp)),
            }
        }
        let n_changed = changed.len();
        runs.par_extend(changed.into_par_iter().filter_map(|(name, stamp)| {
            let run = Run::open(&folder.join(&name)).ok()?;
            // A folder that was copied or renamed has a record of another name.
            let summary = Summary { name, ..Summary::of(&run) };
            Some(Listed { summary, stamp, values: Source::Read(values::all(&run)) })
        }));
        runs.sort_by(|a, b| order(&a.summary).cmp(&order(&b.summary)));
        if n_changed > MAX_REREAD || runs.len() + MAX_REREAD < n_entries {
            index.replace(&folder, &runs);
        }
        Ok(Self { index, runs })
    }

    /// Returns the runs in short.
    pub fn summaries(&self) -> impl ExactSizeIterator<Item = &Summary> {
        self.runs.iter().map(|run| &run.summary)
    }

    /// Returns the value of `key` in each run, as [`values::value`] does.
    pub fn values(&mut self, key: &str) -> Vec<Option<Value>> {
        let column = self.index.column(key);
        let value = |Listed { summary, values, .. }: &Listed| match (key, values) {
            ("name", _) => Some(json!(summary.name)),
            ("status", _) => Some(json!(summary.status)),
            ("started", _) => Some(json!(summary.started)),
            ("wall_seconds", _) => Some(json!(summary.wall_seconds)),
            (_, Source::Indexed(row)) => column.as_ref()?.value(*row).cloned(),
            (_, Source::Read(values)) => values.get(key).cloned(),
        };
        self.runs.iter().map(value).collect()
    }

    /// Returns every key that [`Catalog::values`] has a value of.
    pub fn keys(&mut self) -> Vec<String> {
        let mut keys = ["name", "status", "started", "wall_seconds"].map(str::to_owned).to_vec();
        keys.extend(self.index.keys());
        for run in &self.runs {
            if let Source::Read(values) = &run.values {
                keys.extend(values.keys().cloned());
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Returns every run of a store whose record can be read, earliest first.
///
/// # Errors
/// On I/O errors.
pub fn summaries(layout: &StoreLayout) -> anyhow::Result<Vec<Summary>> {
    Ok(Catalog::of(layout)?.runs.into_iter().map(|run| run.summary).collect())
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
/// Returns an error if a record cannot be read, unlike [`summaries`]: for commands that remove what no run needs.
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

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let modified = metadata.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(Self { bytes: metadata.len(), modified_nanoseconds: modified.as_nanos() as u64 })
    }

    /// Returns true if the record has not changed for long enough to be indexed.
    fn is_settled(self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.modified_nanoseconds < now.saturating_sub(SETTLED).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::StageRecord;

    /// Sets the time of change of a run's record to `seconds` ago.
    fn age(layout: &StoreLayout, name: &str, seconds: u64) {
        let record = fs::File::options().append(true).open(layout.runs().join(name).join(RECORD)).unwrap();
        record.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn the_index_is_never_older_than_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::new(folder.path());
        let index = layout.runs().join(index::FILE);
        let indexed = || Index::open(&layout.runs()).1;
        let statuses = || -> Vec<(String, Status)> {
            summaries(&layout).unwrap().into_iter().map(|run| (run.name, run.status)).collect()
        };
        let mut runs: Vec<Run> = (0..40).map(|_| Run::create(&layout, "code").unwrap()).collect();
        assert_eq!(statuses().len(), 40);
        assert!(indexed().is_empty(), "records that have just been written are not indexed");
        for run in &runs[..30] {
            age(&layout, &run.record.name, 60);
        }
        assert_eq!(statuses().len(), 40);
        assert_eq!(indexed().len(), 30);

        runs[3].record.status = Status::Finished;
        runs[3].save().unwrap();
        fs::remove_dir_all(&runs[7].folder).unwrap();
        let found = statuses();
        assert_eq!(found.len(), 39);
        assert_eq!(found[3], ("code-004".to_owned(), Status::Finished));
        assert!(found.iter().all(|(name, _)| name != "code-008"));

        for damage in ["", "{", "{\"version\": 2, \"entries\": [7]}\n", "{\"version\": 1, \"entries\": []}\n"] {
            fs::write(&index, damage).unwrap();
            assert_eq!(statuses(), found, "{damage}");
        }
    }

    /// Returns a finished stage with some configuration and figures.
    fn stage(stage: Stage, config: Value, counts: &Value) -> StageRecord {
        let recipe = Recipe {
            stage: stage.name().to_owned(),
            stage_version: 1,
            config,
            inputs: BTreeMap::new(),
            seed: 7,
            device_class: None,
        };
        StageRecord {
            stage,
            ran: true,
            reason: String::new(),
            wall_seconds: 1.0,
            bytes: 1,
            headline: String::new(),
            counts: counts.as_object().unwrap().clone(),
            notices: Vec::new(),
            failed_gates: Vec::new(),
            fingerprint: recipe.fingerprint(),
            digest: recipe.fingerprint(),
            recipe,
        }
    }

    #[test]
    fn the_values_of_the_index_are_those_of_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::new(folder.path());
        for number in 0..60 {
            let mut run = Run::create(&layout, "code").unwrap();
            let model = json!({"n_layer": number % 3, "list": [1, number % 2], "none": null});
            run.record.stages = vec![stage(Stage::Collect, json!({"a": "b"}), &json!({"bytes": number}))];
            if number % 5 > 0 {
                let counts = json!({"steps": 9, "loss": f64::from(number) / 7.0, "bytes": 1});
                run.record.stages.push(stage(Stage::Train, json!({"steps": number, "model": model}), &counts));
            }
            run.save().unwrap();
        }
        let check = |indexed: usize| {
            let mut catalog = Catalog::of(&layout).unwrap();
            let is_indexed = |run: &&Listed| matches!(run.values, Source::Indexed(_));
            assert_eq!(catalog.runs.iter().filter(is_indexed).count(), indexed);
            let runs: Vec<Run> = catalog.summaries().map(|run| run.open(&layout).unwrap()).collect();
            let keys = catalog.keys();
            for key in ["bytes", "collect.a", "collect.bytes", "device", "loss", "seed", "status", "steps"] {
                assert!(keys.iter().any(|found| found == key), "{key} is not in {keys:?}");
            }
            assert!(!keys.iter().any(|key| key.contains("none")), "{keys:?}");
            for key in keys.iter().map(String::as_str).chain(["other", "train.model.none"]) {
                let expected: Vec<Option<Value>> = runs.iter().map(|run| values::value(run, key)).collect();
                assert_eq!(catalog.values(key), expected, "{key}");
                assert_eq!(catalog.values(key), expected, "{key}, again");
            }
        };
        check(0);
        let name = |number| format!("code-{number:03}");
        for number in 1..=60 {
            age(&layout, &name(number), 60);
        }
        check(0);
        check(60);
        // Some change, some go: of the others, the index moves.
        for number in 1..=20 {
            let mut run = Run::open(&layout.runs().join(name(number))).unwrap();
            run.record.stages[0].counts.insert("bytes".to_owned(), json!(1000 + number));
            run.save().unwrap();
        }
        fs::remove_dir_all(layout.runs().join(name(33))).unwrap();
        check(39);
        for number in 1..=20 {
            age(&layout, &name(number), 30);
        }
        check(39);
        check(59);
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
        assert_eq!(summaries(&layout).unwrap().len(), 1);
        assert_eq!(latest(&layout).unwrap().unwrap().record.name, "code-002");
        let error = all_or_error(&layout).unwrap_err().to_string();
        assert_eq!(error, "cannot tell what run code-001 needs; remove it first");
    }
}
