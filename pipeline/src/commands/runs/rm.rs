//! `rm`: removes the records of runs; their artifacts stay until `gc`.

use std::fs;

use anyhow::{Context as _, bail, ensure};
use artifact::StoreLayout;

use crate::cli::experiments::RmArgs;
use crate::commands::print_out;
use crate::run::names;
use crate::run::record::{Run, Status};

/// Runs the command.
pub fn run(arguments: &RmArgs) -> anyhow::Result<()> {
    let layout = crate::commands::layout(&arguments.store)?;
    // All are checked before the first is removed.
    let runs: Vec<Run> = arguments.runs.iter().map(|name| removable(&layout, name)).collect::<Result<_, _>>()?;
    for run in &runs {
        remove(run)?;
        print_out!("removed run {}", run.record.name)?;
    }
    print_out!("`pipeline gc` lists the artifacts that no run needs any more")?;
    Ok(())
}

fn removable(layout: &StoreLayout, name: &str) -> anyhow::Result<Run> {
    let run = names::find(layout, name)?;
    let own = run.layout().runs().join(&run.record.name);
    ensure!(
        fs::canonicalize(&own).ok() == fs::canonicalize(&run.folder).ok(),
        "{} is not in the folder of runs of a store; remove it by hand",
        run.folder.display()
    );
    if let Some(tags) = names::tags_by_run(&run.layout())?.get(&run.record.name) {
        let (name, tag) = (&run.record.name, &tags[0]);
        bail!("run {name} has the tag {tag}; remove it first: pipeline tag {name} {tag} --remove");
    }
    Ok(run)
}

fn remove(run: &Run) -> anyhow::Result<()> {
    // A run that may be running keeps its record: the store is locked while one does.
    let _lock = (run.record.status == Status::Running).then(|| run.layout().artifacts().lock()).transpose()?;
    let name = &run.record.name;
    // Renamed first, so that a crash leaves no run with some of its files.
    let trash = run.layout().runs().join(format!(".removed-{name}"));
    if trash.is_dir() {
        fs::remove_dir_all(&trash).with_context(|| format!("cannot remove {}", trash.display()))?;
    }
    fs::rename(&run.folder, &trash).with_context(|| format!("cannot remove run {name}"))?;
    fs::remove_dir_all(&trash).with_context(|| format!("cannot remove {}", trash.display()))
}
