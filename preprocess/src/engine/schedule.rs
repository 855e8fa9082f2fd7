//! Schedules the steps in as few passes over the documents as their order allows.
//!
//! A per-document step runs in a pass; a step that compares documents (duplicates, repeated lines) runs between two
//! passes, on records that the pass before it wrote for each document.

use std::path::{Path, PathBuf};

use artifact::{Context, Sealed};

use crate::config::Step;
use crate::dedup::{exact, minhash, near, repeated};
use crate::engine::corpus;
use crate::engine::documents::Documents;
use crate::engine::pass::{Input, Pass};
use crate::engine::spool::Entry;
use crate::engine::steps::Steps;
use crate::{Config, Error};

/// Memory for the comparison of all documents, in bytes; beyond it the disk is used. Heuristic, not measured: a quarter
/// of the maximum for the whole stage.
const MEMORY_BYTES: u64 = 512 << 20;

/// The plan of a pass and of the comparisons that follow it.
#[derive(Debug, Default, PartialEq)]
struct PassPlan {
    /// The per-document steps of the pass, each with its number from 1.
    mapped: Vec<(u16, Step)>,
    /// The comparing steps that follow it.
    compared: Vec<(u16, Step)>,
}

/// Divides the steps into passes.
fn plan_passes(steps: &[Step]) -> Vec<PassPlan> {
    let mut plans = vec![PassPlan::default()];
    for (number, step) in (1..).zip(steps.iter().copied()) {
        let last = plans.len() - 1;
        match step {
            Step::ExactDuplicates | Step::NearDuplicates => plans[last].compared.push((number, step)),
            Step::Repeated => {
                plans[last].compared.push((number, step));
                // The next pass removes the repeated lines.
                plans.push(PassPlan { mapped: vec![(number, step)], compared: Vec::new() });
            }
            step if plans[last].compared.is_empty() => plans[last].mapped.push((number, step)),
            step => plans.push(PassPlan { mapped: vec![(number, step)], compared: Vec::new() }),
        }
    }
    plans
}

/// Runs the first pass over part `part` of `parts` (from 1) of the corpus's files, except for those already done.
pub(crate) fn part(
    config: &Config,
    corpus: &Sealed,
    work: &Path,
    (part, parts): (usize, usize),
    context: &Context,
) -> Result<(), Error> {
    let plans = plan_passes(&config.steps());
    let files: Vec<usize> = (0..corpus::files(corpus).len()).filter(|file| file % parts == part - 1).collect();
    let pass = pass_of(config, &plans[0], None, true, context)?;
    pass.run(&Input::Corpus(corpus), &root(work, 0), &files, context)
}

/// Runs all steps on all documents of `corpus`.
pub(crate) fn all(config: &Config, corpus: &Sealed, work: &Path, context: &Context) -> Result<Documents, Error> {
    let plans = plan_passes(&config.steps());
    let files: Vec<usize> = (0..corpus::files(corpus).len()).collect();
    let mut documents = Documents::new(work);
    let mut repeats = None;
    for (i, plan) in plans.iter().enumerate() {
        let root = root(work, i);
        let pass = pass_of(config, plan, repeats.take(), i == 0, context)?;
        let input = if i == 0 { Input::Corpus(corpus) } else { Input::Documents(&documents) };
        pass.run(&input, &root, &files, context)?;
        documents.after_pass(root, files.len())?;
        for (number, step) in &plan.compared {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            match step {
                Step::ExactDuplicates => exact_duplicates(&mut documents, *number, context)?,
                Step::NearDuplicates => near_duplicates(config, &mut documents, *number, context)?,
                _ => repeats = Some(find_repeats(config, &documents, context)?),
            }
        }
    }
    Ok(documents)
}

fn root(work: &Path, pass: usize) -> PathBuf {
    work.join(format!("pass-{pass}"))
}

fn pass_of(
    config: &Config,
    plan: &PassPlan,
    repeats: Option<repeated::Repeats>,
    is_first: bool,
    context: &Context,
) -> Result<Pass, Error> {
    let follows = |step| plan.compared.iter().any(|(_, known)| *known == step);
    Ok(Pass {
        steps: Steps::new(config, &plan.mapped, repeats, context)?,
        is_first,
        bands: follows(Step::NearDuplicates).then(|| minhash::Signer::new(&config.near_duplicates)),
        lines: follows(Step::Repeated).then(|| config.repeated.clone()),
    })
}

fn exact_duplicates(documents: &mut Documents, number: u16, context: &Context) -> Result<(), Error> {
    context.progress.begin("finding exact duplicates", 0, "documents");
    let ranks = Ranks::new(documents)?;
    let scan = |push: &mut dyn FnMut(u32, &[u8; 32])| {
        for file in 0..documents.files() {
            for (at, entry) in documents.index(file)?.iter().enumerate() {
                push(documents.number(file, at), entry.digest.as_bytes());
            }
        }
        Ok::<(), Error>(())
    };
    let duplicates = exact::duplicates(documents.len() as u32, scan, &|document| ranks.of(document), MEMORY_BYTES)?;
    documents.drop_duplicates(duplicates, number);
    Ok(())
}

fn near_duplicates(config: &Config, documents: &mut Documents, number: u16, context: &Context) -> Result<(), Error> {
    context.progress.begin("finding near duplicates", 0, "documents");
    let ranks = Ranks::new(documents)?;
    let read = |document| {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        let (file, at) = documents.place(document);
        Ok(documents.body(file, at)?.text().into_owned())
    };
    let rank = |document| ranks.of(document);
    let duplicates = near::duplicates(&config.near_duplicates, &documents.shards(), &rank, MEMORY_BYTES, &read)?;
    documents.drop_duplicates(duplicates, number);
    Ok(())
}

/// The ranks that decide which duplicate is kept: the one with the smallest digest, so that neither names nor order
/// matter.
struct Ranks(Vec<Option<u32>>);

impl Ranks {
    fn new(documents: &Documents) -> Result<Self, Error> {
        let mut ranks = Vec::with_capacity(documents.len());
        for file in 0..documents.files() {
            let index = documents.index(file)?;
            let rank = |(at, entry): (usize, &Entry)| {
                // The first 32 bits of the digest; if two documents agree in them, the position in the corpus decides.
                (documents.dropped_by(file, at) == 0).then_some((entry.draw() >> 32) as u32)
            };
            ranks.extend(index.iter().enumerate().map(rank));
        }
        Ok(Self(ranks))
    }

    fn of(&self, document: u32) -> Option<u32> {
        self.0[document as usize]
    }
}

fn find_repeats(config: &Config, documents: &Documents, context: &Context) -> Result<repeated::Repeats, Error> {
    context.progress.begin("finding repeated lines", 0, "documents");
    let ranks = Ranks::new(documents)?;
    let rank = |document| ranks.of(document);
    repeated::find(&config.repeated, &documents.shards(), &rank, MEMORY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_divided_into_passes_at_comparisons() {
        use Step::{Code, ExactDuplicates, Length, NearDuplicates, Redact, Repair, Repeated};
        let check = |steps: &[Step], expected: &[(&[u16], &[u16])]| {
            let numbers = |steps: &[(u16, Step)]| steps.iter().map(|(number, _)| *number).collect::<Vec<u16>>();
            let found: Vec<_> = plan_passes(steps).iter().map(|r| (numbers(&r.mapped), numbers(&r.compared))).collect();
            let expected: Vec<_> = expected.iter().map(|(m, c)| (m.to_vec(), c.to_vec())).collect();
            assert_eq!(found, expected, "{steps:?}");
        };
        check(&[], &[(&[], &[])]);
        check(&[Repair, Length, ExactDuplicates], &[(&[1, 2], &[3])]);
        check(&[ExactDuplicates, NearDuplicates, Repair], &[(&[], &[1, 2]), (&[3], &[])]);
        check(&[Repair, Repeated, Code, NearDuplicates], &[(&[1], &[2]), (&[2, 3], &[4])]);
        check(&[ExactDuplicates, Repeated, Redact], &[(&[], &[1, 2]), (&[2, 3], &[])]);
    }
}
