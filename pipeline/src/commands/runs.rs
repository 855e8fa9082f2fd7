//! The commands about runs: a file for each, and `runs`, which lists them.

pub mod archive;
pub mod diff;
pub mod gc;
pub mod reproduce;
pub mod rm;
pub mod show;
pub mod tag;

use std::collections::BTreeMap;

use anyhow::bail;
use artifact::file::tidy;
use artifact::{StoreLayout, format};
use serde_json::{Value, json};
use settings::suggest;

use crate::cli::experiments::RunsArgs;
use crate::run::catalog::{self, Summary};
use crate::run::names;
use crate::run::record::Run;
use crate::run::values::{self, Condition};
use crate::ui::summary;

use super::print_out;

/// The tags of each run that has any.
type Tags = BTreeMap<String, Vec<String>>;

/// Lists the runs.
pub fn run(arguments: &RunsArgs) -> anyhow::Result<()> {
    let layout = super::layout(&arguments.store)?;
    let summaries = catalog::summaries(&layout)?;
    if summaries.is_empty() && !arguments.json {
        return Ok(print_out!("no runs in {} yet; `pipeline run` makes one", tidy(&layout.runs()).display())?);
    }
    let tags = names::tags_by_run(&layout)?;
    if !arguments.json && arguments.filters.is_empty() && arguments.sort.is_none() {
        let newest = summaries.len().saturating_sub(arguments.limit.unwrap_or(usize::MAX));
        let rows = summaries[newest..].iter().map(|run| row(run, &tags));
        return table(&[], rows);
    }
    let chosen = chosen(arguments, &layout, &tags)?;
    if arguments.json {
        let runs: Vec<Value> = chosen.iter().map(|run| described(run, &tags)).collect::<Result<_, _>>()?;
        return Ok(print_out!("{:#}", Value::Array(runs))?);
    }
    let keys = columns(arguments);
    let rows = chosen.iter().map(|run| {
        let values = keys.iter().map(|key| value(run, key, &tags).as_ref().map(values::text).unwrap_or_default());
        row(&Summary::of(run), &tags).into_iter().chain(values).collect()
    });
    table(&keys, rows)
}

/// Returns the runs that the filters leave, sorted and limited.
fn chosen(arguments: &RunsArgs, layout: &StoreLayout, tags: &Tags) -> anyhow::Result<Vec<Run>> {
    let mut runs = catalog::records(layout)?;
    for key in arguments.filters.iter().map(|filter| &filter.key).chain(&arguments.sort) {
        known(key, &runs, tags)?;
    }
    let passes = |run: &Run, filter: &Condition| filter.holds(value(run, &filter.key, tags).as_ref());
    runs.retain(|run| arguments.filters.iter().all(|filter| passes(run, filter)));
    if let Some(key) = &arguments.sort {
        let mut keyed: Vec<(Option<Value>, Run)> = runs.into_iter().map(|run| (value(&run, key, tags), run)).collect();
        keyed.sort_by(|(a, _), (b, _)| match (a, b) {
            (Some(a), Some(b)) if arguments.descending => values::compare(b, a),
            (Some(a), Some(b)) => values::compare(a, b),
            // Runs that do not have it come last.
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        runs = keyed.into_iter().map(|(_, run)| run).collect();
        runs.truncate(arguments.limit.unwrap_or(usize::MAX));
    } else {
        runs.drain(..runs.len().saturating_sub(arguments.limit.unwrap_or(usize::MAX)));
    }
    Ok(runs)
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

fn value(run: &Run, key: &str, tags: &Tags) -> Option<Value> {
    match key {
        "tag" => tags.get(&run.record.name).map(|tags| json!(tags)),
        _ => values::value(run, key),
    }
}

/// Checks that some run has `key`.
fn known(key: &str, runs: &[Run], tags: &Tags) -> anyhow::Result<()> {
    if key == "tag" || runs.is_empty() || runs.iter().any(|run| value(run, key, tags).is_some()) {
        return Ok(());
    }
    // Of the run with the most stages.
    let longest = runs.iter().max_by_key(|run| run.record.stages.len());
    let mut keys: Vec<String> =
        ["name", "tag", "status", "started", "wall_seconds", "device", "seed"].map(str::to_owned).into();
    for stage in longest.into_iter().flat_map(|run| &run.record.stages) {
        keys.extend(values::flat(&stage.recipe.config).into_keys().map(|key| format!("{}.{key}", stage.stage)));
        keys.extend(stage.counts.keys().flat_map(|name| [name.clone(), format!("{}.{name}", stage.stage)]));
    }
    match suggest(key, keys.iter().map(String::as_str)) {
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

/// Returns the record of a run without the recipes, and its tags.
fn described(run: &Run, tags: &Tags) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(&run.record)?;
    for stage in value["stages"].as_array_mut().into_iter().flatten() {
        if let Some(stage) = stage.as_object_mut() {
            stage.shift_remove("recipe");
        }
    }
    value["tags"] = json!(tags.get(&run.record.name).cloned().unwrap_or_default());
    Ok(value)
}
