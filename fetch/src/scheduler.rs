//! Fetching files of several sources into the cache, several at a time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use url::Url;

use crate::Error;
use crate::address::git::GitRepository;
use crate::address::{Refused, parse_url, printable};
use crate::context::RemoteContext;
use crate::download::cache::CachedFile;
use crate::download::meter::Meter;
use crate::download::request::{DownloadRequest, ExpectedDigest, Response};
use crate::download::transfer::download;
use crate::retry::Failure;
use crate::sources::listing::RemoteFile;
use crate::sources::{Remote, git, http_file, hub, object_store};

/// The number of concurrent downloads. Heuristic, not measured: enough to hide the latency of small files, few enough
/// to stay below the rate limits of servers.
const CONCURRENT_DOWNLOADS: usize = 4;

/// Files to fetch from one source.
#[derive(Debug)]
pub struct FetchBatch<'a> {
    /// The source, for errors.
    pub name: &'a str,
    /// Where it is.
    pub remote: &'a Remote,
    /// The commit that its revision is resolved to.
    pub commit: Option<&'a str>,
    /// The files.
    pub files: Vec<FetchItem<'a>>,
}

/// A file to fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchItem<'a> {
    /// Its path inside the source.
    pub path: &'a str,
    /// Its length, where known.
    pub bytes: Option<u64>,
    /// The server's identifier of the version, where known.
    pub version: Option<&'a str>,
    /// Its digest, where known.
    pub expected: Option<ExpectedDigest<'a>>,
}

impl<'a> From<&'a RemoteFile> for FetchItem<'a> {
    fn from(file: &'a RemoteFile) -> Self {
        let expected = file.sha256.map(ExpectedDigest::listed);
        Self { path: &file.path, bytes: file.bytes, version: file.version.as_deref(), expected }
    }
}

/// Checks that nothing in the batches needs the network, if its use is disabled.
///
/// # Errors
/// Returns an error that names the first file which is neither in the cache nor in that of the hub's own programs.
pub fn check_offline(batches: &[FetchBatch<'_>], remote: &RemoteContext<'_>) -> Result<(), Error> {
    // The commit of a git repository may be in the cache although a single file is not; fetching tells.
    for batch in batches.iter().filter(|batch| remote.context.offline && !matches!(batch.remote, Remote::Git(..))) {
        let connection = Connection::new(batch, remote)?;
        if let Some(item) = batch.files.iter().find(|item| connection.local_copy(item.path).is_none()) {
            return Err(offline(batch, connection.address(item.path), remote));
        }
    }
    Ok(())
}

fn offline(batch: &FetchBatch<'_>, url: String, remote: &RemoteContext<'_>) -> Error {
    Error::Offline { name: batch.name.to_owned(), url, cache: remote.cache.clone() }
}

/// Fetches all files of the batches into the cache, until the first error.
///
/// Returns the files of each batch that is complete, in the order requested, and the error, if there was one.
pub fn fetch(
    batches: &[FetchBatch<'_>],
    remote: &RemoteContext<'_>,
) -> (Vec<Option<Vec<CachedFile>>>, Result<(), Error>) {
    let total = batches.iter().flat_map(|batch| &batch.files).filter_map(|item| item.bytes).sum();
    let meter = Meter::new(remote.context, total);
    let not_tried = |batch: &FetchBatch<'_>| std::iter::repeat_with(|| None).take(batch.files.len()).collect();
    let mut results: Vec<Results> = batches.iter().map(not_tried).collect();
    let mut connections = Vec::with_capacity(batches.len());
    let mut outcome = Ok(());
    for (batch, results) in batches.iter().zip(&mut results) {
        let connected = match batch.remote {
            // Git extracts all files of a commit in one process.
            Remote::Git(repository, _) => extract(batch, repository, remote, &meter, results).map(|()| None),
            _ => Connection::new(batch, remote).map(Some),
        };
        match connected {
            Ok(connection) => connections.push(connection),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    if outcome.is_ok() {
        download_all(batches, &connections, remote, &meter, &mut results);
    }
    let mut complete = Vec::with_capacity(batches.len());
    for results in results {
        let requested = results.len();
        match results.into_iter().flatten().collect::<Result<Vec<CachedFile>, Error>>() {
            Ok(files) => complete.push((files.len() == requested).then_some(files)),
            Err(error) => {
                complete.push(None);
                outcome = outcome.and(Err(error));
            }
        }
    }
    (complete, outcome)
}

/// The results of the files of a batch; none for those that were not tried.
type Results = Vec<Option<Result<CachedFile, Error>>>;

/// A connection to a source whose files are requested one by one.
enum Connection<'a> {
    Url(Url),
    Hub(hub::Connection<'a>, String),
    ObjectStore(object_store::Connection),
}

impl<'a> Connection<'a> {
    fn new(batch: &FetchBatch<'_>, remote: &'a RemoteContext<'a>) -> Result<Self, Error> {
        let commit = batch.commit.unwrap_or_default().to_owned();
        match batch.remote {
            Remote::Hub(repository, _) => Ok(Self::Hub(hub::Connection::new(repository, remote)?, commit)),
            Remote::ObjectStore(objects) => {
                Ok(Self::ObjectStore(object_store::Connection::new(objects, batch.name, remote)?))
            }
            Remote::Url(text) | Remote::Git(_, text) => {
                let refused = |refused: Refused| {
                    let (name, url) = (batch.name.to_owned(), text.clone());
                    Error::Refused { name, url, reason: refused.to_string() }
                };
                parse_url(text).map(Self::Url).map_err(refused)
            }
        }
    }

    /// Returns a file's address, as it may be printed.
    fn address(&self, path: &str) -> String {
        match self {
            Self::Url(url) => printable(url),
            Self::Hub(hub, commit) => printable(&hub.file_url(commit, path)),
            Self::ObjectStore(store) => store.file_address(path),
        }
    }

    /// Returns a file of this machine that should have the same content.
    fn local_copy(&self, path: &str) -> Option<PathBuf> {
        match self {
            Self::Hub(hub, commit) => hub.local_copy(commit, path),
            Self::Url(_) | Self::ObjectStore(_) => None,
        }
    }

    /// Returns the identity of a file, and whether the content of that identity never changes.
    fn identity(&self, item: &FetchItem<'_>) -> (String, bool) {
        match self {
            Self::Url(url) => (url.to_string(), false),
            Self::Hub(hub, commit) => (hub.file_url(commit, item.path).to_string(), true),
            Self::ObjectStore(store) => {
                let version = item.version.unwrap_or_default();
                (format!("{}\n{version}", store.file_address(item.path)), item.version.is_some())
            }
        }
    }

    fn open(
        &self,
        name: &str,
        item: &FetchItem<'_>,
        remote: &RemoteContext<'_>,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Response, Failure> {
        match self {
            Self::Url(url) => http_file::open(&remote.client, name, url, None, from, validator),
            Self::Hub(hub, commit) => hub.open(name, commit, item.path, from),
            Self::ObjectStore(store) => store.open(name, item.path, item.version, from),
        }
    }
}

fn extract(
    batch: &FetchBatch<'_>,
    repository: &GitRepository,
    remote: &RemoteContext<'_>,
    meter: &Meter<'_>,
    results: &mut [Option<Result<CachedFile, Error>>],
) -> Result<(), Error> {
    let paths: Vec<&str> = batch.files.iter().map(|item| item.path).collect();
    let files = git::extract(repository, batch.name, batch.commit.unwrap_or_default(), &paths, remote, meter)?;
    for ((item, file), result) in batch.files.iter().zip(files).zip(results) {
        let mismatch = item.expected.filter(|expected| expected.sha256 != file.sha256);
        *result = Some(match mismatch {
            Some(expected) => Err(expected.mismatch(batch.name, item.path, &repository.location, file.sha256)),
            None => Ok(file),
        });
    }
    Ok(())
}

/// Downloads every file of the batches that have a connection, until one fails.
fn download_all(
    batches: &[FetchBatch<'_>],
    connections: &[Option<Connection<'_>>],
    remote: &RemoteContext<'_>,
    meter: &Meter<'_>,
    results: &mut [Results],
) {
    // Two sources may have the same file: these are downloaded one after the other, since both have one partial file.
    let mut queue: Vec<Vec<(usize, usize, &Connection<'_>)>> = Vec::new();
    let mut groups: HashMap<String, usize> = HashMap::new();
    for (i, (batch, connection)) in batches.iter().zip(connections).enumerate() {
        let Some(connection) = connection else { continue };
        for (j, item) in batch.files.iter().enumerate() {
            let group = *groups.entry(connection.identity(item).0).or_insert(queue.len());
            if group == queue.len() {
                queue.push(Vec::new());
            }
            queue[group].push((i, j, connection));
        }
    }
    let (next, failed, results) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(results));
    let work = || {
        while let Some(group) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            for &(i, j, connection) in group {
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                let result = download_item(&batches[i], &batches[i].files[j], connection, remote, meter);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                results[i][j] = Some(result);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..CONCURRENT_DOWNLOADS.min(queue.len()) {
            scope.spawn(work);
        }
    });
}

fn download_item(
    batch: &FetchBatch<'_>,
    item: &FetchItem<'_>,
    connection: &Connection<'_>,
    remote: &RemoteContext<'_>,
    meter: &Meter<'_>,
) -> Result<CachedFile, Error> {
    let (identity, is_immutable) = connection.identity(item);
    let (address, local_copy) = (connection.address(item.path), connection.local_copy(item.path));
    let request = DownloadRequest {
        name: batch.name,
        file: item.path,
        address: &address,
        identity: &identity,
        is_immutable,
        bytes: item.bytes,
        expected: item.expected,
        local_copy: local_copy.as_deref(),
    };
    let open = |from, validator: Option<&str>| {
        if remote.context.offline {
            return Err(offline(batch, address.clone(), remote).into());
        }
        connection.open(batch.name, item, remote, from, validator)
    };
    download(request, &open, remote, meter)
}
