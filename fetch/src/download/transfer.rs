//! The transfer of one file into the cache: resumed after a broken connection, retried after a failure, verified.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use artifact::Digest;

use crate::Error;
use crate::context::RemoteContext;
use crate::download::cache::{CachedFile, PartialFile, cached_path, is_cached};
use crate::download::meter::Meter;
use crate::download::request::{Body, DigestSource, DownloadRequest, ExpectedDigest, Open, Response};
use crate::retry::{Failure, retry};

/// Downloads a file into the cache, or copies the local copy there if it has the expected digest.
///
/// Received bytes go to a partial file that is named by the file's identity, so that the next attempt, or the next run,
/// can resume. Where the file may change and its digest is not known beforehand, a download is resumed only if the
/// server confirms by the validator that both parts are of one version. The complete file is named by its digest and
/// compared with it whenever it is used, so it need not be flushed to the disk. For content that never changes the
/// digest is recorded, so that it is not downloaded again if the run ends before the lock is written.
pub(crate) fn download(
    request: DownloadRequest<'_>,
    open: &Open<'_>,
    remote: &RemoteContext<'_>,
    meter: &Meter<'_>,
) -> Result<CachedFile, Error> {
    let cache = &remote.cache;
    if let Some(expected) = request.expected
        && is_cached(cache, expected.sha256)?
    {
        let bytes = fs::metadata(cached_path(cache, expected.sha256)).map_or(0, |metadata| metadata.len());
        meter.add(bytes);
        return Ok(CachedFile { sha256: expected.sha256, bytes, validator: None });
    }
    let transfer = Transfer { request, remote, partial: PartialFile::of(cache, request, meter) };
    if let Some(recorded) = transfer.partial.recorded(cache)? {
        meter.add(recorded.bytes);
        return Ok(recorded);
    }
    if let Some(copied) = transfer.copy_local()? {
        transfer.partial.finish(cache, &copied)?;
        return Ok(copied);
    }
    let give_up = |attempts, source| {
        let (name, url) = (request.name.to_owned(), request.address.to_owned());
        Error::Download { name, url, attempts, source }
    };
    let attempt = || match transfer.attempt(open) {
        Err(Failure::Restart(reason)) => {
            transfer.partial.remove()?;
            Err(Failure::Retryable(reason.into(), Some(Duration::ZERO)))
        }
        other => other,
    };
    let complete = retry(remote.options.download_attempts, meter.context, give_up, attempt)?;
    transfer.partial.finish(cache, &complete)?;
    Ok(complete)
}

/// The transfer of one file.
struct Transfer<'a> {
    request: DownloadRequest<'a>,
    remote: &'a RemoteContext<'a>,
    partial: PartialFile<'a>,
}

impl Transfer<'_> {
    /// Copies the local copy, if its digest is the expected one; without an expected digest it cannot be trusted.
    fn copy_local(&self) -> Result<Option<CachedFile>, Error> {
        let (Some(path), Some(expected)) = (self.request.local_copy, self.request.expected) else { return Ok(None) };
        let Some((bytes, file)) = File::open(path).ok().and_then(|file| Some((file.metadata().ok()?.len(), file)))
        else {
            return Ok(None);
        };
        let body = Body { start: 0, total: Some(bytes), delimited: true, validator: None, reader: Box::new(file) };
        let is_copied = match self.receive(body) {
            Ok(_) => true,
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Retryable(..) | Failure::Restart(_)) => false,
        };
        if is_copied {
            let (sha256, bytes) = Digest::of_file(&self.partial.path)?;
            if sha256 == expected.sha256 {
                return Ok(Some(CachedFile { sha256, bytes, validator: None }));
            }
        }
        tracing::warn!("{} does not have the expected content and is ignored", path.display());
        self.partial.remove()?;
        Ok(None)
    }

    /// Requests the missing bytes; returns once the file is complete and verified.
    fn attempt(&self, open: &Open<'_>) -> Result<CachedFile, Failure> {
        let Self { request, partial, .. } = self;
        let validator = partial.validator();
        // A digest shows at the end whether two parts belong together; without one, only the server can tell.
        let is_resumable = request.expected.is_some() || request.is_immutable || validator.is_some();
        let present = if is_resumable { partial.bytes() } else { 0 };
        let from = if request.bytes.is_some_and(|bytes| present > bytes) { 0 } else { present };
        let start = if from > 0 && request.bytes == Some(from) {
            from
        } else {
            match open(from, validator.as_deref())? {
                Response::EndOfFile => from,
                Response::Body(body) => self.receive(body)?,
            }
        };
        let (found, bytes) = Digest::of_file(&partial.path).map_err(Error::from)?;
        let has_listed_length = request.bytes.is_none_or(|expected| expected == bytes);
        match request.expected {
            Some(expected) if expected.sha256 != found => {
                if start > 0 {
                    return Err(Failure::Restart("the resumed download has another digest"));
                }
                partial.remove()?;
                Err(self.mismatch(expected, found))
            }
            None if !has_listed_length => Err(Failure::Restart("the length of the file is not the listed one")),
            _ => Ok(CachedFile { sha256: found, bytes, validator: partial.validator() }),
        }
    }

    fn mismatch(&self, expected: ExpectedDigest<'_>, found: Digest) -> Failure {
        let DownloadRequest { name, file, address, .. } = self.request;
        match expected.source {
            // The listing and the content of one server differ if the transfer went wrong.
            DigestSource::Listing => {
                Failure::retryable(format!("its SHA-256 is {found}, but its listed SHA-256 is {}", expected.sha256))
            }
            _ => expected.mismatch(name, file, address, found).into(),
        }
    }

    /// Writes a body to the partial file; returns the position of its first byte in the file.
    fn receive(&self, mut body: Body) -> Result<u64, Failure> {
        let Self { request, partial, remote } = self;
        let check_size = |bytes: u64| {
            let checked = remote.options.check_size(request.name, request.address, bytes);
            checked.or_else(|error| partial.remove().and(Err(error)))
        };
        check_size(body.total.unwrap_or(0))?;
        if request.expected.is_none() && !body.delimited {
            let message = "missing: the server does not send the length of the file, so a broken connection would go \
                           unnoticed";
            return Err(Error::value(&format!("source {}: sha256", request.name), message).into());
        }
        partial.expect(body.total.unwrap_or(0));
        let mut out = partial.open(body.start, body.validator.as_deref())?;
        let mut present = body.start;
        let mut buffer = vec![0; 1 << 16];
        loop {
            if partial.meter.context.cancel.is_requested() {
                return Err(Error::Interrupted.into());
            }
            let read = match body.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::retryable(e)),
            };
            present += read as u64;
            check_size(present)?;
            out.write_all(&buffer[..read]).map_err(|e| Error::from(artifact::Error::io("write", &partial.path, e)))?;
            partial.meter.add(read as u64);
        }
        match body.total {
            Some(total) if present < total => {
                Err(Failure::retryable(format!("the connection closed after {present} of {total} bytes")))
            }
            _ => Ok(body.start),
        }
    }
}
