//! `export`: writes a model as a folder or file that other programs read, and compares the two.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use artifact::{StoreLayout, format};
use registry::{Error, Origin};

use crate::cli::models::{ExportArgs, ExportFormat};
use crate::run::model_ref;
use crate::run::names;
use crate::run::stage::Stage;
use crate::ui::console::Console;

use super::print_out;

/// The default folder of exports.
const EXPORTS: &str = "exports";

/// Runs the command.
pub fn run(arguments: &ExportArgs) -> anyhow::Result<()> {
    super::log_to(&Console::new(), "");
    let layout = super::layout(&arguments.store)?;
    match arguments.format {
        ExportFormat::Hf => folder(arguments, &layout),
        ExportFormat::Gguf => gguf(arguments, &layout),
    }
}

fn folder(arguments: &ExportArgs, layout: &StoreLayout) -> anyhow::Result<()> {
    ensure!(arguments.quant.is_none(), "--quant is of --format gguf; a folder has --dtype f32, bf16 or f16");
    let (source, name) = source(&arguments.model, layout)?;
    let output = arguments.output.clone().unwrap_or_else(|| Path::new(EXPORTS).join(&name));
    let export = registry::export(&source, &output, arguments.dtype, arguments.force)?;
    print_out!("wrote {} in {} to {}", format::bytes(export.bytes), export.dtype.name(), output.display())?;
    print_out!("  read back   {}", export.parity)?;
    print_out!("  tokenizer   {}", export.text)?;
    Ok(())
}

fn gguf(arguments: &ExportArgs, layout: &StoreLayout) -> anyhow::Result<()> {
    ensure!(arguments.dtype.is_none(), "--dtype is of --format hf; a GGUF file has --quant");
    let (source, name) = source(&arguments.model, layout)?;
    let quantization = arguments.quant;
    let file = quantization.map_or_else(|| format!("{name}.gguf"), |quant| format!("{name}-{quant}.gguf"));
    let output = arguments.output.clone().unwrap_or_else(|| Path::new(EXPORTS).join(file));
    let export = registry::export_gguf(&source, &output, &name, quantization, arguments.force)?;
    print_out!("wrote {} in {} to {}", format::bytes(export.bytes), export.quantization, output.display())?;
    print_out!("  read back   {}", export.parity)?;
    for note in &export.notes {
        print_out!("  note        {note}")?;
    }
    Ok(())
}

/// Returns the folder of the model that `written` means, and a name for it.
fn source(written: &str, layout: &StoreLayout) -> anyhow::Result<(PathBuf, String)> {
    if written == "latest" {
        let run = names::find_with(layout, written, Stage::Train)?;
        return Ok((registry::verified(&run.artifact(Stage::Train)?)?, run.record.name));
    }
    let origin = model_ref::origin(written, Path::new("."), layout)?;
    let name = origin.name(written);
    match origin {
        Origin::Folder(folder) => Ok((folder, name)),
        Origin::Sealed { sealed, .. } => Ok((registry::verified(&sealed)?, name)),
        Origin::Gguf(path) => Ok((super::imported_gguf(&path, layout)?, name)),
        Origin::Hub(hub) => Err(Error::OnHub { written: hub.written().to_owned() }.into()),
    }
}
