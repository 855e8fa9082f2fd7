//! `data lock`: fetches remote sources and records their digests.

use anyhow::bail;
use artifact::Digest;

use super::corpus::{configuration, dataset_folder, session, watched};
use crate::cli::data::LockArgs;
use crate::commands::print_out;

/// Runs the command.
pub fn run(arguments: &LockArgs) -> anyhow::Result<()> {
    let Some(folder) = dataset_folder(&arguments.name) else {
        bail!("there is no dataset `{}`; `pipeline data ls` lists them", arguments.name);
    };
    let loaded = configuration(&folder)?;
    let (console, cancel) = watched()?;
    let session = session(loaded, false, &console, &cancel)?;
    let context = session.context();
    let mut dataset = data_ingest::resolve(&session.loaded.config.collect, &context)?;
    let changes = match &arguments.update {
        Some(sources) => data_ingest::update_lock(&mut dataset, &context, sources),
        None => data_ingest::lock(&mut dataset, &context),
    };
    console.clear();
    let changes = changes?;
    if changes.is_empty() {
        print_out!("Nothing changed.")?;
    }
    for change in changes {
        let short = |digest: Option<Digest>| digest.map_or_else(|| "–".to_owned(), |digest| digest.short());
        print_out!("{}  {}  {} → {}", change.source, change.file, short(change.before), short(change.after))?;
    }
    Ok(())
}
