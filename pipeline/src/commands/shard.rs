//! `run --shard`: one part of preprocess on this machine; a later run merges the parts.

use anyhow::{Context as _, bail};
use artifact::{Context, Recipe};

use crate::cli::RunArgs;
use crate::platform::interrupt::Interrupted;
use crate::run::dispatch::StageError;
use crate::run::engine;
use crate::run::session::Session;
use crate::run::stage::{Artifacts, Stage};

use super::print_out;

/// Part number `part`, from 1, of `parts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 1.
    pub part: usize,
    /// How many parts there are.
    pub parts: usize,
}

impl Shard {
    /// Parses `2/8`, or `auto/8` and `auto`, which use the variables of a batch scheduler: Slurm's
    /// `SLURM_ARRAY_TASK_ID`, counted from `SLURM_ARRAY_TASK_MIN`, and `SLURM_ARRAY_TASK_COUNT`; or the
    /// `JOB_COMPLETION_INDEX`, from 0, of an indexed Kubernetes job.
    fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let number = |name: &str| -> anyhow::Result<Option<usize>> {
            let Some(value) = variable(name) else { return Ok(None) };
            Ok(Some(
                value.trim().parse().with_context(|| format!("{name} is \"{value}\", which is not a whole number"))?,
            ))
        };
        let (part, parts) = match text.split_once('/') {
            Some((part, parts)) => (part, Some(parts)),
            None if text == "auto" => (text, None),
            None => bail!("--shard {text}: expected I/N such as 2/8, or auto/N"),
        };
        let parse =
            |text: &str| text.parse::<usize>().with_context(|| format!("--shard: {text} is not a whole number"));
        let parts = match parts {
            Some(parts) => parse(parts)?,
            None => number("SLURM_ARRAY_TASK_COUNT")?
                .context("--shard auto: SLURM_ARRAY_TASK_COUNT is not set; give the number of parts: auto/N")?,
        };
        let part = if part == "auto" {
            match (number("SLURM_ARRAY_TASK_ID")?, number("JOB_COMPLETION_INDEX")?) {
                (Some(id), _) => {
                    let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
                    id.checked_sub(first).context("SLURM_ARRAY_TASK_ID is below SLURM_ARRAY_TASK_MIN")? + 1
                }
                (None, Some(index)) => index + 1,
                (None, None) => {
                    bail!(
                        "--shard auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; give the part: I/N"
                    )
                }
            }
        } else {
            parse(part)?
        };
        if part == 0 || part > parts {
            bail!("--shard: part {part} of {parts} does not exist; parts are numbered from 1");
        }
        Ok(Self { part, parts })
    }
}

/// Runs the command.
pub fn run(arguments: &RunArgs, shard: &str) -> anyhow::Result<()> {
    let shard = Shard::parse(shard, |name| std::env::var(name).ok())?;
    let session = super::open(&arguments.config, true)?;
    let store = &session.store;
    let raw_data = engine::locked_raw_data(&session, Stage::Preprocess)?;
    let recipe = |stage: Stage, made: &Artifacts| {
        let recipe = stage.recipe(&session.loaded.config, &raw_data, made, session.device_class);
        recipe.map_err(|_| anyhow::anyhow!("stage {stage} depends on stages that have not run"))
    };
    let mut made = Artifacts::new();
    let corpus = store.find(&recipe(Stage::Collect, &made)?)?;
    let corpus =
        corpus.context("the corpus is not collected yet; collect it once, first: pipeline run --until collect")?;
    made.insert(Stage::Collect, corpus);
    let recipe = recipe(Stage::Preprocess, &made)?;
    if store.find(&recipe)?.is_some() {
        print_out!("Nothing to do: stage preprocess is finished.")?;
        return Ok(());
    }
    part(&session, recipe, &made, shard)?;
    print_out!(
        "Part {} of {} is done. When all are, `pipeline run` with the same configuration merges them and continues.",
        shard.part,
        shard.parts
    )?;
    Ok(())
}

fn part(session: &Session, recipe: Recipe, made: &Artifacts, shard: Shard) -> anyhow::Result<()> {
    let Session { loaded, store, console, .. } = session;
    // Without the store's lock: parts write to folders of their own, and several may run at once.
    let out = store.begin(recipe)?;
    let context = Context { progress: console.progress(Stage::Preprocess), ..session.context() };
    let done = Stage::preprocess_part(&loaded.config, made, &out, (shard.part, shard.parts), &context);
    console.clear();
    done.map_err(|error| match error {
        StageError::Interrupted(text) => Interrupted(text).into(),
        StageError::Failed(error) => anyhow::Error::from_boxed(error).context("stage preprocess failed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, variables: &[(&str, &str)], expected: Result<(usize, usize), &str>) {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        let found = Shard::parse(text, variable).map(|shard| (shard.part, shard.parts));
        assert_eq!(found.map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn a_part_is_given_or_read_from_the_scheduler() {
        check("2/8", &[], Ok((2, 8)));
        check("1/1", &[], Ok((1, 1)));
        check("auto/8", &[("JOB_COMPLETION_INDEX", "0")], Ok((1, 8)));
        check("auto/8", &[("SLURM_ARRAY_TASK_ID", "7")], Ok((8, 8)));
        let slurm = [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "9")];
        check("auto", &slurm, Ok((5, 9)));
        check("0/8", &[], Err("--shard: part 0 of 8 does not exist; parts are numbered from 1"));
        check("9/8", &[], Err("--shard: part 9 of 8 does not exist; parts are numbered from 1"));
        check("2", &[], Err("--shard 2: expected I/N such as 2/8, or auto/N"));
        check("two/8", &[], Err("--shard: two is not a whole number"));
        check(
            "auto/8",
            &[],
            Err("--shard auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; give the part: I/N"),
        );
        check(
            "auto",
            &slurm[..2],
            Err("--shard auto: SLURM_ARRAY_TASK_COUNT is not set; give the number of parts: auto/N"),
        );
        check(
            "auto/8",
            &[("SLURM_ARRAY_TASK_ID", "x")],
            Err("SLURM_ARRAY_TASK_ID is \"x\", which is not a whole number"),
        );
    }
}
