//! `signals.parquet`: what is known of every document, and what became of it.
//!
//! One row for each document, or for each piece of one that was cut, in the corpus's order: who it is, what every step
//! measured (`<step>.<signal>`), by which criterion a step would drop it (`<step>.failed`), and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use artifact::Context;
use polars::prelude::{Column, DataFrame, PolarsError, PolarsResult, Schema};

use crate::config::Step;
use crate::engine::documents::Documents;
use crate::engine::layout;
use crate::engine::parquet;
use crate::engine::spool::Entry;
use crate::output::outcome::DocumentOutcome;
use crate::output::report::Totals;
use crate::output::split::Split;
use crate::output::tokenize::{Encoded, token_counts};
use crate::{Config, Error};

/// Rows in memory at a time.
const ROWS: usize = 1 << 15;

/// Writes the signals of all documents and hands each row to `totals`.
pub(crate) fn write(
    config: &Config,
    documents: &Documents,
    encoded: &Encoded,
    path: &Path,
    totals: &mut Totals,
    context: &Context,
) -> Result<(), Error> {
    context.progress.begin("writing the signals", documents.len() as u64, "documents");
    let steps = config.steps();
    let ids = kept_ids(documents)?;
    let mut writer = None;
    for file in 0..documents.files() {
        let index = documents.index(file)?;
        let tokens = token_counts(&encoded.folder, file)?;
        for start in (0..index.len()).step_by(ROWS) {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            let rows = start..(start + ROWS).min(index.len());
            let measured = measured(documents, file, (start, rows.len()))?;
            let outcomes: Vec<DocumentOutcome> = rows
                .clone()
                .map(|at| DocumentOutcome::of(config, documents, file, at, &index[at], tokens[at]))
                .collect();
            let frame = with_outcomes(measured, &steps, &outcomes, &index[rows], &ids);
            let frame = frame.map_err(|source| parquet::failed(path, source))?;
            totals.add(&frame, &outcomes).map_err(|source| parquet::failed(path, source))?;
            let writer = match &mut writer {
                Some(writer) => writer,
                none => {
                    let schema: Schema =
                        frame.columns().iter().map(|c| (c.name().clone(), c.dtype().clone())).collect();
                    none.insert(parquet::writer(path, &schema)?)
                }
            };
            writer.write_batch(&frame).map_err(|source| parquet::failed(path, source))?;
            context.progress.position(u64::from(documents.first(file)) + (start + frame.height()) as u64);
        }
    }
    writer.map(|writer| writer.finish()).transpose().map_err(|source| parquet::failed(path, source))?;
    Ok(())
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

/// Returns what the passes wrote of some rows of a file, side by side.
fn measured(documents: &Documents, file: usize, rows: (usize, usize)) -> Result<DataFrame, Error> {
    let mut all: Option<DataFrame> = None;
    for root in documents.passes() {
        let path = layout::folder(root, file).join(layout::SIGNALS);
        let part = parquet::read_rows(&path, rows)?;
        all = Some(match all {
            None => part,
            Some(before) => {
                let joined = before.hstack(part.columns());
                joined.map_err(|source| Error::Signals { operation: "read", path, source })?
            }
        });
    }
    Ok(all.unwrap_or_default())
}

fn with_outcomes(
    mut frame: DataFrame,
    steps: &[Step],
    outcomes: &[DocumentOutcome],
    index: &[Entry],
    ids: &BTreeMap<u32, String>,
) -> PolarsResult<DataFrame> {
    let name = |outcome: &DocumentOutcome| outcome.dropped_by.checked_sub(1).map(|i| steps[usize::from(i)].name());
    let mut add = |name: &str, column: Column| {
        frame.with_column(column.with_name(name.into()))?;
        Ok::<(), PolarsError>(())
    };
    let column = |values: Vec<u64>| Column::new("".into(), values);
    add("bytes", column(outcomes.iter().map(|outcome| outcome.text_bytes).collect()))?;
    add("tokens", column(outcomes.iter().map(|outcome| outcome.tokens).collect()))?;
    let digests: Vec<String> = index.iter().map(|entry| entry.digest.to_string()).collect();
    add("sha256", Column::new("".into(), digests))?;
    let decisions: Vec<&str> =
        outcomes.iter().map(|outcome| if outcome.dropped_by == 0 { "keep" } else { "drop" }).collect();
    add("decision", Column::new("".into(), decisions))?;
    add("reason", Column::new("".into(), outcomes.iter().map(name).collect::<Vec<Option<&str>>>()))?;
    let splits: Vec<Option<&str>> = outcomes.iter().map(|outcome| outcome.split.map(Split::name)).collect();
    add("split", Column::new("".into(), splits))?;
    let kept: Vec<Option<&str>> =
        outcomes.iter().map(|outcome| outcome.duplicate_of.and_then(|of| ids.get(&of)).map(String::as_str)).collect();
    add("duplicate_of", Column::new("".into(), kept))?;
    // What the passes wrote comes in the chunks of their row groups, and a row group is written from equal ones.
    frame.rechunk_mut();
    Ok(frame)
}
