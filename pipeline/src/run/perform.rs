//! A run from its plan to its record.

use std::path::{Component, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use artifact::{Sealed, file};

use crate::config::{self, Loaded};
use crate::platform::interrupt::Interrupted;
use crate::ui::console::Console;

use super::catalog;
use super::engine::{self, StageEvent};
use super::gates;
use super::plan::Selection;
use super::record::{Run, StageRecord, Status, Unfinished};
use super::session::Session;
use super::stage::{Artifacts, Stage};

/// Which earlier run makes a new one unnecessary if it has the same artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Only the newest, so that `latest` is always what was asked for last.
    Latest,
    /// Any.
    Any,
}

/// A run that has every selected artifact.
#[derive(Debug)]
pub struct Performed {
    /// The run.
    pub run: Run,
    /// The artifacts of the selected stages.
    pub made: Artifacts,
    /// Whether this is an earlier run: everything was up to date.
    pub is_earlier: bool,
}

/// Brings every selected stage up to date and keeps a record, unless an earlier run has all of it. The store stays
/// locked meanwhile.
///
/// # Errors
/// Returns [`Interrupted`] on interruption, else the error of the configuration, the data, a stage or the store. The
/// run's record then says what happened.
pub fn perform(session: &Session, selection: &Selection, reuse: Reuse) -> anyhow::Result<Performed> {
    let _lock = session.store.lock()?;
    let started = Instant::now();
    let Session { loaded, console, layout, device_class, .. } = session;
    let raw_data = engine::locked_raw_data(session, selection.last())?;
    let earlier = catalog::earlier_recipes(layout)?;
    let planner = session.planner(&raw_data, &earlier, selection);
    if let Some(made) = engine::up_to_date(&planner)? {
        if let Some(run) = run_with(session, &made, reuse)? {
            return Ok(Performed { run, made, is_earlier: true });
        }
    } else if selection.stages().any(Stage::computes) {
        // Fail before minutes of collecting, rather than after.
        let device = model::device::resolve(device_class)?;
        loaded.config.train.precision.check(&device, device_class)?;
    }
    let mut run = Run::create(layout, &loaded.config.name)?;
    (*device_class).clone_into(&mut run.record.host.device);
    console.log_to(&run.log())?;
    keep_config(&run, loaded)?;
    console.line(&format!("run {} on {} cores, device {device_class}", run.record.name, run.record.host.cores));
    let result = engine::work(session, &planner, |event| {
        run.record.wall_seconds = started.elapsed().as_secs_f64();
        match event {
            StageEvent::Begun(stage, fingerprint) => {
                run.record.unfinished = Some(Unfinished { stage: *stage, fingerprint: *fingerprint });
            }
            StageEvent::Done(done) => {
                run.record.unfinished = None;
                run.record.stages.push(StageRecord::new(done.stage, done.ran, done.reason.clone(), done.sealed));
                if done.stage == Stage::Evaluate {
                    keep_report(&run, done.sealed)?;
                }
            }
        }
        run.save()?;
        match event {
            StageEvent::Done(done) if done.stage == Stage::Evaluate => gates::check(done.sealed, selection),
            _ => Ok(()),
        }
    });
    run.record.wall_seconds = started.elapsed().as_secs_f64();
    let made = match result {
        Ok(made) => made,
        Err(error) => return Err(end_early(run, error, console)),
    };
    run.record.status = Status::Finished;
    run.save()?;
    Ok(Performed { run, made, is_earlier: false })
}

/// Returns the earlier run that has exactly the artifacts in `made`.
fn run_with(session: &Session, made: &Artifacts, reuse: Reuse) -> anyhow::Result<Option<Run>> {
    let has_all = |run: &Run| run.has_all_of(made);
    if reuse == Reuse::Latest {
        return Ok(catalog::latest(&session.layout)?.filter(has_all));
    }
    let runs = catalog::summaries(&session.layout)?;
    let finished = runs.iter().rev().filter(|run| run.status == Status::Finished);
    Ok(finished.filter_map(|run| run.open(&session.layout).ok()).find(has_all))
}

/// Records why the run did not finish, and returns the error to show.
fn end_early(mut run: Run, error: anyhow::Error, console: &Console) -> anyhow::Error {
    let interrupted = error.downcast_ref::<Interrupted>().map(ToString::to_string);
    run.record.status = if interrupted.is_some() { Status::Interrupted } else { Status::Failed };
    run.record.error = interrupted.is_none().then(|| format!("{error:#}"));
    if let Err(unsaved) = run.save() {
        console.line(&format!("cannot write the run's record: {unsaved:#}"));
    }
    match interrupted {
        Some(text) if text.contains("again") => error,
        Some(text) => {
            Interrupted(format!("{text}; finished work is kept: run the same command again to continue")).into()
        }
        None => {
            console.log(&format!("error: {error:#}"));
            console.line(&format!(
                "run {} failed; finished stages are kept, the log is {}",
                run.record.name,
                run.log().display()
            ));
            error
        }
    }
}

/// Writes the resolved configuration into the run's folder, so that `run` works from there.
fn keep_config(run: &Run, loaded: &Loaded) -> anyhow::Result<()> {
    let mut config = loaded.config.clone();
    config.base = Some(base_from(run, loaded)?);
    let unwritable = "cannot write the resolved configuration as TOML";
    let mut config = toml::Table::try_from(&config).context(unwritable)?;
    config::strip(&mut config);
    let text = format!(
        "# The resolved configuration of run {}. To repeat it: pipeline run {}\n\n{}",
        run.record.name,
        run.folder.join(config::FILE_NAME).display(),
        toml::to_string_pretty(&config).context(unwritable)?
    );
    Ok(file::write_atomically(&run.folder.join(config::FILE_NAME), text.as_bytes())?)
}

/// Returns the path from the run's folder to the folder that relative paths start from: a relative one if the store is
/// in that folder, so that both can be moved together.
fn base_from(run: &Run, loaded: &Loaded) -> anyhow::Result<PathBuf> {
    let store = &loaded.config.store;
    if store.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        let depth = store.components().filter(|part| matches!(part, Component::Normal(_))).count();
        // <base>/<store>/runs/<name>
        return Ok(std::iter::repeat_n("..", depth + 2).collect());
    }
    std::path::absolute(&loaded.base)
        .with_context(|| format!("cannot find {} for run {}", loaded.base.display(), run.record.name))
}

/// Copies the report into the run's folder.
fn keep_report(run: &Run, sealed: &Sealed) -> anyhow::Result<()> {
    let name = "report.html";
    let path = sealed.folder().join(name);
    let bytes = std::fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    Ok(file::write_atomically(&run.folder.join(name), &bytes)?)
}
