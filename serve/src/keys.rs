//! API keys: a file of hashes, what each key may do, and how often.
//!
//! The file holds SHA-256 hashes of the secrets, one JSON object a line. A secret is 256 random bits, so that a plain
//! hash is enough: there is nothing to guess. The file is read again when it changes; a change that cannot be read is
//! reported in the log and the last valid keys remain.

mod authorize;
mod file;
mod new_key;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::Error;
pub use authorize::Access;
pub(crate) use authorize::authorize;
use file::Entry;
pub use new_key::{NewKey, new_key};

/// How often the file is checked for changes.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Generating text, and what belongs to it.
    Inference,
    /// Loading and unloading models.
    Admin,
}

/// The keys of a file.
#[derive(Debug)]
pub(crate) struct Keys {
    path: PathBuf,
    read: RwLock<Read>,
}

/// What was read, and from which version of the file.
#[derive(Debug)]
struct Read {
    keys: Vec<Arc<Key>>,
    version: Option<Version>,
}

/// A version of a file: when it was written, and its length.
type Version = (SystemTime, u64);

/// A key that the server accepts.
#[derive(Debug)]
pub(crate) struct Key {
    entry: Entry,
    name: Arc<str>,
    limiter: Option<DefaultDirectRateLimiter>,
}

impl Keys {
    /// Reads the keys in a file.
    ///
    /// # Errors
    /// Returns an error that names the file and the line that cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let version = version(path);
        let keys = file::read(path)?.into_iter().map(|entry| Arc::new(Key::new(entry))).collect();
        Ok(Self { path: path.to_owned(), read: RwLock::new(Read { keys, version }) })
    }

    /// Reads the file again whenever it changes, forever.
    pub(crate) async fn follow(&self) {
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            self.reload();
        }
    }

    fn reload(&self) {
        let version = version(&self.path);
        if self.read.read().unwrap_or_else(PoisonError::into_inner).version == version {
            return;
        }
        let entries = file::read(&self.path);
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        read.version = version;
        match entries {
            Ok(entries) => {
                // A key that did not change keeps what it has used of its limit.
                let same = |entry: &Entry| read.keys.iter().find(|key| key.entry == *entry).cloned();
                let keys: Vec<_> = entries
                    .into_iter()
                    .map(|entry| same(&entry).unwrap_or_else(|| Arc::new(Key::new(entry))))
                    .collect();
                tracing::info!(path = %self.path.display(), keys = keys.len(), "keys read again");
                read.keys = keys;
            }
            Err(error) => tracing::warn!(%error, "the file of keys changed and is ignored"),
        }
    }

    /// Returns the key with a secret. The time that it takes does not depend on which hash is how similar.
    fn find(&self, secret: &str) -> Option<Arc<Key>> {
        let hash: [u8; 32] = Sha256::digest(secret).into();
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for key in &read.keys {
            if bool::from(key.entry.sha256.0.ct_eq(&hash)) {
                found = Some(key);
            }
        }
        found.cloned()
    }
}

impl Key {
    fn new(entry: Entry) -> Self {
        let limiter = entry.requests_per_minute.map(|limit: NonZeroU32| RateLimiter::direct(Quota::per_minute(limit)));
        Self { name: entry.name.as_str().into(), entry, limiter }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// Returns the time to wait if the key has used up its limit.
    fn count(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check().map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }
}

fn version(path: &Path) -> Option<Version> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
