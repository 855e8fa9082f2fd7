//! The files that a source has.

use artifact::Digest;

/// A file of a source on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path inside the source.
    pub path: String,
    /// Its length, where the listing has it.
    pub bytes: Option<u64>,
    /// Its digest, where the listing has it.
    pub sha256: Option<Digest>,
    /// The server's identifier of this version, an `ETag`.
    pub version: Option<String>,
}

/// The files of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The commit that the revision is resolved to.
    pub commit: Option<String>,
    /// The licence in the repository's card.
    pub licence: Option<String>,
    /// The files.
    pub files: Vec<RemoteFile>,
    /// The number of entries that are not files: symbolic links, submodules, names that are not UTF-8.
    pub skipped: u64,
}
