//! `export-run` and `import-run`: a run with all its artifacts as one file.

use std::path::PathBuf;

use artifact::format;

use crate::cli::experiments::{ExportRunArgs, ImportRunArgs};
use crate::commands::print_out;
use crate::run::archive::{pack, unpack};
use crate::run::names;
use crate::run::stage::Stage;

/// Runs `export-run`.
pub fn export(arguments: &ExportRunArgs) -> anyhow::Result<()> {
    let layout = crate::commands::layout(&arguments.store)?;
    let run = names::find_with(&layout, &arguments.run, Stage::Collect)?;
    let name = &run.record.name;
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.tar.zst")));
    let packed = pack(&run, &out)?;
    let bytes = std::fs::metadata(&out).map_or(0, |metadata| metadata.len());
    print_out!(
        "wrote run {name} to {}: {} artifacts, {} in {}",
        out.display(),
        packed.artifacts,
        format::bytes(packed.bytes),
        format::bytes(bytes)
    )?;
    Ok(())
}

/// Runs `import-run`.
pub fn import(arguments: &ImportRunArgs) -> anyhow::Result<()> {
    let layout = crate::commands::layout(&arguments.store)?;
    let max_bytes = arguments.max_gigabytes.saturating_mul(1_000_000_000);
    let imported = unpack(&arguments.archive, &layout, max_bytes)?;
    let name = &imported.run.record.name;
    if imported.was_known {
        return Ok(print_out!("run {name} is in the store already, with every artifact")?);
    }
    let renamed = if *name == imported.original_name {
        String::new()
    } else {
        format!(" as {name}, since there is another {}", imported.original_name)
    };
    print_out!(
        "imported run {}{renamed}: every file has its digest, {} artifacts are new to the store",
        imported.original_name,
        imported.added
    )?;
    Ok(())
}
