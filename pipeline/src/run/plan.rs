//! Which stages must run, and why. `plan` prints it and `run` does it.

use std::collections::BTreeMap;

use artifact::{Recipe, Sealed, Store};
use clap::Args;

use crate::config::Config;
use crate::run::dispatch::RawData;
use crate::run::stage::{Artifacts, Stage};

/// Which stages are asked for.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Begin at this stage (collect, preprocess, train, optimize, index, evaluate, generate or serve); the stages
    /// before it must be done
    #[arg(long, value_name = "STAGE", value_enum, hide_possible_values = true)]
    pub from: Option<Stage>,
    /// End with this stage
    #[arg(long, value_name = "STAGE", value_enum, hide_possible_values = true)]
    pub until: Option<Stage>,
    /// Run the selected stages even if nothing changed
    #[arg(long)]
    pub force: bool,
}

impl Selection {
    /// Returns the stages up to the last selected one, including those before the first.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        let last = self.last();
        Stage::ALL.into_iter().filter(move |stage| *stage <= last)
    }

    /// Returns the last selected stage.
    pub fn last(&self) -> Stage {
        self.until.unwrap_or(Stage::Serve)
    }

    /// Returns true if later stages run although the gates of stage evaluate failed: with `--force`, for them alone.
    pub fn ignores_gates(&self) -> bool {
        self.force && self.before(Stage::Evaluate)
    }

    fn before(&self, stage: Stage) -> bool {
        self.from.is_some_and(|from| stage < from)
    }
}

/// What to do about a stage.
#[derive(Debug)]
pub enum Decision {
    /// Nothing: its artifact is up to date.
    Skip(Box<Sealed>),
    /// Run it, for these reasons.
    Run {
        /// What decides the output.
        recipe: Box<Recipe>,
        /// Why, the most important first; never empty.
        reasons: Vec<String>,
    },
    /// It depends on the output of these earlier stages, which must run first.
    Wait(Vec<Stage>),
}

/// What the decisions depend on.
#[derive(Debug)]
pub struct Planner<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The artifacts.
    pub store: &'a Store,
    /// The raw data as it is now.
    pub raw_data: &'a RawData,
    /// The class of the device.
    pub device_class: &'a str,
    /// The recipe of each stage's last artifact.
    pub earlier: &'a BTreeMap<Stage, Recipe>,
    /// The selected stages.
    pub selection: &'a Selection,
}

impl Planner<'_> {
    /// Decides about `stage`, given the artifacts so far.
    ///
    /// # Errors
    /// Returns an error if an artifact cannot be read, or a stage before `--from` is not done.
    pub fn decide(&self, stage: Stage, made: &Artifacts) -> anyhow::Result<Decision> {
        let recipe = match stage.recipe(self.config, self.raw_data, made, self.device_class) {
            Ok(recipe) => recipe,
            Err(upstream) => return Ok(Decision::Wait(upstream)),
        };
        let force = self.selection.force && !self.selection.before(stage);
        if let (false, Some(sealed)) = (force, self.store.find(&recipe)?) {
            return Ok(Decision::Skip(Box::new(sealed)));
        }
        let reasons = if force { vec!["--force".to_owned()] } else { self.reasons(stage, &recipe) };
        if self.selection.before(stage) {
            anyhow::bail!(
                "--from {} needs stage {stage} to be done for this configuration, but it is not: {}; \
                 run without --from",
                self.selection.from.unwrap_or(stage),
                reasons.join("; ")
            );
        }
        Ok(Decision::Run { recipe: Box::new(recipe), reasons })
    }

    fn reasons(&self, stage: Stage, recipe: &Recipe) -> Vec<String> {
        let folder = self.store.folder(recipe);
        let changes: Vec<String> = match self.earlier.get(&stage) {
            Some(earlier) => recipe.changes_since(earlier).iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        };
        if !changes.is_empty() {
            return changes;
        }
        let has = |name: &str| folder.join(name).exists();
        let reason = if has(artifact::manifest::FILE_NAME) {
            "files of its artifact are missing or truncated"
        } else if self.store.has_work(recipe) {
            "an earlier attempt was interrupted"
        } else if self.earlier.contains_key(&stage) {
            "its artifact was deleted"
        } else {
            "never run before"
        };
        vec![reason.to_owned()]
    }
}

/// Returns the first `max` reasons in one line, and how many more there are.
pub fn in_short(reasons: &[String], max: usize) -> String {
    let shown = reasons.iter().take(max).cloned().collect::<Vec<_>>().join("; ");
    match reasons.len().saturating_sub(max) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
