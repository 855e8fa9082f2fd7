//! `dataset.lock`: what was fetched from other machines, so that the same is fetched again or the difference is told.
//!
//! Folders and files of this machine are not locked, since changing them is how a dataset is worked on, and neither is what
//! a digest or a version pins already: a `crate`, and a `url` with `sha256`.

use std::collections::BTreeSet;
use std::path::Path;

use artifact::Context;

use crate::cache::Fetched;
use crate::config::{Declarations, Declared, declared};
use crate::download::{Promise, Promiser};
use crate::environment::Environment;
use crate::fetch::{self, Item, Order};
use crate::lock_file::{Entry, Lock, LockChange, LockedFile, selection};
use crate::remote::{self, Listing, Reach, Remote, written_address};
use crate::select::passed_over;
use crate::{Config, Error, git};

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
    Ok(before.changes(&lock))
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
