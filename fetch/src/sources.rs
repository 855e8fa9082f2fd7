//! Sources of files on other machines, whatever the protocol.

pub mod git;
pub(crate) mod http_file;
pub(crate) mod hub;
pub mod listing;
pub(crate) mod object_store;

use crate::Error;
use crate::address::git::GitRepository;
use crate::address::hub::HubRepository;
use crate::address::object_store::ObjectPattern;
use crate::context::RemoteContext;
use crate::sources::listing::{Listing, RemoteFile};

/// Where files on another machine are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// One file behind an HTTP address.
    Url(String),
    /// A repository of the Hugging Face Hub at a branch, a tag or a commit.
    Hub(HubRepository, String),
    /// Objects of a bucket.
    ObjectStore(ObjectPattern),
    /// A git repository at a branch, a tag or a commit.
    Git(GitRepository, String),
}

impl Remote {
    /// Returns the requested branch, tag or commit.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Self::Hub(_, revision) | Self::Git(_, revision) => Some(revision),
            Self::Url(_) | Self::ObjectStore(_) => None,
        }
    }

    /// Returns whether its address has a glob, which selects files by itself.
    pub fn is_glob(&self) -> bool {
        matches!(self, Self::ObjectStore(objects) if objects.is_glob())
    }

    /// Lists the files; of a git repository, this fetches the commit. `name` is the source's, for errors.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached, refuses, or has no such repository or revision, and on
    /// cancellation.
    pub fn list(&self, name: &str, remote: &RemoteContext<'_>) -> Result<Listing, Error> {
        match self {
            Self::Url(url) => {
                let file = RemoteFile { path: url_file_name(url), bytes: None, sha256: None, version: None };
                Ok(Listing { files: vec![file], ..Listing::default() })
            }
            Self::Hub(repository, revision) => hub::Connection::new(repository, remote)?.list(name, revision),
            Self::ObjectStore(objects) => {
                let files = object_store::Connection::new(objects, name, remote)?.list(name, remote)?;
                Ok(Listing { files, ..Listing::default() })
            }
            Self::Git(repository, revision) => git::list(repository, name, revision, remote),
        }
    }
}

/// Returns the name of the file behind an HTTP address.
pub fn url_file_name(url: &str) -> String {
    let address = url.split(['?', '#']).next().unwrap_or(url);
    let after_host = address.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    after_host.rsplit('/').find(|part| !part.is_empty()).unwrap_or("index").to_owned()
}
