//! What is downloaded, and the response to a request for it.

use std::io::Read;
use std::path::Path;

use artifact::Digest;

use crate::Error;
use crate::retry::Failure;

/// The digest that a file must have, and where it is from.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedDigest<'a> {
    /// The digest.
    pub sha256: Digest,
    /// Where it is from.
    pub source: DigestSource<'a>,
}

/// Where an expected digest is from.
#[derive(Debug, Clone, Copy)]
pub enum DigestSource<'a> {
    /// A key `sha256` of the configuration.
    Key,
    /// A lock file.
    Lock {
        /// The file.
        path: &'a Path,
        /// The command that updates it, before the name of the source; for the error.
        update_command: &'static str,
    },
    /// The listing of the server.
    Listing,
}

impl ExpectedDigest<'_> {
    /// Returns a digest from the listing of the server.
    pub fn listed(sha256: Digest) -> Self {
        Self { sha256, source: DigestSource::Listing }
    }

    /// Returns the error of a file that has the digest `found` instead.
    pub(crate) fn mismatch(&self, name: &str, file: &str, address: &str, found: Digest) -> Error {
        let (name, expected, found) = (name.to_owned(), Box::new(self.sha256), Box::new(found));
        match self.source {
            DigestSource::Lock { path, update_command } => {
                let (file, lock) = (file.to_owned(), path.to_owned());
                Error::LockMismatch { name, file, lock, expected, found, update_command }
            }
            DigestSource::Key | DigestSource::Listing => {
                Error::DigestMismatch { name, url: address.to_owned(), expected, found }
            }
        }
    }
}

/// A file to download.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DownloadRequest<'a> {
    /// The source, for errors.
    pub name: &'a str,
    /// The file's path inside the source, for errors.
    pub file: &'a str,
    /// The file's address, as it may be printed.
    pub address: &'a str,
    /// The identity of the file: its address, with the revision where it has one.
    pub identity: &'a str,
    /// Whether the content of this identity never changes.
    pub is_immutable: bool,
    /// Its length, where known.
    pub bytes: Option<u64>,
    /// Its digest, where known.
    pub expected: Option<ExpectedDigest<'a>>,
    /// A file of this machine that should have the same content.
    pub local_copy: Option<&'a Path>,
}

/// Requests a file from a byte on. `validator` is that of the partial file: a server that continues it must have the
/// same.
pub(crate) type Open<'a> = dyn Fn(u64, Option<&str>) -> Result<Response, Failure> + Sync + 'a;

/// The response to a request for a file.
pub(crate) enum Response {
    /// The file, or the rest of it.
    Body(Body),
    /// The file has no bytes after the requested position.
    EndOfFile,
}

/// The bytes of a file, or of the rest of it.
pub(crate) struct Body {
    /// The position in the file of the first byte: the one requested, or 0.
    pub start: u64,
    /// The length of the whole file, where the server reports it.
    pub total: Option<u64>,
    /// Whether the end of the file can be distinguished from a broken connection.
    pub delimited: bool,
    /// The validator of this version of the file (RFC 9110, section 8.8): `ETag`, or the date of the last change.
    pub validator: Option<String>,
    /// The bytes.
    pub reader: Box<dyn Read>,
}
