//! `verify`: rehashes the artifacts of a run, or repeats the run and compares.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, bail};
use artifact::{Digest, Sealed, Store};

use crate::cli::VerifyArgs;
use crate::config;
use crate::run::baseline::Baselines;
use crate::run::engine;
use crate::run::plan::Selection;
use crate::run::record::{self, Run, StageRecord};
use crate::run::session::{self, Session};
use crate::run::stage::Stage;
use crate::ui::console::Console;
use artifact::format;

use super::print_out;

/// Runs the command.
pub fn run(arguments: &VerifyArgs) -> anyhow::Result<()> {
    let run = record::find_with(&super::layout(&arguments.store)?, &arguments.run, Stage::Collect)?;
    if run.record.stages.is_empty() {
        bail!("run {} has no finished stage to verify", run.record.name);
    }
    let console = Console::new();
    super::log_to(&console, "");
    let mut bad = rehash(&run)?;
    if bad == 0 && arguments.rerun {
        bad = repeat(&run, &console)?;
    }
    if bad > 0 {
        bail!("run {} does not match its record: {bad} of {} stages", run.record.name, run.record.stages.len());
    }
    Ok(())
}

/// Rehashes every file of every artifact and follows the digests from stage to stage; returns the number of stages that
/// do not match.
fn rehash(run: &Run) -> anyhow::Result<usize> {
    let mut digests: BTreeMap<&str, Digest> = BTreeMap::new();
    let mut bad = 0;
    for record in &run.record.stages {
        let wrong = match Sealed::open(&run.artifact_folder(record)) {
            Err(error) => vec![error.to_string()],
            Ok(sealed) => complaints(record, &sealed, &digests),
        };
        digests.insert(record.stage.artifact(), record.digest);
        if wrong.is_empty() {
            let size = format::bytes(record.bytes);
            print_out!("{:>10}  ok    {size}, digest {}", record.stage, record.digest.short())?;
        } else {
            bad += 1;
            for complaint in wrong {
                print_out!("{:>10}  BAD   {complaint}", record.stage)?;
            }
        }
    }
    Ok(bad)
}

fn complaints(record: &StageRecord, sealed: &Sealed, digests: &BTreeMap<&str, Digest>) -> Vec<String> {
    let mut wrong: Vec<String> = sealed.verify().iter().map(ToString::to_string).collect();
    let manifest = sealed.manifest();
    if manifest.digest != record.digest {
        wrong.push(format!(
            "{} was overwritten by a later run: its digest is {}, this run's was {}",
            sealed.folder().display(),
            manifest.digest.short(),
            record.digest.short()
        ));
    }
    for input in record.stage.inputs() {
        let (read, made) = (manifest.recipe.inputs.get(input.artifact()), digests.get(input.artifact()));
        if read != made {
            let short = |digest: Option<&Digest>| digest.map_or_else(|| "none".to_owned(), Digest::short);
            wrong.push(format!(
                "it was made from {} {}, but the run's is {}",
                input.artifact(),
                short(read),
                short(made)
            ));
        }
    }
    wrong
}

/// Repeats the run in a fresh store and compares; returns how many stages differ.
fn repeat(run: &Run, console: &Console) -> anyhow::Result<usize> {
    let mut loaded = config::load(&run.folder.join(config::FILE_NAME), &[])?;
    Baselines::pin(&mut loaded.config, run);
    let cancel = session::listen(console, super::STOPPING)?;
    // Beside the artifacts: there is room for one run, and on the same disk.
    let parent = run.layout().root().to_owned();
    let folder = tempfile::Builder::new()
        .prefix(".verify-")
        .tempdir_in(&parent)
        .with_context(|| format!("cannot make a folder in {}", parent.display()))?;
    let store = Store::new(folder.path());
    let session = Session::open(loaded, console.clone(), cancel, false)?.with_store(store);
    let raw_data = engine::locked_raw_data(&session, last_stage(run).unwrap_or(Stage::Serve))?;
    let (earlier, selection) = (BTreeMap::new(), Selection { until: last_stage(run), ..Selection::default() });
    let planner = session.planner(&raw_data, &earlier, &selection);
    keep_choices(run, &session.store)?;
    print_out!("\nrepeating run {}", run.record.name)?;
    let mut bad = 0;
    engine::work(&session, &planner, |done| {
        let Some(record) = run.stage(done.stage) else { return Ok(()) };
        let (then, now) = (record.digest, done.sealed.digest());
        if then == now {
            print_out!("{:>10}  same  digest {}", done.stage, now.short())?;
        } else {
            bad += 1;
            print_out!("{:>10}  DIFFERS  digest {} then, {} now", done.stage, then.short(), now.short())?;
            for reason in differences(record, done.sealed, run) {
                print_out!("{:>10}           {reason}", "")?;
            }
        }
        Ok(())
    })?;
    Ok(bad)
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

fn last_stage(run: &Run) -> Option<Stage> {
    run.record.stages.iter().map(|record| record.stage).max()
}

/// Returns which inputs of the recipe differ, else which files.
fn differences(then: &StageRecord, now: &Sealed, run: &Run) -> Vec<String> {
    let changes = now.manifest().recipe.changes_since(&then.recipe);
    if !changes.is_empty() {
        return changes.iter().map(ToString::to_string).collect();
    }
    let Ok(sealed) = Sealed::open(&run.artifact_folder(then)) else { return Vec::new() };
    let old = &sealed.manifest().files;
    let differing = now.manifest().files.iter().filter(|(name, file)| !file.volatile && old.get(*name) != Some(file));
    differing.map(|(name, _)| format!("{name} differs")).collect()
}
