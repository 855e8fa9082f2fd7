//! The commands, one per file: each reads its arguments, calls the rest, and prints.

pub mod chat;
pub mod data;
pub mod doctor;
pub mod evaluate;
pub mod export;
pub mod generate;
mod generator;
pub mod import;
pub mod init;
pub mod judge;
pub mod plan;
pub mod run;
pub mod runs;
pub mod schema;
pub mod serve;
pub mod shard;
pub mod sweep;
pub mod trace;
pub mod ui;
pub mod verify;
pub mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use artifact::{Cancel, StoreLayout};
use registry::gguf::LinkedFolder;

use crate::cli::{ConfigArgs, StoreArgs};
use crate::config::{self, Config, Loaded};
use crate::platform::host::host;
use crate::platform::log::{log_and_trace, log_to};
use crate::run::names;
use crate::run::record::{self, Run};
use crate::run::session::{self, Session};
use crate::run::stage::Stage;
use crate::ui::console::Console;

/// Prints to stdout; [`crate::main`] handles the error of a closed pipe.
macro_rules! print_out {
    ($($argument:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($argument)*)))
    };
}
pub(crate) use print_out;

/// What a first Ctrl-C prints while stages run.
const STOPPING: &str = "Stopping at the next safe point; press Ctrl-C again to abort.";

/// Opens the configuration that `arguments` name: what every command that plans or runs stages begins with. With
/// `listen`, signals request a safe stop.
fn open(arguments: &ConfigArgs, listen: bool) -> anyhow::Result<Session> {
    let loaded = load(arguments)?;
    let console = Console::new();
    log_to(&console, "");
    for notice in &loaded.notices {
        console.line(notice);
    }
    let cancel = if listen { session::listen(&console, STOPPING)? } else { Cancel::default() };
    Session::open(loaded, console, cancel, arguments.offline)
}

/// Loads the configuration that `arguments` name, with their other options.
fn load(arguments: &ConfigArgs) -> Result<Loaded, config::ConfigError> {
    let mut loaded = config::load(&arguments.config, &arguments.overrides)?;
    loaded.config.collect.locked = arguments.locked;
    Ok(loaded)
}

/// Returns the store of a command that has no configuration.
fn layout(arguments: &StoreArgs) -> anyhow::Result<StoreLayout> {
    if let Some(store) = &arguments.store {
        return Ok(StoreLayout::new(store.clone()));
    }
    Ok(match here()? {
        Some(loaded) => loaded.layout(),
        None => StoreLayout::new(Config::default().store),
    })
}

/// Returns the configuration of the current folder, if it has one.
fn here() -> anyhow::Result<Option<Loaded>> {
    let path = Path::new(config::FILE_NAME);
    if path.is_file() { Ok(Some(config::load_without_data(path)?)) } else { Ok(None) }
}

/// A model to generate with or to serve.
struct Model {
    /// The folder in the Hugging Face layout.
    folder: Folder,
    /// The configuration of the run that trained it, if one did, by [`Loaded::into_config`].
    config: Option<Config>,
    /// The folder of the index of its training data, if that run has one.
    index: Option<PathBuf>,
    /// That run.
    run: Option<Run>,
}

impl Model {
    /// Returns a model that is of no run.
    fn outside(folder: Folder) -> Self {
        Self { folder, config: None, index: None, run: None }
    }
}

/// A folder in the Hugging Face layout.
enum Folder {
    /// One that exists.
    Path(PathBuf),
    /// One that stands for a GGUF file while it is loaded.
    Linked(LinkedFolder),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Linked(folder) => folder.path(),
        }
    }
}

/// Returns the folder in the Hugging Face layout of the model in a GGUF file, which is in the store from now on: the
/// same file is not converted again.
fn imported_gguf(path: &Path, layout: &StoreLayout) -> anyhow::Result<PathBuf> {
    let store = layout.artifacts();
    let _lock = store.lock()?;
    let sealed = registry::Model::of_gguf(path)?.seal(&store, host())?;
    Ok(registry::verified(&sealed)?)
}

/// Returns the model that `name` means: a folder in the Hugging Face layout, a GGUF file, an imported model, or the
/// bundle of a run.
fn model(name: &str, arguments: &StoreArgs) -> anyhow::Result<Model> {
    let folder = Path::new(name);
    if folder.join("config.json").is_file() {
        return Ok(Model::outside(Folder::Path(folder.to_owned())));
    }
    if folder.is_dir() && !folder.join(record::RECORD).is_file() {
        bail!("{name} has neither config.json (a model) nor {} (a run)", record::RECORD);
    }
    if registry::gguf::is_gguf(folder) {
        return Ok(Model::outside(Folder::Linked(LinkedFolder::of(folder)?)));
    }
    let layout = layout(arguments)?;
    if let Some((sealed, _)) = registry::names::find(&layout, name)? {
        return Ok(Model::outside(Folder::Path(registry::verified(&sealed)?)));
    }
    let run = names::find_with(&layout, name, Stage::Train)?;
    let stage = if run.stage(Stage::Optimize).is_some() { Stage::Optimize } else { Stage::Train };
    let sealed = run.artifact(stage)?;
    let config = config::load(&run.folder.join(config::FILE_NAME), &[])?.into_config();
    let index = run.stage(Stage::Index).map(|index| run.artifact_folder(index));
    Ok(Model { folder: Folder::Path(registry::verified(&sealed)?), config: Some(config), index, run: Some(run) })
}

/// Returns the name of `run` on a command line in the current folder.
fn name_of(run: &Run) -> String {
    let by_name = layout(&StoreArgs { store: None }).and_then(|layout| names::find(&layout, &run.record.name));
    match by_name {
        Ok(found) if found.folder == run.folder => run.record.name.clone(),
        _ => run.folder.display().to_string(),
    }
}

/// Returns how this program was called, so that the commands that it suggests can be copied.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "pipeline".to_owned())
}

/// Prints text and flushes.
fn print_now(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}
