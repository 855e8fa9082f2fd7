//! Listing: the files and digests of each source.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use artifact::{Context, Digest};
use fetch::{Environment, Lock, LockedFile, Remote, cached_path};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{HashedFile, Inventory, ListedSource, Place, RemoteSource};
use crate::config::{Declarations, Declared};
use crate::documents::mapping::Columns;
use crate::formats::format::{Format, Kind};
use crate::lock;
use crate::resolve::Resolved;
use crate::sources::crates;
use crate::sources::filter::{Filter, Reading};
use crate::sources::remote::{self, written_address};
use crate::sources::select::{Origin, SelectedFile, passed_over, select};
use crate::{Config, Error};

/// Files up to this size are hashed from one read; larger ones in pieces. Heuristic, not measured.
const WHOLE_READ_BYTES: u64 = 4 << 20;

/// Finds, lists and hashes every source. Writes nothing and uses no network: sources on other machines are listed with
/// the digests in `dataset.toml` or `dataset.lock`.
///
/// The input of a source that has neither digest yet changes when [`crate::lock()`] has fetched it.
///
/// # Errors
/// Returns an error if a source is missing, unreadable or selects no file, or differs from its pinned digest; with
/// `config.locked`, also if a source is not in the lock.
pub fn inventory(resolved: &Resolved, context: &Context) -> Result<Inventory, Error> {
    let Resolved { config, environment, declarations, lock } = resolved;
    let Declarations { title, description, lock: lock_path, sources } = declarations;
    let cache = config.fetch_options().cache_folder(&context.base, environment)?;
    let surroundings = Surroundings { config, context, environment, cache: &cache, lock, lock_path };
    let listed: Vec<Result<ListedSource, Error>> =
        sources.par_iter().map(|declared| list(declared, &surroundings)).collect();
    // Of several errors, the first source's is returned, whichever thread was first.
    let mut sources = listed.into_iter().collect::<Result<Vec<_>, _>>()?;
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = sources.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(Error::SameName { name: pair[0].name.clone() });
    }
    let (title, description) = (title.clone(), description.clone());
    Ok(Inventory { title, description, sources, environment: environment.clone() })
}

/// What listing a source needs besides the source.
struct Surroundings<'a> {
    config: &'a Config,
    context: &'a Context,
    environment: &'a Environment,
    cache: &'a Path,
    lock: &'a Lock,
    lock_path: &'a Path,
}

fn list(declared: &Declared, around: &Surroundings<'_>) -> Result<ListedSource, Error> {
    let Declared { key, source, .. } = declared;
    let listed = match remote::remote_of(declared, around.environment)? {
        Some(remote) if remote::is_pinned(declared, &remote) => pinned(declared, remote, around.cache)?,
        Some(remote) => locked(declared, remote, around)?,
        None => local(declared, around)?,
    };
    let is_unlocked = listed.remote.as_ref().is_some_and(|remote| remote.is_unlocked);
    if let Some(expected) = source.sha256.filter(|expected| *expected != listed.content && !is_unlocked) {
        let name = listed.name;
        return Err(Error::Pinned { name, key: key.clone(), expected, found: listed.content });
    }
    Ok(listed)
}

/// Returns a source with its configuration and no files yet.
fn described(declared: &Declared, origin: Value, licence: Option<String>) -> Result<ListedSource, Error> {
    let source = &declared.source;
    Ok(ListedSource {
        name: source.display_name(),
        origin,
        licence: source.licence.clone().or(licence).unwrap_or_else(|| "unknown".to_owned()),
        columns: Columns::of(source),
        is_format_set: source.format.is_some(),
        is_media: source.format == Some(Format::Media),
        keys_of_rows: source.keys_of_rows(),
        encoding: source.encoding.clone(),
        html: source.html,
        max_file_bytes: declared.max_file_bytes,
        filter: Filter::new(declared)?,
        files: Vec::new(),
        content: content_digest(&[]),
        too_large: 0,
        not_selected: 0,
        repeated_links: 0,
        broken_links: Vec::new(),
        remote: None,
    })
}

/// Lists a source on this machine.
fn local(declared: &Declared, around: &Surroundings<'_>) -> Result<ListedSource, Error> {
    let Declared { key, folder, source, .. } = declared;
    let name = source.display_name();
    let (selection, origin, licence) = if let (Some(krate), Some(version)) = (&source.krate, &source.version) {
        let folder = crates::folder(krate, version, around.environment)?;
        let found = crates::licence(&folder)?;
        if let Some(expected) = source.licence.clone().filter(|expected| *expected != found) {
            return Err(Error::Licence { name, path: folder.join("Cargo.toml"), expected, found });
        }
        let origin = json!({ "kind": "crate", "crate": krate, "version": version });
        (select(declared, &folder, Origin::Package)?, origin, Some(found))
    } else {
        let written = source.path.as_deref().unwrap_or_default();
        let path = folder.join(around.environment.expand(written, &format!("{key}.path"))?);
        (select(declared, &path, Origin::User)?, json!({ "kind": "path", "path": name }), None)
    };
    if selection.files.is_empty() {
        let passed_over = passed_over(selection.not_selected, selection.too_large, &selection.broken_links);
        return Err(Error::NothingSelected { name, passed_over });
    }
    let files = hash(&selection.files, around.context)?;
    Ok(ListedSource {
        content: content_digest(&files),
        files,
        too_large: selection.too_large,
        not_selected: selection.not_selected,
        repeated_links: selection.repeated_links,
        broken_links: selection.broken_links,
        ..described(declared, origin, licence)?
    })
}

/// Returns a source that is one download with a pinned digest.
fn pinned(declared: &Declared, remote: Remote, cache: &Path) -> Result<ListedSource, Error> {
    let sha256 = declared.source.sha256.unwrap_or_else(|| content_digest(&[]));
    let address = written_address(declared).to_owned();
    let relative = fetch::url_file_name(&address);
    let bytes = fs::metadata(cached_path(cache, sha256)).map_or(0, |metadata| metadata.len());
    let origin = remote::origin(&remote, declared, None);
    Ok(ListedSource {
        files: vec![remote_file(declared, relative, bytes, sha256, cache)],
        content: sha256,
        remote: Some(RemoteSource { remote, address, commit: None, lock: None, is_unlocked: false }),
        ..described(declared, origin, None)?
    })
}

/// Returns a remote source as recorded in the lock.
fn locked(declared: &Declared, remote: Remote, around: &Surroundings<'_>) -> Result<ListedSource, Error> {
    let Surroundings { config, cache, lock, lock_path, .. } = around;
    let lock_path = lock_path.to_path_buf();
    let address = written_address(declared).to_owned();
    let Some(entry) = lock::entry(lock, &lock_path, declared, &remote)? else {
        if config.locked {
            return Err(lock::not_locked(declared, &lock_path));
        }
        let origin = remote::origin(&remote, declared, None);
        let content = Digest::of_json(&json!({ "not fetched yet": origin }));
        let remote = Some(RemoteSource { remote, address, commit: None, lock: Some(lock_path), is_unlocked: true });
        return Ok(ListedSource { content, remote, ..described(declared, origin, None)? });
    };
    let file = |file: &LockedFile| remote_file(declared, file.path.clone(), file.bytes, file.sha256, cache);
    let files: Vec<HashedFile> = entry.file.iter().map(file).collect();
    let commit = entry.commit.clone();
    let origin = remote::origin(&remote, declared, commit.as_deref());
    // For one file behind an address, `sha256` is that file's own digest.
    let content = match (&remote, &files[..]) {
        (Remote::Url(_), [file]) => file.sha256,
        _ => content_digest(&files),
    };
    Ok(ListedSource {
        content,
        files,
        too_large: entry.too_large,
        not_selected: entry.not_selected,
        remote: Some(RemoteSource { remote, address, commit, lock: Some(lock_path), is_unlocked: false }),
        ..described(declared, origin, entry.licence.clone())?
    })
}

fn remote_file(declared: &Declared, relative: String, bytes: u64, sha256: Digest, cache: &Path) -> HashedFile {
    // A selected file of unknown format was named explicitly.
    let kind = Reading::of(&declared.source).kind(&relative).unwrap_or(Kind::File(Format::Text));
    HashedFile { relative, place: Place::Download(cached_path(cache, sha256)), bytes, kind, sha256 }
}

fn hash(files: &[SelectedFile], context: &Context) -> Result<Vec<HashedFile>, Error> {
    let hashed: Vec<Result<HashedFile, Error>> = files.par_iter().map(|file| hash_file(file, context)).collect();
    hashed.into_iter().collect()
}

fn hash_file(file: &SelectedFile, context: &Context) -> Result<HashedFile, Error> {
    if context.cancel.is_requested() {
        return Err(Error::Interrupted);
    }
    let path = &file.path;
    let (sha256, bytes) = if file.bytes <= WHOLE_READ_BYTES {
        let bytes = fs::read(path).map_err(|e| artifact::Error::io("read", path, e))?;
        (Digest::of(&bytes), bytes.len() as u64)
    } else {
        Digest::of_file(path)?
    };
    let place = Place::Disk(path.clone());
    Ok(HashedFile { relative: file.relative.clone(), place, bytes, kind: file.kind, sha256 })
}

/// Returns the digest of files as `sha256sum` lists them: one line `<digest>  <path>` per file, sorted by path.
fn content_digest(files: &[HashedFile]) -> Digest {
    let mut listing = String::new();
    for file in files {
        // Writing to a string cannot fail.
        let _ = writeln!(listing, "{}  {}", file.sha256, file.relative);
    }
    Digest::of(listing.as_bytes())
}
