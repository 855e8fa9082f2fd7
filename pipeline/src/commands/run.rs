//! `run`: brings every stage up to date and keeps a record.

use std::path::{Component, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use artifact::{file, format};

use crate::cli::RunArgs;
use crate::config::{self, Config, Loaded};
use crate::platform::interrupt::Interrupted;
use crate::run::engine;
use crate::run::gates;
use crate::run::plan::earlier_recipes;
use crate::run::record::{Run, StageRecord, Status};
use crate::run::session::Session;
use crate::run::stage::{Artifacts, Stage};
use crate::ui::console::Console;
use crate::ui::summary;

use super::print_out;

/// Runs the command.
pub fn run(arguments: &RunArgs) -> anyhow::Result<()> {
    let session = super::open(&arguments.config, true)?;
    let made = bring_up_to_date(arguments, &session)?;
    if arguments.serve {
        let bundle =
            made.get(&Stage::Optimize).context("--serve needs a bundle, but --until ends before stage optimize")?;
        let Config { serve, device, .. } = session.loaded.clone().into_config();
        let index = made.get(&Stage::Index).map(|index| index.folder().to_owned());
        let models = super::serve::one(bundle.folder(), index, &serve);
        super::serve::until_stopped(models, &serve, &device, &session.cancel)?;
    }
    Ok(())
}

fn bring_up_to_date(arguments: &RunArgs, session: &Session) -> anyhow::Result<Artifacts> {
    let started = Instant::now();
    let Session { loaded, console, layout, store, device_class, .. } = session;
    let _lock = store.lock()?;
    let raw_data = engine::locked_raw_data(session, arguments.selection.last())?;
    let runs = session.runs()?;
    let earlier = earlier_recipes(&runs);
    let planner = session.planner(&raw_data, &earlier, &arguments.selection);
    let made = engine::up_to_date(&planner)?;
    if let (Some(made), Some(latest)) = (&made, runs.into_iter().next_back())
        && latest.has_all_of(made)
    {
        let one = made.len() == 1;
        print_out!(
            "Nothing to do: {} as run {} left {} ({}).",
            if one { "the one stage is".to_owned() } else { format!("all {} stages are", made.len()) },
            latest.record.name,
            if one { "it" } else { "them" },
            format::seconds(started.elapsed().as_secs_f64())
        )?;
        print_out!("{}", summary::what_next(&latest, &super::program(), &super::name_of(&latest), &loaded.config))?;
        return Ok(made.clone());
    }
    if made.is_none() && arguments.selection.stages().any(Stage::computes) {
        // Fail before minutes of collecting, rather than after.
        let device = model::device::resolve(device_class)?;
        loaded.config.train.precision.check(&device, device_class)?;
    }
    let mut run = Run::create(layout, &loaded.config.name)?;
    (*device_class).clone_into(&mut run.record.host.device);
    console.log_to(&run.folder.join("log.txt"))?;
    keep_config(&run, loaded)?;
    console.line(&format!("run {} on {} cores, device {device_class}", run.record.name, run.record.host.cores));
    let result = engine::work(session, &planner, |done| {
        run.record.stages.push(StageRecord::new(done.stage, done.ran, done.reason.clone(), done.sealed));
        run.record.wall_seconds = started.elapsed().as_secs_f64();
        if done.stage == Stage::Evaluate {
            keep_report(&run, done.sealed)?;
        }
        run.save()?;
        if done.stage == Stage::Evaluate { gates::check(done.sealed, &arguments.selection) } else { Ok(()) }
    });
    run.record.wall_seconds = started.elapsed().as_secs_f64();
    let made = match result {
        Ok(made) => made,
        Err(error) => return Err(end_early(run, error, console)),
    };
    run.record.status = Status::Finished;
    run.save()?;
    let text = summary::table(&run);
    print_out!("\n{text}")?;
    if let Some(compression) = made.get(&Stage::Evaluate).and_then(summary::bits_per_byte) {
        print_out!("\n{compression}")?;
    }
    print_out!("\n{}", summary::what_next(&run, &super::program(), &super::name_of(&run), &loaded.config))?;
    Ok(made)
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
            let log = run.folder.join("log.txt");
            console.log(&format!("error: {error:#}"));
            console.line(&format!(
                "run {} failed; finished stages are kept, the log is {}",
                run.record.name,
                log.display()
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
fn keep_report(run: &Run, sealed: &artifact::Sealed) -> anyhow::Result<()> {
    let name = "report.html";
    let path = sealed.folder().join(name);
    let bytes = std::fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    Ok(file::write_atomically(&run.folder.join(name), &bytes)?)
}
