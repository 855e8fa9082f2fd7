//! Conversations that the chat template refuses, as encoding finds them. They are dropped by [`Step::ChatTemplate`],
//! which has two signals: the criterion, and the message of the error, with the template's own words.

use std::fs;
use std::path::Path;

use artifact::Context;
use serde::{Deserialize, Serialize};

use crate::engine::documents::Documents;
use crate::{Config, Error, Step};

/// The signal with the message.
pub(crate) const MESSAGE: &str = "message";

/// The documents that the terminal names.
const MAX_NAMED: usize = 3;

/// The characters of a message; a template may put whole documents into it.
const MAX_MESSAGE_CHARS: usize = 200;

/// A conversation that cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The position of the document in its file.
    pub at: usize,
    pub criterion: Criterion,
    /// The error and its causes, in one line.
    pub message: String,
}

/// Why a conversation cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Criterion {
    /// The template calls `raise_exception`.
    Refused,
    /// The template fails on it.
    Failed,
    /// It cannot be told which tokens are the assistant's.
    UnclearTurn,
}

impl Criterion {
    /// Returns the name in the signals and counts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::UnclearTurn => "unclear_turn",
        }
    }
}

impl Refusal {
    /// Returns the refusal of document `at`, or `None` if the error does not depend on the conversation.
    pub fn of(at: usize, error: &tokenizer::Error) -> Option<Self> {
        let criterion = match error {
            tokenizer::Error::TemplateRaised { .. } => Criterion::Refused,
            tokenizer::Error::ChatTemplate(_) => Criterion::Failed,
            tokenizer::Error::UnclearTurn { .. } => Criterion::UnclearTurn,
            _ => return None,
        };
        let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        let message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let mut chars = message.chars().map(printable);
        let mut message: String = chars.by_ref().take(MAX_MESSAGE_CHARS).collect();
        if chars.next().is_some() {
            message.push('…');
        }
        Some(Self { at, criterion, message })
    }
}

/// The file of a run with its refusals.
const FILE: &str = "refusals";

/// Writes the refusals of a file of the corpus into the folder of its run.
pub(crate) fn write(run: &Path, refusals: &[&Refusal]) -> Result<(), Error> {
    let path = run.join(FILE);
    let bytes = serde_json::to_vec(refusals).unwrap_or_default();
    fs::write(&path, bytes).map_err(Error::io("write", &path))
}

/// Returns the refusals of a file of the corpus, in the order of its documents.
pub(crate) fn read(run: &Path) -> Result<Vec<Refusal>, Error> {
    let path = run.join(FILE);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|_| Error::Spool { path })
}

/// The conversations that were dropped.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    /// How many there are.
    pub documents: usize,
    /// The first of them, and why.
    pub first: Option<String>,
}

/// Drops the refused conversations of `runs`, the folders of the runs by file of the corpus, and names the first of
/// them on the terminal.
pub(crate) fn drop_all(
    runs: &[impl AsRef<Path>],
    config: &Config,
    documents: &mut Documents,
    context: &Context,
) -> Result<Dropped, Error> {
    let number = config.steps().len() as u16 + 1;
    let mut dropped = Dropped::default();
    for (file, run) in runs.iter().enumerate() {
        for refusal in read(run.as_ref())? {
            if !documents.drop(file, refusal.at, number) {
                continue;
            }
            if dropped.documents < MAX_NAMED {
                let text = |column| Ok::<_, Error>(documents.texts(file, column)?.swap_remove(refusal.at));
                let what = format!("document {} of source {}", text("id")?, text("source")?);
                context.progress.line(&format!("{what} is dropped: {}", refusal.message));
                dropped.first.get_or_insert(format!("{what}: {}", refusal.message));
            }
            dropped.documents += 1;
        }
    }
    if dropped.documents > MAX_NAMED {
        let step = Step::ChatTemplate.name();
        let more = dropped.documents - MAX_NAMED;
        context.progress.line(&format!("{more} more conversations are dropped: see `data dropped --by {step}`"));
    }
    Ok(dropped)
}
