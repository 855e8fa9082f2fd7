//! `data ls`: lists the datasets.

use std::path::Path;

use artifact::Cancel;
use data_ingest::Source;
use data_ingest::dataset;

use super::corpus::{DATASETS, configuration, names, session};
use crate::commands::print_out;
use crate::ui::console::Console;
use crate::ui::summary;

/// Runs the command.
pub fn run() -> anyhow::Result<()> {
    let names = names(Path::new(DATASETS));
    if names.is_empty() {
        print_out!("no datasets in {DATASETS}/ yet; `pipeline data add <ADDRESS>` writes one")?;
        return Ok(());
    }
    let mut table = summary::new_table();
    table.set_header(["dataset", "sources", "licences", "lock", "description"]);
    for name in names {
        let loaded = configuration(&Path::new(DATASETS).join(&name))?;
        let session = session(loaded, true, &Console::new(), &Cancel::default())?;
        let (loaded, context) = (&session.loaded, session.context());
        match dataset::summary(&loaded.config.collect, &context) {
            Ok(found) => {
                let lock = match (found.sources.iter().any(is_remote), found.has_lock) {
                    (false, _) => "not needed",
                    (true, true) => "yes",
                    (true, false) => "no",
                };
                let what = found.description.or(found.title).unwrap_or_default();
                table.add_row([name, found.sources.len().to_string(), licences(&found.sources), lock.to_owned(), what]);
            }
            Err(error) => {
                table.add_row([name, String::new(), String::new(), String::new(), error.to_string()]);
            }
        }
    }
    print_out!("{}", summary::text_of(&table))?;
    Ok(())
}

/// Returns true if a source is remote and not pinned in dataset.toml itself.
fn is_remote(source: &Source) -> bool {
    (source.url.is_some() && source.sha256.is_none()) || source.hub.is_some() || source.git.is_some()
}

/// Returns the licences of sources, each once, the first few of many.
fn licences(sources: &[Source]) -> String {
    let mut licences: Vec<&str> = sources.iter().map(|source| source.licence.as_deref().unwrap_or("unknown")).collect();
    licences.sort_unstable();
    licences.dedup();
    match licences.len() {
        0..=3 => licences.join(", "),
        more => format!("{}, and {} more", licences[..2].join(", "), more - 2),
    }
}
