//! Files of other machines come into the cache, several at a time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use artifact::Context;
use url::Url;

use crate::cache::{Fetched, Meter, is_cached};
use crate::download::{self, Answer, Failure, Promise, Wanted};
use crate::environment::Environment;
use crate::inventory::Distant;
use crate::remote::{Reach, Remote};
use crate::{Config, Error, Inventory, address, cloud, git, http, hub};

/// How many files are downloaded at the same time. A guess: enough to hide the waits between small files, few enough for a
/// server not to mind.
const PARALLEL: usize = 4;

/// Files wanted of one source.
pub(crate) struct Order<'a> {
    /// The source.
    pub name: &'a str,
    /// Where it is.
    pub remote: &'a Remote,
    /// The commit that its revision is.
    pub commit: Option<&'a str>,
    /// The files.
    pub files: Vec<Item<'a>>,
}

/// A file wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    /// Its path inside the source.
    pub path: &'a str,
    /// Its length, where it is known.
    pub bytes: Option<u64>,
    /// What its server tells this version by, where it is known.
    pub version: Option<&'a str>,
    /// Its digest, where it is known.
    pub promise: Option<Promise<'a>>,
}

/// Brings everything that an inventory lists on other machines into the cache, as far as it is not there.
///
/// # Errors
/// When a source is not locked yet, when the network may not be used, when a download fails or is not what was promised.
pub(crate) fn missing(
    inventory: &Inventory,
    config: &Config,
    context: &Context,
    environment: Environment,
) -> Result<(), Error> {
    let reach = Reach::new(config, context, environment)?;
    let mut orders = Vec::new();
    for source in &inventory.sources {
        let Some(mut order) = source.order() else { continue };
        if let Some(Distant { lock: Some(lock), address, is_unlocked: true, .. }) = &source.distant {
            let (name, address) = (source.name.clone(), address.clone());
            return Err(Error::NotLocked { name, address, lock: lock.clone() });
        }
        let mut absent = Vec::with_capacity(order.files.len());
        for item in order.files {
            if !item.promise.map_or(Ok(false), |promise| is_cached(&reach.cache, promise.sha256))? {
                absent.push(item);
            }
        }
        order.files = absent;
        if !order.files.is_empty() {
            orders.push(order);
        }
    }
    if orders.is_empty() {
        return Ok(());
    }
    refuse_offline(&orders, &reach)?;
    let _others_wait = reach.lock_cache()?;
    fetch(&orders, &reach).1
}

/// Tells of the first file that only the network has, if it may not be used.
pub(crate) fn refuse_offline(orders: &[Order<'_>], reach: &Reach<'_>) -> Result<(), Error> {
    // Of a git repository, what is needed may lie in the cache in another form.
    for order in orders.iter().filter(|order| reach.context.offline && !matches!(order.remote, Remote::Git(..))) {
        let connection = Connection::new(order, reach)?;
        if let Some(item) = order.files.iter().find(|item| connection.at_hand(item.path).is_none()) {
            return Err(offline(order, connection.address(item.path), reach));
        }
    }
    Ok(())
}

fn offline(order: &Order<'_>, url: String, reach: &Reach<'_>) -> Error {
    Error::Offline { name: order.name.to_owned(), url, cache: reach.cache.clone() }
}

/// Brings everything that is ordered into the cache, or as much of it as comes before the first error.
///
/// Returns, for each order that is complete, its files as they are in the cache, and the error, if there was one.
pub(crate) fn fetch(orders: &[Order<'_>], reach: &Reach<'_>) -> (Vec<Option<Vec<Fetched>>>, Result<(), Error>) {
    let total = orders.iter().flat_map(|order| &order.files).filter_map(|item| item.bytes).sum();
    let meter = Meter::new(reach.context, total);
    let nothing = |order: &Order<'_>| std::iter::repeat_with(|| None).take(order.files.len()).collect();
    let mut results: Vec<Results> = orders.iter().map(nothing).collect();
    let mut connections = Vec::with_capacity(orders.len());
    let mut outcome = Ok(());
    for (order, results) in orders.iter().zip(&mut results) {
        let connected = match order.remote {
            // Git hands out all files of a commit at once.
            Remote::Git(repository, _) => extract(order, repository, reach, &meter, results).map(|()| None),
            _ => Connection::new(order, reach).map(Some),
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
        download_all(orders, &connections, reach, &meter, &mut results);
    }
    let mut fetched = Vec::with_capacity(orders.len());
    for results in results {
        let wanted = results.len();
        match results.into_iter().flatten().collect::<Result<Vec<Fetched>, Error>>() {
            Ok(files) => fetched.push((files.len() == wanted).then_some(files)),
            Err(error) => {
                fetched.push(None);
                outcome = outcome.and(Err(error));
            }
        }
    }
    (fetched, outcome)
}

/// What became of the files of an order; nothing of those that were not tried.
type Results = Vec<Option<Result<Fetched, Error>>>;

/// A way to a source whose files are asked for one by one.
enum Connection {
    Url(Url),
    Hub(hub::Connection, String),
    Store(cloud::Connection),
}

impl Connection {
    fn new(order: &Order<'_>, reach: &Reach<'_>) -> Result<Self, Error> {
        let commit = order.commit.unwrap_or_default().to_owned();
        match order.remote {
            Remote::Hub(repository, _) => Ok(Self::Hub(hub::Connection::new(repository, reach)?, commit)),
            Remote::Store(objects) => Ok(Self::Store(cloud::Connection::new(objects, order.name, reach)?)),
            Remote::Url(text) | Remote::Git(_, text) => {
                let refused = |refused: address::Refused| {
                    let (name, url) = (order.name.to_owned(), text.clone());
                    Error::Refused { name, url, reason: refused.to_string() }
                };
                address::parse(text).map(Self::Url).map_err(refused)
            }
        }
    }

    /// Returns a file's address, as it may be printed.
    fn address(&self, path: &str) -> String {
        match self {
            Self::Url(url) => address::shown(url),
            Self::Hub(hub, commit) => address::shown(&hub.file_address(commit, path)),
            Self::Store(store) => store.file_address(path),
        }
    }

    /// Returns a file of this machine that should be the same.
    fn at_hand(&self, path: &str) -> Option<PathBuf> {
        match self {
            Self::Hub(hub, commit) => hub.at_hand(commit, path),
            Self::Url(_) | Self::Store(_) => None,
        }
    }

    /// Returns what tells a file from all others, and whether that holds for ever.
    fn identity(&self, item: &Item<'_>) -> (String, bool) {
        match self {
            Self::Url(url) => (url.to_string(), false),
            Self::Hub(hub, commit) => (hub.file_address(commit, item.path).to_string(), true),
            Self::Store(store) => {
                let version = item.version.unwrap_or_default();
                (format!("{}\n{version}", store.file_address(item.path)), item.version.is_some())
            }
        }
    }

    fn open(
        &self,
        name: &str,
        item: &Item<'_>,
        reach: &Reach<'_>,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Answer, Failure> {
        match self {
            Self::Url(url) => http::open(&reach.client, name, url, None, from, validator),
            Self::Hub(hub, commit) => hub.open(name, commit, item.path, reach, from),
            Self::Store(store) => store.open(name, item.path, item.version, from),
        }
    }
}

fn extract(
    order: &Order<'_>,
    repository: &git::Repository,
    reach: &Reach<'_>,
    meter: &Meter<'_>,
    results: &mut [Option<Result<Fetched, Error>>],
) -> Result<(), Error> {
    let paths: Vec<&str> = order.files.iter().map(|item| item.path).collect();
    let files = git::extract(repository, order.name, order.commit.unwrap_or_default(), &paths, reach, meter)?;
    for ((item, fetched), result) in order.files.iter().zip(files).zip(results) {
        let broken = item.promise.filter(|promise| promise.sha256 != fetched.sha256);
        *result = Some(match broken {
            Some(promise) => Err(promise.broken(order.name, item.path, &repository.shown(), fetched.sha256)),
            None => Ok(fetched),
        });
    }
    Ok(())
}

/// Downloads every file of the orders that have a connection, [`PARALLEL`] at a time, until one fails.
fn download_all(
    orders: &[Order<'_>],
    connections: &[Option<Connection>],
    reach: &Reach<'_>,
    meter: &Meter<'_>,
    results: &mut [Results],
) {
    // Two sources may take the same file: one after the other, since both would write to the same part.
    let mut queue: Vec<Vec<(usize, usize, &Connection)>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (i, (order, connection)) in orders.iter().zip(connections).enumerate() {
        let Some(connection) = connection else { continue };
        for (j, item) in order.files.iter().enumerate() {
            let place = *places.entry(connection.identity(item).0).or_insert(queue.len());
            if place == queue.len() {
                queue.push(Vec::new());
            }
            queue[place].push((i, j, connection));
        }
    }
    let (next, failed, results) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(results));
    let work = || {
        while let Some(group) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            for &(i, j, connection) in group {
                if failed.load(Ordering::Relaxed) {
                    return;
                }
                let result = download(&orders[i], &orders[i].files[j], connection, reach, meter);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                results[i][j] = Some(result);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..PARALLEL.min(queue.len()) {
            scope.spawn(work);
        }
    });
}

fn download(
    order: &Order<'_>,
    item: &Item<'_>,
    connection: &Connection,
    reach: &Reach<'_>,
    meter: &Meter<'_>,
) -> Result<Fetched, Error> {
    let (identity, is_immutable) = connection.identity(item);
    let (address, at_hand) = (connection.address(item.path), connection.at_hand(item.path));
    let wanted = Wanted {
        name: order.name,
        file: item.path,
        address: &address,
        identity: &identity,
        is_immutable,
        bytes: item.bytes,
        promise: item.promise,
        at_hand: at_hand.as_deref(),
    };
    let open = |from, validator: Option<&str>| {
        if reach.context.offline {
            return Err(offline(order, address.clone(), reach).into());
        }
        connection.open(order.name, item, reach, from, validator)
    };
    download::fetch(wanted, &open, &reach.cache, reach.config, meter)
}
