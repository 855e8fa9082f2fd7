//! A run repeated from the configuration that it keeps, in a temporary store.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use artifact::{Cancel, Sealed, Store};

use crate::config;
use crate::ui::console::Console;

use super::baseline::Baselines;
use super::engine::{self, StageEvent};
use super::plan::Selection;
use super::record::{Run, StageRecord};
use super::session::Session;
use super::stage::Stage;

/// The start of the names of temporary stores.
pub const TEMPORARY: &str = ".verify-";

/// A repeated stage.
#[derive(Debug, Clone, Copy)]
pub struct Repeated<'a> {
    /// What the run recorded.
    pub then: &'a StageRecord,
    /// The artifact now.
    pub now: &'a Sealed,
}

/// Repeats the finished stages of a run, and calls `compare` after each.
///
/// # Errors
/// Returns an error if the run's configuration or data cannot be read, or the error of a stage or of `compare`.
pub fn repeat(
    run: &Run,
    console: &Console,
    cancel: Cancel,
    offline: bool,
    mut compare: impl FnMut(Repeated<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut loaded = config::load(&run.folder.join(config::FILE_NAME), &[])?;
    Baselines::pin(&mut loaded.config, run);
    // Beside the artifacts: there is room for one run, and on the same disk.
    let parent = run.layout().root().to_owned();
    let folder = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempdir_in(&parent)
        .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
    let store = Store::new(folder.path());
    // While it is locked, `gc` leaves it alone.
    let _lock = store.lock()?;
    let session = Session::open(loaded, console.clone(), cancel, offline)?.with_store(store);
    let last = run.record.stages.iter().map(|record| record.stage).max();
    let raw_data = engine::locked_raw_data(&session, last.unwrap_or(Stage::Serve))?;
    let (earlier, selection) = (BTreeMap::new(), Selection { until: last, ..Selection::default() });
    let planner = session.planner(&raw_data, &earlier, &selection);
    keep_choices(run, &session.store)?;
    engine::work(&session, &planner, |event| match event {
        StageEvent::Begun(..) => Ok(()),
        StageEvent::Done(done) => match run.stage(done.stage) {
            Some(then) => compare(Repeated { then, now: done.sealed }),
            None => Ok(()),
        },
    })?;
    Ok(())
}

/// Copies the choice of `train.budget` to where the repeated training finds it, as a resumed one would: measured again,
/// the machine may be faster or slower than it was.
fn keep_choices(run: &Run, store: &Store) -> anyhow::Result<()> {
    let Some(record) = run.stage(Stage::Train) else { return Ok(()) };
    let choice = run.artifact_folder(record).join(train::budget::FILE);
    if choice.exists() {
        let kept = store.begin(record.recipe.clone())?.path(train::budget::FILE);
        fs::copy(&choice, &kept).with_context(|| format!("cannot copy {} to {}", choice.display(), kept.display()))?;
    }
    Ok(())
}

/// Returns which parts of the recipe of a stage differ, else which of its files.
pub fn differences(run: &Run, then: &StageRecord, now: &Sealed) -> Vec<String> {
    let changes = now.manifest().recipe.changes_since(&then.recipe);
    if !changes.is_empty() {
        return changes.iter().map(ToString::to_string).collect();
    }
    let Ok(sealed) = Sealed::open(&run.artifact_folder(then)) else { return Vec::new() };
    let old = &sealed.manifest().files;
    let differing = now.manifest().files.iter().filter(|(name, file)| !file.volatile && old.get(*name) != Some(file));
    differing.map(|(name, _)| format!("{name} differs")).collect()
}
