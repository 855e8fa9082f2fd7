//! What every request needs: options, environment, cache folder and HTTP client.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use artifact::{Context, file};

use crate::address::guard::AddressPolicy;
use crate::http::Client;
use crate::retry::sleep;
use crate::{Environment, Error};

/// How often a run that waits for the cache tries again.
const LOCK_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Options of fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The table of the configuration that has these options as keys, for error messages: `collect`.
    pub table: &'static str,
    /// The cache folder, relative to the folder of the configuration; `~` and `$VARS` are expanded.
    pub cache: String,
    /// The largest download, in bytes: of a file, or of a commit of a git repository. Larger responses are aborted.
    pub max_download_bytes: u64,
    /// The maximum number of attempts at a request.
    pub download_attempts: u32,
    /// The address of the Hugging Face Hub or of a mirror. Default: `$HF_ENDPOINT`, else `https://huggingface.co`.
    pub hub_endpoint: Option<String>,
    /// Whether loopback, private and link-local addresses may be connected to, and hubs and object stores without TLS.
    pub allow_private: bool,
    /// Whether everything must be in the lock already (`--locked`).
    pub locked: bool,
}

impl Options {
    /// Returns the path of the cache folder.
    ///
    /// # Errors
    /// Returns an error if a variable in it is not set.
    pub fn cache_folder(&self, base: &Path, environment: &Environment) -> Result<PathBuf, Error> {
        Ok(base.join(environment.expand(&self.cache, &self.key("cache"))?))
    }

    /// Returns the full name of an option.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.table)
    }

    pub(crate) fn address_policy(&self) -> AddressPolicy {
        AddressPolicy { allow_private: self.allow_private, table: self.table }
    }

    /// Returns the error of a download of at least `bytes` if that is too large.
    pub(crate) fn check_size(&self, name: &str, url: &str, bytes: u64) -> Result<(), Error> {
        let limit = self.max_download_bytes;
        if bytes <= limit {
            return Ok(());
        }
        let (name, url, key) = (name.to_owned(), url.to_owned(), self.key("max_download_bytes"));
        Err(Error::TooLarge { name, url, bytes, key, limit })
    }
}

/// What every request to another machine needs.
#[derive(Debug)]
pub struct RemoteContext<'a> {
    pub(crate) options: &'a Options,
    pub(crate) context: &'a Context,
    pub(crate) environment: &'a Environment,
    pub(crate) cache: PathBuf,
    pub(crate) client: Client,
}

impl<'a> RemoteContext<'a> {
    /// Returns a context; sends no request yet.
    ///
    /// # Errors
    /// Returns an error if the cache folder has a variable that is not set.
    pub fn new(options: &'a Options, context: &'a Context, environment: &'a Environment) -> Result<Self, Error> {
        let cache = options.cache_folder(&context.base, environment)?;
        Ok(Self { options, context, environment, cache, client: Client::new(options.address_policy()) })
    }

    /// Returns the context of the caller.
    pub fn context(&self) -> &Context {
        self.context
    }

    /// Returns the cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Waits until no other process uses the cache, and locks it until the returned file is dropped.
    ///
    /// # Errors
    /// On I/O errors and on cancellation.
    pub fn lock_cache(&self) -> Result<File, Error> {
        file::create_folder(&self.cache)?;
        let path = self.cache.join("in-use");
        let failed = |e| artifact::Error::io("lock", &path, e);
        let lock = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut warned = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(e)) => return Err(failed(e).into()),
                Err(TryLockError::WouldBlock) if !warned => {
                    warned = true;
                    tracing::warn!("waiting for another run that downloads into {}", self.cache.display());
                }
                Err(TryLockError::WouldBlock) => sleep(LOCK_POLL_INTERVAL, self.context)?,
            }
        }
    }
}
