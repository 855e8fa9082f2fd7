//! What names a run on a command line: its folder, its name in the store, a tag, or `latest`.
//!
//! A tag is a file `tags/<tag>.json` of the store, so that it names one run at a time and moves atomically.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use artifact::file::tidy;
use artifact::{StoreLayout, file};
use serde::{Deserialize, Serialize};
use settings::suggest;

use super::catalog;
use super::record::{self, RECORD, Run};
use super::stage::Stage;

/// The name of the newest run.
const LATEST: &str = "latest";

/// The content of a tag's file.
#[derive(Serialize, Deserialize)]
struct Tag {
    /// The name of the run.
    run: String,
}

/// Returns the run that `name` means.
///
/// # Errors
/// Returns an error if there is none, with the nearest name.
pub fn find(layout: &StoreLayout, name: &str) -> anyhow::Result<Run> {
    let path = Path::new(name);
    if path.join(RECORD).is_file() {
        return Run::open(path);
    }
    if let Some(folder) = folder(layout, name) {
        return Run::open(&folder);
    }
    if let Some(run) = tagged(layout, name) {
        bail!("tag {name} names run {run}, which was removed; `pipeline tag RUN {name}` moves it");
    }
    let runs = catalog::summaries(layout)?;
    let Some(last) = runs.last() else {
        let runs = tidy(&layout.runs());
        let named = if name == LATEST { String::new() } else { format!("there is no run {name}: ") };
        bail!("{named}there is no run in {} yet; `pipeline run` makes one", runs.display());
    };
    if name == LATEST {
        return last.open(layout);
    }
    let tags = tags(layout)?;
    match suggest(name, runs.iter().map(|run| run.name.as_str()).chain(tags.keys().map(String::as_str))) {
        Some(near) => bail!("there is no run {name}; did you mean {near}?"),
        None => bail!("there is no run {name}; `pipeline runs` lists them, and `latest` is {}", last.name),
    }
}

/// Returns the run that `name` means; `latest` is the newest that has the artifact of `stage`.
///
/// # Errors
/// Returns an error as [`find`] does.
pub fn find_with(layout: &StoreLayout, name: &str, stage: Stage) -> anyhow::Result<Run> {
    if name == LATEST
        && let Some(run) = catalog::summaries(layout)?.iter().rev().find(|run| run.has(stage))
    {
        return run.open(layout);
    }
    find(layout, name)
}

/// Returns the folder of the run in the store that has the name or the tag `name`, if there is one.
pub fn folder(layout: &StoreLayout, name: &str) -> Option<PathBuf> {
    let folder = |run: &str| Some(layout.runs().join(run)).filter(|folder| folder.join(RECORD).is_file());
    folder(name).or_else(|| folder(&tagged(layout, name)?))
}

/// Returns the tags of a store and the runs that they name.
///
/// # Errors
/// On I/O errors.
pub fn tags(layout: &StoreLayout) -> anyhow::Result<BTreeMap<String, String>> {
    let names = record::names(&layout.tags())?;
    let tags = names.iter().filter_map(|file| file.strip_suffix(".json"));
    Ok(tags.filter_map(|tag| Some((tag.to_owned(), tagged(layout, tag)?))).collect())
}

/// Returns the tags of each run that has any.
///
/// # Errors
/// On I/O errors.
pub fn tags_by_run(layout: &StoreLayout) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let mut by_run: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tag, run) in tags(layout)? {
        by_run.entry(run).or_default().push(tag);
    }
    Ok(by_run)
}

/// Gives a run of the store a tag, and returns the run that had it before.
///
/// # Errors
/// Returns an error if the tag cannot be one or names something else already, or on I/O errors.
pub fn tag(layout: &StoreLayout, run: &Run, tag: &str) -> anyhow::Result<Option<String>> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    ensure!(
        !tag.is_empty() && !tag.starts_with('.') && tag.chars().all(is_known),
        "\"{tag}\" cannot be a tag: use letters, digits, `.`, `_` and `-`"
    );
    ensure_no_run(layout, tag, "a tag")?;
    ensure!(
        !record::is_numbered(tag),
        "{tag} may become the name of a run and cannot be a tag: choose one without a number at its end"
    );
    ensure!(registry::names::find(layout, tag)?.is_none(), "{tag} is an imported model and cannot be a tag");
    let before = tagged(layout, tag);
    file::create_folder(&layout.tags())?;
    let text = serde_json::to_vec_pretty(&Tag { run: run.record.name.clone() })?;
    file::write_atomically(&path(layout, tag), &text)?;
    Ok(before.filter(|before| *before != run.record.name))
}

/// Checks that a model may be imported under `name`.
///
/// # Errors
/// Returns an error if it names a run.
pub fn ensure_importable(layout: &StoreLayout, name: &str) -> anyhow::Result<()> {
    let what = "the name of an imported model: give another with --name";
    ensure_no_run(layout, name, what)?;
    ensure!(tagged(layout, name).is_none(), "{name} is a tag of a run and cannot be {what}");
    Ok(())
}

fn ensure_no_run(layout: &StoreLayout, name: &str, what: &str) -> anyhow::Result<()> {
    ensure!(name != LATEST, "`latest` is the newest run and cannot be {what}");
    ensure!(!layout.runs().join(name).exists(), "{name} is the name of a run and cannot be {what}");
    Ok(())
}

/// Removes a tag.
///
/// # Errors
/// Returns an error if the run does not have it, or on I/O errors.
pub fn untag(layout: &StoreLayout, run: &Run, tag: &str) -> anyhow::Result<()> {
    let name = &run.record.name;
    ensure!(tagged(layout, tag).as_ref() == Some(name), "run {name} has no tag {tag}; `pipeline runs` lists tags");
    let path = path(layout, tag);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
}

fn tagged(layout: &StoreLayout, tag: &str) -> Option<String> {
    if tag.contains(['/', '\\']) {
        return None;
    }
    let tag: Tag = serde_json::from_slice(&fs::read(path(layout, tag)).ok()?).ok()?;
    Some(tag.run).filter(|run| !run.contains(['/', '\\']))
}

fn path(layout: &StoreLayout, tag: &str) -> PathBuf {
    layout.tags().join(format!("{tag}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, StoreLayout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = StoreLayout::new(folder.path());
        (folder, layout)
    }

    fn found(layout: &StoreLayout, name: &str) -> Result<String, String> {
        find(layout, name).map(|run| run.record.name).map_err(|e| e.to_string())
    }

    #[test]
    fn runs_are_numbered_and_found() {
        let (folder, layout) = store();
        assert!(found(&layout, "latest").unwrap_err().contains("no run in"));
        for expected in ["code-001", "code-002"] {
            assert_eq!(Run::create(&layout, "code").unwrap().record.name, expected);
        }
        assert_eq!(Run::create(&layout, "code-b").unwrap().record.name, "code-b-001");
        fs::create_dir(folder.path().join("runs/code-1000")).unwrap();
        assert_eq!(Run::create(&layout, "code").unwrap().record.name, "code-1001");
        let all = catalog::summaries(&layout).unwrap();
        assert_eq!(all.len(), 4, "a folder without a record is not a run: {all:?}");
        assert_eq!(found(&layout, "latest").unwrap(), "code-1001");
        assert_eq!(found(&layout, "code-002").unwrap(), "code-002");
        assert_eq!(found(&layout, &folder.path().join("runs/code-001").display().to_string()).unwrap(), "code-001");
        assert_eq!(found(&layout, "cod-002").unwrap_err(), "there is no run cod-002; did you mean code-002?");
        assert_eq!(
            found(&layout, "other").unwrap_err(),
            "there is no run other; `pipeline runs` lists them, and `latest` is code-1001"
        );
    }

    #[test]
    fn a_tag_names_one_run() {
        let (_folder, layout) = store();
        let runs = [Run::create(&layout, "code").unwrap(), Run::create(&layout, "code").unwrap()];
        assert_eq!(tag(&layout, &runs[0], "best").unwrap(), None);
        assert_eq!(found(&layout, "best").unwrap(), "code-001");
        assert_eq!(tag(&layout, &runs[1], "best").unwrap().as_deref(), Some("code-001"));
        assert_eq!(tag(&layout, &runs[1], "best").unwrap(), None, "it had the tag already");
        assert_eq!(tags_by_run(&layout).unwrap(), [("code-002".to_owned(), vec!["best".to_owned()])].into());
        assert_eq!(found(&layout, "bets").unwrap_err(), "there is no run bets; did you mean best?");
        assert!(untag(&layout, &runs[0], "best").unwrap_err().to_string().contains("has no tag best"));
        for (wrong, reason) in [
            ("a/b", "cannot be a tag"),
            ("latest", "newest"),
            ("code-001", "is the name of a run"),
            ("code-003", "may become the name of a run"),
        ] {
            assert!(tag(&layout, &runs[0], wrong).unwrap_err().to_string().contains(reason), "{wrong}");
        }
        fs::remove_dir_all(&runs[1].folder).unwrap();
        assert!(found(&layout, "best").unwrap_err().contains("names run code-002, which was removed"));
        untag(&layout, &runs[1], "best").unwrap();
        assert!(tags(&layout).unwrap().is_empty());
    }
}
