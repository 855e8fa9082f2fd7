//! The cache of downloads: whole files by their digest, parts by what they are parts of.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use artifact::{Context, Digest, file};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Error;
use crate::download::Wanted;

/// A file that has arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fetched {
    /// Its digest, by which the cache keeps it.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// What its server tells this version by.
    pub validator: Option<String>,
}

/// Returns where the cache keeps a file of this digest.
pub(crate) fn cached(cache: &Path, sha256: Digest) -> PathBuf {
    cache.join(sha256.to_string())
}

/// Tells whether the cache has a file, and it is what it should be; one that is not is removed.
pub(crate) fn is_cached(cache: &Path, sha256: Digest) -> Result<bool, Error> {
    let path = cached(cache, sha256);
    if !path.is_file() {
        return Ok(false);
    }
    if Digest::of_file(&path)?.0 == sha256 {
        return Ok(true);
    }
    tracing::warn!("{} is corrupt and is fetched again", path.display());
    remove(&path)?;
    Ok(false)
}

/// What has arrived of a file so far; the meter counts what lies in it.
pub(crate) struct Part<'a> {
    /// Where it lies.
    pub path: PathBuf,
    validator_path: PathBuf,
    note_path: PathBuf,
    /// What counts it.
    pub meter: &'a Meter<'a>,
    is_immutable: bool,
    /// Whether the meter knows how long the whole file is.
    expected: Cell<bool>,
}

impl<'a> Part<'a> {
    /// Returns the part of a file, whether anything of it has arrived or not.
    pub fn of(cache: &Path, wanted: Wanted<'_>, meter: &'a Meter<'a>) -> Self {
        let stem = Digest::of(wanted.identity.as_bytes());
        let named = |extension: &str| cache.join(format!("{stem}.{extension}"));
        let (path, validator_path, note_path) = (named("part"), named("validator"), named("json"));
        let (is_immutable, expected) = (wanted.is_immutable, Cell::new(wanted.bytes.is_some()));
        let part = Self { path, validator_path, note_path, meter, is_immutable, expected };
        meter.add(part.bytes());
        part
    }

    /// Tells the meter the length of the whole file, unless it knows.
    pub fn expect(&self, total: u64) {
        if !self.expected.replace(true) {
            self.meter.expect(total);
        }
    }

    /// Returns how much has arrived.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Returns what tells the version that it is of.
    pub fn validator(&self) -> Option<String> {
        fs::read_to_string(&self.validator_path).ok()
    }

    /// Removes it.
    pub fn remove(&self) -> Result<(), Error> {
        self.meter.take_back(self.bytes());
        remove(&self.path)?;
        remove(&self.validator_path)
    }

    /// Opens the file for what comes from byte `start` on; where that is the first, the version is `validator`'s.
    pub fn open(&self, start: u64, validator: Option<&str>) -> Result<File, Error> {
        let failed = |e| artifact::Error::io("write", &self.path, e);
        self.meter.take_back(self.bytes().saturating_sub(start));
        let mut out = File::options().write(true).create(true).truncate(false).open(&self.path).map_err(failed)?;
        out.set_len(start).map_err(failed)?;
        out.seek(SeekFrom::Start(start)).map_err(failed)?;
        if start == 0 && !self.is_immutable {
            match validator {
                Some(validator) => file::write_atomically(&self.validator_path, validator.as_bytes())?,
                None => remove(&self.validator_path)?,
            }
        }
        Ok(out)
    }

    /// Gives the whole file its name in the cache, and notes its digest if it never changes.
    pub fn finish(&self, cache: &Path, fetched: &Fetched) -> Result<(), Error> {
        let path = cached(cache, fetched.sha256);
        fs::rename(&self.path, &path).map_err(|e| artifact::Error::io("rename", &self.path, e))?;
        if self.is_immutable {
            let note = &self.note_path;
            fs::write(note, json!(fetched).to_string()).map_err(|e| artifact::Error::io("write", note, e))?;
            Ok(())
        } else {
            remove(&self.validator_path)
        }
    }

    /// Returns what was noted when the whole file arrived, if it is still in the cache.
    pub fn noted(&self, cache: &Path) -> Result<Option<Fetched>, Error> {
        let note = fs::read(&self.note_path).ok().filter(|_| self.is_immutable);
        let fetched = note.and_then(|note| serde_json::from_slice::<Fetched>(&note).ok());
        match fetched {
            Some(fetched) if is_cached(cache, fetched.sha256)? => Ok(Some(fetched)),
            _ => Ok(None),
        }
    }
}

/// Counts the bytes of several downloads for one progress bar.
pub(crate) struct Meter<'a> {
    /// What shows the bar.
    pub context: &'a Context,
    done: AtomicU64,
    total: AtomicU64,
}

impl<'a> Meter<'a> {
    /// Returns a meter of `total` bytes.
    pub fn new(context: &'a Context, total: u64) -> Self {
        context.progress.begin("downloading", total, "bytes");
        Self { context, done: AtomicU64::new(0), total: AtomicU64::new(total) }
    }

    /// Counts bytes that have arrived.
    pub fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.context.progress.position(done);
    }

    /// Takes back bytes that arrived in vain.
    fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds a length that was not known at the beginning.
    fn expect(&self, bytes: u64) {
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.context.progress.begin("downloading", total, "bytes");
    }
}

/// Removes a file, if there is one.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(artifact::Error::io("remove", path, e).into()),
        _ => Ok(()),
    }
}
