//! Stage preprocess: turns a corpus into token shards.
//!
//! In: the corpus artifact, documents in any encoding. Out: the documents that pass the configured steps, split into
//! train, validation and test, as tokens of a tokenizer trained on them (or of a given one); `signals.parquet` with the
//! measurements and the outcome of every document; `order.parquet` with the document of each place in the shards; and
//! `report.json` with the totals.
//!
//! A document's split, and which of several duplicates is kept, depend on content alone: adding documents to a corpus
//! moves none of the others, and the output depends neither on the number of threads nor on the order of files on disk.
//!
//! The corpus may be larger than memory: documents are streamed in batches, the steps that compare documents keep a few
//! bytes of each, and everything else is on disk, in the folder `.work` of the stage's folder. Finished files there
//! survive an interruption, and the next run resumes from them; [`part`] produces some of them on another machine.
//!
//! This stage reads only the corpus, a given `tokenizer.json` and the evaluation sets to decontaminate against.

mod config;
pub mod dedup;
mod engine;
mod error;
pub mod inspect;
pub mod mixture;
mod output;
pub mod steps;
pub mod text;

pub use config::{Config, LengthConfig, LongDocuments, Preset, RENAMED_KEYS, Step, TokenizerConfig, inputs};
pub use error::Error;
pub use tokenizer::{Kind, Pattern};

use std::collections::BTreeMap;
use std::fs;

use artifact::{Context, Outcome, Sealed, Unsealed};

use crate::engine::documents::Documents;
use crate::engine::split::Split;

/// The stage's name.
pub const NAME: &str = "preprocess";

/// Raised when the same inputs would give another output.
pub const VERSION: u32 = 7;

/// The folder of unfinished work. It is deleted when the artifact is sealed, as is every file that starts with a dot.
const WORK: &str = ".work";

/// Turns `corpus` into the tokens artifact in `out`.
///
/// # Errors
/// Returns an error if the corpus cannot be read, no document or none of a split is left, or the given tokenizer cannot
/// be used; on I/O errors; and if the run is interrupted.
pub fn run(config: &Config, corpus: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    keep_only_work(out)?;
    if engine::corpus::files(corpus).is_empty() {
        return Err(Error::EmptyCorpus { path: corpus.folder().to_owned() });
    }
    engine::corpus::check_text_only(corpus)?;
    for step in config.idle_tables() {
        let steps = config.steps().into_iter().map(Step::name).collect::<Vec<_>>().join(", ");
        let line =
            format!("[preprocess.{step}] has no effect: preprocess.steps does not have \"{step}\", only {steps}");
        context.progress.line(&line);
    }
    let mut documents = engine::schedule::all(config, corpus, &out.path(WORK), context)?;
    let mut notices = fill_splits(config, &mut documents)?;
    let amounts = check(config, corpus, &documents)?;
    let mut plan = mixture_plan(config, &amounts)?;
    let tokenizer = output::tokenizer::tokenizer(config, &documents, context)?;
    let mut runs = output::runs::encode(config, &tokenizer, &documents, plan.as_ref(), context)?;
    let refused = output::refusals::drop_all(&runs, config, &mut documents, context)?;
    if refused.documents > 0 {
        // Without them a split may be empty, and the sources have other amounts: then the runs are made again.
        let filled = fill_splits(config, &mut documents)?;
        let amounts = check(config, corpus, &documents).map_err(|error| error.with_refusal(refused))?;
        let other = mixture_plan(config, &amounts)?;
        if !filled.is_empty() || other != plan {
            output::runs::remove(&runs)?;
            plan = other;
            runs = output::runs::encode(config, &tokenizer, &documents, plan.as_ref(), context)?;
        }
        notices.extend(filled);
    }
    let written = output::shards::merge(config, &tokenizer, &documents, &runs, out, context)?;
    tokenizer.save(out.folder())?;
    let mut totals = output::report::Totals::default();
    output::signals::write(config, &documents, &runs, &out.path("signals.parquet"), &mut totals, context)?;
    let steps = documents.steps(config);
    let report = output::report::Report::new(config, &steps, totals, &tokenizer, &written, &mut notices);
    report.write(&out.path("report.json"))?;
    Ok(report.outcome())
}

/// Runs the per-document steps of the first pass on part `part` of `parts` (from 1) of the corpus and writes the result
/// to `out`. [`run`] resumes from there, on this machine or on another one with access to the same folder.
///
/// # Errors
/// Returns an error if the corpus cannot be read, on I/O errors, and if the run is interrupted.
pub fn part(
    config: &Config,
    corpus: &Sealed,
    out: &Unsealed,
    (part, parts): (usize, usize),
    context: &Context,
) -> Result<(), Error> {
    config.validate()?;
    engine::corpus::check_text_only(corpus)?;
    engine::schedule::part(config, corpus, &out.path(WORK), (part, parts), context)
}

/// Removes the files of an earlier attempt, except for those that a run can resume from.
fn keep_only_work(out: &Unsealed) -> Result<(), Error> {
    let failed = |e| artifact::Error::io("clear", out.folder(), e);
    for entry in fs::read_dir(out.folder()).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name != WORK) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|e| artifact::Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}

/// Moves a document into each split that would be empty: the one whose digest is nearest to the split's range. No split
/// gives its last document. Returns what was done, in sentences.
fn fill_splits(config: &Config, documents: &mut Documents) -> Result<Vec<String>, Error> {
    let mut notices = Vec::new();
    let kept = |documents: &Documents| {
        let mut kept = [0_usize; 3];
        for file in 0..documents.files() {
            for (at, entry) in documents.index(file)?.iter().enumerate() {
                if let Some(split) = documents.split(config, file, at, entry) {
                    kept[split as usize] += 1;
                }
            }
        }
        Ok::<_, Error>(kept)
    };
    let mut counts = kept(documents)?;
    for empty in [Split::Test, Split::Validation, Split::Train] {
        if counts[empty as usize] > 0 || empty.fraction(config) <= 0.0 {
            continue;
        }
        let mut nearest: Option<(f64, artifact::Digest, Split)> = None;
        for file in 0..documents.files() {
            for (at, entry) in documents.index(file)?.iter().enumerate() {
                let Some(split) = documents.split(config, file, at, entry) else { continue };
                let distance = empty.distance(entry, config);
                let is_nearer = nearest.is_none_or(|(other, ..)| distance < other);
                if counts[split as usize] > 1 && is_nearer {
                    nearest = Some((distance, entry.digest, split));
                }
            }
        }
        if let Some((_, digest, from)) = nearest {
            documents.put_into(empty, digest);
            notices.push(format!(
                "split {} would be empty: a fraction of {} of {} documents gave none; it has the document nearest to \
                 it by hash, from {}",
                empty.name(),
                empty.fraction(config),
                counts.iter().sum::<usize>(),
                from.name()
            ));
            counts = kept(documents)?;
        }
    }
    Ok(notices)
}

/// The amount of each source in the train split.
type Amounts = BTreeMap<String, mixture::SourceAmount>;

/// Checks that every split has documents, and returns the amount of each source in the train split.
fn check(config: &Config, corpus: &Sealed, documents: &Documents) -> Result<Amounts, Error> {
    if documents.len() == 0 {
        return Err(Error::EmptyCorpus { path: corpus.folder().to_owned() });
    }
    let mut kept = [0_usize; 3];
    let mut dropped = BTreeMap::<u16, usize>::new();
    let mut amounts = Amounts::new();
    for file in 0..documents.files() {
        let sources = documents.texts(file, "source")?;
        for (at, entry) in documents.index(file)?.iter().enumerate() {
            match documents.split(config, file, at, entry) {
                Some(split) => {
                    kept[split as usize] += 1;
                    if split == Split::Train {
                        let new = || mixture::SourceAmount::new(&sources[at]);
                        amounts.entry(sources[at].clone()).or_insert_with(new).add(entry.text_bytes);
                    }
                }
                None => *dropped.entry(documents.dropped_by(file, at)).or_default() += 1,
            }
        }
    }
    let total: usize = kept.iter().sum();
    if total == 0 {
        let steps = documents.steps(config);
        let counts = dropped.iter().map(|(step, count)| {
            let step = steps[usize::from(*step) - 1];
            format!("{count} by {} ({})", step.name(), step.advice())
        });
        let dropped = counts.collect::<Vec<_>>().join(", ");
        return Err(Error::NothingLeft { documents: documents.len(), dropped });
    }
    for split in Split::ALL {
        if kept[split as usize] == 0 {
            let advice = match split {
                Split::Train => "or lower preprocess.validation and preprocess.test".to_owned(),
                held_out => format!(
                    "raise preprocess.{}, or set preprocess.length.long = \"cut\" with a smaller \
                     preprocess.length.max_bytes to cut long documents into several",
                    held_out.name()
                ),
            };
            let (split, fraction) = (split.name(), split.fraction(config));
            return Err(Error::EmptySplit { split, fraction, documents: total, advice });
        }
    }
    Ok(amounts)
}

/// Returns how often each document of the train split is repeated, or `None` if each occurs once.
fn mixture_plan(config: &Config, amounts: &Amounts) -> Result<Option<mixture::Plan>, Error> {
    if config.mix == mixture::Config::default() {
        return Ok(None);
    }
    let amounts: Vec<mixture::SourceAmount> = amounts.values().cloned().collect();
    let plan = mixture::plan(&config.mix, &amounts);
    plan.map(Some).map_err(|e| Error::config("preprocess.mix", e.to_string()))
}
