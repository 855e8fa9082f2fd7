//! The download cache: complete files keyed by digest, partial files keyed by request.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use artifact::{Digest, file};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Error;
use crate::download::meter::Meter;
use crate::download::request::DownloadRequest;

/// A complete file in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CachedFile {
    /// Its digest, which is its name in the cache.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// The validator that its server sent with it: `ETag`, or the date of the last change.
    pub validator: Option<String>,
}

/// Returns the path in the cache of the file with this digest.
pub fn cached_path(cache: &Path, sha256: Digest) -> PathBuf {
    cache.join(sha256.to_string())
}

/// Returns whether the cache has a file; one whose content does not match its digest is removed.
///
/// # Errors
/// On I/O errors.
pub fn is_cached(cache: &Path, sha256: Digest) -> Result<bool, Error> {
    let path = cached_path(cache, sha256);
    if !path.is_file() {
        return Ok(false);
    }
    if Digest::of_file(&path)?.0 == sha256 {
        return Ok(true);
    }
    tracing::warn!("{} is corrupt and will be downloaded again", path.display());
    remove(&path)?;
    Ok(false)
}

/// A partial file, and what is known of it.
pub(crate) struct PartialFile<'a> {
    /// Its path.
    pub path: PathBuf,
    validator_path: PathBuf,
    record_path: PathBuf,
    /// Counts its bytes.
    pub meter: &'a Meter<'a>,
    is_immutable: bool,
    /// Whether the meter has the length of the complete file.
    is_expected: Cell<bool>,
}

impl<'a> PartialFile<'a> {
    /// Returns the partial file of a request, whether it exists or not.
    pub fn of(cache: &Path, request: DownloadRequest<'_>, meter: &'a Meter<'a>) -> Self {
        let stem = Digest::of(request.identity.as_bytes());
        let with_extension = |extension: &str| cache.join(format!("{stem}.{extension}"));
        let partial = Self {
            path: with_extension("part"),
            validator_path: with_extension("validator"),
            record_path: with_extension("json"),
            meter,
            is_immutable: request.is_immutable,
            is_expected: Cell::new(request.bytes.is_some()),
        };
        meter.add(partial.bytes());
        partial
    }

    /// Adds the length of the complete file to the meter, unless it is there.
    pub fn expect(&self, total: u64) {
        if !self.is_expected.replace(true) {
            self.meter.expect(total);
        }
    }

    /// Returns its length; 0 if it does not exist.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Returns the validator of the version that it is a part of.
    pub fn validator(&self) -> Option<String> {
        fs::read_to_string(&self.validator_path).ok()
    }

    /// Removes it.
    pub fn remove(&self) -> Result<(), Error> {
        self.meter.subtract(self.bytes());
        remove(&self.path)?;
        remove(&self.validator_path)
    }

    /// Opens it for the bytes from `start` on; if that is 0, `validator` is that of the version.
    pub fn open(&self, start: u64, validator: Option<&str>) -> Result<File, Error> {
        let failed = |e| artifact::Error::io("write", &self.path, e);
        self.meter.subtract(self.bytes().saturating_sub(start));
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

    /// Renames the complete file to its digest, and records the digest if the content never changes.
    pub fn finish(&self, cache: &Path, complete: &CachedFile) -> Result<(), Error> {
        let path = cached_path(cache, complete.sha256);
        fs::rename(&self.path, &path).map_err(|e| artifact::Error::io("rename", &self.path, e))?;
        if self.is_immutable {
            let record = &self.record_path;
            fs::write(record, json!(complete).to_string()).map_err(|e| artifact::Error::io("write", record, e))?;
            Ok(())
        } else {
            remove(&self.validator_path)
        }
    }

    /// Returns the complete file of an earlier download of the same immutable content, if it is still in the cache.
    pub fn recorded(&self, cache: &Path) -> Result<Option<CachedFile>, Error> {
        let record = fs::read(&self.record_path).ok().filter(|_| self.is_immutable);
        let complete = record.and_then(|record| serde_json::from_slice::<CachedFile>(&record).ok());
        match complete {
            Some(complete) if is_cached(cache, complete.sha256)? => Ok(Some(complete)),
            _ => Ok(None),
        }
    }
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(artifact::Error::io("remove", path, e).into()),
        _ => Ok(()),
    }
}
