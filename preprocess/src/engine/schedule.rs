//! All steps over all documents, as few passes as their order allows.
//!
//! A step that looks at one document alone runs in a pass; one that compares documents (duplicates, repeated lines) runs
//! between two passes, on what the pass before it noted of each document.

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

/// Memory for what compares all documents, in bytes: beyond it the disk is used. A guess: a quarter of what the whole
/// stage shall take at most.
const MEMORY_BYTES: u64 = 512 << 20;

/// A pass, and the comparisons that follow it.
#[derive(Debug, Default, PartialEq)]
struct Round {
    /// Steps of the pass, each with its number from 1.
    mapped: Vec<(u16, Step)>,
    /// Steps that follow it.
    compared: Vec<(u16, Step)>,
}

/// Divides the steps into rounds.
fn rounds(steps: &[Step]) -> Vec<Round> {
    let mut rounds = vec![Round::default()];
    for (number, step) in (1..).zip(steps.iter().copied()) {
        let last = rounds.len() - 1;
        match step {
            Step::ExactDuplicates | Step::NearDuplicates => rounds[last].compared.push((number, step)),
            Step::Repeated => {
                rounds[last].compared.push((number, step));
                // What is found to repeat is removed by the pass that comes next.
                rounds.push(Round { mapped: vec![(number, step)], compared: Vec::new() });
            }
            step if rounds[last].compared.is_empty() => rounds[last].mapped.push((number, step)),
            step => rounds.push(Round { mapped: vec![(number, step)], compared: Vec::new() }),
        }
    }
    rounds
}

/// Does the first pass over part `part` of `parts` (from 1) of the corpus's files; what is done already is left alone.
pub(crate) fn part(
    config: &Config,
    corpus: &Sealed,
    work: &Path,
    (part, parts): (usize, usize),
    context: &Context,
) -> Result<(), Error> {
    let rounds = rounds(&config.steps());
    let files: Vec<usize> = (0..corpus::files(corpus).len()).filter(|file| file % parts == part - 1).collect();
    let pass = pass_of(config, &rounds[0], None, true, context)?;
    pass.run(&Input::Corpus(corpus), &root(work, 0), &files, context)
}

/// Takes all documents of `corpus` through all steps.
pub(crate) fn all(config: &Config, corpus: &Sealed, work: &Path, context: &Context) -> Result<Documents, Error> {
    let rounds = rounds(&config.steps());
    let files: Vec<usize> = (0..corpus::files(corpus).len()).collect();
    let mut documents = Documents::new(work);
    let mut repeats = None;
    for (i, round) in rounds.iter().enumerate() {
        let root = root(work, i);
        let pass = pass_of(config, round, repeats.take(), i == 0, context)?;
        let input = if i == 0 { Input::Corpus(corpus) } else { Input::Documents(&documents) };
        pass.run(&input, &root, &files, context)?;
        documents.after_pass(root, files.len())?;
        for (number, step) in &round.compared {
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

fn root(work: &Path, round: usize) -> PathBuf {
    work.join(format!("pass-{round}"))
}

fn pass_of(
    config: &Config,
    round: &Round,
    repeats: Option<repeated::Repeats>,
    is_first: bool,
    context: &Context,
) -> Result<Pass, Error> {
    let follows = |step| round.compared.iter().any(|(_, known)| *known == step);
    Ok(Pass {
        steps: Steps::new(config, &round.mapped, repeats, context)?,
        is_first,
        bands: follows(Step::NearDuplicates).then(|| minhash::Signer::new(&config.near_duplicates)),
        lines: follows(Step::Repeated).then(|| config.repeated.clone()),
    })
}

fn exact_duplicates(documents: &mut Documents, number: u16, context: &Context) -> Result<(), Error> {
    context.progress.begin("finding equal texts", 0, "documents");
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
    context.progress.begin("finding nearly equal texts", 0, "documents");
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

/// Who of several likes is kept: the one whose content has the smallest digest, so that neither names nor order count.
struct Ranks(Vec<Option<u32>>);

impl Ranks {
    fn new(documents: &Documents) -> Result<Self, Error> {
        let mut ranks = Vec::with_capacity(documents.len());
        for file in 0..documents.files() {
            let index = documents.index(file)?;
            let rank = |(at, entry): (usize, &Entry)| {
                // Half of the digest's first 64 bits; where two agree in them, the place in the corpus decides.
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
    Ok(repeated::find(&config.repeated, &documents.shards(), &rank, MEMORY_BYTES)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_divided_where_documents_are_compared() {
        use Step::{Code, ExactDuplicates, Length, NearDuplicates, Redact, Repair, Repeated};
        let check = |steps: &[Step], expected: &[(&[u16], &[u16])]| {
            let numbers = |steps: &[(u16, Step)]| steps.iter().map(|(number, _)| *number).collect::<Vec<u16>>();
            let found: Vec<_> = rounds(steps).iter().map(|r| (numbers(&r.mapped), numbers(&r.compared))).collect();
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
