//! `export`: a model as a folder that others can read, compared with what it was written from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use artifact::{StoreLayout, file};
use burn::tensor::Device;
use model::{Dtype, checkpoint, hub_layout};
use serde_json::Value;

use crate::cli::{ExportArgs, ExportFormat};
use crate::import::Origin;
use crate::import::parity::Behaviour;
use crate::run::record;
use crate::run::stage::Stage;
use crate::ui::console::Console;
use artifact::format;

use super::print_out;

/// The folder of exports where no other is named.
const EXPORTS: &str = "exports";

/// Runs the command.
pub fn run(arguments: &ExportArgs) -> anyhow::Result<()> {
    super::log_to(&Console::new(), "");
    let ExportFormat::Hf = arguments.format;
    let layout = super::layout(&arguments.store)?;
    let (source, name) = source(&arguments.model, &layout)?;
    let output = arguments.output.clone().unwrap_or_else(|| Path::new(EXPORTS).join(&name));
    if !arguments.force && fs::read_dir(&output).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} is not empty; name another folder with --output, or replace the model in it with --force",
            output.display()
        );
    }
    if output.exists() && output.canonicalize().ok() == source.canonicalize().ok() {
        bail!("{} is the model itself; name another folder with --output", output.display());
    }
    let dtype = arguments.dtype.map_or_else(|| stored_dtype(&source), Ok)?;
    let device = Device::flex();
    let unfinished = unfinished(&output)?;
    file::create_folder(&unfinished)?;
    let before = {
        let model = checkpoint::load(&source, &device)?;
        checkpoint::save(&model, &unfinished, dtype)?;
        Behaviour::of(&model)?
    };
    pass_on(&source, &unfinished)?;
    let after = Behaviour::of(&checkpoint::load(&unfinished, &device)?)?;
    let bytes = replace(&unfinished, &output)?;
    print_out!("wrote {} in {} to {}", format::bytes(bytes), dtype.name(), output.display())?;
    print_out!("  read back   {}", before.parity(&after))?;
    Ok(())
}

/// Returns the folder of the model that `written` means, and a name for it.
fn source(written: &str, layout: &StoreLayout) -> anyhow::Result<(PathBuf, String)> {
    if written == "latest" {
        let run = record::find_with(layout, written, Stage::Train)?;
        return Ok((super::verified(&run.artifact(Stage::Train)?)?, run.record.name));
    }
    let origin = Origin::of(written, Path::new("."), layout)?;
    let name = origin.name(written);
    match origin {
        Origin::Folder(folder) => {
            let listed = fs::read_dir(&folder).map_err(|e| artifact::Error::io("list", &folder, e))?;
            let names: Vec<String> =
                listed.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            hub_layout::select(&names).map_err(|problem| anyhow::anyhow!("{} {problem}", folder.display()))?;
            Ok((folder, name))
        }
        Origin::Sealed { sealed, .. } => Ok((super::verified(&sealed)?, name)),
        Origin::Hub(hub) => bail!("{0} is on the hub; import it first: pipeline import {0}", hub.written()),
    }
}

/// Returns the number type that the model's `config.json` says its weights are in.
fn stored_dtype(folder: &Path) -> anyhow::Result<Dtype> {
    let path = folder.join("config.json");
    let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let config: Value = serde_json::from_slice(&text).with_context(|| format!("cannot use {}", path.display()))?;
    let named = config.get("dtype").or_else(|| config.get("torch_dtype")).and_then(Value::as_str);
    Ok(Dtype::ALL.into_iter().find(|dtype| Some(dtype.torch_name()) == named).unwrap_or(Dtype::F32))
}

/// Returns an empty place beside `output` to write to, so that a reader never sees half a model.
fn unfinished(output: &Path) -> anyhow::Result<PathBuf> {
    let name = output.file_name().with_context(|| format!("{} names no folder", output.display()))?;
    let path = output.with_file_name(format!(".{}.unfinished", name.to_string_lossy()));
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|e| artifact::Error::io("remove", &path, e))?;
    }
    Ok(path)
}

/// Copies the tokenizer, and what says how it and the model are used.
fn pass_on(source: &Path, to: &Path) -> anyhow::Result<()> {
    for name in
        [hub_layout::TOKENIZER].into_iter().chain(hub_layout::SIDE_FILES).filter(|name| source.join(name).is_file())
    {
        let path = source.join(name);
        let bytes = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        file::write_atomically(&to.join(name), &bytes)?;
    }
    Ok(())
}

/// Moves the files of `from` into `to`, in place of the model there; returns their length.
fn replace(from: &Path, to: &Path) -> anyhow::Result<u64> {
    file::create_folder(to)?;
    let list = |folder: &Path| -> anyhow::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder).map_err(|e| artifact::Error::io("list", folder, e))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    };
    // Weights of a model that was in fewer or more files would be read with the new ones.
    let is_weights = |path: &Path| path.file_name().is_some_and(|name| hub_layout::is_weights(&name.to_string_lossy()));
    for old in list(to)?.into_iter().filter(|path| is_weights(path)) {
        fs::remove_file(&old).map_err(|e| artifact::Error::io("remove", &old, e))?;
    }
    let mut bytes = 0;
    for path in list(from)? {
        bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let target = to.join(path.file_name().unwrap_or_default());
        fs::rename(&path, &target).map_err(|e| artifact::Error::io("write", &target, e))?;
    }
    fs::remove_dir(from).map_err(|e| artifact::Error::io("remove", from, e))?;
    file::sync_folder(to)?;
    Ok(bytes)
}
