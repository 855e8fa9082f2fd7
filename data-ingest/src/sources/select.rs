//! Which files of a source are selected: walks folders, matches globs, compares sizes.

use std::fs;
use std::path::{Path, PathBuf};

use globset::GlobSet;
use ignore::WalkBuilder;

use crate::Error;
use crate::config::Declared;
use crate::formats::format::{self, Format, Kind};

/// A selected file.
#[derive(Debug, Clone)]
pub(crate) struct SelectedFile {
    /// Its path inside the source, with `/` on every system, as in the documents.
    pub relative: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its kind.
    pub kind: Kind,
}

/// The selection of a source's files.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The selected files, sorted by their path inside the source.
    pub files: Vec<SelectedFile>,
    /// Text files above the size limit.
    pub too_large: u64,
    /// Files of another kind: excluded, not included, or of unknown format.
    pub not_selected: u64,
    /// Symbolic links, which are never followed inside a folder.
    pub links: u64,
}

/// Describes the skipped files, for the error of a source without files.
pub(crate) fn passed_over(not_selected: u64, too_large: u64, links: u64) -> String {
    let counts = [
        (not_selected, "excluded or of an unknown format"),
        (too_large, "above max_file_bytes"),
        (links, "symbolic links"),
    ];
    let parts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() { "there is none".to_owned() } else { parts.join(", ") }
}

/// Whether `.gitignore` and `.ignore` files inside the folder apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IgnoreRules {
    /// They apply: the folder is a working tree.
    Obeyed,
    /// They do not apply: the folder is a published package, all of which is content.
    Passed,
}

/// Lists the selected files of `path`: a file, a folder or a glob, already expanded, absolute or relative to the
/// current folder.
pub(crate) fn select(declared: &Declared, path: &Path, rules: IgnoreRules) -> Result<Selection, Error> {
    let filter = Filter::new(declared)?;
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(declared, path, None, &filter, rules),
        Ok(metadata) if metadata.is_file() => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut selection = Selection::default();
            // A file that is named explicitly is selected whatever its extension.
            let kind = kind(filter.format, &name).unwrap_or(Kind::File(Format::Text));
            let file = SelectedFile { relative: name, path: path.to_owned(), bytes: metadata.len(), kind };
            filter.add(&mut selection, file);
            Ok(selection)
        }
        Ok(_) => Err(Error::value(&format!("{}.path", declared.key), "is neither a file nor a folder")),
        Err(e) => match split_glob(path) {
            Some((root, pattern)) if root.is_dir() => {
                let within = globs(&[pattern], &format!("{}.path", declared.key))?;
                walk(declared, &root, Some(&within), &filter, rules)
            }
            None if e.kind() != std::io::ErrorKind::NotFound => Err(artifact::Error::io("read", path, e).into()),
            _ => Err(Error::NoSuchPath { name: declared.source.display_name(), path: path.to_owned() }),
        },
    }
}

fn walk(
    declared: &Declared,
    root: &Path,
    within: Option<&GlobSet>,
    filter: &Filter,
    rules: IgnoreRules,
) -> Result<Selection, Error> {
    let obeyed = rules == IgnoreRules::Obeyed;
    let mut walker = WalkBuilder::new(root);
    // Ignore files above the folder, or in the user's git settings, differ between machines and never apply.
    walker.standard_filters(false).hidden(true).git_ignore(obeyed).ignore(obeyed).require_git(false);
    let mut selection = Selection::default();
    for entry in walker.build() {
        let entry = entry.map_err(|source| Error::List { name: declared.source.display_name(), source })?;
        let Some(kind) = entry.file_type() else { continue };
        let relative = portable(entry.path().strip_prefix(root).unwrap_or(entry.path()));
        if within.is_some_and(|within| !within.is_match(&relative)) || (kind.is_dir() && !relative.is_empty()) {
            continue;
        }
        if kind.is_symlink() && entry.depth() > 0 {
            selection.links += 1;
        } else if kind.is_file() {
            let Some(kind) = filter.kind_of(&relative, within.is_some()) else {
                selection.not_selected += 1;
                continue;
            };
            let listed = |source| Error::List { name: declared.source.display_name(), source };
            let bytes = entry.metadata().map_err(listed)?.len();
            let file = SelectedFile { relative, path: entry.into_path(), bytes, kind };
            filter.add(&mut selection, file);
        }
    }
    selection.files.sort_unstable_by(|a, b| (&a.relative, &a.path).cmp(&(&b.relative, &b.path)));
    Ok(selection)
}

/// A source's globs, size limit and format.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    include: Option<GlobSet>,
    /// The archives that `include` names, or some of whose members it names.
    opened: GlobSet,
    exclude: GlobSet,
    format: Option<Format>,
    max_file_bytes: u64,
    written: (Vec<String>, Vec<String>),
}

impl Filter {
    /// Returns the filter of a source.
    pub fn new(declared: &Declared) -> Result<Self, Error> {
        let Declared { key, source, max_file_bytes, .. } = declared;
        let compile = |patterns: &[String], name: &str| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| in_every_folder(pattern)).collect();
            globs(&patterns, &format!("{key}.{name}"))
        };
        let include = match source.include[..] {
            [] => None,
            _ => Some(compile(&source.include, "include")?),
        };
        let archives: Vec<String> = source.include.iter().map(|pattern| up_to_archive(pattern)).collect();
        let opened = compile(&archives, "include")?;
        let exclude = compile(&source.exclude, "exclude")?;
        let written = (source.include.clone(), source.exclude.clone());
        Ok(Self { include, opened, exclude, format: source.format, max_file_bytes: *max_file_bytes, written })
    }

    /// Returns the filter of the members of an archive.
    pub fn described(&self) -> serde_json::Value {
        serde_json::json!({ "include": self.written.0, "exclude": self.written.1, "format": self.format })
    }

    /// Returns the kind of a file, unless it is skipped; `named` is true if a glob in the source's address names it.
    pub fn kind_of(&self, relative: &str, named: bool) -> Option<Kind> {
        // A glob that names a file's extension selects it as text if the extension is unknown.
        let named = named || self.include.is_some();
        let kind = kind(self.format, relative).or(named.then_some(Kind::File(Format::Text)))?;
        let is_included = match kind {
            Kind::Archive(_) => self.include.is_none() || self.opened.is_match(relative),
            Kind::File(_) => self.include.as_ref().is_none_or(|include| include.is_match(relative)),
        };
        (is_included && !self.exclude.is_match(relative)).then_some(kind)
    }

    /// Returns the kind of the member `path` of an archive, unless it is skipped: hidden, excluded, not included, or of
    /// no known kind. Globs may name it with the archive or without.
    pub fn member(&self, archive: &str, path: &str) -> Option<Kind> {
        let whole = format!("{archive}/{path}");
        let is_in = |set: &GlobSet| set.is_match(&whole) || set.is_match(path);
        let is_hidden = path.split('/').any(|part| part.starts_with('.'));
        if is_hidden || is_in(&self.exclude) || !self.include.as_ref().is_none_or(is_in) {
            return None;
        }
        // A glob that names the archive selects known formats in it; one that names the member selects it at least as
        // text.
        let is_named = |include: &GlobSet| include.is_match(path) || !include.is_match(archive);
        let named = self.include.as_ref().is_some_and(is_named);
        kind(self.format, path).or(named.then_some(Kind::File(Format::Text)))
    }

    /// Returns true if a file is larger than its source allows.
    pub fn is_too_large(&self, kind: Kind, bytes: u64) -> bool {
        matches!(kind, Kind::File(format) if format.is_one_document()) && bytes > self.max_file_bytes
    }

    fn add(&self, selection: &mut Selection, file: SelectedFile) {
        if self.is_too_large(file.kind, file.bytes) {
            selection.too_large += 1;
        } else {
            selection.files.push(file);
        }
    }
}

/// Returns the kind of a file: an archive by its name, else the source's format, else by its name.
pub(crate) fn kind(format: Option<Format>, relative: &str) -> Option<Kind> {
    let name = relative.rsplit('/').next().unwrap_or(relative);
    match (format::of_name(name), format) {
        (Some(Kind::Archive(archive)), _) => Some(Kind::Archive(archive)),
        (_, Some(format)) => Some(Kind::File(format)),
        (by_name, None) => by_name,
    }
}

/// Compiles globs; `key` is where they are declared.
fn globs(patterns: &[String], key: &str) -> Result<GlobSet, Error> {
    fetch::glob_set(patterns).map_err(|e| Error::value(key, &e.to_string()))
}

/// Returns a pattern of `include` or `exclude` with the rules of `.gitignore`: without `/` it matches in every folder.
fn in_every_folder(pattern: &str) -> String {
    let pattern = pattern.trim_end_matches('/');
    match pattern.strip_prefix('/') {
        Some(from_the_root) => from_the_root.to_owned(),
        None if pattern.contains('/') => pattern.to_owned(),
        None => format!("**/{pattern}"),
    }
}

/// Returns the part of a pattern into an archive (`*.zip/docs/*.md`) up to that archive; other patterns unchanged.
fn up_to_archive(pattern: &str) -> String {
    let parts: Vec<&str> = pattern.split('/').collect();
    let archive = parts.iter().position(|part| matches!(format::of_name(part), Some(Kind::Archive(_))));
    match archive {
        Some(at) if at + 1 < parts.len() => format!("/{}", parts[..=at].join("/").trim_start_matches('/')),
        _ => pattern.to_owned(),
    }
}

/// Splits a path at its first wildcard: the folder to walk, and the pattern inside it.
fn split_glob(path: &Path) -> Option<(PathBuf, String)> {
    let is_wild = |part: &std::ffi::OsStr| part.to_string_lossy().contains(['*', '?', '[', '{']);
    let parts: Vec<_> = path.components().collect();
    let first = parts.iter().position(|part| is_wild(part.as_os_str()))?;
    let root: PathBuf = parts[..first].iter().collect();
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    let pattern: PathBuf = parts[first..].iter().collect();
    Some((root, portable(&pattern)))
}

/// Returns a relative path with `/` between its parts on every system.
fn portable(relative: &Path) -> String {
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}
