//! `import`: a model from elsewhere into the store, checked.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::format::grouped;
use artifact::{Context, Sealed};
use burn::tensor::Device;
use model::{Dtype, checkpoint};
use serde_json::Value;

use crate::cli::ImportArgs;
use crate::config::Config;
use crate::import::parity::{Behaviour, Parity};
use crate::import::{self, Model, Origin, names};
use crate::run::session;
use crate::run::stage::Stage;
use crate::ui::console::Console;
use artifact::format;

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
    // What is typed on a command line starts from the current folder.
    let origin = Origin::of(&arguments.model, Path::new("."), &layout)?;
    let model = Model::find(&origin, arguments.update, &collect, &context);
    console.clear();
    let model = model.map_err(import::failure)?;
    let store = layout.artifacts();
    let _lock = store.lock()?;
    let sealed = model.seal(&store)?;
    let parity = round_trip(&sealed, store.root())?;
    let name = arguments.name.clone().unwrap_or_else(|| origin.name(&arguments.model));
    names::give(&layout, &name, &model.place, &sealed)?;
    print(&name, &model, &sealed, &parity)
}

/// Reads the model, writes it, reads what was written, and compares the two.
fn round_trip(sealed: &Sealed, root: &Path) -> anyhow::Result<Parity> {
    let device = Device::flex();
    // Beside the artifacts: there is room for one model, and on the same disk.
    let folder = tempfile::Builder::new()
        .prefix(".import-")
        .tempdir_in(root)
        .with_context(|| format!("cannot make a folder in {}", root.display()))?;
    let before = {
        let model = checkpoint::load(sealed.folder(), &device)?;
        checkpoint::save(&model, folder.path(), Dtype::F32)?;
        Behaviour::of(&model)?
    };
    let after = Behaviour::of(&checkpoint::load(folder.path(), &device)?)?;
    Ok(before.parity(&after))
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
    print_out!("\nfrom here:  {} generate {name} \"…\"", super::program())?;
    print_out!("            init = \"{name}\" in [train] of pipeline.toml")?;
    Ok(())
}
