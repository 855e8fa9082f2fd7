//! `gc`: removes the artifacts that no run, import or unfinished work needs, and what their models answered.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::gc::{Entry, TRASH, collect, survey};
use artifact::{Digest, Store, StoreLayout, format};

use crate::cli::experiments::GcArgs;
use crate::commands::print_out;
use crate::run::{answers, archive, catalog, repeat};
use crate::ui::summary;

/// Runs the command.
pub fn run(arguments: &GcArgs) -> anyhow::Result<()> {
    let layout = crate::commands::layout(&arguments.store)?;
    let store = layout.artifacts();
    // From before the records are read: a run that begins meanwhile may skip stages for what would be removed.
    let lock = store.lock()?;
    let survey = survey(&store, &roots(&layout)?, arguments.unfinished)?;
    let mut garbage = survey.unneeded;
    if arguments.unfinished {
        garbage.extend(survey.abandoned.iter().cloned());
    } else if !survey.abandoned.is_empty() {
        print_out!(
            "kept: {} of unfinished work that no run names, {}; --unfinished removes it too",
            parts(survey.abandoned.len()),
            format::bytes(bytes(&survey.abandoned))
        )?;
    }
    if arguments.yes {
        remove_leftovers(&layout, &store)?;
    }
    let answers = answers::unneeded(&layout, survey.needed.iter().filter_map(|entry| entry.digest));
    remove_answers(&answers, arguments.yes)?;
    let kept = format!("{}, {}", artifacts(survey.needed.len()), format::bytes(bytes(&survey.needed)));
    if garbage.is_empty() && !answers.is_empty() {
        return Ok(());
    }
    if garbage.is_empty() {
        return Ok(print_out!("nothing to remove: the store's {kept} are needed")?);
    }
    list(&garbage)?;
    let freed = format::bytes(bytes(&garbage));
    if arguments.yes {
        collect(&store, &garbage, &lock)?;
        print_out!("removed {}, {freed}; kept {kept}", artifacts(garbage.len()))?;
    } else {
        print_out!("would remove {}, {freed}, and keep {kept}; `pipeline gc --yes` does it", artifacts(garbage.len()))?;
    }
    Ok(())
}

/// Says which answers of models nothing needs, and removes them if `yes`.
fn remove_answers(answers: &[(PathBuf, u64)], yes: bool) -> anyhow::Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    for (path, _) in answers.iter().filter(|_| yes) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let models = if answers.len() == 1 { "1 model".to_owned() } else { format!("{} models", answers.len()) };
    let size = format::bytes(answers.iter().map(|(_, bytes)| bytes).sum());
    let of = format!("the answers to tasks of {models} that the store no longer needs, {size}");
    if yes {
        print_out!("removed {of}")?;
    } else {
        print_out!("would remove {of}; `pipeline gc --yes` does it")?;
    }
    Ok(())
}

/// Returns the fingerprints that kept runs and imported models name.
fn roots(layout: &StoreLayout) -> anyhow::Result<BTreeSet<Digest>> {
    let mut roots: BTreeSet<Digest> = registry::names::fingerprints(layout)?.into_iter().collect();
    for run in catalog::all_or_error(layout)? {
        roots.extend(run.record.stages.iter().map(|stage| stage.fingerprint));
        roots.extend(run.record.unfinished.map(|unfinished| unfinished.fingerprint));
    }
    Ok(roots)
}

/// Removes what verifications, imports and collections left that were killed. That this process has the store's lock
/// says that no import or collection runs; the lock of a verification's own store, that it does not.
fn remove_leftovers(layout: &StoreLayout, store: &Store) -> anyhow::Result<()> {
    let named = |folder: &Path, start: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
            .map(|entry| entry.path())
            .collect()
    };
    let of_verifications =
        named(layout.root(), repeat::TEMPORARY).into_iter().filter(|folder| Store::new(folder).lock().is_ok());
    let of_others = [archive::TEMPORARY, TRASH].into_iter().flat_map(|start| named(store.root(), start));
    for folder in of_verifications.chain(of_others) {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        print_out!("removed {}, which a killed process left", folder.display())?;
    }
    Ok(())
}

fn list(entries: &[Entry]) -> anyhow::Result<()> {
    let mut table = summary::new_table();
    table.set_header(["stage", "artifact", "size", "state"]);
    for entry in entries {
        let state = if entry.digest.is_some() { "finished" } else { "unfinished" };
        table.add_row([entry.stage.clone(), entry.fingerprint.short(), format::bytes(entry.bytes), state.to_owned()]);
    }
    summary::align_right(&mut table, 2..3);
    Ok(print_out!("{}", summary::text_of(&table))?)
}

fn bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.bytes).sum()
}

fn artifacts(count: usize) -> String {
    if count == 1 { "1 artifact".to_owned() } else { format!("{count} artifacts") }
}

fn parts(count: usize) -> String {
    if count == 1 { "1 folder".to_owned() } else { format!("{count} folders") }
}
