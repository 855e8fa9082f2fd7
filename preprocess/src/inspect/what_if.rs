//! What other thresholds would keep.

use std::collections::{BTreeMap, BTreeSet};

use artifact::Sealed;
use polars::prelude::{DataFrame, PolarsResult};
use serde_json::Value;

use super::{Rows, config_of, numbers, texts};
use crate::config::Step;
use crate::steps::{FAILED, Judge};
use crate::{Config, Error};

/// What other thresholds would keep.
#[derive(Debug, Clone, PartialEq)]
pub struct WhatIf {
    /// What is kept now.
    pub now: Amount,
    /// What would be kept.
    pub then: Amount,
    /// What would be kept and is not.
    pub gained: Amount,
    /// What is kept and would not be.
    pub lost: Amount,
    /// What each step drops now and would drop.
    pub steps: Vec<StepChange>,
    /// Of those gained: documents that were never compared with others, since an earlier step had dropped them. A run
    /// may find duplicates among them.
    pub not_compared: u64,
}

/// Documents and their tokens, ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Documents.
    pub documents: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What one step drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepChange {
    /// The step.
    pub step: Step,
    /// What it drops now.
    pub now: Amount,
    /// What it would drop.
    pub then: Amount,
}

impl Amount {
    fn add(&mut self, tokens: u64) {
        self.documents += 1;
        self.tokens += tokens;
    }
}

/// Returns which documents of `tokens` would be kept with other thresholds, such as `("gopher_quality.min_words", 30)`,
/// by judging anew what was measured. Texts are not read.
///
/// # Errors
/// For a key that does not exist, that belongs to a step that was not taken, or that changes texts, so that only a run
/// can tell; and when the signals cannot be read.
pub fn what_if(tokens: &Sealed, overrides: &[(String, Value)]) -> Result<WhatIf, Error> {
    let config = config_of(tokens)?;
    check_keys(&config, overrides)?;
    let other = config.with(overrides)?;
    other.validate()?;
    let steps = config.steps();
    let judges = Judge::all(&other);
    let mut rows = Rows::open(tokens)?;
    let mut kept_for_others = BTreeSet::new();
    while let Some((_, frame)) = rows.next()? {
        let of = texts(&frame, "duplicate_of").map_err(|e| rows.wrong(e))?;
        kept_for_others.extend(of.into_iter().flatten());
    }
    let mut sums = Sums::new(&steps);
    let mut clusters: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut rows = Rows::open(tokens)?;
    while let Some((_, frame)) = rows.next()? {
        let judged = judge(&frame, &steps, &judges).map_err(|e| rows.wrong(e))?;
        for (row, (name, duplicate_of)) in judged {
            match duplicate_of {
                Some(of) => clusters.entry(of).or_default().push(row),
                None if kept_for_others.contains(&name) => clusters.entry(name).or_default().push(row),
                None => sums.add(&row, row.fails.first().copied()),
            }
        }
    }
    for mut members in clusters.into_values() {
        members.sort_by(|a, b| a.digest.cmp(&b.digest));
        // The step that compared them; whoever reaches it first in the order of the digests is the one it keeps.
        let compared = members.iter().filter(|row| row.is_duplicate).filter_map(|row| row.now).min();
        let mut taken = false;
        for row in &members {
            let before = row.fails.iter().copied().find(|step| compared.is_none_or(|compared| *step < compared));
            let then = match before {
                Some(step) => Some(step),
                None if taken => compared,
                None => {
                    taken = true;
                    row.fails.first().copied()
                }
            };
            sums.add(row, then);
        }
    }
    Ok(sums.finish(steps))
}

/// A document, with the steps it would fail, numbered from 1, in their order.
struct Row {
    digest: String,
    tokens: u64,
    /// The step that dropped it.
    now: Option<usize>,
    fails: Vec<usize>,
    is_duplicate: bool,
}

type Named = (Row, (String, Option<String>));

fn judge(frame: &DataFrame, steps: &[Step], judges: &[(Step, Judge)]) -> PolarsResult<Vec<Named>> {
    let mut fails: Vec<Vec<usize>> = vec![Vec::new(); frame.height()];
    for (number, step) in (1..).zip(steps) {
        let failed = match judges.iter().find(|(known, _)| known == step) {
            Some((_, judge)) => judge.failed(frame)?,
            // A step without thresholds says what it said.
            None => match frame.column(&format!("{}.{FAILED}", step.name())) {
                Ok(_) => texts(frame, &format!("{}.{FAILED}", step.name()))?.iter().map(Option::is_some).collect(),
                Err(_) => continue,
            },
        };
        fails.iter_mut().zip(failed).filter(|(_, failed)| *failed).for_each(|(fails, _)| fails.push(number));
    }
    let number =
        |reason: Option<String>| steps.iter().position(|step| Some(step.name()) == reason.as_deref()).map(|at| at + 1);
    let (ids, pieces) = (texts(frame, "id")?, numbers(frame, "piece")?);
    let (digests, reasons) = (texts(frame, "sha256")?, texts(frame, "reason")?);
    let (tokens, duplicates) = (numbers(frame, "tokens")?, texts(frame, "duplicate_of")?);
    let rows = fails.into_iter().enumerate().map(|(i, fails)| {
        let row = Row {
            digest: digests[i].clone().unwrap_or_default(),
            tokens: tokens[i].unwrap_or(0.0) as u64,
            now: number(reasons[i].clone()),
            fails,
            is_duplicate: duplicates[i].is_some(),
        };
        let name = crate::signals::name_of(ids[i].as_deref().unwrap_or_default(), pieces[i].unwrap_or(0.0) as u32);
        (row, (name, duplicates[i].clone()))
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

    fn add(&mut self, row: &Row, then: Option<usize>) {
        match row.now {
            Some(step) => self.by_step[step - 1].0.add(row.tokens),
            None => self.now.add(row.tokens),
        }
        match then {
            Some(step) => self.by_step[step - 1].1.add(row.tokens),
            None => self.then.add(row.tokens),
        }
        match (row.now, then) {
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
    let steps = config.steps();
    for (key, _) in overrides {
        let fail = |problem: String| Err(Error::Config { key: format!("preprocess.{key}"), problem });
        let name = key.split('.').next().unwrap_or_default();
        let Some(step) = Step::ALL.into_iter().find(|step| step.name() == name) else {
            let known: Vec<&str> = Judge::all(config).iter().map(|(step, _)| step.name()).collect();
            return fail(format!("belongs to no step that can be judged anew; those are {}", known.join(", ")));
        };
        if !steps.contains(&step) {
            return fail(format!("belongs to a step that was not taken: add \"{name}\" to preprocess.steps and run"));
        }
        if !Judge::decides(config, step, key) {
            return fail("changes texts or compares them, which no signal tells: set it and run".to_owned());
        }
    }
    Ok(())
}
