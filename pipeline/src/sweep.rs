//! A sweep: many runs of one configuration with other values of some keys, and which was best.
//!
//! In: `sweep.toml`. Out: ordinary runs, whose unchanged stages the store skips, and a report in `sweeps/<name>` of the
//! store. Everything that decides the next trial follows from `sweep.toml` and the results so far, so that a sweep that
//! was killed continues when it is started again: trials that are finished are up to date, as with any run.

pub mod config;
mod parameters;
pub mod report;
mod results;
pub mod search;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use artifact::{Cancel, StoreLayout};
use settings::suggest;

use crate::config as pipeline_config;
use crate::platform::interrupt::Interrupted;
use crate::run::dispatch::Listing;
use crate::run::perform::{Reuse, perform};
use crate::run::plan::Selection;
use crate::run::record::Run;
use crate::run::session::Session;
use crate::run::values;
use crate::ui::console::Console;

use config::Sweep;
use results::{SeedResult, TrialResult};
use search::Trial;

pub use results::Results;

/// Runs every trial that is not up to date, calls `save` after each, and returns the results. All must be valid, by
/// [`check`].
///
/// # Errors
/// Returns [`Interrupted`] on interruption; an error if the store is in use or the disk is
/// full. A trial that fails for another reason is a result.
pub fn run(
    sweep: &Sweep,
    trials: &[Trial],
    console: &Console,
    cancel: &Cancel,
    offline: bool,
    mut save: impl FnMut(&Results) -> anyhow::Result<()>,
) -> anyhow::Result<Results> {
    let mut results = Results::new(sweep);
    let levels = sweep.levels();
    let listing = Listing::default();
    let mut candidates: Vec<&Trial> = trials.iter().collect();
    for (level, setting) in levels.iter().enumerate() {
        for (i, trial) in candidates.iter().enumerate() {
            let mut seeds = Vec::new();
            for seed in sweep.seeds() {
                let name = format!("trial {}", trial.number);
                let place = format!("{} of {}", i + 1, candidates.len());
                console.line(&format!("{name} ({place}), seed {seed}: {}", trial.text(setting.as_ref())));
                let loaded =
                    pipeline_config::load(&sweep.base, &sweep.overrides(&trial.overrides(setting.as_ref()), seed))?;
                let session = Session::open(loaded, console.clone(), cancel.clone(), offline)?;
                seeds.push(attempt(sweep, seed, &session.with_listing(listing.clone()))?);
            }
            results.trials.push(TrialResult::new(trial, level, setting.clone(), seeds));
            save(&results)?;
        }
        if level + 1 < levels.len() {
            let kept = results.best_of(level, candidates.len().div_ceil(sweep.factor()));
            candidates.retain(|trial| kept.contains(&trial.number));
        }
    }
    Ok(results)
}

/// Checks that the configuration of every trial is valid, at every level.
///
/// # Errors
/// Returns the error of the first configuration that is not.
pub fn check(sweep: &Sweep, trials: &[Trial]) -> anyhow::Result<()> {
    for trial in trials {
        for setting in sweep.levels() {
            let overrides = sweep.overrides(&trial.overrides(setting.as_ref()), sweep.base_seed);
            pipeline_config::load(&sweep.base, &overrides).with_context(|| {
                format!("{}: trial {} is not a valid configuration", sweep.path.display(), trial.number)
            })?;
        }
    }
    Ok(())
}

/// Returns the store that the runs of a sweep are in.
///
/// # Errors
/// Returns an error if the base configuration is invalid.
pub fn layout(sweep: &Sweep) -> anyhow::Result<StoreLayout> {
    Ok(pipeline_config::load(&sweep.base, &[])?.layout())
}

/// Brings one run up to date and reads its metric.
fn attempt(sweep: &Sweep, seed: u64, session: &Session) -> anyhow::Result<SeedResult> {
    let selection = Selection { until: Some(sweep.until), ..Selection::default() };
    match perform(session, &selection, Reuse::Any) {
        Ok(performed) => {
            let value = metric(&performed.run, &sweep.metric)?;
            let shown = value.map_or_else(|| "not finite".to_owned(), values::number_text);
            let name = &performed.run.record.name;
            let what = if performed.is_earlier { "was done before as" } else { "is" };
            session.console.line(&format!("{} {shown}, {what} run {name}", sweep.metric));
            Ok(SeedResult { seed, run: Some(name.clone()), value, error: None })
        }
        Err(error) if ends_sweep(&error) => Err(error),
        Err(error) => Ok(SeedResult { seed, run: None, value: None, error: Some(format!("{error:#}")) }),
    }
}

/// Returns true if no other trial would do better.
fn ends_sweep(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let is_locked = matches!(error.downcast_ref(), Some(artifact::Error::Locked { .. }));
    // The stages' errors are transparent: of that of an artifact, only its source is in the chain.
    let is_full = |cause: &std::io::Error| matches!(cause.kind(), StorageFull | QuotaExceeded);
    is_locked || error.is::<Interrupted>() || error.chain().any(|cause| cause.downcast_ref().is_some_and(is_full))
}

/// Returns the metric of a run; none if it is not finite, as after a training that diverged.
fn metric(run: &Run, name: &str) -> anyhow::Result<Option<f64>> {
    if let Some(value) = values::figure(run, name) {
        return Ok(value.as_f64());
    }
    // JSON has no NaN: a figure that is not finite is missing, so the names of all runs' figures are the artifacts'.
    let mut names: Vec<String> = Vec::new();
    for stage in &run.record.stages {
        let counts = run.artifact(stage.stage)?.manifest().counts.clone();
        names.extend(counts.keys().flat_map(|name| [name.clone(), format!("{}.{name}", stage.stage)]));
    }
    if names.iter().any(|found| found == name) {
        return Ok(None);
    }
    match suggest(name, names.iter().map(String::as_str)) {
        Some(near) => bail!("no stage of run {} gives a figure `{name}`; did you mean {near}?", run.record.name),
        None => bail!("no stage of run {} gives a figure `{name}`; it has {}", run.record.name, names.join(", ")),
    }
}

/// Returns the folder of a sweep's results in its store.
pub fn folder(layout: &StoreLayout, sweep: &Sweep) -> PathBuf {
    layout.sweeps().join(&sweep.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_in_a_stage_ends_a_sweep_and_another_failure_does_not() {
        let check = |kind: std::io::ErrorKind, expected: bool| {
            let error = train::Error::from(artifact::Error::io("write", "model.safetensors", kind.into()));
            let error = anyhow::Error::from_boxed(Box::new(error)).context("stage train failed");
            assert_eq!(ends_sweep(&error), expected, "{error:?}");
        };
        check(std::io::ErrorKind::StorageFull, true);
        check(std::io::ErrorKind::PermissionDenied, false);
        let folder = tempfile::tempdir().unwrap();
        let store = StoreLayout::new(folder.path()).artifacts();
        let _lock = store.lock().unwrap();
        assert!(ends_sweep(&store.lock().unwrap_err().into()));
        assert!(ends_sweep(&Interrupted::default().into()));
    }
}
