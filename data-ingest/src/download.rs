//! Downloads: resumed after a cut, tried again after a failure, checked against their digest, kept by it.

use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use artifact::{Context, Digest};

use crate::cache::{Fetched, Meter, Part, cached, is_cached};
use crate::{Config, Error};

/// The wait after the first failure; it doubles with each. A guess, as is the limit.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// How an attempt ended without the whole file.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Trying again may help: the reason, and how long the server asks to wait.
    Passing(BoxedError, Option<Duration>),
    /// What arrived so far is no part of the file that is there now: it must be fetched from the beginning.
    Stale(&'static str),
    /// Trying again does not help.
    Lasting(Error),
}

impl Failure {
    /// Returns a failure that may pass.
    pub fn passing(reason: impl Into<BoxedError>) -> Self {
        Self::Passing(reason.into(), None)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// Asks for a file from a byte on. The text is what the earlier part came with: an answer that continues it is of the same
/// version.
pub(crate) type Open<'a> = dyn Fn(u64, Option<&str>) -> Result<Answer, Failure> + Sync + 'a;

/// What a server answers.
pub(crate) enum Answer {
    /// Bytes.
    Body(Incoming),
    /// The file ends where the part that is already here ends, or before.
    NothingMore,
}

/// Bytes on their way.
pub(crate) struct Incoming {
    /// Where in the file they begin: at the byte asked for, or at 0.
    pub start: u64,
    /// The length of the whole file, where the server says it.
    pub total: Option<u64>,
    /// Whether a cut can be told from the end.
    pub delimited: bool,
    /// What tells this version of the file from another.
    pub validator: Option<String>,
    /// The bytes.
    pub body: Box<dyn Read>,
}

/// The digest that a file must have, and who says so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise<'a> {
    /// The digest.
    pub sha256: Digest,
    /// Who says so.
    pub by: Promiser<'a>,
}

impl Promise<'_> {
    /// Returns the error of a file that has another digest.
    pub fn broken(&self, name: &str, file: &str, address: &str, found: Digest) -> Error {
        let (name, expected) = (name.to_owned(), self.sha256);
        match self.by {
            Promiser::Lock(lock) => Error::NotAsLocked {
                name,
                file: file.to_owned(),
                lock: lock.to_owned(),
                expected: Box::new(expected),
                found: Box::new(found),
            },
            Promiser::Key | Promiser::Listing => {
                Error::WrongDownload { name, url: address.to_owned(), expected, found }
            }
        }
    }
}

/// Who says what digest a file has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Promiser<'a> {
    /// The key `sha256` of the source.
    Key,
    /// The lock in this file.
    Lock(&'a Path),
    /// The server that lists the file.
    Listing,
}

/// What to fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The source, for errors.
    pub name: &'a str,
    /// The file's path inside the source, for errors.
    pub file: &'a str,
    /// The file's address, as it may be printed.
    pub address: &'a str,
    /// What tells this file from any other: its address, with the revision where it has one.
    pub identity: &'a str,
    /// Whether there will never be another content of this identity.
    pub is_immutable: bool,
    /// Its length, where it is known.
    pub bytes: Option<u64>,
    /// Its digest, where it is known.
    pub promise: Option<Promise<'a>>,
    /// A file of this machine that should be the same.
    pub at_hand: Option<&'a Path>,
}

/// Downloads a file into the cache, or copies one there that is at hand and has the promised digest.
///
/// What arrives is kept in a `.part` file named by the file's identity, so an attempt that is cut off, or a run that is
/// killed, goes on from there. Where the file may change and no digest is known beforehand, that is only done if the server
/// vouches that both parts are of one version. The whole file gets its digest as its name, and is compared with it whenever
/// it is used, so it need not be forced onto the disk. Of a file that never changes, the digest is noted, so that it is not
/// fetched again if the run ends before the lock has it.
pub(crate) fn fetch(
    wanted: Wanted<'_>,
    open: &Open<'_>,
    cache: &Path,
    config: &Config,
    meter: &Meter<'_>,
) -> Result<Fetched, Error> {
    if let Some(promise) = wanted.promise
        && is_cached(cache, promise.sha256)?
    {
        let bytes = fs::metadata(cached(cache, promise.sha256)).map_or(0, |metadata| metadata.len());
        meter.add(bytes);
        return Ok(Fetched { sha256: promise.sha256, bytes, validator: None });
    }
    let part = Part::of(cache, wanted, meter);
    if let Some(fetched) = part.noted(cache)? {
        meter.add(fetched.bytes);
        return Ok(fetched);
    }
    if let Some(fetched) = copy_at_hand(wanted, &part, config)? {
        part.finish(cache, &fetched)?;
        return Ok(fetched);
    }
    let give_up = |attempts, source| {
        let (name, url) = (wanted.name.to_owned(), wanted.address.to_owned());
        Error::Download { name, url, attempts, source }
    };
    let fetched = retry(config, meter.context, give_up, || match attempt_once(wanted, open, &part, config) {
        Err(Failure::Stale(reason)) => {
            part.remove()?;
            Err(Failure::Passing(reason.into(), Some(Duration::ZERO)))
        }
        other => other,
    })?;
    part.finish(cache, &fetched)?;
    Ok(fetched)
}

/// Copies the file that is at hand, if it is the one that is wanted; without a promise nobody can tell.
fn copy_at_hand(wanted: Wanted<'_>, part: &Part<'_>, config: &Config) -> Result<Option<Fetched>, Error> {
    let (Some(path), Some(promise)) = (wanted.at_hand, wanted.promise) else { return Ok(None) };
    let Some((bytes, body)) = File::open(path).ok().and_then(|file| Some((file.metadata().ok()?.len(), file))) else {
        return Ok(None);
    };
    let incoming = Incoming { start: 0, total: Some(bytes), delimited: true, validator: None, body: Box::new(body) };
    let is_copied = match receive(wanted, incoming, part, config) {
        Ok(_) => true,
        Err(Failure::Lasting(error)) => return Err(error),
        Err(Failure::Passing(..) | Failure::Stale(_)) => false,
    };
    if is_copied {
        let (sha256, bytes) = Digest::of_file(&part.path)?;
        if sha256 == promise.sha256 {
            return Ok(Some(Fetched { sha256, bytes, validator: None }));
        }
    }
    tracing::warn!("{} is not what it should be, and is left alone", path.display());
    part.remove()?;
    Ok(None)
}

/// Does `work` until it succeeds, fails for good, or has been tried as often as the configuration allows.
pub(crate) fn retry<T>(
    config: &Config,
    context: &Context,
    give_up: impl Fn(u32, BoxedError) -> Error,
    mut work: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Error> {
    let mut wait = FIRST_WAIT;
    let mut attempt = 1;
    loop {
        let (reason, pause) = match work() {
            Ok(done) => return Ok(done),
            Err(Failure::Lasting(error)) => return Err(error),
            Err(Failure::Stale(reason)) => (reason.into(), Duration::ZERO),
            Err(Failure::Passing(reason, asked)) => (reason, asked.unwrap_or_else(|| jittered(wait))),
        };
        if attempt >= config.download_attempts {
            return Err(give_up(attempt, reason));
        }
        tracing::warn!("{reason}; attempt {attempt} of {}", config.download_attempts);
        sleep(pause.min(LONGEST_WAIT), context)?;
        wait = (wait * 2).min(LONGEST_WAIT);
        attempt += 1;
    }
}

/// Asks for what is missing of the file, and returns once all of it is there and is what was promised.
fn attempt_once(wanted: Wanted<'_>, open: &Open<'_>, part: &Part<'_>, config: &Config) -> Result<Fetched, Failure> {
    let validator = part.validator();
    // A digest tells at the end whether two parts belong together; without one, only the server can.
    let is_resumable = wanted.promise.is_some() || wanted.is_immutable || validator.is_some();
    let have = if is_resumable { part.bytes() } else { 0 };
    let from = if wanted.bytes.is_some_and(|bytes| have > bytes) { 0 } else { have };
    let start = if from > 0 && wanted.bytes == Some(from) {
        from
    } else {
        match open(from, validator.as_deref())? {
            Answer::NothingMore => from,
            Answer::Body(incoming) => receive(wanted, incoming, part, config)?,
        }
    };
    let (found, bytes) = Digest::of_file(&part.path).map_err(Error::from)?;
    let right_length = wanted.bytes.is_none_or(|expected| expected == bytes);
    match wanted.promise {
        Some(promise) if promise.sha256 != found => {
            if start > 0 {
                return Err(Failure::Stale("the resumed download has another digest"));
            }
            part.remove()?;
            Err(broken_promise(wanted, promise, found))
        }
        None if !right_length => Err(Failure::Stale("the file has another length than it was listed with")),
        _ => Ok(Fetched { sha256: found, bytes, validator: part.validator() }),
    }
}

fn broken_promise(wanted: Wanted<'_>, promise: Promise<'_>, found: Digest) -> Failure {
    match promise.by {
        // What a server lists and what it sends differ when a transfer went wrong.
        Promiser::Listing => {
            Failure::passing(format!("its SHA-256 is {found}, and it is listed with {}", promise.sha256))
        }
        _ => promise.broken(wanted.name, wanted.file, wanted.address, found).into(),
    }
}

/// Writes a body to the part; returns at which byte it began.
fn receive(wanted: Wanted<'_>, mut incoming: Incoming, part: &Part<'_>, config: &Config) -> Result<u64, Failure> {
    let limit = config.max_download_bytes;
    let within_limit = |bytes: u64| {
        if bytes <= limit {
            return Ok(());
        }
        part.remove()?;
        Err(Error::TooLarge { name: wanted.name.to_owned(), url: wanted.address.to_owned(), bytes, limit })
    };
    within_limit(incoming.total.unwrap_or(0))?;
    if wanted.promise.is_none() && !incoming.delimited {
        let message = "missing: its server does not tell where the file ends, so a cut would pass for the end";
        return Err(Error::value(&format!("source {}: sha256", wanted.name), message).into());
    }
    part.expect(incoming.total.unwrap_or(0));
    let mut out = part.open(incoming.start, incoming.validator.as_deref())?;
    let mut have = incoming.start;
    let mut buffer = vec![0; 1 << 16];
    loop {
        if part.meter.context.cancel.is_requested() {
            return Err(Error::Interrupted.into());
        }
        let read = match incoming.body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(Failure::passing(e)),
        };
        have += read as u64;
        within_limit(have)?;
        out.write_all(&buffer[..read]).map_err(|e| Error::from(artifact::Error::io("write", &part.path, e)))?;
        part.meter.add(read as u64);
    }
    match incoming.total {
        Some(total) if have < total => {
            Err(Failure::passing(format!("the connection ended after {have} of {total} bytes")))
        }
        _ => Ok(incoming.start),
    }
}

/// Returns between half of a wait and all of it, so that runs that failed together do not come back together.
fn jittered(wait: Duration) -> Duration {
    // The keys of a `RandomState` differ between processes and between calls.
    let random = std::hash::RandomState::new().hash_one(()) >> 11;
    wait.mul_f64(0.5 + random as f64 / (1u64 << 54) as f64)
}

/// Sleeps in short naps, so that an interruption is not kept waiting.
pub(crate) fn sleep(duration: Duration, context: &Context) -> Result<(), Error> {
    let nap = Duration::from_millis(50);
    let mut left = duration;
    while !left.is_zero() {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        thread::sleep(left.min(nap));
        left = left.saturating_sub(nap);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn waits_differ_and_stay_between_half_and_whole() {
        let waits: BTreeSet<Duration> = (0..100).map(|_| jittered(FIRST_WAIT)).collect();
        assert!(waits.len() > 90, "{} of 100 differ", waits.len());
        assert!(waits.iter().all(|wait| *wait >= FIRST_WAIT / 2 && *wait <= FIRST_WAIT), "{waits:?}");
    }
}
