//! Prediction of the documents that other thresholds would keep.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::Array;
use artifact::Sealed;
use serde_json::Value;

use super::{Rows, config_of, steps_of};
use crate::config::Step;
use crate::engine::parquet::Table;
use crate::engine::steps::FAILED;
use crate::engine::thresholds::Thresholds;
use crate::{Config, Error, VERSION};
use settings::suggest;

/// The documents that other thresholds would keep.
#[derive(Debug, Clone, PartialEq)]
pub struct WhatIf {
    /// Documents kept now.
    pub now: Amount,
    /// Documents that would be kept.
    pub then: Amount,
    /// Documents that would be kept and are dropped now.
    pub gained: Amount,
    /// Documents that would be dropped and are kept now.
    pub lost: Amount,
    /// Documents that each step drops now and would drop.
    pub steps: Vec<StepChange>,
    /// Gained documents that were never compared with others, because an earlier step had dropped them. A run may find
    /// duplicates among them.
    pub not_compared: u64,
}

/// Documents and their tokens, end of text included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Documents.
    pub documents: u64,
    /// Tokens.
    pub tokens: u64,
}

/// The change of the documents that a step drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepChange {
    /// The step.
    pub step: Step,
    /// Documents it drops now.
    pub now: Amount,
    /// Documents it would drop.
    pub then: Amount,
}

impl Amount {
    fn add(&mut self, tokens: u64) {
        self.documents += 1;
        self.tokens += tokens;
    }
}

/// Predicts the documents of `tokens` that would be kept with other thresholds, such as
/// `("gopher_quality.min_words", 30)`, by evaluating the thresholds on the recorded signals. Texts are not read.
///
/// # Errors
/// Returns an error if another version of the stage wrote the artifact; if a key does not exist, belongs to a step that
/// was not run, or changes texts, which needs a run; and if the signals cannot be read.
pub fn what_if(tokens: &Sealed, overrides: &[(String, Value)]) -> Result<WhatIf, Error> {
    let recipe = &tokens.manifest().recipe;
    if recipe.stage_version != VERSION {
        let (path, version) = (tokens.folder().to_owned(), recipe.stage_version);
        return Err(Error::OtherVersion { path, version });
    }
    let config = config_of(tokens)?;
    check_keys(&config, overrides)?;
    let other = config.with(overrides)?;
    other.validate()?;
    let thresholds = Thresholds::all(&other);
    let mut rows = Rows::open(tokens)?;
    let steps = steps_of(&config, &rows);
    let mut kept_for_others = BTreeSet::new();
    while let Some((_, table)) = rows.next(Some(&["duplicate_of"]))? {
        kept_for_others.extend(table.texts("duplicate_of")?.iter().flatten().map(str::to_owned));
    }
    let mut sums = Sums::new(&steps);
    let mut compared: BTreeMap<String, Row> = BTreeMap::new();
    let mut rows = Rows::open(tokens)?;
    while let Some((first, table)) = rows.next(None)? {
        for (name, row) in evaluate(&table, first, &steps, &thresholds)? {
            if row.duplicate_of.is_some() || kept_for_others.contains(&name) {
                compared.insert(name, row);
            } else {
                sums.add(&row);
            }
        }
    }
    for step in 1..=steps.len() {
        compare(step, &mut compared);
    }
    for row in compared.values() {
        sums.add(row);
    }
    Ok(sums.finish(steps))
}

/// Lets the step numbered `step`, if it compares documents, keep one of each set of duplicates that it found: as in a
/// run, the first in the order of digests among those that reach the step.
fn compare(step: usize, compared: &mut BTreeMap<String, Row>) {
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, row) in compared.iter().filter(|(_, row)| row.now == Some(step)) {
        if let Some(of) = &row.duplicate_of {
            sets.entry(of.clone()).or_insert_with(|| vec![of.clone()]).push(name.clone());
        }
    }
    for members in sets.into_values() {
        let reaches = |name: &String| compared.get(name).is_some_and(|row| row.then.is_none_or(|then| then > step));
        let mut reached: Vec<String> = members.into_iter().filter(reaches).collect();
        reached.sort_by_key(|name| compared.get(name).map(|row| (row.digest.clone(), row.place)));
        for name in reached.iter().skip(1) {
            if let Some(row) = compared.get_mut(name) {
                row.then = Some(step);
            }
        }
    }
}

/// A document.
struct Row {
    digest: String,
    /// Its position in the corpus.
    place: usize,
    tokens: u64,
    /// The step that dropped it, from 1.
    now: Option<usize>,
    /// The step that would drop it.
    then: Option<usize>,
    duplicate_of: Option<String>,
}

/// Returns each row by its name, with the per-document step that would drop it.
fn evaluate(
    table: &Table,
    first: usize,
    steps: &[Step],
    thresholds: &[(Step, Thresholds)],
) -> Result<Vec<(String, Row)>, Error> {
    let mut fails: Vec<Option<usize>> = vec![None; table.len()];
    for (number, step) in (1..).zip(steps) {
        let column = format!("{}.{FAILED}", step.name());
        let failed = match thresholds.iter().find(|(known, _)| known == step) {
            Some((_, thresholds)) => thresholds.failed(table)?,
            // A step without thresholds drops the same documents.
            None if table.column(&column).is_some() => {
                table.texts(&column)?.iter().map(|criterion| criterion.is_some()).collect()
            }
            None => continue,
        };
        for (fails, _) in fails.iter_mut().zip(failed).filter(|(fails, failed)| fails.is_none() && *failed) {
            *fails = Some(number);
        }
    }
    let number = |reason: &str| steps.iter().position(|step| step.name() == reason).map(|at| at + 1);
    let (ids, pieces) = (table.texts("id")?, table.numbers("piece")?);
    let (digests, reasons) = (table.texts("sha256")?, table.texts("reason")?);
    let (tokens, duplicates) = (table.numbers("tokens")?, table.texts("duplicate_of")?);
    let rows = fails.into_iter().enumerate().map(|(at, then)| {
        let row = Row {
            digest: digests.value(at).to_owned(),
            place: first + at,
            tokens: tokens.value(at) as u64,
            now: reasons.is_valid(at).then(|| number(reasons.value(at))).flatten(),
            then,
            duplicate_of: duplicates.is_valid(at).then(|| duplicates.value(at).to_owned()),
        };
        (crate::output::signals::name_of(ids.value(at), pieces.value(at) as u32), row)
    });
    Ok(rows.collect())
}

/// The sums of a [`WhatIf`].
struct Sums {
    now: Amount,
    then: Amount,
    gained: Amount,
    lost: Amount,
    by_step: Vec<(Amount, Amount)>,
    not_compared: u64,
    /// The number of the first step that compares documents.
    compares: Option<usize>,
}

impl Sums {
    fn new(steps: &[Step]) -> Self {
        let compares = |step: &Step| matches!(step, Step::ExactDuplicates | Step::NearDuplicates);
        Self {
            now: Amount::default(),
            then: Amount::default(),
            gained: Amount::default(),
            lost: Amount::default(),
            by_step: vec![(Amount::default(), Amount::default()); steps.len()],
            not_compared: 0,
            compares: steps.iter().position(compares).map(|at| at + 1),
        }
    }

    fn add(&mut self, row: &Row) {
        match row.now {
            Some(step) => self.by_step[step - 1].0.add(row.tokens),
            None => self.now.add(row.tokens),
        }
        match row.then {
            Some(step) => self.by_step[step - 1].1.add(row.tokens),
            None => self.then.add(row.tokens),
        }
        match (row.now, row.then) {
            (Some(step), None) => {
                self.gained.add(row.tokens);
                self.not_compared += u64::from(self.compares.is_some_and(|compares| step < compares));
            }
            (None, Some(_)) => self.lost.add(row.tokens),
            _ => {}
        }
    }

    fn finish(self, steps: Vec<Step>) -> WhatIf {
        let steps = steps.into_iter().zip(self.by_step).map(|(step, (now, then))| StepChange { step, now, then });
        WhatIf {
            now: self.now,
            then: self.then,
            gained: self.gained,
            lost: self.lost,
            steps: steps.collect(),
            not_compared: self.not_compared,
        }
    }
}

fn check_keys(config: &Config, overrides: &[(String, Value)]) -> Result<(), Error> {
    let (steps, known) = (config.steps(), config.fingerprint_value());
    for (key, _) in overrides {
        let fail = |problem: String| Err(Error::Config { key: format!("preprocess.{key}"), problem });
        let name = key.split('.').next().unwrap_or_default();
        let Some(step) = Step::ALL.into_iter().find(|step| step.name() == name) else {
            let known: Vec<&str> = Thresholds::all(config).iter().map(|(step, _)| step.name()).collect();
            return fail(format!("belongs to no step with thresholds on signals; those are {}", known.join(", ")));
        };
        if !steps.contains(&step) {
            return fail(format!(
                "belongs to a step that was not run: add \"{name}\" to preprocess.steps and run again"
            ));
        }
        let table = known[name].as_object();
        let parameter = key.split('.').nth(1).unwrap_or_default();
        if let Some(table) = table.filter(|table| !table.contains_key(parameter)) {
            let near = suggest(parameter, table.keys().map(String::as_str));
            return fail(
                near.map_or("is unknown".to_owned(), |near| format!("is unknown; did you mean {name}.{near}?")),
            );
        }
        if !Thresholds::can_evaluate(config, step, key) {
            return fail(
                "changes texts or compares them, so its effect is not in the signals: set it and run again".to_owned(),
            );
        }
    }
    Ok(())
}
