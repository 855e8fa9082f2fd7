//! `plan`: what a run would do, and what it would cost.

use artifact::Cancel;

use crate::cli::PlanArgs;
use crate::console::Console;
use crate::plan::{Decision, Planner, earlier_recipes};
use crate::stage::{Made, Stage};
use crate::{engine, estimate, runs};

use super::print_out;

/// Runs the command.
pub fn run(arguments: &PlanArgs) -> anyhow::Result<()> {
    let loaded = super::load(&arguments.config)?;
    let console = Console::new();
    super::log_to(&console, "");
    let root = loaded.store();
    let store = engine::artifacts(&root);
    let device_class = model::device::backend(&loaded.config.device)?.name();
    let context = engine::context(&loaded, device_class, arguments.config.offline, &console, &Cancel::default());
    let raw_data = engine::raw_data(&loaded, arguments.selection.last(), &context, &console)?;
    let runs = runs::list(&root)?;
    let planner = Planner {
        config: &loaded.config,
        store: &store,
        raw_data: &raw_data,
        device_class,
        earlier: &earlier_recipes(&runs),
        selection: &arguments.selection,
    };
    if let Some(init) = &raw_data.init {
        print_out!("{:>10}  {}", "init", init.about)?;
    }
    let mut made = Made::new();
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
                print_out!("{stage:>10}  run   unless these come out as before: {}", artifacts.join(", "))?;
            }
            Decision::Wait(_) => print_out!("{stage:>10}  run   never run before")?,
        }
    }
    if planner.selection.stages().any(|stage| stage == Stage::Train) {
        print_out!("\n{}", estimate::training(&planner, &made)?)?;
    }
    Ok(())
}
