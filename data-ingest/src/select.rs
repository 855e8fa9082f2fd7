//! Which files a source takes: folders walked, globs matched, sizes compared.

use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::WalkBuilder;

use crate::Error;
use crate::config::Declared;
use crate::format::{self, Format};

/// A file that a source takes.
#[derive(Debug, Clone)]
pub(crate) struct SelectedFile {
    /// Its path inside the source, with `/` on every system: what documents are told.
    pub relative: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// How to read it.
    pub format: Format,
}

/// What looking at a source's files gave.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The files taken, sorted by their path inside the source.
    pub files: Vec<SelectedFile>,
    /// Text files above the size cap.
    pub too_large: u64,
    /// Files of another kind: excluded, not included, or with a name that tells no format.
    pub not_selected: u64,
    /// Symbolic links, which are never followed inside a folder.
    pub links: u64,
}

/// Says what was passed over, for the error of a source that takes nothing.
pub(crate) fn passed_over(not_selected: u64, too_large: u64, links: u64) -> String {
    let counts = [
        (not_selected, "excluded or of an unknown kind"),
        (too_large, "above max_file_bytes"),
        (links, "symbolic links"),
    ];
    let parts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() { "there is none".to_owned() } else { parts.join(", ") }
}

/// Whether `.gitignore` and `.ignore` files inside the folder count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IgnoreRules {
    /// They do: the folder is somebody's working tree.
    Obeyed,
    /// They do not: the folder is a published package, all of which is content.
    Passed,
}

/// Lists what a source takes from `path`: a file, a folder or a glob, already expanded and absolute or relative to the
/// process.
pub(crate) fn select(declared: &Declared, path: &Path, rules: IgnoreRules) -> Result<Selection, Error> {
    let filter = Filter::new(declared)?;
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(declared, path, None, &filter, rules),
        Ok(metadata) if metadata.is_file() => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut selection = Selection::default();
            // A file that is named outright is wanted whatever its extension.
            let format = filter.format.or_else(|| format::of_name(&name)).unwrap_or(Format::Text);
            let file = SelectedFile { relative: name, path: path.to_owned(), bytes: metadata.len(), format };
            filter.take(&mut selection, file);
            Ok(selection)
        }
        Ok(_) => Err(Error::value(&format!("{}.path", declared.key), "is neither a file nor a folder")),
        Err(e) => match split_glob(path) {
            Some((root, pattern)) if root.is_dir() => {
                let within = globs(&[pattern], &format!("{}.path", declared.key))?;
                walk(declared, &root, Some(&within), &filter, rules)
            }
            None if e.kind() != std::io::ErrorKind::NotFound => Err(artifact::Error::io("read", path, e).into()),
            _ => Err(Error::NoSuchPath { name: declared.source.known_as(), path: path.to_owned() }),
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
    // What lies above the folder, or in the user's own git settings, differs between machines: it never counts.
    walker.standard_filters(false).hidden(true).git_ignore(obeyed).ignore(obeyed).require_git(false);
    let mut selection = Selection::default();
    for entry in walker.build() {
        let entry = entry.map_err(|source| Error::List { name: declared.source.known_as(), source })?;
        let Some(kind) = entry.file_type() else { continue };
        let relative = portable(entry.path().strip_prefix(root).unwrap_or(entry.path()));
        if within.is_some_and(|within| !within.is_match(&relative)) || (kind.is_dir() && !relative.is_empty()) {
            continue;
        }
        if kind.is_symlink() && entry.depth() > 0 {
            selection.links += 1;
        } else if kind.is_file() {
            let Some(format) = filter.format_of(&relative, within.is_some()) else {
                selection.not_selected += 1;
                continue;
            };
            let listed = |source| Error::List { name: declared.source.known_as(), source };
            let bytes = entry.metadata().map_err(listed)?.len();
            let file = SelectedFile { relative, path: entry.into_path(), bytes, format };
            filter.take(&mut selection, file);
        }
    }
    selection.files.sort_unstable_by(|a, b| (&a.relative, &a.path).cmp(&(&b.relative, &b.path)));
    Ok(selection)
}

/// A source's globs, size cap and format.
pub(crate) struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
    format: Option<Format>,
    max_file_bytes: u64,
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
        let exclude = compile(&source.exclude, "exclude")?;
        Ok(Self { include, exclude, format: source.format, max_file_bytes: *max_file_bytes })
    }

    fn wants(&self, relative: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_match(relative)) && !self.exclude.is_match(relative)
    }

    /// Returns how to read a file, unless it is left; `named` says whether a glob in the source's address names it.
    pub fn format_of(&self, relative: &str, named: bool) -> Option<Format> {
        let name = relative.rsplit('/').next().unwrap_or(relative);
        // A glob that names a file's kind is enough to read one whose extension nobody knows as text.
        let named = named || self.include.is_some();
        let format = self.format.or_else(|| format::of_name(name)).or(named.then_some(Format::Text));
        format.filter(|_| self.wants(relative))
    }

    /// Tells whether a file is larger than its source allows.
    pub fn is_too_large(&self, format: Format, bytes: u64) -> bool {
        format == Format::Text && bytes > self.max_file_bytes
    }

    fn take(&self, selection: &mut Selection, file: SelectedFile) {
        if self.is_too_large(file.format, file.bytes) {
            selection.too_large += 1;
        } else {
            selection.files.push(file);
        }
    }
}

/// Compiles globs in which `*` stops at `/`, and in which a folder's name stands for all that is inside it.
pub(crate) fn globs(patterns: &[String], key: &str) -> Result<GlobSet, Error> {
    let wrong = |e: globset::Error| Error::value(key, &e.to_string());
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        for pattern in [pattern.clone(), format!("{pattern}/**")] {
            set.add(GlobBuilder::new(&pattern).literal_separator(true).build().map_err(wrong)?);
        }
    }
    set.build().map_err(wrong)
}

/// Returns a pattern of `include` or `exclude` read as a line of `.gitignore` is: without `/` it matches in every folder.
fn in_every_folder(pattern: &str) -> String {
    let pattern = pattern.trim_end_matches('/');
    match pattern.strip_prefix('/') {
        Some(from_the_root) => from_the_root.to_owned(),
        None if pattern.contains('/') => pattern.to_owned(),
        None => format!("**/{pattern}"),
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
