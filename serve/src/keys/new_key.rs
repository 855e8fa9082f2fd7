//! Making a key.

use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;

use rustls::crypto::ring;
use sha2::{Digest, Sha256};

use super::Scope;
use super::file::{self, Entry, Hash, hex};
use crate::Error;

/// What a secret begins with, so that scanners for leaked secrets can recognise it.
const PREFIX: &str = "sk-pipeline-";

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose key it is.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// How many requests it may make in a minute; none for as many as it likes.
    pub requests_per_minute: Option<NonZeroU32>,
}

/// Makes a key, adds its hash to the file, which only its owner can read if it is new, and returns the secret: it is
/// stored nowhere.
///
/// # Errors
/// Returns an error if the file has a key of that name, or cannot be read or written.
pub fn new_key(path: &Path, key: NewKey) -> Result<String, Error> {
    let failed = |reason: String| Error::Keys { path: path.to_owned(), line: None, reason };
    if key.name.is_empty() || key.name.chars().any(char::is_control) {
        return Err(failed("a key's name must be a text without control characters".to_owned()));
    }
    if path.exists() && file::read(path)?.iter().any(|entry| entry.name == key.name) {
        return Err(failed(format!("the name `{}` is there already; remove its line first", key.name)));
    }
    let mut random = [0; 32];
    ring::default_provider()
        .secure_random
        .fill(&mut random)
        .map_err(|_| failed("the system gives no random numbers".to_owned()))?;
    let secret = format!("{PREFIX}{}", hex(&random));
    let sha256 = Hash(Sha256::digest(&secret).into());
    let entry = Entry { name: key.name, sha256, scopes: key.scopes, requests_per_minute: key.requests_per_minute };
    let mut line = serde_json::to_string(&entry)?;
    line.push('\n');
    append(path, &line).map_err(|error| failed(error.to_string()))?;
    Ok(secret)
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    // A file edited by hand may lack its last newline.
    let text = std::fs::read(path)?;
    let separator = if text.last().is_none_or(|last| *last == b'\n') { "" } else { "\n" };
    file.write_all(format!("{separator}{line}").as_bytes())?;
    file.sync_all()
}
