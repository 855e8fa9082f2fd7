//! Which files of a source are selected: walks folders, matches globs, compares sizes.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

use crate::Error;
use crate::config::Declared;
use crate::formats::format::Kind;
use crate::sources::filter::{Filter, named_outright};
use crate::sources::globs::Globs;

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
    /// Symbolic links to files that are read under another path.
    pub repeated_links: u64,
    /// Symbolic links that would be selected and lead nowhere.
    pub broken_links: Vec<String>,
}

impl Selection {
    fn add(&mut self, file: SelectedFile, filter: &Filter) {
        if filter.is_too_large(file.kind, file.bytes) {
            self.too_large += 1;
        } else {
            self.files.push(file);
        }
    }
}

/// Describes the skipped files, for the error of a source without files.
pub(crate) fn passed_over(not_selected: u64, too_large: u64, broken_links: &[String]) -> String {
    let counts = [(not_selected, "excluded or of an unknown format"), (too_large, "above max_file_bytes")];
    let mut parts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    parts.extend(broken_in_words(broken_links));
    if parts.is_empty() { "there is none".to_owned() } else { parts.join(", ") }
}

/// Names links that lead nowhere; none if there are none.
pub(crate) fn broken_in_words(links: &[String]) -> Option<String> {
    /// The most that are named.
    const NAMED: usize = 3;
    let named = links.iter().take(NAMED).map(|link| format!("`{link}`")).collect::<Vec<_>>().join(", ");
    let more = if links.len() > NAMED { ", …" } else { "" };
    let plural = if links.len() == 1 { "link that leads" } else { "links that lead" };
    (!links.is_empty()).then(|| format!("{} symbolic {plural} nowhere ({named}{more})", links.len()))
}

/// Whose a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The user's: its `.gitignore` and `.ignore` files apply, and its links are followed.
    User,
    /// A published package: all of it is content, and its links are not followed.
    Package,
}

/// Lists the selected files of `path`: a file, a folder or a glob, already expanded, absolute or relative to the
/// current folder.
///
/// Symbolic links of the user are followed, also out of the folder. A file that is reached by several paths is read
/// once, by the path without links, or else by the first one.
pub(crate) fn select(declared: &Declared, path: &Path, origin: Origin) -> Result<Selection, Error> {
    let filter = Filter::new(declared)?;
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(declared, path, None, filter, origin),
        Ok(metadata) if metadata.is_file() => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut selection = Selection::default();
            let kind = named_outright(declared, &filter, &name)?;
            let file = SelectedFile { relative: name, path: path.to_owned(), bytes: metadata.len(), kind };
            selection.add(file, &filter);
            Ok(selection)
        }
        Ok(_) => Err(Error::value(&format!("{}.path", declared.key), "is neither a file nor a folder")),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) => Err(Error::value(
            &format!("{}.path", declared.key),
            &format!("{} is a symbolic link that leads nowhere", path.display()),
        )),
        Err(e) => match split_glob(path) {
            Some((root, pattern)) if root.is_dir() => {
                let within = Globs::new(&[pattern], &format!("{}.path", declared.key))?;
                walk(declared, &root, Some(within), filter, origin)
            }
            None if e.kind() != std::io::ErrorKind::NotFound => Err(artifact::Error::io("read", path, e).into()),
            _ => Err(Error::NoSuchPath { name: declared.source.display_name(), path: path.to_owned() }),
        },
    }
}

/// A file that was found in a folder.
struct FoundFile {
    relative: String,
    path: PathBuf,
    bytes: u64,
    /// Whether it, or a folder on its path, is a link.
    is_linked: bool,
}

fn walk(
    declared: &Declared,
    root: &Path,
    mut within: Option<Globs>,
    mut filter: Filter,
    origin: Origin,
) -> Result<Selection, Error> {
    let is_users = origin == Origin::User;
    let mut walker = WalkBuilder::new(root);
    // Ignore files above the folder, or in the user's git settings, differ between machines and never apply.
    walker.standard_filters(false).hidden(true).git_ignore(is_users).ignore(is_users).require_git(false);
    walker.follow_links(is_users);
    let relative_to_root = |path: &Path| portable(path.strip_prefix(root).unwrap_or(path));
    let mut found = Vec::new();
    let mut broken = Vec::new();
    let mut other = 0;
    // The links to folders that the walk is in, outermost first.
    let mut linked: Vec<PathBuf> = Vec::new();
    for entry in walker.build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if is_loop(&error) => continue,
            Err(error) => match broken_link(&error) {
                Some(path) => {
                    broken.push(relative_to_root(&path));
                    continue;
                }
                None => return Err(Error::List { name: declared.source.display_name(), source: error }),
            },
        };
        let Some(kind) = entry.file_type() else { continue };
        if entry.depth() == 0 {
            continue;
        }
        linked.retain(|folder| entry.path().starts_with(folder));
        if kind.is_dir() {
            if entry.path_is_symlink() {
                linked.push(entry.path().to_owned());
            }
        } else if kind.is_file() {
            let listed = |source| Error::List { name: declared.source.display_name(), source };
            let bytes = entry.metadata().map_err(listed)?.len();
            let is_linked = entry.path_is_symlink() || !linked.is_empty();
            found.push(FoundFile {
                relative: relative_to_root(entry.path()),
                path: entry.into_path(),
                bytes,
                is_linked,
            });
        } else {
            other += 1;
        }
    }
    found.sort_unstable_by(|a, b| (&a.relative, &a.path).cmp(&(&b.relative, &b.path)));
    let names: Vec<&str> = found.iter().map(|file| file.relative.as_str()).collect();
    filter.settle(&names)?;
    if let Some(within) = &mut within {
        within.settle(&names)?;
    }
    let is_within = |relative: &str| within.as_ref().is_none_or(|within| within.is_match(relative));
    let is_named = within.is_some();
    let mut selection = Selection { not_selected: other, ..Selection::default() };
    broken.retain(|link| is_within(link) && filter.kind_of(link, is_named).is_some());
    broken.sort_unstable();
    selection.broken_links = broken;
    let mut selected = Vec::with_capacity(found.len());
    for file in found.into_iter().filter(|file| is_within(&file.relative)) {
        match filter.kind_of(&file.relative, is_named) {
            None => selection.not_selected += 1,
            Some(kind) => selected.push((file, kind)),
        }
    }
    let mut targets = HashSet::new();
    if selected.iter().any(|(file, _)| file.is_linked) {
        let own = selected.iter().filter(|(file, _)| !file.is_linked);
        targets.extend(own.filter_map(|(file, _)| fs::canonicalize(&file.path).ok()));
    }
    for (file, kind) in selected {
        let is_new = |target: PathBuf| targets.insert(target);
        if file.is_linked && !fs::canonicalize(&file.path).map_or(true, is_new) {
            selection.repeated_links += 1;
            continue;
        }
        let FoundFile { relative, path, bytes, .. } = file;
        selection.add(SelectedFile { relative, path, bytes, kind }, &filter);
    }
    Ok(selection)
}

/// Returns true if a link leads to a folder that the walk is already in, whose files are listed there.
fn is_loop(error: &ignore::Error) -> bool {
    match error {
        ignore::Error::Loop { .. } => true,
        ignore::Error::WithPath { err, .. } | ignore::Error::WithDepth { err, .. } => is_loop(err),
        _ => false,
    }
}

/// Returns the path of a link whose target does not exist.
fn broken_link(error: &ignore::Error) -> Option<PathBuf> {
    match error {
        ignore::Error::WithDepth { err, .. } => broken_link(err),
        ignore::Error::WithPath { path, .. } => {
            let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
            (is_link && fs::metadata(path).is_err()).then(|| path.clone())
        }
        _ => None,
    }
}

/// Splits a path at its first wildcard: the folder to walk, and the pattern inside it. A part that exists under that
/// very name has no wildcards.
fn split_glob(path: &Path) -> Option<(PathBuf, String)> {
    let mut root = PathBuf::new();
    let mut parts = path.components();
    let pattern = loop {
        let rest = parts.as_path().to_owned();
        let part = parts.next()?;
        let text = part.as_os_str().to_string_lossy();
        let is_wild = text.contains(['*', '?', '[', '{', '\\']);
        if is_wild && (text.trim_matches('*').is_empty() || fs::symlink_metadata(root.join(part)).is_err()) {
            break rest;
        }
        root.push(part);
    };
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    Some((root, portable(&pattern)))
}

/// Returns a relative path with `/` between its parts on every system.
fn portable(relative: &Path) -> String {
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}
