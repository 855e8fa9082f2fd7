//! `runs` and `show`: the runs of a store, and one of them.

use artifact::file::tidy;
use comfy_table::Table;

use crate::cli::{ShowArgs, StoreArgs};
use crate::config;
use crate::run::record::{self, Status};
use crate::run::stage::Stage;
use crate::ui::summary;
use artifact::format;

use super::print_out;

/// Lists the runs, earliest first.
pub fn list(arguments: &StoreArgs) -> anyhow::Result<()> {
    let layout = super::layout(arguments)?;
    let runs = record::list(&layout)?;
    if runs.is_empty() {
        return Ok(print_out!("no runs in {} yet; `pipeline run` makes one", tidy(&layout.runs()).display())?);
    }
    let mut table: Table = summary::new_table();
    table.set_header(["run", "started (UTC)", "status", "time", "stages run", "result"]);
    for run in &runs {
        let record = &run.record;
        let ran = record.stages.iter().filter(|stage| stage.ran).count();
        let result = [Stage::Evaluate, Stage::Train]
            .iter()
            .find_map(|stage| run.stage(*stage))
            .map_or(String::new(), |stage| stage.headline.clone());
        table.add_row([
            record.name.clone(),
            record.started.clone(),
            status(record.status).to_owned(),
            format::seconds(record.wall_seconds),
            format!("{ran} of {}", record.stages.len()),
            result,
        ]);
    }
    Ok(print_out!("{}", summary::text_of(&table))?)
}

/// Shows one run.
pub fn run(arguments: &ShowArgs) -> anyhow::Result<()> {
    let run = record::find(&super::layout(&arguments.store)?, &arguments.run)?;
    let record = &run.record;
    print_out!("run {}: {}, started {}, {}", record.name, status(record.status), record.started, {
        format::seconds(record.wall_seconds)
    })?;
    if let Some(error) = &record.error {
        print_out!("error: {error}")?;
    }
    print_out!(
        "pipeline {} ({}) on {}, {} cores, device {}",
        record.host.version,
        record.host.git_revision,
        record.host.platform,
        record.host.cores,
        record.host.device
    )?;
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
    print_out!("log            {}", run.folder.join("log.txt").display())?;
    let report = run.folder.join("report.html");
    if report.is_file() {
        print_out!("report         {}", report.display())?;
    }
    Ok(())
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Running => "running or killed",
        Status::Finished => "finished",
        Status::Interrupted => "interrupted",
        Status::Failed => "failed",
    }
}
