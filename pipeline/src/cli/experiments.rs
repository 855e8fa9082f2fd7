//! Arguments of the commands about runs.

use std::path::PathBuf;

use clap::Args;

use super::StoreArgs;
use crate::run::values::Condition;

/// Arguments of `runs`.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// Only runs for which this holds (may be repeated): status=finished, tag=best, a key of the configuration, or a
    /// figure of a stage; with =, !=, <, <=, > or >=
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub filters: Vec<Condition>,
    /// Sort by a key or a figure, smallest first; without it, the earliest run is first
    #[arg(long, value_name = "KEY")]
    pub sort: Option<String>,
    /// Sort the largest first
    #[arg(long, requires = "sort")]
    pub descending: bool,
    /// List only N runs: the first of --sort, else the newest
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Print the records as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A run's name, a tag, its folder, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Print the record, the resolved configuration and the folders as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// A run's name, a tag, its folder, or `latest`
    pub run: String,
    /// The tag; a run that has it loses it
    #[arg(value_name = "TAG")]
    pub tag: String,
    /// Remove the tag from the run instead
    #[arg(long)]
    pub remove: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The runs: names, tags, folders, or `latest`
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Remove them; without it, they are only listed
    #[arg(long)]
    pub yes: bool,
    /// Also remove unfinished work that no run names. Not while `run --shard` runs on another machine
    #[arg(long)]
    pub unfinished: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A run's name, a tag, its folder, or `latest`
    #[arg(value_name = "A")]
    pub a: String,
    /// The run to compare with it
    #[arg(value_name = "B")]
    pub b: String,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
    /// Also write it as one self-contained HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `export-run`.
#[derive(Debug, Args)]
pub struct ExportRunArgs {
    /// A run's name, a tag, its folder, or `latest`
    pub run: String,
    /// The archive to write [default: RUN.tar.zst]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `import-run`.
#[derive(Debug, Args)]
pub struct ImportRunArgs {
    /// An archive that `export-run` wrote
    #[arg(value_name = "FILE")]
    pub archive: PathBuf,
    /// Refuse an archive that unpacks to more than this many gigabytes
    #[arg(long, value_name = "GB", default_value_t = 64)]
    pub max_gigabytes: u64,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// A run's name, a tag, its folder, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// The largest relative difference of a figure at which the run still counts as reproduced
    #[arg(long, value_name = "FRACTION", default_value_t = 0.01)]
    pub tolerance: f64,
    /// Never use the network: downloads must be in the cache
    #[arg(long)]
    pub offline: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The sweep: its parameters and how to search them
    #[arg(value_name = "SWEEP", default_value = "sweep.toml")]
    pub sweep: PathBuf,
    /// Repeat each trial with N seeds, and give the mean with its 95 % interval [default: the sweep's, else 1]
    #[arg(long, value_name = "N")]
    pub seeds: Option<u32>,
    /// Print the trials, and run none
    #[arg(long)]
    pub plan: bool,
    /// Never use the network: downloads must be in the cache
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `ui`.
#[derive(Debug, Args)]
pub struct UiArgs {
    /// The port to listen on, on this machine only; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8090)]
    pub port: u16,
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// A run's name, a tag, its folder, or `latest`
    #[arg(default_value = "latest")]
    pub run: String,
    /// Print the present state once, and exit
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub store: StoreArgs,
}
