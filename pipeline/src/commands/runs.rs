//! The commands about runs: a file for each, and `runs`, which lists them.

pub mod archive;
pub mod diff;
pub mod gc;
mod json;
pub mod reproduce;
pub mod rm;
pub mod show;
pub mod tag;

use std::collections::BTreeMap;

use anyhow::bail;
use artifact::file::tidy;
use artifact::format;
use serde_json::{Value, json};
use settings::suggest;

use crate::cli::experiments::RunsArgs;
use crate::run::catalog::{Catalog, Summary};
use crate::run::names;
use crate::run::values;
use crate::ui::summary;

use super::print_out;

/// The tags of each run that has any.
type Tags = BTreeMap<String, Vec<String>>;

/// Lists the runs.
pub fn run(arguments: &RunsArgs) -> anyhow::Result<()> {
    let layout = super::layout(&arguments.store)?;
    let mut catalog = Catalog::of(&layout)?;
    if catalog.summaries().len() == 0 && !arguments.json {
        return Ok(print_out!("no runs in {} yet; `pipeline run` makes one", tidy(&layout.runs()).display())?);
    }
    let tags = names::tags_by_run(&layout)?;
    let shown = columns(arguments);
    let chosen = chosen(arguments, &mut catalog, &tags)?;
    let values: Vec<Vec<Option<Value>>> = shown.iter().map(|key| catalog.values(key)).collect();
    let runs: Vec<&Summary> = catalog.summaries().collect();
    if arguments.json {
        let runs: Vec<&Summary> = chosen.into_iter().map(|place| runs[place]).collect();
        return json::print(&runs, &layout, &tags);
    }
    let rows = chosen.into_iter().map(|place| {
        let values = values.iter().map(|column| column[place].as_ref().map(values::text).unwrap_or_default());
        row(runs[place], &tags).into_iter().chain(values).collect()
    });
    table(&shown, rows)
}

/// Returns the places of the runs that the filters leave, sorted and limited.
fn chosen(arguments: &RunsArgs, catalog: &mut Catalog, tags: &Tags) -> anyhow::Result<Vec<usize>> {
    let mut places: Vec<usize> = (0..catalog.summaries().len()).collect();
    for filter in &arguments.filters {
        let values = known(&filter.key, catalog, tags)?;
        places.retain(|place| filter.holds(values[*place].as_ref()));
    }
    let limit = arguments.limit.unwrap_or(usize::MAX);
    if let Some(key) = &arguments.sort {
        let values = known(key, catalog, tags)?;
        places.sort_by(|a, b| match (&values[*a], &values[*b]) {
            (Some(a), Some(b)) if arguments.descending => values::compare(b, a),
            (Some(a), Some(b)) => values::compare(a, b),
            // Runs that do not have it come last.
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        places.truncate(limit);
    } else {
        places.drain(..places.len().saturating_sub(limit));
    }
    Ok(places)
}

/// Returns the keys of filters and sorting that the table does not show anyway.
fn columns(arguments: &RunsArgs) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    for key in arguments.sort.iter().chain(arguments.filters.iter().map(|filter| &filter.key)) {
        if !["name", "tag", "status", "started", "wall_seconds"].contains(&key.as_str())
            && !keys.contains(&key.as_str())
        {
            keys.push(key);
        }
    }
    keys
}

/// Returns the value of `key` in each run, of which at least one must have it.
fn known(key: &str, catalog: &mut Catalog, tags: &Tags) -> anyhow::Result<Vec<Option<Value>>> {
    if key == "tag" {
        let of = |run: &Summary| json!(tags.get(&run.name).map_or(&[][..], Vec::as_slice));
        return Ok(catalog.summaries().map(|run| Some(of(run))).collect());
    }
    let values = catalog.values(key);
    if values.is_empty() || values.iter().any(Option::is_some) {
        return Ok(values);
    }
    let keys = catalog.keys();
    match suggest(key, keys.iter().map(String::as_str).chain(["tag"])) {
        Some(near) => bail!("no run has a value `{key}`; did you mean {near}?"),
        None => bail!("no run has a value `{key}`; `pipeline show --json` prints the keys and figures of a run"),
    }
}

fn row(run: &Summary, tags: &Tags) -> Vec<String> {
    let ran = run.stages.iter().filter(|(_, ran)| *ran).count();
    vec![
        run.name.clone(),
        tags.get(&run.name).map(|tags| tags.join(", ")).unwrap_or_default(),
        run.started.clone(),
        run.status.name().to_owned(),
        format::seconds(run.wall_seconds),
        format!("{ran} of {}", run.stages.len()),
        run.result.clone(),
    ]
}

fn table(keys: &[&str], rows: impl Iterator<Item = Vec<String>>) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = rows.collect();
    let header = ["run", "tags", "started (UTC)", "status", "time", "stages run", "result"];
    let has_tags = rows.iter().any(|row| !row[1].is_empty());
    let shown = |column: usize| column != 1 || has_tags;
    let mut table = summary::new_table();
    let cells = |row: Vec<String>| {
        row.into_iter().enumerate().filter(|(i, _)| shown(*i)).map(|(_, cell)| cell).collect::<Vec<_>>()
    };
    table.set_header(cells(header.iter().chain(keys).map(|name| (*name).to_owned()).collect()));
    for row in rows {
        table.add_row(cells(row));
    }
    Ok(print_out!("{}", summary::text_of(&table))?)
}
