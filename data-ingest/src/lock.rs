//! `dataset.lock`: what was fetched from other machines, so that the same is fetched again or the difference is told.
//!
//! Folders and files of this machine are not locked, since changing them is how a dataset is worked on, and neither is what
//! a digest or a version pins already: a `crate`, and a `url` with `sha256`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use artifact::{Context, Digest, file};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::{Declarations, Declared, declared};
use crate::download::{Fetched, Promise, Promiser};
use crate::environment::Environment;
use crate::fetch::{self, Item, Order};
use crate::remote::{self, Listing, Reach, Remote, written_address};
use crate::select::passed_over;
use crate::{Config, Error, git};

/// The version of the layout of the lock.
const VERSION: u32 = 1;

/// The first lines of a lock.
const HEAD: &str = "# What was fetched from other machines. Written by `pipeline data lock`; keep it under version control, and do not edit it.\n\n";

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    version: u32,
    /// One entry a source, sorted by name.
    #[serde(default)]
    source: Vec<Entry>,
}

/// What was fetched of one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The source's name.
    pub name: String,
    /// Its address, as it is written in the dataset.
    pub address: String,
    /// The branch, tag or commit that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The commit that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The licence that the source's own card named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The digest of what the source says about which files it takes.
    pub selection: Digest,
    /// Text files above the size cap.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub too_large: u64,
    /// Files that were there and not taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_selected: u64,
    /// The files, sorted by path.
    #[serde(default)]
    pub file: Vec<LockedFile>,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedFile {
    /// Its path inside the source.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
    /// The `ETag` that its server told this version by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A file that the lock did not have before, has with another digest now, or has no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockChange {
    /// The source.
    pub source: String,
    /// The file's path inside the source.
    pub file: String,
    /// The digest that it had.
    pub before: Option<Digest>,
    /// The digest that it has.
    pub after: Option<Digest>,
}

/// Fetches every source on another machine that `dataset.lock` has no entry for, and adds the entries.
///
/// Returns what was added, sorted by source and file. Where nothing is missing, neither the network nor the disk is touched.
/// What was fetched before a failure is kept.
///
/// # Errors
/// When something is missing and `config.locked` or `context.offline` forbids to fetch it, when an entry was written for
/// another address or revision than the source says now, and when a source cannot be fetched.
pub fn lock(config: &Config, context: &Context) -> Result<Vec<LockChange>, Error> {
    lock_in(config, context, &Environment::of_process(), Renewed::None)
}

/// Fetches sources on other machines anew, whatever the lock says of them, and replaces their entries: those of `sources`,
/// or of all if it is empty; then entries that belong to no source of the dataset any more are dropped, too.
///
/// Returns what changed, sorted by source and file.
///
/// # Errors
/// When a name is no source on another machine, when the network may not be used, and when a source cannot be fetched.
pub fn update_lock(config: &Config, context: &Context, sources: &[String]) -> Result<Vec<LockChange>, Error> {
    let environment = Environment::of_process();
    let known = declared(config, &context.base, &environment)?;
    for name in sources {
        let source = known.sources.iter().find(|declared| declared.source.known_as() == *name);
        let remote = source.map(|declared| needs_lock(declared, &environment)).transpose()?.flatten();
        if remote.is_none() {
            let message = "is no source that is locked: one on another machine, without `sha256`";
            return Err(Error::value(&format!("`{name}`"), message));
        }
    }
    let renewed = if sources.is_empty() { Renewed::All } else { Renewed::Named(sources) };
    lock_in(config, context, &environment, renewed)
}

/// Which sources are fetched although the lock has them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Renewed<'a> {
    /// None.
    None,
    /// Those with these names.
    Named(&'a [String]),
    /// All.
    All,
}

impl Renewed<'_> {
    fn has(self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Named(names) => names.iter().any(|known| known == name),
            Self::All => true,
        }
    }
}

/// Returns where a source is, if what it has must be locked.
pub(crate) fn needs_lock(declared: &Declared, environment: &Environment) -> Result<Option<Remote>, Error> {
    Ok(Remote::of(declared, environment)?.filter(|remote| !remote::is_pinned(declared, remote)))
}

pub(crate) fn lock_in(
    config: &Config,
    context: &Context,
    environment: &Environment,
    renewed: Renewed<'_>,
) -> Result<Vec<LockChange>, Error> {
    let declarations = declared(config, &context.base, environment)?;
    let path = &declarations.lock;
    let is_pruned =
        |lock: &Lock| matches!(renewed, Renewed::All) && config.dataset.is_some() && !lock.source.is_empty();
    let lock = Lock::read(path)?;
    let missing = missing(&lock, &declarations, environment, renewed)?;
    if missing.is_empty() && !is_pruned(&lock) {
        return Ok(Vec::new());
    }
    if let Some(first) = missing.first().filter(|_| config.locked) {
        return Err(not_locked(first.declared, path));
    }
    let reach = Reach::new(config, context, environment.clone())?;
    if let Some(Missing { name, declared, .. }) = missing.first().filter(|_| context.offline) {
        let (name, url) = (name.clone(), written_address(declared).to_owned());
        return Err(Error::Offline { name, url, cache: reach.cache });
    }
    let _others_wait = reach.lock_cache()?;
    // While this run waited, another may have locked the same sources.
    let before = Lock::read(path)?;
    let missing = self::missing(&before, &declarations, environment, renewed)?;
    let mut lock = before.clone();
    // Several configurations may share the lock beside them, and each knows its own sources only.
    if is_pruned(&lock) {
        let is_known = |name: &str| declarations.sources.iter().any(|declared| declared.source.known_as() == name);
        lock.source.retain(|entry| is_known(&entry.name));
    }
    let (entries, outcome) = fetch_entries(&missing, &reach);
    for entry in entries {
        lock.insert(entry);
    }
    if lock != before {
        lock.write(path)?;
    }
    outcome?;
    Ok(changes(&before, &lock))
}

/// A source that must be fetched.
struct Missing<'a> {
    name: String,
    declared: &'a Declared,
    remote: Remote,
}

/// Returns the sources that the lock has no entry for, or that are renewed, in the order in which they are written.
fn missing<'a>(
    lock: &Lock,
    declarations: &'a Declarations,
    environment: &Environment,
    renewed: Renewed<'_>,
) -> Result<Vec<Missing<'a>>, Error> {
    let mut names = BTreeSet::new();
    let mut missing = Vec::new();
    for declared in &declarations.sources {
        let Some(remote) = needs_lock(declared, environment)? else { continue };
        let name = declared.source.known_as();
        if !names.insert(name.clone()) {
            return Err(Error::SameName { name });
        }
        if renewed.has(&name) || lock.entry(&declarations.lock, declared, &remote)?.is_none() {
            missing.push(Missing { name, declared, remote });
        }
    }
    Ok(missing)
}

/// Returns the error of a source that the lock has no entry for.
pub(crate) fn not_locked(declared: &Declared, lock: &Path) -> Error {
    let (name, address) = (declared.source.known_as(), written_address(declared).to_owned());
    Error::NotLocked { name, address, lock: lock.to_owned() }
}

/// Lists and fetches sources; returns the entries of those that are complete, and the first error.
fn fetch_entries(missing: &[Missing<'_>], reach: &Reach<'_>) -> (Vec<Entry>, Result<(), Error>) {
    let mut listed: Vec<(&Missing<'_>, Listing)> = Vec::new();
    let mut outcome = Ok(());
    for source in missing {
        reach.context.progress.begin(&format!("listing {}", source.name), 0, "files");
        let listing = source.remote.list(source.declared, reach).and_then(|listing| {
            let is_empty = listing.files.is_empty();
            if is_empty { Err(nothing_selected(source, listing.not_selected, listing.too_large)) } else { Ok(listing) }
        });
        match listing {
            Ok(listing) => listed.push((source, listing)),
            Err(error) => {
                // What could be listed is fetched all the same, and need not be again.
                outcome = Err(error);
                break;
            }
        }
    }
    let orders: Vec<Order<'_>> = listed.iter().map(|(source, listing)| order(source, listing)).collect();
    let (fetched, fetching) = fetch::fetch(&orders, reach);
    outcome = fetching.and(outcome);
    let mut entries = Vec::with_capacity(listed.len());
    for ((source, listing), fetched) in listed.iter().zip(fetched) {
        match fetched.map(|fetched| entry(source, listing, fetched, reach)) {
            Some(Ok(entry)) => entries.push(entry),
            Some(Err(error)) => outcome = outcome.and(Err(error)),
            None => {}
        }
    }
    (entries, outcome)
}

fn nothing_selected(source: &Missing<'_>, not_selected: u64, too_large: u64) -> Error {
    Error::NothingSelected { name: source.name.clone(), passed_over: passed_over(not_selected, too_large, 0) }
}

/// Returns the entry of a source that has arrived.
fn entry(source: &Missing<'_>, listing: &Listing, fetched: Vec<Fetched>, reach: &Reach<'_>) -> Result<Entry, Error> {
    let Missing { name, declared, remote } = source;
    let mut file = Vec::with_capacity(fetched.len());
    let mut pointers = 0;
    for (found, fetched) in listing.files.iter().zip(fetched) {
        if matches!(remote, Remote::Git(..)) && git::is_lfs_pointer(&reach.cache, &fetched)? {
            pointers += 1;
            continue;
        }
        // What a server has in place of an `ETag` is a date.
        let etag = found.version.clone().or(fetched.validator.filter(|validator| validator.starts_with('"')));
        file.push(LockedFile { path: found.path.clone(), bytes: fetched.bytes, sha256: fetched.sha256, etag });
    }
    if pointers > 0 {
        tracing::warn!("source {name}: {pointers} files are kept by Git LFS and are left out");
    }
    let not_selected = listing.not_selected + pointers;
    if file.is_empty() {
        return Err(nothing_selected(source, not_selected, listing.too_large));
    }
    Ok(Entry {
        name: name.clone(),
        address: written_address(declared).to_owned(),
        revision: remote.revision().map(str::to_owned),
        commit: listing.commit.clone(),
        licence: listing.licence.clone(),
        selection: selection(declared),
        too_large: listing.too_large,
        not_selected,
        file,
    })
}

fn order<'a>(source: &'a Missing<'_>, listing: &'a Listing) -> Order<'a> {
    let files = listing.files.iter().map(|found| Item {
        path: &found.path,
        bytes: found.bytes,
        version: found.version.as_deref(),
        promise: found.sha256.map(|sha256| Promise { sha256, by: Promiser::Listing }),
    });
    let (name, remote, commit) = (&source.name, &source.remote, listing.commit.as_deref());
    Order { name, remote, commit, files: files.collect() }
}

/// Returns the digest of what a source says about which of its files are taken.
fn selection(declared: &Declared) -> Digest {
    let source = &declared.source;
    Digest::of_json(&json!({
        "include": source.include,
        "exclude": source.exclude,
        "format": source.format,
        "max_file_bytes": declared.max_file_bytes,
    }))
}

fn changes(before: &Lock, after: &Lock) -> Vec<LockChange> {
    let mut digests: BTreeMap<(&str, &str), [Option<Digest>; 2]> = BTreeMap::new();
    for (i, lock) in [before, after].into_iter().enumerate() {
        for entry in &lock.source {
            for file in &entry.file {
                digests.entry((&entry.name, &file.path)).or_default()[i] = Some(file.sha256);
            }
        }
    }
    let changed = digests.into_iter().filter(|(_, [before, after])| before != after);
    let change = |((source, file), [before, after]): ((&str, &str), [Option<Digest>; 2])| LockChange {
        source: source.to_owned(),
        file: file.to_owned(),
        before,
        after,
    };
    changed.map(change).collect()
}

impl Lock {
    /// Returns the lock in a file; where there is no file, an empty one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |message: String| Error::Lock { path: path.to_owned(), message };
        match fs::read_to_string(path) {
            Ok(text) => {
                let lock: Self = toml::from_str(&text).map_err(|e| wrong(e.message().replace('\n', "; ")))?;
                if lock.version != VERSION {
                    return Err(wrong(format!("its version is {}, this program's is {VERSION}", lock.version)));
                }
                Ok(lock)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self { version: VERSION, source: Vec::new() }),
            Err(e) => Err(artifact::Error::io("read", path, e).into()),
        }
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|e| Error::Lock { path: path.to_owned(), message: e.to_string() })?;
        Ok(file::write_atomically(path, format!("{HEAD}{text}").as_bytes())?)
    }

    fn insert(&mut self, entry: Entry) {
        match self.source.binary_search_by(|known| known.name.cmp(&entry.name)) {
            Ok(at) => self.source[at] = entry,
            Err(at) => self.source.insert(at, entry),
        }
    }

    /// Returns the entry of a source, after checking that it was written for what the source says now.
    pub fn entry(&self, path: &Path, declared: &Declared, remote: &Remote) -> Result<Option<&Entry>, Error> {
        let name = declared.source.known_as();
        let Some(entry) = self.source.iter().find(|entry| entry.name == name) else { return Ok(None) };
        let or_none = |revision: Option<&str>| revision.unwrap_or("none").to_owned();
        let parts = [
            ("address", entry.address.clone(), written_address(declared).to_owned()),
            ("revision", or_none(entry.revision.as_deref()), or_none(remote.revision())),
            (
                "a choice of files (include, exclude, format, max_file_bytes) with digest",
                entry.selection.short(),
                selection(declared).short(),
            ),
        ];
        match parts.into_iter().find(|(_, locked, declared)| locked != declared) {
            Some((what, locked, declared)) => {
                Err(Error::LockedOtherwise { name, lock: path.to_owned(), what, locked, declared })
            }
            None => Ok(Some(entry)),
        }
    }
}
