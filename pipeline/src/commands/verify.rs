//! `verify`: rehashes the artifacts of a run, or repeats the run and compares.

use std::collections::BTreeMap;

use anyhow::bail;
use artifact::{Digest, Sealed, format};

use crate::cli::VerifyArgs;
use crate::run::names;
use crate::run::record::{Run, StageRecord};
use crate::run::repeat::{Repeated, differences, repeat};
use crate::run::session;
use crate::run::stage::Stage;
use crate::ui::console::Console;

use super::print_out;

/// Runs the command.
pub fn run(arguments: &VerifyArgs) -> anyhow::Result<()> {
    let run = names::find_with(&super::layout(&arguments.store)?, &arguments.run, Stage::Collect)?;
    if run.record.stages.is_empty() {
        bail!("run {} has no finished stage to verify", run.record.name);
    }
    let console = Console::new();
    super::log_to(&console, "");
    let mut bad = rehash(&run)?;
    if bad == 0 && arguments.rerun {
        bad = rerun(&run, &console)?;
    }
    if bad > 0 {
        bail!("run {} does not match its record: {bad} of {} stages", run.record.name, run.record.stages.len());
    }
    Ok(())
}

/// Rehashes every file of every artifact and follows the digests from stage to stage; returns the number of stages that
/// do not match.
fn rehash(run: &Run) -> anyhow::Result<usize> {
    let mut digests: BTreeMap<&str, Digest> = BTreeMap::new();
    let mut bad = 0;
    for record in &run.record.stages {
        let wrong = match Sealed::open(&run.artifact_folder(record)) {
            Err(error) => vec![error.to_string()],
            Ok(sealed) => complaints(record, &sealed, &digests),
        };
        digests.insert(record.stage.artifact(), record.digest);
        if wrong.is_empty() {
            let size = format::bytes(record.bytes);
            print_out!("{:>10}  ok    {size}, digest {}", record.stage, record.digest.short())?;
        } else {
            bad += 1;
            for complaint in wrong {
                print_out!("{:>10}  BAD   {complaint}", record.stage)?;
            }
        }
    }
    Ok(bad)
}

fn complaints(record: &StageRecord, sealed: &Sealed, digests: &BTreeMap<&str, Digest>) -> Vec<String> {
    let mut wrong: Vec<String> = sealed.verify().iter().map(ToString::to_string).collect();
    let manifest = sealed.manifest();
    if manifest.digest != record.digest {
        wrong.push(format!(
            "{} was overwritten by a later run: its digest is {}, this run's was {}",
            sealed.folder().display(),
            manifest.digest.short(),
            record.digest.short()
        ));
    }
    for input in record.stage.inputs() {
        let (read, made) = (manifest.recipe.inputs.get(input.artifact()), digests.get(input.artifact()));
        if read != made {
            let short = |digest: Option<&Digest>| digest.map_or_else(|| "none".to_owned(), Digest::short);
            wrong.push(format!(
                "it was made from {} {}, but the run's is {}",
                input.artifact(),
                short(read),
                short(made)
            ));
        }
    }
    wrong
}

/// Repeats the run in a temporary store and compares; returns how many stages differ.
fn rerun(run: &Run, console: &Console) -> anyhow::Result<usize> {
    print_out!("\nrepeating run {}", run.record.name)?;
    let mut bad = 0;
    let cancel = session::listen(console, super::STOPPING)?;
    repeat(run, console, cancel, false, |Repeated { then, now }| {
        let digests = (then.digest, now.digest());
        if digests.0 == digests.1 {
            return Ok(print_out!("{:>10}  same  digest {}", then.stage, digests.1.short())?);
        }
        bad += 1;
        print_out!("{:>10}  DIFFERS  digest {} then, {} now", then.stage, digests.0.short(), digests.1.short())?;
        for reason in differences(run, then, now) {
            print_out!("{:>10}           {reason}", "")?;
        }
        Ok(())
    })?;
    Ok(bad)
}
