//! `signals.parquet`: what is known of every document, and what became of it.
//!
//! One row for each document, or for each piece of one that was cut, in the corpus's order: who it is, what every step
//! measured (`<step>.<signal>`), by which criterion a step would drop it (`<step>.failed`), and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray, UInt64Array};
use artifact::Context;

use crate::config::Step;
use crate::engine::documents::Documents;
use crate::engine::layout;
use crate::engine::parquet::{self, ROWS, Reader, Table};
use crate::engine::split::Split;
use crate::engine::spool::Entry;
use crate::engine::steps::FAILED;
use crate::output::outcome::DocumentOutcome;
use crate::output::refusals::{self, MESSAGE, Refusal};
use crate::output::report::Totals;
use crate::output::runs::token_counts;
use crate::{Config, Error};

/// Writes the signals of all documents and hands each row to `totals`.
pub(crate) fn write(
    config: &Config,
    documents: &Documents,
    runs: &[PathBuf],
    path: &Path,
    totals: &mut Totals,
    context: &Context,
) -> Result<(), Error> {
    context.progress.begin("writing the signals", documents.len() as u64, "documents");
    let steps = documents.steps(config);
    let ids = kept_ids(documents)?;
    let mut writer: Option<parquet::Writer> = None;
    for (file, run) in runs.iter().enumerate() {
        let index = documents.index(file)?;
        let tokens = token_counts(run)?;
        let refused = refusals::read(run)?;
        let passes =
            documents.passes().iter().map(|root| Reader::open(layout::folder(root, file).join(layout::SIGNALS)));
        let passes = passes.collect::<Result<Vec<Reader>, Error>>()?;
        for start in (0..index.len()).step_by(ROWS) {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let rows = start..(start + ROWS).min(index.len());
            let measured = passes.iter().map(|pass| pass.read(None, (start, rows.len())));
            let measured = measured.collect::<Result<Vec<Table>, Error>>()?;
            let outcomes: Vec<DocumentOutcome> = rows
                .clone()
                .map(|at| DocumentOutcome::of(config, documents, file, at, &index[at], tokens[at]))
                .collect();
            let refused = if documents.has_chats() { refusal_columns(&refused, rows.clone()) } else { Vec::new() };
            let added = outcome_columns(&steps, &outcomes, &index[rows], &ids);
            let columns = measured.iter().flat_map(Table::columns).map(|(name, values)| (name, Arc::clone(values)));
            let refused = refused.iter().map(|(name, values)| (name.as_str(), Arc::clone(values)));
            let table = Table::new(path, columns.chain(refused).chain(added))?;
            totals.add(&table, &outcomes)?;
            let writer = match &mut writer {
                Some(writer) => writer,
                none => none.insert(parquet::Writer::like(path, &table)?),
            };
            writer.write(&table)?;
            context.progress.position(u64::from(documents.first(file)) + (start + table.len()) as u64);
        }
    }
    writer.map_or(Ok(()), parquet::Writer::finish)
}

/// Returns the ids of the documents that were kept in place of others.
fn kept_ids(documents: &Documents) -> Result<BTreeMap<u32, String>, Error> {
    let kept: BTreeSet<u32> = documents.kept_for_others().collect();
    let mut ids = BTreeMap::new();
    for file in 0..documents.files() {
        let first = documents.first(file);
        let wanted: Vec<u32> = kept.range(first..first + documents.spool(file).len() as u32).copied().collect();
        if !wanted.is_empty() {
            let (all, pieces) = (documents.texts(file, "id")?, documents.pieces(file)?);
            let name = |number: u32| {
                let at = (number - first) as usize;
                (number, name_of(&all[at], pieces[at]))
            };
            ids.extend(wanted.into_iter().map(name));
        }
    }
    Ok(ids)
}

/// Returns what the signals call a document: its id, and its piece where it was cut.
pub(crate) fn name_of(id: &str, piece: u32) -> String {
    if piece == 0 { id.to_owned() } else { format!("{id}, piece {piece}") }
}

/// Returns the signals of the step that drops refused conversations.
fn refusal_columns(refused: &[Refusal], rows: Range<usize>) -> Vec<(String, ArrayRef)> {
    let at = |row: usize| refused.binary_search_by_key(&row, |refusal| refusal.at).ok().map(|at| &refused[at]);
    let name = |signal: &str| format!("{}.{signal}", Step::ChatTemplate.name());
    vec![
        (name(MESSAGE), texts(rows.clone().map(|row| at(row).map(|refusal| refusal.message.as_str())))),
        (name(FAILED), texts(rows.map(|row| at(row).map(|refusal| refusal.criterion.name())))),
    ]
}

fn outcome_columns(
    steps: &[Step],
    outcomes: &[DocumentOutcome],
    index: &[Entry],
    ids: &BTreeMap<u32, String>,
) -> [(&'static str, ArrayRef); 7] {
    let digests = index.iter().map(|entry| entry.digest.to_string());
    let reason = |outcome: &DocumentOutcome| outcome.dropped_by.checked_sub(1).map(|at| steps[usize::from(at)].name());
    let original = |outcome: &DocumentOutcome| outcome.duplicate_of.and_then(|of| ids.get(&of)).map(String::as_str);
    [
        ("bytes", numbers(outcomes.iter().map(|outcome| outcome.text_bytes))),
        ("tokens", numbers(outcomes.iter().map(|outcome| outcome.tokens))),
        ("sha256", Arc::new(StringArray::from_iter_values(digests))),
        ("decision", texts(outcomes.iter().map(|outcome| Some(if outcome.dropped_by == 0 { "keep" } else { "drop" })))),
        ("reason", texts(outcomes.iter().map(reason))),
        ("split", texts(outcomes.iter().map(|outcome| outcome.split.map(Split::name)))),
        ("duplicate_of", texts(outcomes.iter().map(original))),
    ]
}

fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}
