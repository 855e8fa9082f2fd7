//! `dataset.lock`: the files of sources on other machines, so that the same are fetched again or the difference is
//! reported.
//!
//! Files on this machine are not locked, since editing them is how a dataset is developed. Neither is what a digest or
//! a version pins already: a `url` with `sha256`, and a `crate`.

use std::collections::BTreeSet;
use std::path::Path;

use artifact::{Context, Digest};
use fetch::{
    CachedFile, Environment, FetchBatch, FetchItem, Lock, LockChange, LockEntry, LockedFile, Remote, RemoteContext,
};
use serde_json::json;

use crate::Error;
use crate::config::{Declarations, Declared};
use crate::resolve::Resolved;
use crate::sources::remote::{self, RemoteSelection, written_address};
use crate::sources::select::passed_over;

/// The command that replaces the entry of a source, before the source's name.
pub(crate) const UPDATE_COMMAND: &str = "pipeline data lock --update";

/// Fetches every source on another machine that has no entry in `dataset.lock`, and adds the entries to the file and to
/// `resolved`.
///
/// Returns what was added, sorted by source and file. If nothing is missing, neither the network nor the disk is
/// touched. Files fetched before a failure are kept.
///
/// # Errors
/// Returns an error if something is missing and `config.locked` or `context.offline` forbids to fetch it, if an entry
/// was written for another address or revision than the source has now, and if a source cannot be fetched.
pub fn lock(resolved: &mut Resolved, context: &Context) -> Result<Vec<LockChange>, Error> {
    refresh(resolved, context, Refresh::None)
}

/// Fetches sources on other machines again, whatever the lock has, and replaces their entries: those of `sources`, or
/// of all if it is empty; then entries without a source in the dataset are removed, too.
///
/// Returns what changed, sorted by source and file.
///
/// # Errors
/// Returns an error if a name is not that of a source on another machine, if network access is disabled, and if a
/// source cannot be fetched.
pub fn update_lock(resolved: &mut Resolved, context: &Context, sources: &[String]) -> Result<Vec<LockChange>, Error> {
    for name in sources {
        let source = resolved.declarations.sources.iter().find(|declared| declared.source.display_name() == *name);
        let remote = source.map(|declared| lockable(declared, &resolved.environment)).transpose()?.flatten();
        if remote.is_none() {
            let message = "is not a locked source; only remote sources without `sha256` are locked";
            return Err(Error::value(&format!("`{name}`"), message));
        }
    }
    refresh(resolved, context, if sources.is_empty() { Refresh::All } else { Refresh::Named(sources) })
}

/// Which sources are fetched again although they are in the lock.
#[derive(Debug, Clone, Copy)]
enum Refresh<'a> {
    /// None.
    None,
    /// Those with these names.
    Named(&'a [String]),
    /// All.
    All,
}

impl Refresh<'_> {
    fn includes(self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Named(names) => names.iter().any(|included| included == name),
            Self::All => true,
        }
    }
}

/// Returns where a source is, if its files must be locked.
fn lockable(declared: &Declared, environment: &Environment) -> Result<Option<Remote>, Error> {
    Ok(remote::remote_of(declared, environment)?.filter(|remote| !remote::is_pinned(declared, remote)))
}

fn refresh(resolved: &mut Resolved, context: &Context, refresh: Refresh<'_>) -> Result<Vec<LockChange>, Error> {
    let Resolved { config, environment, declarations, lock } = resolved;
    let path = &declarations.lock;
    let is_pruned =
        |lock: &Lock| matches!(refresh, Refresh::All) && config.dataset.is_some() && !lock.source.is_empty();
    let missing = missing(lock, declarations, environment, refresh)?;
    if missing.is_empty() && !is_pruned(lock) {
        return Ok(Vec::new());
    }
    if let Some(first) = missing.first().filter(|_| config.locked) {
        return Err(not_locked(first.declared, path));
    }
    let options = config.fetch_options();
    let remote_context = RemoteContext::new(&options, context, environment)?;
    if let Some(Missing { name, declared, .. }) = missing.first().filter(|_| context.offline) {
        let (name, url) = (name.clone(), written_address(declared).to_owned());
        return Err(fetch::Error::Offline { name, url, cache: remote_context.cache().to_owned() }.into());
    }
    let _guard = remote_context.lock_cache()?;
    // While this run waited, another may have locked the same sources, so the file is read again.
    let before = Lock::read(path)?;
    let missing = self::missing(&before, declarations, environment, refresh)?;
    lock.clone_from(&before);
    // Several configurations may share the lock beside them, and each has only its own sources.
    if is_pruned(lock) {
        let is_known = |name: &str| declarations.sources.iter().any(|declared| declared.source.display_name() == name);
        lock.source.retain(|entry| is_known(&entry.name));
    }
    let (entries, outcome) = fetch_entries(&missing, config.allow_private, &remote_context);
    for entry in entries {
        lock.insert(entry);
    }
    if *lock != before {
        lock.write(path)?;
    }
    outcome?;
    Ok(before.changes(lock))
}

/// A source that must be fetched.
struct Missing<'a> {
    name: String,
    declared: &'a Declared,
    remote: Remote,
}

/// Returns the sources that are not in the lock, or are refreshed, in the order in which they are written.
fn missing<'a>(
    lock: &Lock,
    declarations: &'a Declarations,
    environment: &Environment,
    refresh: Refresh<'_>,
) -> Result<Vec<Missing<'a>>, Error> {
    let mut names = BTreeSet::new();
    let mut missing = Vec::new();
    for declared in &declarations.sources {
        let Some(remote) = lockable(declared, environment)? else { continue };
        let name = declared.source.display_name();
        if !names.insert(name.clone()) {
            return Err(Error::SameName { name });
        }
        if refresh.includes(&name) || entry(lock, &declarations.lock, declared, &remote)?.is_none() {
            missing.push(Missing { name, declared, remote });
        }
    }
    Ok(missing)
}

/// Returns the entry of a source, after checking that it was written for the source as it is configured now.
pub(crate) fn entry<'a>(
    lock: &'a Lock,
    lock_path: &Path,
    declared: &Declared,
    remote: &Remote,
) -> Result<Option<&'a LockEntry>, Error> {
    let name = declared.source.display_name();
    let Some(entry) = lock.entry(&name) else { return Ok(None) };
    let or_none = |revision: Option<&str>| revision.unwrap_or("none").to_owned();
    let parts = [
        ("address", entry.address.clone(), written_address(declared).to_owned()),
        ("revision", or_none(entry.revision.as_deref()), or_none(remote.revision())),
        (
            "a selection of files (include, exclude, format, max_file_bytes) with digest",
            entry.selection.short(),
            selection_digest(declared).short(),
        ),
    ];
    match parts.into_iter().find(|(_, locked, declared)| locked != declared) {
        Some((what, locked, declared)) => {
            Err(Error::LockedOtherwise { name, lock: lock_path.to_owned(), what, locked, declared })
        }
        None => Ok(Some(entry)),
    }
}

/// Returns the digest of what decides which of a source's files are selected.
fn selection_digest(declared: &Declared) -> Digest {
    let source = &declared.source;
    let mut selection = json!({
        "include": source.include,
        "exclude": source.exclude,
        "format": source.format,
        "max_file_bytes": declared.max_file_bytes,
    });
    if let Some(captions) = &source.captions {
        selection["captions"] = json!(captions);
    }
    Digest::of_json(&selection)
}

/// Returns the error of a source that is not in the lock.
pub(crate) fn not_locked(declared: &Declared, lock: &Path) -> Error {
    let (name, address) = (declared.source.display_name(), written_address(declared).to_owned());
    Error::NotLocked { name, address, lock: lock.to_owned() }
}

/// Lists and fetches sources; returns the entries of those that are complete, and the first error.
fn fetch_entries(
    missing: &[Missing<'_>],
    allow_private: bool,
    context: &RemoteContext<'_>,
) -> (Vec<LockEntry>, Result<(), Error>) {
    let mut listed: Vec<(&Missing<'_>, RemoteSelection)> = Vec::new();
    let mut outcome = Ok(());
    for source in missing {
        context.context().progress.begin(&format!("listing {}", source.name), 0, "files");
        let selection = remote::list(&source.remote, source.declared, allow_private, context);
        let selection = selection.and_then(|selection| {
            let is_empty = selection.files.is_empty();
            if is_empty { Err(nothing_selected(source, &selection, 0)) } else { Ok(selection) }
        });
        match selection {
            Ok(selection) => listed.push((source, selection)),
            Err(error) => {
                // The sources listed before are fetched nevertheless, so that the next run need not fetch them.
                outcome = Err(error);
                break;
            }
        }
    }
    let batches: Vec<FetchBatch<'_>> = listed.iter().map(|(source, selection)| batch(source, selection)).collect();
    let (fetched, fetching) = fetch::fetch(&batches, context);
    outcome = fetching.map_err(Error::from).and(outcome);
    let mut entries = Vec::with_capacity(listed.len());
    for ((source, selection), fetched) in listed.iter().zip(fetched) {
        match fetched.map(|fetched| new_entry(source, selection, fetched, context)) {
            Some(Ok(entry)) => entries.push(entry),
            Some(Err(error)) => outcome = outcome.and(Err(error)),
            None => {}
        }
    }
    (entries, outcome)
}

fn nothing_selected(source: &Missing<'_>, selection: &RemoteSelection, pointers: u64) -> Error {
    let passed_over = passed_over(selection.not_selected + pointers, selection.too_large, &[]);
    Error::NothingSelected { name: source.name.clone(), passed_over }
}

/// Returns the entry of a source that has been fetched.
fn new_entry(
    source: &Missing<'_>,
    selection: &RemoteSelection,
    fetched: Vec<CachedFile>,
    context: &RemoteContext<'_>,
) -> Result<LockEntry, Error> {
    let Missing { name, declared, remote } = source;
    let mut file = Vec::with_capacity(fetched.len());
    let mut pointers = 0;
    for (listed, fetched) in selection.files.iter().zip(fetched) {
        if matches!(remote, Remote::Git(..)) && fetch::is_lfs_pointer(context.cache(), &fetched)? {
            pointers += 1;
            continue;
        }
        // A validator without quotation marks is a date, not an `ETag`.
        let etag = listed.version.clone().or(fetched.validator.filter(|validator| validator.starts_with('"')));
        file.push(LockedFile { path: listed.path.clone(), bytes: fetched.bytes, sha256: fetched.sha256, etag });
    }
    if pointers > 0 {
        tracing::warn!("source {name}: {pointers} files are in Git LFS and are skipped");
    }
    if file.is_empty() {
        return Err(nothing_selected(source, selection, pointers));
    }
    Ok(LockEntry {
        name: name.clone(),
        address: written_address(declared).to_owned(),
        revision: remote.revision().map(str::to_owned),
        commit: selection.commit.clone(),
        licence: selection.licence.clone(),
        selection: selection_digest(declared),
        too_large: selection.too_large,
        not_selected: selection.not_selected + pointers,
        file,
    })
}

fn batch<'a>(source: &'a Missing<'_>, selection: &'a RemoteSelection) -> FetchBatch<'a> {
    let files = selection.files.iter().map(FetchItem::from).collect();
    FetchBatch { name: &source.name, remote: &source.remote, commit: selection.commit.as_deref(), files }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::inventory;
    use crate::resolve::resolve_in;
    use crate::{Config, Source};

    use test_support::server::{Reply, Request, Server};

    /// Answers as S3 does for a bucket of three objects, the last one empty.
    fn s3(request: &Request) -> Reply {
        let contents: [(&str, &[u8]); 3] =
            [("data/b.jsonl", b"{\"text\": \"b\"}"), ("data/c.png", b"\x89PNG"), ("data/empty/", b"")];
        let date = "Mon, 01 Jan 2024 00:00:00 GMT";
        if request.parameter("list-type") == Some("2") {
            let entry = |(key, content): &(&str, &[u8])| {
                let bytes = content.len();
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                     <ETag>\"{bytes}\"</ETag><Size>{bytes}</Size></Contents>"
                )
            };
            let prefix = request.parameter("prefix").unwrap_or("").replace("%2F", "/");
            let entries: String = contents.iter().filter(|(key, _)| key.starts_with(&prefix)).map(entry).collect();
            return Reply::body(format!("<ListBucketResult>{entries}</ListBucketResult>"));
        }
        match contents.iter().find(|(key, _)| request.path() == format!("/bucket/{key}")) {
            Some((_, content)) => {
                Reply::file(request, content, &format!("\"{}\"", content.len())).with("Last-Modified", date)
            }
            None => Reply::status(404),
        }
    }

    /// Locks the objects at `url`; returns the paths of the files and the number of those not selected.
    fn lock_objects(url: &str) -> Result<(Vec<String>, u64), Error> {
        let base = tempfile::tempdir().unwrap();
        let server = Server::start(s3);
        let variables = [("AWS_ENDPOINT_URL", server.url.as_str()), ("AWS_REGION", "us-east-1")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let source = Source { url: Some(url.to_owned()), anonymous: true, ..Source::default() };
        let config = Config { sources: vec![source], allow_private: true, download_attempts: 1, ..Config::default() };
        let context = Context { base: base.path().to_owned(), offline: false, ..Context::quiet(1) };
        let mut resolved = resolve_in(&config, &context, Environment { home: None, variables })?;
        let outcome = lock(&mut resolved, &context);
        assert_eq!(outcome.is_ok(), base.path().join("dataset.lock").exists());
        outcome?;
        let inventory = inventory(&resolved, &context)?;
        let source = &inventory.sources[0];
        inventory.fetch_missing(&config, &Context { offline: true, ..context })?;
        assert_eq!(std::fs::read(source.files[0].place.path()).unwrap(), b"{\"text\": \"b\"}");
        Ok((source.files.iter().map(|file| file.relative.clone()).collect(), source.not_selected))
    }

    #[test]
    fn objects_are_selected_and_locked() {
        let check = |url: &str, not_selected: u64| {
            assert_eq!(lock_objects(url).unwrap(), (vec!["b.jsonl".to_owned()], not_selected), "{url}");
        };
        check("s3://bucket/data", 1);
        check("s3://bucket/data/*.jsonl", 0);
        check("s3://bucket/data/b.jsonl", 0);
    }

    #[test]
    fn an_address_without_selected_objects_is_an_error() {
        for (url, expected) in [
            ("s3://bucket/*.jsonl", "there is none"),
            ("s3://bucket/data/none", "there is none"),
            ("s3://bucket/data/c.png/", "1 excluded or of an unknown format"),
        ] {
            let error = lock_objects(url).unwrap_err();
            let Error::NothingSelected { passed_over, .. } = &error else { panic!("{url}: {error}") };
            assert_eq!(passed_over, expected, "{url}");
        }
    }
}
