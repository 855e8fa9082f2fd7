//! The corpus of a dataset or a run, collected if necessary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use artifact::{Cancel, Context, Sealed};

use crate::cli::data::CorpusArgs;
use crate::config::{self, Config, Loaded};
use crate::run::engine;
use crate::run::names;
use crate::run::plan::Selection;
use crate::run::session::{Session, listen};
use crate::run::stage::Stage;
use crate::ui::console::Console;

/// The folder of datasets, from the current one.
pub const DATASETS: &str = "datasets";

/// Returns the corpus that `arguments` name, and a context for further work on it.
pub fn corpus(arguments: &CorpusArgs) -> anyhow::Result<(Sealed, Context)> {
    let (console, cancel) = watched()?;
    if let Some(dataset) = dataset_folder(&arguments.name) {
        return of_dataset(&dataset, arguments.offline, &console, &cancel);
    }
    let layout = crate::commands::layout(&arguments.store)?;
    match names::find_with(&layout, &arguments.name, Stage::Collect) {
        Ok(run) => {
            let loaded = config::load(&run.folder.join(config::FILE_NAME), &[])?;
            Ok((run.artifact(Stage::Collect)?, session(loaded, arguments.offline, &console, &cancel)?.context()))
        }
        Err(error) => {
            let known = names(Path::new(DATASETS));
            if known.is_empty() {
                return Err(error);
            }
            bail!("there is no dataset or run `{}`; the datasets are {}", arguments.name, known.join(", "))
        }
    }
}

/// Returns the console, and a cancel that Ctrl-C requests. Must be called once.
pub fn watched() -> anyhow::Result<(Console, Cancel)> {
    let console = Console::new();
    crate::commands::log_to(&console, "");
    let cancel = listen(&console, crate::commands::STOPPING)?;
    Ok((console, cancel))
}

/// Opens a configuration whose device does not matter: stage collect does not compute.
pub fn session(mut loaded: Loaded, offline: bool, console: &Console, cancel: &Cancel) -> anyhow::Result<Session> {
    "cpu".clone_into(&mut loaded.config.device);
    Session::open(loaded, console.clone(), cancel.clone(), offline)
}

/// Returns the folder of the dataset that `name` means: a folder with a `dataset.toml`, here or in [`DATASETS`].
pub fn dataset_folder(name: &str) -> Option<PathBuf> {
    let folders = [PathBuf::from(name), Path::new(DATASETS).join(name)];
    folders.into_iter().find(|folder| folder.join("dataset.toml").is_file())
}

/// Returns the names of the datasets in `folder`, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let datasets = entries.filter(|entry| entry.path().join("dataset.toml").is_file());
    let mut names: Vec<String> = datasets.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Returns the configuration of a run over a dataset alone: with the store and the seed of the current folder's
/// configuration, if it has one, so that its runs reuse the corpus.
pub fn configuration(dataset: &Path) -> anyhow::Result<Loaded> {
    let here = crate::commands::here()?;
    let (config, base) = here.map_or((Config::default(), PathBuf::from(".")), |loaded| (loaded.config, loaded.base));
    let absolute = std::path::absolute(dataset).with_context(|| format!("cannot find {}", dataset.display()))?;
    let collect = data_ingest::Config {
        dataset: Some(absolute.to_string_lossy().into_owned()),
        sources: Vec::new(),
        ..config.collect
    };
    let config = Config { collect, store: config.store, seed: config.seed, name: config.name, ..Config::default() };
    Ok(Loaded { config, path: PathBuf::from(config::FILE_NAME), base, origins: BTreeMap::new(), notices: Vec::new() })
}

/// Returns the corpus of the dataset in a folder.
pub fn of_dataset(
    dataset: &Path,
    offline: bool,
    console: &Console,
    cancel: &Cancel,
) -> anyhow::Result<(Sealed, Context)> {
    let loaded = configuration(dataset)?;
    let session = session(loaded, offline, console, cancel)?;
    let _lock = session.store.lock()?;
    let raw_data = engine::locked_raw_data(&session, Stage::Collect)?;
    let selection = Selection { until: Some(Stage::Collect), ..Selection::default() };
    let earlier = BTreeMap::new();
    let made = engine::work(&session, &session.planner(&raw_data, &earlier, &selection), |_| Ok(()))?;
    let corpus = made.into_values().next().context("stage collect made nothing")?;
    Ok((corpus, session.context()))
}
