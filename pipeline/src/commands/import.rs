//! `import`: brings a model into the store, and checks a round trip.

use std::path::{Path, PathBuf};

use artifact::format::{self, grouped};
use artifact::{Context, Sealed};
use registry::{Model, Parity, names};
use serde_json::Value;

use crate::cli::models::ImportArgs;
use crate::config::Config;
use crate::platform::host::host;
use crate::run::stage::Stage;
use crate::run::{self, engine, model_ref, session};
use crate::ui::console::Console;

use super::print_out;

/// Runs the command.
pub fn run(arguments: &ImportArgs) -> anyhow::Result<()> {
    let console = Console::new();
    super::log_to(&console, "");
    let cancel = session::listen(&console, super::STOPPING)?;
    let here = super::here()?;
    let base = here.as_ref().map_or_else(|| PathBuf::from("."), |loaded| loaded.base.clone());
    let collect = here.map_or_else(Config::default, |loaded| loaded.config).collect;
    let context = Context {
        base,
        seed: 0,
        device: "cpu".to_owned(),
        offline: arguments.offline,
        progress: console.progress(Stage::Collect),
        cancel,
    };
    let layout = super::layout(&arguments.store)?;
    // A path on the command line is relative to the current folder.
    let origin = model_ref::origin(&arguments.model, Path::new("."), &layout)?;
    let name = arguments.name.clone().unwrap_or_else(|| origin.name(&arguments.model));
    run::names::ensure_importable(&layout, &name)?;
    let model = Model::find(&origin, arguments.update, &collect.fetch_options(), &context);
    console.clear();
    let model = model.map_err(|error| engine::import_failure(error.into()))?;
    let store = layout.artifacts();
    let _lock = store.lock()?;
    let sealed = model.seal(&store, host())?;
    let parity = registry::round_trip(&sealed, store.root())?;
    names::give(&layout, &name, &model.place, &sealed)?;
    print(&name, &model, &sealed, &parity)
}

fn print(name: &str, model: &Model, sealed: &Sealed, parity: &Parity) -> anyhow::Result<()> {
    let manifest = sealed.manifest();
    let count = |key: &str| grouped(manifest.counts.get(key).and_then(Value::as_u64).unwrap_or(0));
    print_out!("imported {} as {name}", model.place)?;
    print_out!("  model       {}", manifest.headline)?;
    print_out!("  context     {} tokens", count("context_length"))?;
    print_out!("  vocabulary  {} rows, {} tokens in tokenizer.json", count("vocab_size"), count("tokens"))?;
    print_out!("  files       {}, digest {}", format::bytes(model.bytes()), sealed.digest().short())?;
    print_out!("  round trip  read, written and read again: {parity}")?;
    print_out!("\nnext:       {} generate {name} \"…\"", super::program())?;
    print_out!("            init = \"{name}\" in [train] of pipeline.toml")?;
    Ok(())
}
