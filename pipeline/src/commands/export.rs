//! `export`: writes a model as a folder that other programs read, and compares the two.

use std::path::{Path, PathBuf};

use artifact::{StoreLayout, format};
use registry::{Error, Origin};

use crate::cli::{ExportArgs, ExportFormat};
use crate::run::model_ref;
use crate::run::record;
use crate::run::stage::Stage;
use crate::ui::console::Console;

use super::print_out;

/// The default folder of exports.
const EXPORTS: &str = "exports";

/// Runs the command.
pub fn run(arguments: &ExportArgs) -> anyhow::Result<()> {
    super::log_to(&Console::new(), "");
    let ExportFormat::Hf = arguments.format;
    let layout = super::layout(&arguments.store)?;
    let (source, name) = source(&arguments.model, &layout)?;
    let output = arguments.output.clone().unwrap_or_else(|| Path::new(EXPORTS).join(&name));
    let export = registry::export(&source, &output, arguments.dtype, arguments.force)?;
    print_out!("wrote {} in {} to {}", format::bytes(export.bytes), export.dtype.name(), output.display())?;
    print_out!("  read back   {}", export.parity)?;
    print_out!("  tokenizer   {}", export.text)?;
    Ok(())
}

/// Returns the folder of the model that `written` means, and a name for it.
fn source(written: &str, layout: &StoreLayout) -> anyhow::Result<(PathBuf, String)> {
    if written == "latest" {
        let run = record::find_with(layout, written, Stage::Train)?;
        return Ok((registry::verified(&run.artifact(Stage::Train)?)?, run.record.name));
    }
    let origin = model_ref::origin(written, Path::new("."), layout)?;
    let name = origin.name(written);
    match origin {
        Origin::Folder(folder) => Ok((folder, name)),
        Origin::Sealed { sealed, .. } => Ok((registry::verified(&sealed)?, name)),
        Origin::Hub(hub) => Err(Error::OnHub { written: hub.written().to_owned() }.into()),
    }
}
