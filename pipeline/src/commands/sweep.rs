//! `sweep`: runs the trials of a sweep and compares them.

use anyhow::bail;
use artifact::file;

use crate::cli::experiments::SweepArgs;
use crate::run::session;
use crate::sweep::config::Sweep;
use crate::sweep::{self, Results, report, search};
use crate::ui::console::Console;

use super::print_out;

/// The files in the folder of a sweep.
const RESULTS: &str = "sweep.json";
const PAGE: &str = "report.html";

/// Runs the command.
pub fn run(arguments: &SweepArgs) -> anyhow::Result<()> {
    let sweep = Sweep::load(&arguments.sweep, arguments.seeds)?;
    let trials = search::trials(&sweep);
    sweep::check(&sweep, &trials)?;
    if arguments.plan {
        return plan(&sweep, &trials);
    }
    let console = Console::new();
    super::log_to(&console, "");
    let cancel = session::listen(&console, super::STOPPING)?;
    let folder = sweep::folder(&sweep::layout(&sweep)?, &sweep);
    file::create_folder(&folder)?;
    let save = |results: &Results| {
        file::write_atomically(&folder.join(PAGE), report::html(results)?.as_bytes())?;
        Ok(file::write_atomically(&folder.join(RESULTS), &serde_json::to_vec_pretty(results)?)?)
    };
    let results = sweep::run(&sweep, &trials, &console, &cancel, arguments.offline, save)?;
    print_out!("\n{}", report::table(&results))?;
    let ranked = results.ranked();
    let Some(best) = ranked.first().filter(|trial| trial.mean.is_some()) else {
        bail!("no trial of sweep {} has a figure {}; `pipeline runs` shows why", sweep.name, sweep.metric);
    };
    print_out!("\n{}", report::best_text(best))?;
    print_out!("read the report    {}", folder.join(PAGE).display())?;
    if let Some(run) = best.seeds.iter().find_map(|seed| seed.run.as_deref()) {
        print_out!("keep the best run  {} tag {run} best", super::program())?;
    }
    Ok(())
}

fn plan(sweep: &Sweep, trials: &[search::Trial]) -> anyhow::Result<()> {
    for trial in trials {
        print_out!("{:>5}  {}", trial.number, trial.text(None))?;
    }
    let mut candidates = trials.len();
    let mut runs = 0;
    for level in sweep.levels() {
        let count = candidates * sweep.n_seeds as usize;
        runs += count;
        if let Some((key, value)) = level {
            print_out!("{key} = {value}: {candidates} trials")?;
        }
        candidates = candidates.div_ceil(sweep.factor());
    }
    print_out!("{runs} runs up to stage {}, compared by {}", sweep.until, sweep.metric)?;
    Ok(())
}
