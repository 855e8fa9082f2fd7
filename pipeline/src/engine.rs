//! Does what the planner decides, one stage after the other, and seals what they make.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use artifact::{Cancel, Context, Sealed, Store};
use data_ingest::Resolved;

use crate::config::Loaded;
use crate::console::Console;
use crate::figures;
use crate::host::host;
use crate::import::{self, Init};
use crate::interrupt::Interrupted;
use crate::plan::{Decision, Planner, in_short};
use crate::stage::{self, Made, RawData, Stage, StageError};

/// How many reasons a line shows; `plan` shows all.
const REASONS_SHOWN: usize = 3;

/// A stage that is done.
#[derive(Debug)]
pub struct Done<'a> {
    /// The stage.
    pub stage: Stage,
    /// Whether the work was done now.
    pub ran: bool,
    /// Why, or why not.
    pub reason: String,
    /// Its artifact.
    pub sealed: &'a Sealed,
}

/// Returns what the stages of `loaded` are handed. `device_class` is a device's name too, and stands for `auto` here: the
/// devices are listed once a run, not once a stage.
pub fn context(loaded: &Loaded, device_class: &str, offline: bool, console: &Console, cancel: &Cancel) -> Context {
    Context {
        base: loaded.base.clone(),
        seed: loaded.config.seed,
        device: device_class.to_owned(),
        offline,
        progress: console.progress(Stage::Collect),
        cancel: cancel.clone(),
    }
}

/// Fetches what is on other machines and in no lock yet, then lists and hashes the raw data; the model to start from is put
/// into the store, if a stage up to `last` reads it.
///
/// # Errors
/// As [`raw_data`], and when something cannot be fetched or differs from the lock.
pub fn locked_raw_data(loaded: &Loaded, last: Stage, context: &Context, console: &Console) -> anyhow::Result<RawData> {
    let mut dataset = stage::resolve(&loaded.config, context).map_err(failure)?;
    let changes = stage::lock(&mut dataset, context);
    console.clear();
    let added = changes.map_err(failure)?.len();
    if added > 0 {
        console.line(&format!("{added} files are new in dataset.lock"));
    }
    let init =
        if last < Stage::Preprocess { Ok(None) } else { Init::bring(loaded, &artifacts(&loaded.store()), context) };
    console.clear();
    let init = init.map_err(import::failure)?;
    if init.as_ref().is_some_and(|init| init.reads_other_tokens) {
        console
            .line("the model of train.init reads tokens of another tokenizer than its own: to it, each is a new word");
    }
    listed(loaded, init, &dataset, context, console)
}

/// Lists and hashes the raw data, and the model to start from, if a stage up to `last` reads it.
///
/// # Errors
/// When a source or the model is missing or unreadable, or somebody asked to stop.
pub fn raw_data(loaded: &Loaded, last: Stage, context: &Context, console: &Console) -> anyhow::Result<RawData> {
    let init = if last < Stage::Preprocess { None } else { Init::plan(loaded, context)? };
    let dataset = stage::resolve(&loaded.config, context).map_err(failure)?;
    listed(loaded, init, &dataset, context, console)
}

fn listed(
    loaded: &Loaded,
    init: Option<Init>,
    dataset: &Resolved,
    context: &Context,
    console: &Console,
) -> anyhow::Result<RawData> {
    let raw_data = stage::raw_data(&loaded.config, init, dataset, context);
    console.clear();
    raw_data.map_err(failure)
}

fn failure(error: StageError) -> anyhow::Error {
    match error {
        StageError::Interrupted(text) => Interrupted(text).into(),
        StageError::Failed(error) => anyhow::Error::from_boxed(error),
    }
}

/// Returns the selected stages' artifacts when every one is there already.
///
/// # Errors
/// As [`Planner::decide`].
pub fn all_made(planner: &Planner<'_>) -> anyhow::Result<Option<Made>> {
    let mut made = Made::new();
    for stage in planner.selection.stages() {
        match planner.decide(stage, &made)? {
            Decision::Skip(sealed) => made.insert(stage, *sealed),
            Decision::Run { .. } | Decision::Wait(_) => return Ok(None),
        };
    }
    Ok(Some(made))
}

/// Brings every selected stage up to date, calling `done` after each, and returns their artifacts.
///
/// # Errors
/// [`Interrupted`] when somebody asked to stop; else what the stage, the store or `done` says.
pub fn work(
    planner: &Planner<'_>,
    context: &Context,
    console: &Console,
    mut done: impl FnMut(&Done<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Made> {
    let mut made = Made::new();
    for stage in planner.selection.stages() {
        let (ran, reason, sealed) = match planner.decide(stage, &made)? {
            Decision::Skip(sealed) => (false, "nothing changed".to_owned(), *sealed),
            Decision::Run { recipe, reasons } => {
                if context.cancel.is_requested() {
                    return Err(Interrupted::default().into());
                }
                let reason = in_short(&reasons, REASONS_SHOWN);
                console.line(&format!("{stage:>10}  runs: {reason}"));
                let context = Context { progress: console.progress(stage), ..context.clone() };
                let started = Instant::now();
                let out = planner.store.begin(*recipe)?;
                if planner.selection.force {
                    // From nothing, whatever an interrupted attempt left to go on from.
                    out.clear()?;
                }
                let outcome = stage.run(planner.config, planner.raw_data, &made, &out, &context);
                console.clear();
                let outcome = outcome.map_err(|error| match error {
                    StageError::Interrupted(text) => Interrupted(text).into(),
                    StageError::Failed(error) => {
                        anyhow::Error::from_boxed(error).context(format!("stage {stage} failed"))
                    }
                })?;
                let sealed = out
                    .seal(outcome, started.elapsed().as_secs_f64(), host())
                    .with_context(|| format!("cannot seal the {} of stage {stage}", stage.artifact()))?;
                (true, reason, sealed)
            }
            Decision::Wait(upstream) => {
                unreachable!("{stage} waits for {upstream:?}, which come before it and are made")
            }
        };
        let manifest = sealed.manifest();
        let what = if ran {
            format!("done in {}", figures::seconds(manifest.wall_seconds))
        } else {
            format!("skipped, {reason}")
        };
        console.done(stage, &format!("{what}: {}", manifest.headline));
        done(&Done { stage, ran, reason, sealed: &sealed })?;
        made.insert(stage, sealed);
    }
    Ok(made)
}

/// Returns the store of artifacts in the folder `root` of artifacts and runs.
pub fn artifacts(root: &Path) -> Store {
    Store::new(root.join("artifacts"))
}
