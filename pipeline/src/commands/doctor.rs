//! `doctor`: what this machine has, and whether a run would find what it needs.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::Cancel;
use artifact::file::tidy;
use sysinfo::{Disks, System};

use crate::cli::DoctorArgs;
use crate::config::{self, Config, Loaded};
use crate::platform::host;
use crate::run::engine;
use crate::run::stage::Stage;
use crate::ui::console::Console;
use artifact::format;

use super::data::corpus::session;
use super::print_out;

/// Memory that the default run stays below, in bytes.
const DEFAULT_RUN_MEMORY_BYTES: u64 = 2_000_000_000;

/// Disk that the default run needs, in bytes: its artifacts take less, a second run beside it included.
const DEFAULT_RUN_DISK_BYTES: u64 = 1_000_000_000;

/// Runs the command. Missing things are printed and are not an error: people run it when something is missing.
pub fn run(arguments: &DoctorArgs) -> anyhow::Result<()> {
    super::log_to(&Console::new(), "");
    say("program", &format!("pipeline {}", host::VERSION))?;
    say("platform", &host::host().platform)?;
    say("cores", &host::cores().to_string())?;
    memory()?;
    for device in model::device::list() {
        let precisions: Vec<&str> = device.precisions.iter().map(|precision| precision.name()).collect();
        say("device", &format!("{}: {}, {}", device.name, device.description, precisions.join(" and ")))?;
    }
    let auto = model::device::describe("auto").unwrap_or_else(|error| error.to_string());
    say("auto takes", &auto)?;
    let loaded = arguments.config.is_file().then(|| config::load(&arguments.config, &[]));
    let loaded = match loaded {
        None => {
            say("configuration", &format!("no {}; `pipeline init` writes one", arguments.config.display()))?;
            None
        }
        Some(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            say("configuration", &format!("{error}{cause}"))?;
            None
        }
        Some(Ok(loaded)) => {
            say("configuration", &format!("{} is valid", loaded.path.display()))?;
            Some(loaded)
        }
    };
    let store = loaded.as_ref().map_or_else(|| Config::default().store, |loaded| loaded.layout().root().to_owned());
    disk(&store)?;
    say("store", &folder_size(&store))?;
    crate_sources()?;
    if let Some(loaded) = &loaded {
        say("downloads", &folder_size(&loaded.base.join(&loaded.config.collect.cache)))?;
        data(loaded)?;
    }
    Ok(())
}

fn say(name: &str, what: &str) -> std::io::Result<()> {
    print_out!("{name:>14}  {what}")
}

fn memory() -> anyhow::Result<()> {
    let Ok(mut system) = System::new() else {
        return Ok(say("memory", "unknown")?);
    };
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.free_memory);
    let free = limit.map_or(system.available_memory(), |limit| limit.min(system.available_memory()));
    let note = if free < DEFAULT_RUN_MEMORY_BYTES { "; the default run may need more" } else { "" };
    let (free, total) = (format::bytes(free), format::bytes(system.total_memory()));
    Ok(say("memory", &format!("{free} free of {total}{note}"))?)
}

fn disk(store: &Path) -> anyhow::Result<()> {
    let absolute = std::path::absolute(store).unwrap_or_else(|_| store.to_owned());
    let disks = Disks::new_with_refreshed_list();
    let holding = disks
        .iter()
        .flat_map(|disks| disks.iter())
        .filter(|disk| absolute.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().components().count());
    let text = match holding {
        None => "unknown".to_owned(),
        Some(disk) => {
            let free = disk.available_space();
            let note = if free < DEFAULT_RUN_DISK_BYTES { "; the default run may need more" } else { "" };
            format!("{} free for {}{note}", format::bytes(free), store.display())
        }
    };
    Ok(say("disk", &text)?)
}

fn folder_size(folder: &Path) -> String {
    if !folder.is_dir() {
        return format!("{} does not exist yet", tidy(folder).display());
    }
    format!("{} in {}", format::bytes(size(folder)), tidy(folder).display())
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |m| m.len()),
        _ => 0,
    };
    entries.map(of).sum()
}

/// Says where Cargo keeps the sources of crates, of which the default dataset consists.
fn crate_sources() -> anyhow::Result<()> {
    let home =
        std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| std::env::home_dir().map(|h| h.join(".cargo")));
    let folder = home.unwrap_or_default().join("registry").join("src");
    let registries = fs::read_dir(&folder).into_iter().flatten().flatten();
    let crates: usize = registries.map(|registry| fs::read_dir(registry.path()).map_or(0, Iterator::count)).sum();
    let text = match crates {
        0 => format!("none in {}; `cargo fetch` downloads them", folder.display()),
        n => format!("{n} crates in {}", folder.display()),
    };
    Ok(say("crate sources", &text)?)
}

/// Says whether the configured data is available.
fn data(loaded: &Loaded) -> anyhow::Result<()> {
    let session = session(loaded.clone(), true, &Console::quiet(), &Cancel::default())?;
    let text = match engine::raw_data(&session, Stage::Collect) {
        Ok(raw_data) => match raw_data.sources() {
            1 => "the one source is available".to_owned(),
            n => format!("all {n} sources are available"),
        },
        Err(error) => format!("{error:#}"),
    };
    Ok(say("data", &text)?)
}
