//! Object stores: Amazon S3 and compatible stores, Google Cloud Storage, Azure Blob Storage.
//!
//! Credentials, region and endpoint come from the environment variables that each provider's own tools read
//! (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, …). The
//! client is asynchronous; the runtime that drives it is private to this module.

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
use crate::address::glob::glob_set;
use crate::address::object_store::{ObjectPattern, Provider};
use crate::address::{Refused, printable};
use crate::context::RemoteContext;
use crate::download::request::{Body, Response};
use crate::http::TIMEOUT;
use crate::retry::{Failure, retry};
use crate::sources::listing::RemoteFile;

/// The address at which the client looks for Azure's emulator, unless `AZURITE_BLOB_STORAGE_URL` is set.
const AZURE_EMULATOR: &str = "http://127.0.0.1:10000";

/// A bucket, and what requests to it need.
pub(crate) struct Connection {
    objects: ObjectPattern,
    store: Arc<dyn ObjectStore>,
    // Connections live on the runtime that opened them, so it lives as long as the store.
    runtime: Arc<Runtime>,
}

impl Connection {
    /// Returns a connection; sends no request yet.
    pub fn new(objects: &ObjectPattern, name: &str, remote: &RemoteContext<'_>) -> Result<Self, Error> {
        let store = store(objects, name, remote)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|e| artifact::Error::io("start threads for", &objects.address, e))?;
        Ok(Self { objects: objects.clone(), store, runtime: Arc::new(runtime) })
    }

    /// Lists the objects.
    pub fn list(&self, name: &str, remote: &RemoteContext<'_>) -> Result<Vec<RemoteFile>, Error> {
        let ObjectPattern { address, root, glob, .. } = &self.objects;
        let matcher = glob_set(&glob.iter().cloned().collect::<Vec<_>>());
        let matcher = matcher.map_err(|e| Error::value(&format!("source {name}: url"), &e.to_string()))?;
        let give_up =
            |attempts, source| Error::List { name: name.to_owned(), address: address.clone(), attempts, source };
        let failed = |source| failure(name, address, source);
        retry(remote.options.download_attempts, remote.context, give_up, || {
            if glob.is_none() && !root.is_empty() {
                let key = Key::parse(root).map_err(|e| failed(e.into()))?;
                match self.runtime.block_on(self.store.head(&key)) {
                    Ok(meta) => {
                        let path = root.rsplit('/').next().unwrap_or(root).to_owned();
                        let (bytes, version) = (Some(meta.size), meta.e_tag);
                        return Ok(vec![RemoteFile { path, bytes, sha256: None, version }]);
                    }
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(other) => return Err(failed(other)),
                }
            }
            let prefix = Key::parse(root).map_err(|e| failed(e.into()))?;
            let mut listing = self.store.list(Some(&prefix));
            let mut files = Vec::new();
            while let Some(meta) = self.runtime.block_on(listing.next()) {
                if remote.context.cancel.is_requested() {
                    return Err(Error::Interrupted.into());
                }
                let meta = meta.map_err(failed)?;
                let key = meta.location.as_ref();
                let path = if root.is_empty() { Some(key) } else { key.strip_prefix(&format!("{root}/")) };
                let Some(path) = path.filter(|path| glob.is_none() || matcher.is_match(path)) else { continue };
                // Web consoles create an empty object for an empty folder.
                if meta.size > 0 {
                    let (path, bytes) = (path.to_owned(), Some(meta.size));
                    files.push(RemoteFile { path, bytes, sha256: None, version: meta.e_tag });
                }
            }
            Ok(files)
        })
    }

    /// Returns the address of a file, for messages.
    pub fn file_address(&self, path: &str) -> String {
        let key = self.key(path).map_or_else(|_| path.to_owned(), |key| key.to_string());
        format!("{}/{key}", self.objects.bucket)
    }

    fn key(&self, path: &str) -> Result<Key, object_store::Error> {
        Key::parse(self.objects.key(path)).map_err(object_store::Error::from)
    }

    /// Requests a file from byte `from` on, on condition that it has the listed version, if there is one.
    pub fn open(&self, name: &str, path: &str, version: Option<&str>, from: u64) -> Result<Response, Failure> {
        let address = self.file_address(path);
        let key = self.key(path).map_err(|e| error(name, &address, &e))?;
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            if_match: version.map(str::to_owned),
            ..GetOptions::default()
        };
        let result = self.runtime.block_on(self.store.get_opts(&key, options));
        let result = result.map_err(|source| failure(name, &address, source))?;
        let (start, total) = (result.range.start, result.meta.size);
        if start != from {
            return Err(Failure::Restart("the store sent another range than the requested one"));
        }
        let validator = result.meta.e_tag.clone();
        let chunks = result.into_stream().map(|chunk| chunk.map(Vec::from)).boxed();
        let reader = StreamReader { runtime: Arc::clone(&self.runtime), chunks, chunk: Vec::new(), position: 0 };
        Ok(Response::Body(Body { start, total: Some(total), delimited: true, validator, reader: Box::new(reader) }))
    }
}

fn failure(name: &str, address: &str, source: object_store::Error) -> Failure {
    match source {
        object_store::Error::Generic { .. } | object_store::Error::JoinError { .. } => {
            Failure::retryable(answer(&source))
        }
        other => error(name, address, &other).into(),
    }
}

/// Returns the store's own message in one line: the client's errors repeat each cause and end in a page of XML.
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

/// Reads an asynchronous stream of chunks.
struct StreamReader {
    runtime: Arc<Runtime>,
    chunks: BoxStream<'static, object_store::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    position: usize,
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.chunk.len() {
            let next = async { tokio::time::timeout(TIMEOUT, self.chunks.next()).await };
            match self.runtime.block_on(next) {
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(None) => return Ok(0),
                Ok(Some(chunk)) => {
                    self.chunk = chunk.map_err(io::Error::other)?;
                    self.position = 0;
                }
            }
        }
        let bytes = buffer.len().min(self.chunk.len() - self.position);
        buffer[..bytes].copy_from_slice(&self.chunk[self.position..self.position + bytes]);
        self.position += bytes;
        Ok(bytes)
    }
}

fn error(name: &str, address: &str, source: &object_store::Error) -> Error {
    let hint = match source {
        object_store::Error::NotFound { .. } => "there is no such bucket or object; check its `url`",
        object_store::Error::Precondition { .. } => "the object changed after it was listed; run again",
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            "access denied; set the provider's credentials in the environment, or `anonymous = true` for a public \
             bucket"
        }
        _ => "the store cannot be used as configured; check the provider's variables in the environment",
    };
    Error::ObjectStore { name: name.to_owned(), address: address.to_owned(), hint, answer: answer(source) }
}

/// Returns the store of an address, configured from the environment.
fn store(objects: &ObjectPattern, name: &str, remote: &RemoteContext<'_>) -> Result<Arc<dyn ObjectStore>, Error> {
    // The client is built without a TLS provider of its own; an error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(TIMEOUT)
        .with_read_timeout(TIMEOUT)
        .with_allow_http(remote.options.allow_private);
    // This crate retries by itself.
    let retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    // Certificates are always checked, whatever the environment says.
    let variables =
        remote.environment.variables.iter().filter(|(name, _)| !name.contains("ALLOW_INVALID_CERTIFICATES"));
    let with_prefix = |prefix: &'static str| {
        variables
            .clone()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
    };
    let failed = |source: object_store::Error| error(name, &objects.address, &source);
    let check = |endpoint: Option<String>| check_endpoint(endpoint, name, remote);
    Ok(match objects.provider {
        Provider::Amazon => {
            let mut builder = AmazonS3Builder::new().with_client_options(client).with_retry(retries);
            for (key, value) in with_prefix("AWS_") {
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
            let mut builder = GoogleCloudStorageBuilder::new().with_client_options(client).with_retry(retries);
            if let Some(path) = remote.environment.variable("SERVICE_ACCOUNT") {
                builder = builder.with_service_account_path(path);
            }
            for (key, value) in with_prefix("GOOGLE_") {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            check(builder.get_config_value(&GoogleConfigKey::BaseUrl))?;
            let builder = builder.with_url(&objects.bucket).with_skip_signature(objects.anonymous);
            Arc::new(builder.build().map_err(failed)?)
        }
        Provider::Azure => {
            let mut builder = MicrosoftAzureBuilder::new().with_client_options(client).with_retry(retries);
            for (key, value) in with_prefix("AZURE_") {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            if let Some(endpoint) = remote.environment.variable("IDENTITY_ENDPOINT") {
                builder = builder.with_msi_endpoint(endpoint);
            }
            let is_emulator =
                builder.get_config_value(&AzureConfigKey::UseEmulator).is_some_and(|value| value == "true");
            check(builder.get_config_value(&AzureConfigKey::Endpoint))?;
            check(is_emulator.then(|| AZURE_EMULATOR.to_owned()))?;
            let builder = builder.with_url(&objects.bucket).with_skip_signature(objects.anonymous);
            Arc::new(builder.build().map_err(failed)?)
        }
    })
}

/// Refuses an endpoint on this machine or in a private network. The client resolves the name again, so this guards
/// against mistakes, as for git, and not against DNS rebinding.
fn check_endpoint(endpoint: Option<String>, name: &str, remote: &RemoteContext<'_>) -> Result<(), Error> {
    // The client reports an endpoint that is not a URL.
    let Some(url) = endpoint.and_then(|endpoint| Url::parse(&endpoint).ok()) else { return Ok(()) };
    let policy = remote.options.address_policy();
    let port = url.port_or_known_default().unwrap_or(443);
    let checked = policy.check_literal(&url).and_then(|()| policy.check_host(url.host_str().unwrap_or_default(), port));
    checked.map_err(|Refused(reason)| {
        let reason = format!("it is the endpoint set in the environment, and {reason}");
        Error::Refused { name: name.to_owned(), url: printable(&url), reason }
    })
}
