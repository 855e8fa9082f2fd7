//! `watch`: the progress of a run, from its record and its metrics.

use std::fs;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use artifact::format::{self, grouped};
use evaluate::curves::{Curves, smoothed};
use serde_json::Value;

use crate::cli::experiments::WatchArgs;
use crate::config;
use crate::run::record::{Run, Status, Unfinished};
use crate::run::stage::Stage;
use crate::run::values::number_text;
use crate::run::{liveness, names};
use crate::ui::{plot, summary};

use super::print_out;

/// The time between two looks at the files: heuristic, a person sees no difference at more.
const INTERVAL: Duration = Duration::from_secs(1);

/// The lines of the plot.
const PLOT_HEIGHT: usize = 10;

/// The widest plot, in columns.
const MAX_WIDTH: usize = 100;

/// Runs the command.
pub fn run(arguments: &WatchArgs) -> anyhow::Result<()> {
    let folder = names::find(&super::layout(&arguments.store)?, &arguments.run)?.folder;
    let is_terminal = std::io::stdout().is_terminal() && !arguments.once;
    let mut drawn: Vec<String> = Vec::new();
    loop {
        let run = Run::open(&folder)?;
        let is_alive = liveness::is_alive(&run);
        let view = View::of(&run, is_alive);
        if is_terminal {
            redraw(&mut drawn, view.screen())?;
        } else {
            // Plain lines, only what is new.
            let lines = view.lines();
            for line in lines.iter().filter(|line| !drawn.contains(line)) {
                print_out!("{line}")?;
            }
            drawn = lines;
        }
        if !is_alive || arguments.once {
            return Ok(());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Replaces the lines that were drawn by others.
fn redraw(drawn: &mut Vec<String>, lines: Vec<String>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if !drawn.is_empty() {
        // Up to the first line, and clear from there (ECMA-48: CPL, ED).
        write!(out, "\x1b[{}F\x1b[J", drawn.len())?;
    }
    for line in &lines {
        writeln!(out, "{line}")?;
    }
    *drawn = lines;
    out.flush()
}

/// What is shown of a run.
struct View {
    head: String,
    stages: Vec<String>,
    training: Vec<String>,
    curve: Vec<(f64, f64)>,
}

impl View {
    fn of(run: &Run, is_alive: bool) -> Self {
        let record = &run.record;
        let status = match record.status {
            Status::Running if is_alive => "running",
            Status::Running => "killed, or running on another machine",
            other => other.name(),
        };
        let at = match record.unfinished {
            Some(Unfinished { stage, .. }) => format!(", stage {stage}"),
            None => String::new(),
        };
        let stages = record.stages.iter().map(|stage| {
            let what = if stage.ran { format::seconds(stage.wall_seconds) } else { "skipped".to_owned() };
            format!("{:>10}  {what}: {}", stage.stage, stage.headline)
        });
        let metrics = metrics(run);
        let curves = Curves::read(&metrics);
        let is_training = record.unfinished.is_some_and(|unfinished| unfinished.stage == Stage::Train);
        Self {
            head: format!("run {}: {status}, started {}{at}", record.name, record.started),
            stages: stages.collect(),
            training: is_training.then(|| training(run, &metrics, &curves)).flatten().unwrap_or_default(),
            curve: smoothed(&curves.loss),
        }
    }

    fn lines(&self) -> Vec<String> {
        [self.head.clone()].into_iter().chain(self.stages.iter().cloned()).chain(self.training.clone()).collect()
    }

    fn screen(&self) -> Vec<String> {
        let width = summary::new_table().width().map_or(80, usize::from).min(MAX_WIDTH);
        let mut lines = self.lines();
        let plot = plot::plot(&self.curve, width, PLOT_HEIGHT);
        if !plot.is_empty() {
            lines.push(format!("{:>10}  training loss by step", ""));
            lines.extend(plot);
        }
        // A line that wraps would be two.
        lines.iter().map(|line| line.chars().take(width.max(20)).collect()).collect()
    }
}

/// Returns the lines of `metrics.jsonl`: of the training that is running, else of the checkpoint.
pub fn metrics(run: &Run) -> String {
    let of_checkpoint = run.stage(Stage::Train).map(|stage| run.artifact_folder(stage));
    let is_training = run.record.unfinished.is_some_and(|unfinished| unfinished.stage == Stage::Train);
    let folder = if is_training { run.unfinished_folder() } else { of_checkpoint };
    let bytes = folder.and_then(|folder| fs::read(folder.join("metrics.jsonl")).ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns where a training is: the last figures, and how long it will take.
fn training(run: &Run, metrics: &str, curves: &Curves) -> Option<Vec<String>> {
    let has_speed = |line: &Value| line["tokens_per_second"].is_number();
    let lines = metrics.lines().rev();
    let last = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(has_speed)?;
    let (step, speed) = (last["step"].as_u64()?, last["tokens_per_second"].as_f64()?);
    let steps = steps(run);
    let of = steps.map(|steps| format!(" of {}", grouped(steps))).unwrap_or_default();
    let mut parts = vec![format!("step {}{of}", grouped(step)), format!("loss {:.3}", last["loss"].as_f64()?)];
    if let Some((at, loss)) = curves.validation_loss.last() {
        parts.push(format!("validation loss {loss:.3} at step {}", grouped(*at as u64)));
    }
    let learning_rate = number_text(last["learning_rate"].as_f64()?);
    let mut speeds =
        vec![format!("learning rate {learning_rate}"), format!("{} tokens/s", grouped(speed.round() as u64))];
    if let (Some(steps), Some(tokens)) = (steps, last["tokens"].as_f64()) {
        let left = steps.saturating_sub(step) as f64 * tokens / step.max(1) as f64 / speed;
        speeds.push(format!("about {} left", format::seconds(left)));
    }
    Some(vec![format!("{:>10}  {}", "train", parts.join(", ")), format!("{:>10}  {}", "", speeds.join(", "))])
}

/// Returns the steps of the training, if the configuration gives them.
fn steps(run: &Run) -> Option<u64> {
    let config: toml::Table = toml::from_str(&fs::read_to_string(run.folder.join(config::FILE_NAME)).ok()?).ok()?;
    let steps = config.get("train")?.get("steps")?.as_integer()?;
    u64::try_from(steps).ok()
}
