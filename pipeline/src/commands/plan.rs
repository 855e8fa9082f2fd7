//! `plan`: what a run would do, and what training would cost.

use crate::cli::PlanArgs;
use crate::run::catalog;
use crate::run::engine;
use crate::run::estimate;
use crate::run::input_model::InputModels;
use crate::run::plan::Decision;
use crate::run::stage::{Artifacts, Stage};

use super::print_out;

/// Runs the command.
pub fn run(arguments: &PlanArgs) -> anyhow::Result<()> {
    let session = super::open(&arguments.config, false)?;
    let raw_data = engine::raw_data(&session, arguments.selection.last())?;
    let earlier = catalog::earlier_recipes(&session.layout)?;
    let planner = session.planner(&raw_data, &earlier, &arguments.selection);
    let InputModels { init, teacher, reference, classifier } = &raw_data.models;
    for (name, model) in [("init", init), ("teacher", teacher), ("reference", reference), ("classifier", classifier)] {
        if let Some(model) = model {
            print_out!("{name:>10}  {}", model.about)?;
        }
    }
    let mut made = Artifacts::new();
    for stage in planner.selection.stages() {
        match planner.decide(stage, &made)? {
            Decision::Skip(sealed) => {
                print_out!("{stage:>10}  skip  nothing changed: {}", sealed.manifest().headline)?;
                made.insert(stage, *sealed);
            }
            Decision::Run { reasons, .. } => {
                for (i, reason) in reasons.iter().enumerate() {
                    let (name, what) = if i == 0 { (stage.name(), "run") } else { ("", "") };
                    print_out!("{name:>10}  {what:4}  {reason}")?;
                }
            }
            Decision::Wait(upstream) if planner.earlier.contains_key(&stage) => {
                let artifacts: Vec<&str> = upstream.iter().map(|stage| stage.artifact()).collect();
                print_out!("{stage:>10}  maybe (depends on: {})", artifacts.join(", "))?;
            }
            Decision::Wait(_) => print_out!("{stage:>10}  run   never run before")?,
        }
    }
    if planner.selection.stages().any(|stage| stage == Stage::Train) {
        print_out!("\n{}", estimate::training(&planner, &made)?)?;
    }
    Ok(())
}
