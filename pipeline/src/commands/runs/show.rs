//! `show`: one run, and where and why it stopped.

use std::fs;

use artifact::format;
use serde_json::{Value, json};

use crate::cli::experiments::ShowArgs;
use crate::commands::print_out;
use crate::config;
use crate::run::record::{Run, Status, Unfinished};
use crate::run::stage::Stage;
use crate::run::{liveness, names};
use crate::ui::summary;

/// The lines of the log that are shown of a run that stopped.
const LOG_LINES: usize = 6;

/// Shows one run.
pub fn run(arguments: &ShowArgs) -> anyhow::Result<()> {
    let layout = crate::commands::layout(&arguments.store)?;
    let run = names::find(&layout, &arguments.run)?;
    let tags = names::tags_by_run(&run.layout())?.remove(&run.record.name).unwrap_or_default();
    if arguments.json {
        return Ok(print_out!("{:#}", as_json(&run, &tags)?)?);
    }
    let record = &run.record;
    print_out!(
        "run {}{}: {}, started {}, {}",
        record.name,
        if tags.is_empty() { String::new() } else { format!(" ({})", tags.join(", ")) },
        record.status.name(),
        record.started,
        format::seconds(record.wall_seconds)
    )?;
    print_out!(
        "pipeline {} ({}) on {}, {} cores, device {}",
        record.host.version,
        record.host.git_revision,
        record.host.platform,
        record.host.cores,
        record.host.device
    )?;
    if record.status != Status::Finished {
        stopped(&run)?;
    }
    print_out!("\n{}", summary::table(&run))?;
    if let Some(compression) = run.artifact(Stage::Evaluate).ok().as_ref().and_then(summary::bits_per_byte) {
        print_out!("\n{compression}")?;
    }
    print_out!("")?;
    for stage in &record.stages {
        print_out!("{:>10}  {}: {}", stage.stage, if stage.ran { "ran" } else { "skipped" }, stage.reason)?;
        print_out!("{:>10}  {}", "", run.artifact_folder(stage).display())?;
    }
    print_out!("\nconfiguration  {}", run.folder.join(config::FILE_NAME).display())?;
    print_out!("log            {}", run.log().display())?;
    let report = run.folder.join("report.html");
    if report.is_file() {
        print_out!("report         {}", report.display())?;
    }
    Ok(())
}

/// Prints where a run that did not finish stopped, why, what it left, and how to continue.
fn stopped(run: &Run) -> anyhow::Result<()> {
    let record = &run.record;
    let is_alive = liveness::is_alive(run);
    let verb = match record.status {
        Status::Running if is_alive => "runs in",
        Status::Running => "was killed, or runs on another machine, in",
        Status::Interrupted => "was interrupted in",
        Status::Failed | Status::Finished => "failed in",
    };
    match record.unfinished {
        Some(Unfinished { stage, .. }) => print_out!("\n{:<11}{verb} stage {stage}", "where")?,
        None => match record.stages.last() {
            Some(stage) => print_out!("\n{:<11}after stage {}", "where", stage.stage)?,
            None => print_out!("\n{:<11}before the first stage", "where")?,
        },
    }
    if let Some(error) = &record.error {
        print_out!("{:<11}{error}", "error")?;
    }
    if let (Some(folder), Some(Unfinished { stage, .. })) =
        (run.unfinished_folder().filter(|f| f.is_dir()), record.unfinished)
    {
        let next = match stage {
            Stage::Preprocess | Stage::Train => "the next attempt continues from what is complete there",
            _ => "the next attempt begins this stage again",
        };
        print_out!("{:<11}{}: {next}", "left", folder.display())?;
    }
    let log = fs::read_to_string(run.log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    if !lines.is_empty() {
        print_out!("{:<11}{}, which ends", "log", run.log().display())?;
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            print_out!("{:<11}  {}", "", line.trim_start())?;
        }
    }
    let config = run.folder.join(config::FILE_NAME);
    let command = format!("{} run {}", crate::commands::program(), config.display());
    let next = match record.status {
        Status::Failed => format!("remove the cause, then `{command}`: finished stages are skipped"),
        Status::Running if is_alive => format!("{} watch {}", crate::commands::program(), record.name),
        _ => format!("`{command}` continues"),
    };
    Ok(print_out!("{:<11}{next}", "what to do")?)
}

fn as_json(run: &Run, tags: &[String]) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(&run.record)?;
    let stages = value["stages"].as_array_mut().into_iter().flatten();
    for (stage, record) in stages.zip(&run.record.stages) {
        stage["folder"] = json!(run.artifact_folder(record).display().to_string());
    }
    let config = fs::read_to_string(run.folder.join(config::FILE_NAME)).unwrap_or_default();
    value["tags"] = json!(tags);
    value["folder"] = json!(run.folder.display().to_string());
    value["log"] = json!(run.log().display().to_string());
    value["unfinished_folder"] = json!(run.unfinished_folder().map(|folder| folder.display().to_string()));
    value["config"] = json!(toml::from_str::<toml::Table>(&config).ok());
    Ok(value)
}
