//! Object stores: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! Credentials, region and endpoint come from the environment variables that each provider's own tools read
//! (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, …). The store
//! client is asynchronous; the runtime that drives it is a detail of this file.

use std::io::{self, Read};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::Runtime;
use url::Url;

use crate::Error;
use crate::address::{self, Refused};
use crate::download::{Answer, Failure, Incoming, retry};
use crate::http::PATIENCE;
use crate::remote::{Found, Reach};
use crate::select;

/// Where the client looks for Azure's emulator, unless `AZURITE_BLOB_STORAGE_URL` says otherwise.
const AZURE_EMULATOR: &str = "http://127.0.0.1:10000";

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    Amazon,
    Google,
    Azure,
}

/// Objects in a bucket: one, all under a prefix, or those that a glob matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objects {
    provider: Provider,
    /// As written.
    address: String,
    /// The address without the key: `s3://bucket`.
    bucket: String,
    /// The key of the object or of the folder above all of them, without slashes around it.
    root: String,
    /// The glob that keys match, from the root on.
    pattern: Option<String>,
    /// Whether requests are sent without a signature.
    anonymous: bool,
}

impl Objects {
    /// Returns the objects of an address, or nothing if it is not one of an object store.
    pub fn parse(address: &str, anonymous: bool) -> Option<Result<Self, String>> {
        let (scheme, rest) = address.split_once("://")?;
        let provider = match scheme {
            "s3" | "s3a" => Provider::Amazon,
            "gs" => Provider::Google,
            "az" | "abfs" | "abfss" => Provider::Azure,
            _ => return None,
        };
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(['*', '?', '[', '{']) {
            return Some(Err(format!(
                "`{address}` names no bucket; an address is `{scheme}://bucket/prefix/**/*.parquet`"
            )));
        }
        let parts: Vec<&str> = key.split('/').filter(|part| !part.is_empty()).collect();
        let first_wild = parts.iter().position(|part| part.contains(['*', '?', '[', '{']));
        let (root, pattern) = parts.split_at(first_wild.unwrap_or(parts.len()));
        Some(Ok(Self {
            provider,
            address: address.to_owned(),
            bucket: format!("{scheme}://{authority}"),
            root: root.join("/"),
            pattern: (!pattern.is_empty()).then(|| pattern.join("/")),
            anonymous,
        }))
    }

    /// Tells whether a glob names the objects.
    pub fn is_glob(&self) -> bool {
        self.pattern.is_some()
    }

    /// Returns the key of the file with this path inside the source.
    fn key(&self, path: &str) -> Result<Key, object_store::Error> {
        let is_root_itself = self.root.rsplit('/').next() == Some(path) && self.pattern.is_none();
        let under_root = if self.root.is_empty() { path.to_owned() } else { format!("{}/{path}", self.root) };
        // A source that is one object has one file, named as the object is; `Connection::list` says which it is.
        let key = if is_root_itself { &self.root } else { &under_root };
        Key::parse(key).map_err(object_store::Error::from)
    }
}

/// A way to a bucket.
pub(crate) struct Connection {
    objects: Objects,
    store: Arc<dyn ObjectStore>,
    // Connections live on the runtime that opened them, so there is one for as long as the store is used.
    runtime: Arc<Runtime>,
}

impl Connection {
    /// Returns the way to the objects; asks nobody yet.
    pub fn new(objects: &Objects, name: &str, reach: &Reach<'_>) -> Result<Self, Error> {
        let store = store(objects, name, reach)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| artifact::Error::io("start threads for", &objects.address, e))?;
        Ok(Self { objects: objects.clone(), store, runtime: Arc::new(runtime) })
    }

    /// Lists the objects.
    pub fn list(&self, name: &str, reach: &Reach<'_>) -> Result<Vec<Found>, Error> {
        let Objects { address, root, pattern, .. } = &self.objects;
        let within = pattern.iter().cloned().collect::<Vec<_>>();
        let within = select::globs(&within, &format!("source {name}: url"))?;
        let give_up =
            |attempts, source| Error::Unlisted { name: name.to_owned(), address: address.clone(), attempts, source };
        let failed = |source| failure(name, address, source);
        retry(reach.config, reach.context, give_up, || {
            if pattern.is_none() && !root.is_empty() {
                let key = Key::parse(root).map_err(|e| failed(e.into()))?;
                match self.runtime.block_on(self.store.head(&key)) {
                    Ok(meta) => {
                        let path = root.rsplit('/').next().unwrap_or(root).to_owned();
                        return Ok(vec![Found { path, bytes: Some(meta.size), sha256: None, version: meta.e_tag }]);
                    }
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(other) => return Err(failed(other)),
                }
            }
            let prefix = Key::parse(root).map_err(|e| failed(e.into()))?;
            let mut listing = self.store.list(Some(&prefix));
            let mut found = Vec::new();
            while let Some(meta) = self.runtime.block_on(listing.next()) {
                if reach.context.cancel.is_requested() {
                    return Err(Error::Interrupted.into());
                }
                let meta = meta.map_err(failed)?;
                let key = meta.location.as_ref();
                let path = if root.is_empty() { Some(key) } else { key.strip_prefix(&format!("{root}/")) };
                let Some(path) = path.filter(|path| pattern.is_none() || within.is_match(path)) else { continue };
                // Consoles mark an empty folder with an empty object.
                if meta.size > 0 {
                    let (path, bytes) = (path.to_owned(), Some(meta.size));
                    found.push(Found { path, bytes, sha256: None, version: meta.e_tag });
                }
            }
            Ok(found)
        })
    }

    /// Returns the address of a file, for people.
    pub fn file_address(&self, path: &str) -> String {
        let key = self.objects.key(path).map_or_else(|_| path.to_owned(), |key| key.to_string());
        format!("{}/{key}", self.objects.bucket)
    }

    /// Asks for a file from byte `from` on, and for no other than the listed version, if there is one.
    pub fn open(&self, name: &str, path: &str, version: Option<&str>, from: u64) -> Result<Answer, Failure> {
        let address = self.file_address(path);
        let key = self.objects.key(path).map_err(|e| error(name, &address, &e))?;
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            if_match: version.map(str::to_owned),
            ..GetOptions::default()
        };
        let result = self.runtime.block_on(self.store.get_opts(&key, options));
        let result = result.map_err(|source| failure(name, &address, source))?;
        let (start, total) = (result.range.start, result.meta.size);
        if start != from {
            return Err(Failure::Stale("the store has another range than asked for"));
        }
        let validator = result.meta.e_tag.clone();
        let stream = result.into_stream().map(|piece| piece.map(Vec::from)).boxed();
        let body = Body { runtime: Arc::clone(&self.runtime), stream, piece: Vec::new(), at: 0 };
        Ok(Answer::Body(Incoming { start, total: Some(total), delimited: true, validator, body: Box::new(body) }))
    }
}

fn failure(name: &str, address: &str, source: object_store::Error) -> Failure {
    match source {
        object_store::Error::Generic { .. } | object_store::Error::JoinError { .. } => {
            Failure::passing(answer(&source))
        }
        other => error(name, address, &other).into(),
    }
}

/// Returns what a store says, in one line: the client's own errors repeat each cause, and end in a page of XML.
fn answer(error: &object_store::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let innermost = causes.last().map(ToString::to_string).unwrap_or_default();
    let element = |name: &str| {
        let (_, rest) = innermost.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(text, _)| text.to_owned())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(text), None) | (None, Some(text)) => text,
        _ => innermost.lines().next().unwrap_or_default().trim_end_matches([':', ' ']).to_owned(),
    }
}

/// Reads a stream of pieces as bytes.
struct Body {
    runtime: Arc<Runtime>,
    stream: BoxStream<'static, object_store::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let next = async { tokio::time::timeout(PATIENCE, self.stream.next()).await };
            match self.runtime.block_on(next) {
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(None) => return Ok(0),
                Ok(Some(piece)) => {
                    self.piece = piece.map_err(io::Error::other)?;
                    self.at = 0;
                }
            }
        }
        let bytes = buffer.len().min(self.piece.len() - self.at);
        buffer[..bytes].copy_from_slice(&self.piece[self.at..self.at + bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}

fn error(name: &str, address: &str, source: &object_store::Error) -> Error {
    let hint = match source {
        object_store::Error::NotFound { .. } => "there is no such bucket or object; see its `url`",
        object_store::Error::Precondition { .. } => "the object changed after it was listed; run again",
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            "the store refuses; set the provider's credentials in the environment, or `anonymous = true` for a public bucket"
        }
        _ => "the store cannot be used as it is set up; see the provider's variables in the environment",
    };
    Error::Store { name: name.to_owned(), address: address.to_owned(), hint, answer: answer(source) }
}

/// Returns the store that the address and the environment name.
fn store(objects: &Objects, name: &str, reach: &Reach<'_>) -> Result<Arc<dyn ObjectStore>, Error> {
    let options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(PATIENCE)
        .with_read_timeout(PATIENCE)
        .with_allow_http(reach.config.allow_private);
    // This crate's own loop tries again, and counts.
    let retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    // A certificate is always checked, whatever the environment says.
    let variables = reach.environment.variables.iter().filter(|(name, _)| !name.contains("ALLOW_INVALID_CERTIFICATES"));
    let of = |prefix: &'static str| {
        variables
            .clone()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, v)| (name.to_ascii_lowercase(), v))
    };
    let failed = |source: object_store::Error| error(name, &objects.address, &source);
    let check = |endpoint: Option<String>| check_endpoint(endpoint, name, reach);
    Ok(match objects.provider {
        Provider::Amazon => {
            let mut builder = AmazonS3Builder::new().with_client_options(options).with_retry(retries);
            for (key, value) in of("AWS_") {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            check(builder.get_config_value(&AmazonS3ConfigKey::Endpoint))?;
            check(builder.get_config_value(&AmazonS3ConfigKey::S3Endpoint))?;
            let builder = builder.with_url(&objects.bucket).with_skip_signature(objects.anonymous);
            Arc::new(builder.build().map_err(failed)?)
        }
        Provider::Google => {
            let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options).with_retry(retries);
            if let Some(path) = reach.environment.variable("SERVICE_ACCOUNT") {
                builder = builder.with_service_account_path(path);
            }
            for (key, value) in of("GOOGLE_") {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            check(builder.get_config_value(&GoogleConfigKey::BaseUrl))?;
            let builder = builder.with_url(&objects.bucket).with_skip_signature(objects.anonymous);
            Arc::new(builder.build().map_err(failed)?)
        }
        Provider::Azure => {
            let mut builder = MicrosoftAzureBuilder::new().with_client_options(options).with_retry(retries);
            for (key, value) in of("AZURE_") {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            if let Some(endpoint) = reach.environment.variable("IDENTITY_ENDPOINT") {
                builder = builder.with_msi_endpoint(endpoint);
            }
            let emulates =
                builder.get_config_value(&AzureConfigKey::UseEmulator).is_some_and(|is_set| is_set == "true");
            check(builder.get_config_value(&AzureConfigKey::Endpoint))?;
            check(emulates.then(|| AZURE_EMULATOR.to_owned()))?;
            let builder = builder.with_url(&objects.bucket).with_skip_signature(objects.anonymous);
            Arc::new(builder.build().map_err(failed)?)
        }
    })
}

/// Refuses an endpoint on this machine or in a private network. The client resolves the name once more, so this is a
/// guard against mistakes, as for git.
fn check_endpoint(endpoint: Option<String>, name: &str, reach: &Reach<'_>) -> Result<(), Error> {
    // What is no address is told by the client.
    let Some(url) = endpoint.and_then(|endpoint| Url::parse(&endpoint).ok()) else { return Ok(()) };
    let allow_private = reach.config.allow_private;
    let port = url.port_or_known_default().unwrap_or(443);
    let checked = address::check_literal(&url, allow_private)
        .and_then(|()| address::check_host(url.host_str().unwrap_or_default(), port, allow_private));
    checked.map_err(|Refused(reason)| {
        let reason = format!("it is the endpoint that the environment names, and {reason}");
        Error::Refused { name: name.to_owned(), url: address::shown(&url), reason }
    })
}

#[cfg(test)]
mod tests;
