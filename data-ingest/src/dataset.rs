//! The description of a dataset, without reading its files; and how a new one is written.

pub mod card;

use std::path::Path;

use artifact::Context;
use fetch::Environment;
use serde::Serialize;

use crate::config::declared;
use crate::{Config, Error, Source};

/// The description of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its name, if it has one.
    pub title: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its sources.
    pub sources: Vec<Source>,
    /// Whether it has a lock.
    pub has_lock: bool,
}

/// Returns the description of the dataset that `config` names.
///
/// # Errors
/// Returns an error if it cannot be read or parsed.
pub fn summary(config: &Config, context: &Context) -> Result<Summary, Error> {
    let declarations = declared(config, &context.base, &Environment::of_process())?;
    Ok(Summary {
        title: declarations.title,
        description: declarations.description,
        has_lock: declarations.lock.is_file(),
        sources: declarations.sources.into_iter().map(|declared| declared.source).collect(),
    })
}

/// Returns the source that an address means: a repository of the Hub (`datasets/owner/name`, `hf://…`, or its web
/// page), a git repository (`git+https://…`, `….git`, `user@host:…`, each with an optional `@revision` at the end), an
/// HTTP address or an object store, or else a path, which must exist and is written relative to `folder`, the folder of
/// the dataset.
///
/// # Errors
/// Returns [`Error::Value`] if the address is none of these.
pub fn source_of(address: &str, folder: &Path) -> Result<Source, Error> {
    let some = |text: &str| Some(text.to_owned());
    let hub_page = address.strip_prefix("https://huggingface.co/");
    if let Some(repository) = hub_page.or_else(|| address.strip_prefix("hf://")) {
        let parts: Vec<&str> = repository.trim_end_matches('/').split('/').collect();
        let length = if parts.first() == Some(&"datasets") { 3 } else { 2 };
        return Ok(Source { hub: Some(parts[..parts.len().min(length)].join("/")), ..Source::default() });
    }
    let path = Path::new(address);
    if !path.exists() && address.starts_with("datasets/") && address.split('/').count() == 3 {
        return Ok(Source { hub: some(address), ..Source::default() });
    }
    let (git, revision) = match address.rsplit_once('@') {
        Some((git, revision)) if git.contains(['/', ':']) && !revision.contains(['/', ':']) => (git, some(revision)),
        _ => (address, None),
    };
    let prefixed = git.strip_prefix("git+");
    if prefixed.is_some() || (Path::new(git).extension().is_some_and(|e| e == "git") && !path.exists()) {
        let git = prefixed.unwrap_or(git);
        let is_commit = |revision: &String| revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
        let (commit, revision) = match revision {
            Some(commit) if is_commit(&commit) => (Some(commit), None),
            // Git has no default revision; the branch that a clone checks out is called HEAD.
            other => (None, other.or_else(|| some("HEAD"))),
        };
        return Ok(Source { git: some(git), commit, revision, ..Source::default() });
    }
    if address.contains("://") {
        return Ok(Source { url: some(address), ..Source::default() });
    }
    let is_glob = address.contains(['*', '?', '[']);
    if !path.exists() && !is_glob {
        return Err(Error::value(&format!("`{address}`"), "is not a file, folder, glob or address"));
    }
    Ok(Source { path: Some(seen_from(folder, path)?), ..Source::default() })
}

/// Returns `path`, which is relative to the current folder, relative to `folder`.
fn seen_from(folder: &Path, path: &Path) -> Result<String, Error> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|e| artifact::Error::io("find", path, e));
    let (folder, path) = (absolute(folder)?, absolute(path)?);
    let shared = folder.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    // If the two have only the root in common, the relative path is not shorter than the absolute one.
    if shared <= 1 {
        return Ok(path.to_string_lossy().into_owned());
    }
    let up = folder.components().skip(shared).map(|_| "..".to_owned());
    let down = path.components().skip(shared).map(|part| part.as_os_str().to_string_lossy().into_owned());
    let parts: Vec<String> = up.chain(down).collect();
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Returns the text of a `dataset.toml` with these sources.
///
/// # Errors
/// Returns [`Error::Value`] if they cannot be written as TOML.
pub fn text(name: &str, sources: &[Source]) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Written<'a> {
        name: &'a str,
        source: Vec<toml::Table>,
    }
    let wrong = |e: toml::ser::Error| Error::value("dataset.toml", &e.to_string());
    let default = toml::Table::try_from(Source::default()).map_err(wrong)?;
    let mut tables = Vec::with_capacity(sources.len());
    for source in sources {
        let mut table = toml::Table::try_from(source).map_err(wrong)?;
        // Defaults are not written.
        table.retain(|key, value| default.get(key) != Some(value));
        tables.push(table);
    }
    toml::to_string(&Written { name, source: tables }).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_sources() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes.txt");
        std::fs::write(&file, "x").unwrap();
        let dataset = folder.path().join("datasets/mine");
        let check = |address: &str, expected: &str| {
            let found = source_of(address, &dataset).and_then(|source| text("n", &[source]));
            let found = found.unwrap_or_else(|e| e.to_string());
            let written = found.strip_prefix("name = \"n\"\n\n[[source]]\n").unwrap_or(&found);
            assert_eq!(written.trim_end(), expected, "{address}");
        };
        check("datasets/owner/name", "hub = \"datasets/owner/name\"");
        check("https://huggingface.co/datasets/owner/name/tree/main", "hub = \"datasets/owner/name\"");
        check("hf://owner/model", "hub = \"owner/model\"");
        check("https://example.org/a.jsonl.gz", "url = \"https://example.org/a.jsonl.gz\"");
        check("s3://bucket/a/*.parquet", "url = \"s3://bucket/a/*.parquet\"");
        check("https://example.org/r.git", "git = \"https://example.org/r.git\"\nrevision = \"HEAD\"");
        check("git+https://example.org/r@v1", "git = \"https://example.org/r\"\nrevision = \"v1\"");
        let commit = "0123456789012345678901234567890123456789";
        check(&format!("git@host:r.git@{commit}"), &format!("git = \"git@host:r.git\"\ncommit = \"{commit}\""));
        check(file.to_str().unwrap(), "path = \"../../notes.txt\"");
        check("/nowhere/at/all", "`/nowhere/at/all`: is not a file, folder, glob or address");
    }
}
