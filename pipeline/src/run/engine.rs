//! Runs the stages that the planner selects, one after the other, and seals their artifacts.

use std::time::Instant;

use anyhow::Context as _;
use artifact::{Context, Digest, Sealed, format};
use data_ingest::Resolved;

use crate::config;
use crate::platform::host::host;
use crate::platform::interrupt::Interrupted;
use crate::run::baseline::Baselines;
use crate::run::dispatch::{self, RawData, StageError};
use crate::run::input_model::InputModels;
use crate::run::plan::{Decision, Planner, in_short};
use crate::run::record::notices;
use crate::run::session::Session;
use crate::run::stage::{Artifacts, Stage};

/// Reasons in a line of the terminal; `plan` prints all.
const REASONS_SHOWN: usize = 3;

/// A stage that is done.
#[derive(Debug)]
pub struct Done<'a> {
    /// The stage.
    pub stage: Stage,
    /// Whether it ran now.
    pub ran: bool,
    /// Why, or why not.
    pub reason: String,
    /// Its artifact.
    pub sealed: &'a Sealed,
}

/// Fetches remote sources that are in no lock yet, then lists and hashes the raw data. The models that
/// stages up to `last` read are put into the store.
///
/// # Errors
/// Returns an error as [`raw_data`] does, or if a source cannot be fetched or differs from the lock.
pub fn locked_raw_data(session: &Session, last: Stage) -> anyhow::Result<RawData> {
    let Session { loaded, console, .. } = session;
    let context = &session.context();
    let mut dataset = dispatch::resolve(&loaded.config, context).map_err(failure)?;
    let changes = dispatch::lock(&mut dataset, context);
    console.clear();
    let added = changes.map_err(failure)?.len();
    if added > 0 {
        console.line(&format!("{added} files are new in dataset.lock"));
    }
    let models = InputModels::import(loaded, last, &loaded.layout().artifacts(), context);
    console.clear();
    let models = models.map_err(import_failure)?;
    if models.init.as_ref().is_some_and(|init| init.has_other_tokenizer) {
        console.line(
            "warning: the tokenizer differs from the one train.init was trained with; its embeddings will not match",
        );
    }
    listed(session, models, &dataset, context)
}

/// Lists and hashes the raw data, and the models that stages up to `last` read. Fetches nothing.
///
/// # Errors
/// Returns an error if a source or a model is missing or cannot be read, or on interruption.
pub fn raw_data(session: &Session, last: Stage) -> anyhow::Result<RawData> {
    let context = session.context();
    let models = InputModels::plan(&session.loaded, last, &context)?;
    let dataset = dispatch::resolve(&session.loaded.config, &context).map_err(failure)?;
    listed(session, models, &dataset, &context)
}

fn listed(session: &Session, models: InputModels, dataset: &Resolved, context: &Context) -> anyhow::Result<RawData> {
    let raw_data = dispatch::raw_data(&session.loaded.config, models, dataset, &session.listing, context);
    session.console.clear();
    let mut raw_data = raw_data.map_err(failure)?;
    raw_data.baselines = Baselines::find(&session.loaded.config, &session.layout)?;
    raw_data.settings = config::values(&session.loaded)?;
    Ok(raw_data)
}

/// Returns the error to show for one of importing a model.
pub fn import_failure(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(registry::Error::Fetch(cause)) if matches!(**cause, fetch::Error::Interrupted) => {
            Interrupted::default().into()
        }
        _ => error,
    }
}

fn failure(error: StageError) -> anyhow::Error {
    match error {
        StageError::Interrupted(text) => Interrupted(text).into(),
        StageError::Failed(error) => anyhow::Error::from_boxed(error),
    }
}

/// Returns the artifacts of the selected stages if all of them are up to date.
///
/// # Errors
/// Returns an error as [`Planner::decide`] does.
pub fn up_to_date(planner: &Planner<'_>) -> anyhow::Result<Option<Artifacts>> {
    let mut made = Artifacts::new();
    for stage in planner.selection.stages() {
        match planner.decide(stage, &made)? {
            Decision::Skip(sealed) => made.insert(stage, *sealed),
            Decision::Run { .. } | Decision::Wait(_) => return Ok(None),
        };
    }
    Ok(Some(made))
}

/// What happens to a stage.
#[derive(Debug)]
pub enum StageEvent<'a> {
    /// It begins to run, and writes into the folder of this fingerprint.
    Begun(Stage, Digest),
    /// It is done.
    Done(Done<'a>),
}

/// Brings every selected stage up to date, calls `listen` before a stage runs and after each is done, and returns their
/// artifacts.
///
/// # Errors
/// Returns [`Interrupted`] on interruption, else the error of the stage, the store or `listen`.
pub fn work(
    session: &Session,
    planner: &Planner<'_>,
    mut listen: impl FnMut(&StageEvent<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Artifacts> {
    let (context, console) = (session.context(), &session.console);
    let mut made = Artifacts::new();
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
                listen(&StageEvent::Begun(stage, recipe.fingerprint()))?;
                let out = planner.store.begin(*recipe)?;
                if planner.selection.force {
                    // From scratch, even if an interrupted attempt could be resumed.
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
            format!("done in {}", format::seconds(manifest.wall_seconds))
        } else {
            format!("skipped, {reason}")
        };
        console.done(stage, &format!("{what}: {}", manifest.headline));
        for notice in notices(&sealed) {
            console.line(&format!("{stage:>10}  note: {notice}"));
        }
        listen(&StageEvent::Done(Done { stage, ran, reason, sealed: &sealed }))?;
        made.insert(stage, sealed);
    }
    Ok(made)
}
