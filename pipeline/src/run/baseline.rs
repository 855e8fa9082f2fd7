//! The report of an earlier run that stage evaluate compares with: `evaluate.gates.regression_vs`.

use anyhow::bail;
use artifact::{Digest, Sealed, StoreLayout};

use crate::config::Config;
use crate::run::catalog::Summary;
use crate::run::record::{self, Run};
use crate::run::stage::{Artifacts, Stage};
use crate::run::{catalog, names};

/// The name that means the newest suitable run.
pub const LAST: &str = "last";

/// What the input of a recipe is called before the run's name.
const INPUT: &str = "report of ";

/// A run to compare with.
#[derive(Debug, Clone)]
pub struct BaselineRun {
    /// Its name.
    pub name: String,
    /// The digest of the model that it evaluated.
    checkpoint: Digest,
    /// Its report.
    pub report: Sealed,
}

/// The runs that may be compared with, in the order of preference.
#[derive(Debug, Clone, Default)]
pub struct Baselines {
    runs: Vec<BaselineRun>,
    /// Whether the same model is no baseline.
    is_last: bool,
}

impl Baselines {
    /// Returns the run that the configuration names, or for `last` the newest runs of the same name that passed their
    /// gates.
    ///
    /// # Errors
    /// Returns an error if the configuration names a run that does not exist or has no report.
    pub fn find(config: &Config, layout: &StoreLayout) -> anyhow::Result<Self> {
        let Some(name) = &config.evaluate.gates.regression_vs else { return Ok(Self::default()) };
        if name != LAST {
            let run = names::find(layout, name)?;
            let report = run.artifact(Stage::Evaluate)?;
            let Some(run) = of_run(&run, report) else {
                bail!("evaluate.gates.regression_vs: run {name} has no model to compare with");
            };
            return Ok(Self { runs: vec![run], is_last: false });
        }
        let mut found = Self { runs: Vec::new(), is_last: true };
        let runs = catalog::summaries(layout)?;
        let with_report = |run: &&Summary| record::is_of(&run.name, &config.name) && run.has(Stage::Evaluate);
        for run in runs.iter().rev().filter(with_report).filter_map(|run| run.open(layout).ok()) {
            // One of two different models is another one than that of this run.
            if found.runs.iter().any(|other| other.checkpoint != found.runs[0].checkpoint) {
                break;
            }
            let report = run.artifact(Stage::Evaluate).ok();
            let report = report.filter(evaluate::is_comparable);
            let report = report.filter(|report| evaluate::failed_gates(report).is_empty());
            found.runs.extend(report.and_then(|report| of_run(&run, report)));
        }
        Ok(found)
    }

    /// Names the run that the report of `run` was compared with in its configuration, which repeats it: by then,
    /// another one may be the last.
    pub fn pin(config: &mut Config, run: &Run) {
        let inputs = run.stage(Stage::Evaluate).map(|report| report.recipe.inputs.keys());
        let name = inputs.into_iter().flatten().find_map(|input| input.strip_prefix(INPUT));
        config.evaluate.gates.regression_vs = name.map(str::to_owned);
    }

    /// Returns the run to compare the model in `made` with.
    pub fn for_model(&self, made: &Artifacts) -> Option<&BaselineRun> {
        let own = made.get(&Stage::Train).map(Sealed::digest);
        self.runs.iter().find(|run| !self.is_last || Some(run.checkpoint) != own)
    }
}

impl BaselineRun {
    /// Returns the name of its report among the inputs of a recipe.
    pub fn input(&self) -> String {
        format!("{INPUT}{}", self.name)
    }
}

fn of_run(run: &Run, report: Sealed) -> Option<BaselineRun> {
    Some(BaselineRun { name: run.record.name.clone(), checkpoint: run.stage(Stage::Train)?.digest, report })
}
