//! Stage preprocess: a corpus becomes token shards.
//!
//! In: the corpus artifact, documents of any encoding. Out: what the configured steps leave of it, divided into train,
//! validation and test, as the tokens of a tokenizer trained on it (or of a given one); beside them `signals.parquet`
//! with all that is known of every document and what became of it, and `report.json` with the totals.
//!
//! Where a document goes, and which of its likes is kept, is decided by its content alone: adding documents to a corpus
//! moves none of the others, and neither the number of threads nor the order of files on disk shows in the output.
//!
//! The corpus may be larger than memory: documents pass by in batches, what compares them keeps a few bytes of each, and
//! the rest waits on disk, in a folder `.work` inside the stage's own. What is whole there survives an interruption, so
//! the work goes on where it was; [`part`] makes a share of it on another machine.
//!
//! This stage never reads anything but the corpus, a given `tokenizer.json` and the evaluation sets to keep out.

mod config;
pub mod dedup;
mod engine;
pub mod inspect;
pub mod output;
pub mod steps;
pub mod text;

pub use config::{Config, LengthConfig, LongDocuments, Preset, RENAMED_KEYS, Step, TokenizerConfig, inputs};
pub use tokenizer::{Kind, Pattern};

use std::fs;
use std::path::PathBuf;

use artifact::{Context, Outcome, Sealed, Unsealed, file};

use crate::engine::documents::Documents;
use crate::output::split::Split;

/// The stage's name.
pub const NAME: &str = "preprocess";

/// Raised when the output would change for the same inputs.
pub const VERSION: u32 = 2;

/// The folder of unfinished work; it goes when the artifact is sealed, as all that begins with a dot.
const WORK: &str = ".work";

/// Turns `corpus` into the tokens artifact in `out`.
///
/// # Errors
/// When the corpus cannot be read, nothing is left of it or of one split, the given tokenizer cannot be used, the disk
/// refuses, or a stop was asked for.
pub fn run(config: &Config, corpus: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    keep_only_work(out)?;
    if engine::corpus::files(corpus).is_empty() {
        return Err(Error::EmptyCorpus { path: corpus.folder().to_owned() });
    }
    let documents = engine::schedule::all(config, corpus, &out.path(WORK), context)?;
    let amounts = check(config, corpus, &documents)?;
    let plan = mix_plan(config, &amounts, context)?;
    let tokenizer = output::tokenize::tokenizer(config, &documents, context)?;
    let encoded = output::tokenize::encode(config, &tokenizer, &documents, plan.as_ref(), out, context)?;
    file::write_atomically(&out.path("tokenizer.json"), tokenizer.to_json().as_bytes())?;
    let mut tally = output::report::Tally::default();
    output::signals::write(config, &documents, &encoded, &out.path("signals.parquet"), &mut tally, context)?;
    let report = output::report::Report::new(config, tally, &tokenizer, &encoded.written);
    report.write(&out.path("report.json"))?;
    Ok(report.outcome())
}

/// Does part `part` of `parts` (from 1) of the work that needs no other document, and leaves it in `out` for [`run`] to
/// go on from, here or on a machine that sees the same folder.
///
/// # Errors
/// When the corpus cannot be read, the disk refuses, or a stop was asked for.
pub fn part(
    config: &Config,
    corpus: &Sealed,
    out: &Unsealed,
    (part, parts): (usize, usize),
    context: &Context,
) -> Result<(), Error> {
    config.validate()?;
    engine::schedule::part(config, corpus, &out.path(WORK), (part, parts), context)
}

/// Removes what an earlier attempt left, but for the work that can be gone on from.
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

/// How much of a source the train split has.
type Amounts = std::collections::BTreeMap<String, output::mixture::SourceAmount>;

/// Checks that every split has documents, and returns what each source gives to train on.
fn check(config: &Config, corpus: &Sealed, documents: &Documents) -> Result<Amounts, Error> {
    if documents.len() == 0 {
        return Err(Error::EmptyCorpus { path: corpus.folder().to_owned() });
    }
    let mut kept = [0_usize; 3];
    let mut dropped = std::collections::BTreeMap::<u16, usize>::new();
    let mut amounts = Amounts::new();
    for file in 0..documents.files() {
        let sources = documents.texts(file, "source")?;
        for (at, entry) in documents.index(file)?.iter().enumerate() {
            match documents.split(config, file, at, entry) {
                Some(split) => {
                    kept[split as usize] += 1;
                    if split == Split::Train {
                        let new = || output::mixture::SourceAmount::new(&sources[at]);
                        amounts.entry(sources[at].clone()).or_insert_with(new).add(entry.text_bytes);
                    }
                }
                None => *dropped.entry(documents.dropped_by(file, at)).or_default() += 1,
            }
        }
    }
    let total: usize = kept.iter().sum();
    if total == 0 {
        let steps = config.steps();
        let words = dropped.iter().map(|(step, count)| {
            let step = steps[usize::from(*step) - 1];
            format!("{count} by {} ({})", step.name(), step.advice())
        });
        let dropped = words.collect::<Vec<_>>().join(", ");
        return Err(Error::NothingLeft { documents: documents.len(), dropped });
    }
    for split in Split::ALL {
        if kept[split as usize] == 0 {
            let advice = match split {
                Split::Train => "or lower preprocess.validation and preprocess.test".to_owned(),
                held_out => format!(
                    "raise preprocess.{}, or let preprocess.length.long = \"cut\" with a smaller \
                     preprocess.length.max_bytes make more documents of long ones",
                    held_out.name()
                ),
            };
            let (split, share) = (split.name(), split.share(config));
            return Err(Error::EmptySplit { split, share, documents: total, advice });
        }
    }
    Ok(amounts)
}

/// Returns which documents of the train split come how often; none where each comes once.
fn mix_plan(config: &Config, amounts: &Amounts, context: &Context) -> Result<Option<output::mixture::Plan>, Error> {
    if config.mix == output::mixture::Config::default() {
        return Ok(None);
    }
    let amounts: Vec<output::mixture::SourceAmount> = amounts.values().cloned().collect();
    let plan = output::mixture::plan(&config.mix, &amounts, context.seed);
    plan.map(Some).map_err(|e| Error::Config { key: "preprocess.mix".to_owned(), problem: e.to_string() })
}

/// What can go wrong in this stage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or a sealed artifact.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
    /// The tokenizer, or its shards.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// What a pass noted for finding duplicates and repetitions is damaged.
    #[error(transparent)]
    Damaged(dedup::Error),
    /// A configured value makes no sense.
    #[error("{key} {problem}")]
    Config {
        /// The dotted key.
        key: String,
        /// What is wrong with its value.
        problem: String,
    },
    /// A file of the corpus is not what stage collect writes.
    #[error("cannot read documents from {}", path.display())]
    Corpus {
        /// The file.
        path: PathBuf,
        /// The reader's answer.
        #[source]
        source: polars::error::PolarsError,
    },
    /// A document of the corpus has neither text, bytes nor messages.
    #[error("document {id} in {} has neither text nor raw bytes nor messages", path.display())]
    NoContent {
        /// The file.
        path: PathBuf,
        /// The document.
        id: String,
    },
    /// The corpus has no documents.
    #[error("the corpus in {} has no documents: check the sources and patterns of [collect]", path.display())]
    EmptyCorpus {
        /// The artifact's folder.
        path: PathBuf,
    },
    /// The corpus has more documents than can be numbered.
    #[error("there are more than 4294967295 documents under {}; divide the corpus", path.display())]
    TooManyDocuments {
        /// The folder of the work.
        path: PathBuf,
    },
    /// Work that an earlier attempt left cannot be read.
    #[error("{} is damaged; delete the folder .work that it lies in and run again", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
    },
    /// An evaluation set cannot be read as one.
    #[error("evaluation set {}: {problem}", path.display())]
    EvaluationSet {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Every document was dropped.
    #[error("none of {documents} documents is left: {dropped}")]
    NothingLeft {
        /// Documents in the corpus.
        documents: usize,
        /// How many were dropped by which step, and what to change.
        dropped: String,
    },
    /// A split has no documents.
    #[error(
        "split {split} is empty: a share of {share} of {documents} documents came to none. Add documents, {advice}"
    )]
    EmptySplit {
        /// The split.
        split: &'static str,
        /// Its share as configured.
        share: f64,
        /// Documents to divide.
        documents: usize,
        /// What to change in the configuration.
        advice: String,
    },
    /// Preferences stand beside other documents.
    #[error(
        "the {split} split has preferences (`chat = \"preference\"`) beside other documents: preference tuning reads pairs \
         alone, so give them a run of their own"
    )]
    MixedPairs {
        /// The split.
        split: &'static str,
    },
    /// A given tokenizer has no token to end documents with.
    #[error("{} has no end-of-text token; add `{}` to it as a special token", path.display(), tokenizer::END_OF_TEXT)]
    NoEndOfText {
        /// The `tokenizer.json`.
        path: PathBuf,
    },
    /// The signals could not be read or written.
    #[error("cannot {operation} {}", path.display())]
    Signals {
        /// "read" or "write".
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer of what reads and writes Parquet.
        #[source]
        source: polars::error::PolarsError,
    },
    /// A stop was asked for.
    #[error("preprocess was stopped; run the same command again to go on from what is finished")]
    Interrupted,
}

impl From<dedup::Error> for Error {
    fn from(error: dedup::Error) -> Self {
        match error {
            // A full disk is told as one, whoever filled it.
            dedup::Error::Io { operation, path, source } => artifact::Error::io(operation, path, source).into(),
            dedup::Error::Config { key, problem } => Self::Config { key: format!("preprocess.{key}"), problem },
            damaged @ dedup::Error::Damaged { .. } => Self::Damaged(damaged),
        }
    }
}
