//! Downloads: resumed after a cut, tried again after a failure, checked against their digest, kept by it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use artifact::{Context, Digest, file};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::{Config, Error};

/// The wait after the first failure; it doubles with each. A guess, as are the limits below.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long a server may take to answer, and to send the next piece.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The source, for errors.
    pub name: &'a str,
    /// The address.
    pub url: &'a str,
    /// The digest that the content must have.
    pub sha256: Digest,
    /// Where it is kept.
    pub cached: &'a Path,
}

/// How an attempt ended without the whole file.
enum Failure {
    /// Trying again may help: the reason, and how long the server asks to wait.
    Passing(Box<dyn std::error::Error + Send + Sync>, Option<Duration>),
    /// Trying again does not help.
    Lasting(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// Makes sure that the wanted file lies in the cache with the right digest, downloading it if need be.
///
/// What arrives is kept in `<digest>.part`, so an attempt that is cut off, or a run that is killed, goes on from there;
/// only the whole file, checked and flushed to the disk, gets its name.
pub(crate) fn fetch(wanted: Wanted<'_>, config: &Config, context: &Context) -> Result<(), Error> {
    let Wanted { name, url, sha256, cached } = wanted;
    if cached.is_file() {
        if Digest::of_file(cached)?.0 == sha256 {
            return Ok(());
        }
        tracing::warn!("{} is corrupt and is downloaded again", cached.display());
        remove(cached)?;
    }
    let cache = cached.parent().unwrap_or(Path::new("."));
    if context.offline {
        return Err(Error::Offline { name: name.to_owned(), url: url.to_owned(), cache: cache.to_owned() });
    }
    file::create_folder(cache)?;
    let part = part_of(cached);
    let agent = agent();
    let mut wait = FIRST_WAIT;
    for attempt in 1.. {
        match attempt_once(&agent, wanted, &part, config, context) {
            Ok(()) => break,
            Err(Failure::Lasting(error)) => return Err(error),
            Err(Failure::Passing(source, _)) if attempt >= config.download_attempts => {
                let (name, url) = (name.to_owned(), url.to_owned());
                return Err(Error::Download { name, url, attempts: attempt, source });
            }
            Err(Failure::Passing(source, asked)) => {
                tracing::warn!("{url}: {source}; attempt {attempt} of {}", config.download_attempts);
                pause(asked.unwrap_or(wait).min(LONGEST_WAIT), context)?;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
    file::sync(&part)?;
    fs::rename(&part, cached).map_err(|e| artifact::Error::io("rename", &part, e))?;
    Ok(file::sync_folder(cache)?)
}

/// Asks for what is missing of the file, and returns once all of it is there with the right digest.
fn attempt_once(
    agent: &Agent,
    wanted: Wanted<'_>,
    part: &Path,
    config: &Config,
    context: &Context,
) -> Result<(), Failure> {
    let Wanted { name, url, sha256: expected, .. } = wanted;
    let have = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|e| classify(e, name))?;
    let status = response.status().as_u16();
    let start = match status {
        200 => 0,
        206 if range_start(&response) == Some(have) => have,
        // Nothing lies behind what is there: it is whole, or it is not a part of this file.
        416 if have > 0 && Digest::of_file(part).map_err(Error::from)?.0 == expected => return Ok(()),
        206 | 416 => {
            remove(part)?;
            return Err(Failure::Passing("the server has another range than asked for".into(), None));
        }
        408 | 425 | 429 | 500..=599 => {
            return Err(Failure::Passing(format!("HTTP status {status}").into(), retry_after(&response)));
        }
        _ => return Err(Error::Status { name: name.to_owned(), url: url.to_owned(), status }.into()),
    };
    receive(wanted, response, part, start, config, context)?;
    let (found, _) = Digest::of_file(part).map_err(Error::from)?;
    if found == expected {
        return Ok(());
    }
    remove(part)?;
    // A file put together from two answers may mix two versions; one that came in one piece is simply another.
    if start > 0 {
        return Err(Failure::Passing("the resumed download has another digest".into(), Some(Duration::ZERO)));
    }
    Err(Error::WrongDownload { name: name.to_owned(), url: url.to_owned(), expected, found }.into())
}

/// Writes an answer's body to `part` from byte `start` on.
fn receive(
    wanted: Wanted<'_>,
    response: Response<Body>,
    part: &Path,
    start: u64,
    config: &Config,
    context: &Context,
) -> Result<(), Failure> {
    let limit = config.max_download_bytes;
    let within_limit = |bytes: u64| {
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::TooLarge { name: wanted.name.to_owned(), url: wanted.url.to_owned(), bytes, limit })
    };
    let body = response.into_body();
    let total = body.content_length().map_or(0, |rest| start + rest);
    within_limit(total)?;
    let written = |e| Error::from(artifact::Error::io("write", part, e));
    let mut out = File::options().write(true).create(true).truncate(false).open(part).map_err(written)?;
    out.set_len(start).map_err(written)?;
    std::io::Seek::seek(&mut out, std::io::SeekFrom::Start(start)).map_err(written)?;
    let mut reader = body.into_with_config().limit(u64::MAX).reader();
    let mut buffer = vec![0; 1 << 16];
    let mut have = start;
    context.progress.begin(&format!("downloading {}", wanted.name), total, "bytes");
    loop {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted.into());
        }
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Failure::Passing(e.into(), None)),
        };
        have += read as u64;
        within_limit(have)?;
        out.write_all(&buffer[..read]).map_err(written)?;
        context.progress.position(have);
    }
    if have < total {
        return Err(Failure::Passing(format!("the connection ended after {have} of {total} bytes").into(), None));
    }
    Ok(())
}

fn agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // A packed body could be neither resumed nor compared with the digest.
        .accept_encoding("identity")
        .user_agent(concat!("pipeline/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .build()
        .into()
}

fn classify(error: ureq::Error, name: &str) -> Failure {
    match error {
        ureq::Error::BadUri(uri) => Error::value(&format!("source {name}"), &format!("`{uri}` is no address")).into(),
        other => Failure::Passing(other.into(), None),
    }
}

/// Returns where the body of a 206 answer begins: the `N` of `Content-Range: bytes N-…`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Returns how long the server asks to wait, where it says so in seconds.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn part_of(cached: &Path) -> PathBuf {
    cached.with_extension("part")
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(artifact::Error::io("remove", path, e).into()),
        _ => Ok(()),
    }
}

/// Sleeps in short naps, so that an interruption is not kept waiting.
fn pause(duration: Duration, context: &Context) -> Result<(), Error> {
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
