//! Datasets and models of the Hugging Face Hub, or of a mirror with the same API.
//!
//! The API resolves a revision to its commit and lists the files of that commit. The files are downloaded by this
//! crate's own client, which resumes, counts bytes, and sends the token to the endpoint's host only. The crate `hf-hub`
//! knows where the hub's other programs (`huggingface_hub`, transformers, …) keep the user's token and their downloads:
//! a file of the same commit is copied from there.

use std::fs;
use std::path::{Component, Path, PathBuf};

use artifact::Digest;
use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::address::hub::HubRepository;
use crate::address::{parse_url, printable};
use crate::context::{Options, RemoteContext};
use crate::download::request::Response;
use crate::http::{Bearer, check_status, header};
use crate::retry::{Failure, retry};
use crate::sources::listing::{Listing, RemoteFile};
use crate::{Environment, Error};

const ENDPOINT: &str = "https://huggingface.co";
/// The largest page of a listing that is read: a page of the hub has 1,000 entries of about 300 bytes.
const MAX_PAGE_BYTES: u64 = 32 << 20;

/// Appends segments to the path of an address; each is percent-encoded, slashes in it too.
fn append<'a>(base: &Url, segments: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// A repository, and what requests to it need.
pub(crate) struct Connection<'a> {
    repository: HubRepository,
    remote: &'a RemoteContext<'a>,
    endpoint: Url,
    bearer: Option<Bearer>,
    /// The cache of the hub's other programs.
    hub_cache: Option<hf_hub::Cache>,
}

/// The hub's description of a revision.
#[derive(Debug, Deserialize)]
struct RevisionInfo {
    sha: String,
    #[serde(rename = "cardData", default)]
    card: Value,
}

/// An entry of a listing.
#[derive(Debug, Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<LfsInfo>,
}

/// The hub's description of a file in large file storage.
#[derive(Debug, Deserialize)]
struct LfsInfo {
    /// The SHA-256 of its content.
    #[serde(alias = "sha256")]
    oid: Option<Digest>,
    size: Option<u64>,
}

impl From<TreeEntry> for RemoteFile {
    fn from(entry: TreeEntry) -> Self {
        let (bytes, sha256) = match entry.lfs {
            Some(lfs) => (lfs.size.unwrap_or(entry.size), lfs.oid),
            None => (entry.size, None),
        };
        Self { path: entry.path, bytes: Some(bytes), sha256, version: None }
    }
}

impl<'a> Connection<'a> {
    /// Returns a connection; sends no request yet.
    pub fn new(repository: &HubRepository, remote: &'a RemoteContext<'a>) -> Result<Self, Error> {
        let endpoint = endpoint(remote.options, remote.environment)?;
        let bearer = token(remote.environment).map(|token| Bearer::new(&endpoint, token));
        let hub_cache = hub_cache(remote.environment);
        Ok(Self { repository: repository.clone(), remote, endpoint, bearer, hub_cache })
    }

    /// Returns the address of the repository's page, which the addresses of its files extend.
    pub fn page(&self) -> Url {
        let prefix = self.repository.is_dataset().then_some("datasets");
        append(&self.endpoint, prefix.into_iter().chain(self.repository.id().split('/')))
    }

    fn api(&self, rest: [&str; 2]) -> Url {
        let kind = if self.repository.is_dataset() { "datasets" } else { "models" };
        append(&self.endpoint, ["api", kind].into_iter().chain(self.repository.id().split('/')).chain(rest))
    }

    /// Resolves a branch, a tag or a commit, and lists its files.
    pub fn list(&self, name: &str, revision: &str) -> Result<Listing, Error> {
        let (info, _): (RevisionInfo, _) = self.request(name, revision, &self.api(["revision", revision]))?;
        let commit = info.sha;
        if !is_commit(&commit) {
            return Err(self.error(name, "the hub returned an invalid commit".to_owned()));
        }
        let mut files = Vec::new();
        let mut page = self.api(["tree", &commit]);
        page.set_query(Some("recursive=true"));
        loop {
            let (entries, next): (Vec<TreeEntry>, _) = self.request(name, revision, &page)?;
            files.extend(entries.into_iter().filter(|entry| entry.kind == "file").map(RemoteFile::from));
            match next {
                None => break,
                // The token would be sent there.
                Some(next) if next.origin() != self.endpoint.origin() => {
                    let message = format!("the next page of its listing is on another host, {}", printable(&next));
                    return Err(self.error(name, message));
                }
                Some(next) => page = next,
            }
        }
        Ok(Listing { commit: Some(commit), licence: licence(&info.card), files, skipped: 0 })
    }

    /// Returns the address of a file at a commit.
    pub fn file_url(&self, commit: &str, path: &str) -> Url {
        append(&self.page(), ["resolve", commit].into_iter().chain(path.split('/')))
    }

    /// Returns the path of a file of a commit in the cache of the hub's other programs, if it is there.
    pub fn local_copy(&self, commit: &str, path: &str) -> Option<PathBuf> {
        let kind = if self.repository.is_dataset() { RepoType::Dataset } else { RepoType::Model };
        let repository = Repo::with_revision(self.repository.id().to_owned(), kind, commit.to_owned());
        let file = self.hub_cache.as_ref()?.repo(repository).pointer_path(commit).join(path);
        // A listing or a lock could name a file outside that cache.
        let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        (is_inside && is_commit(commit) && file.is_file()).then_some(file)
    }

    /// Requests a file at a commit from byte `from` on.
    pub fn open(&self, name: &str, commit: &str, path: &str, from: u64) -> Result<Response, Failure> {
        let url = self.file_url(commit, path);
        // The content at a commit does not change, so a partial file needs no validator.
        let response = super::http_file::open(&self.remote.client, name, &url, self.bearer.as_ref(), from, None);
        response.map_err(|failure| match failure {
            Failure::Fatal(Error::Status { status: status @ (401 | 403 | 404), .. }) => {
                let message = format!("{path}: {}", self.explain(status, commit, Some("EntryNotFound")));
                self.error(name, message).into()
            }
            other => other,
        })
    }

    /// Requests JSON from the API; returns it with the address of the next page.
    fn request<T: DeserializeOwned>(&self, name: &str, revision: &str, url: &Url) -> Result<(T, Option<Url>), Error> {
        let address = printable(url);
        let give_up =
            |attempts, source| Error::List { name: name.to_owned(), address: address.clone(), attempts, source };
        retry(self.remote.options.download_attempts, self.remote.context, give_up, || {
            let response = self.remote.client.get(name, url, &[], self.bearer.as_ref())?;
            let status = response.status().as_u16();
            if matches!(status, 401 | 403 | 404) {
                let code = header(&response, "x-error-code");
                return Err(self.error(name, self.explain(status, revision, code)).into());
            }
            check_status(name, url, &response)?;
            let next = header(&response, "link").and_then(|link| next_page(url, link));
            let text = response.into_body().into_with_config().limit(MAX_PAGE_BYTES).read_to_vec();
            let text = text.map_err(Failure::retryable)?;
            let value = serde_json::from_slice(&text)
                .map_err(|e| self.error(name, format!("the response of {address} is not that of a hub: {e}")))?;
            Ok((value, next))
        })
    }

    /// Returns an error about the repository.
    pub fn error(&self, name: &str, message: String) -> Error {
        Error::Hub { name: name.to_owned(), address: self.page().to_string(), message }
    }

    /// Returns what a status means, and what to do.
    fn explain(&self, status: u16, revision: &str, code: Option<&str>) -> String {
        let kind = if self.repository.is_dataset() { "dataset" } else { "model" };
        let page = self.page();
        let has_token = self.bearer.is_some();
        match (status, code) {
            (404, Some("RevisionNotFound")) => format!("the {kind} has no revision `{revision}`"),
            (404, Some("EntryNotFound")) => format!("the {kind} has no such file at {revision}"),
            (404, _) if has_token => format!("there is no such {kind}, or the token has no access to it"),
            (404, _) => format!("there is no such {kind}; if it is private, set HF_TOKEN"),
            (401, _) if has_token => {
                let settings = append(&self.endpoint, ["settings", "tokens"]);
                format!("the hub rejects the token; create another one at {settings}, and set HF_TOKEN")
            }
            (401, _) => format!(
                "the hub requires authentication: the {kind} is gated, private or does not exist; set HF_TOKEN, and \
                 accept the terms at {page}"
            ),
            _ if has_token => {
                format!("the token has no access to it; accept the terms at {page} with the account of the token")
            }
            _ => format!("access requires a token; set HF_TOKEN, and accept the terms at {page}"),
        }
    }
}

fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns the next page of a listing: the address of `Link: <address>; rel="next"`.
fn next_page(url: &Url, link: &str) -> Option<Url> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    url.join(next.split_once('<')?.1.split_once('>')?.0).ok()
}

/// Returns the licence in a repository's card: the hub's own identifier, which mostly is that of SPDX in lower case.
fn licence(card: &Value) -> Option<String> {
    match card.get("license")? {
        Value::String(licence) => Some(licence.clone()),
        // It is unknown which of several applies to which document, so all of them do.
        Value::Array(several) => {
            let names: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            (!names.is_empty()).then(|| names.join(" AND "))
        }
        _ => None,
    }
}

/// Returns the address of the hub: the configured one, else `$HF_ENDPOINT`, else that of Hugging Face.
fn endpoint(options: &Options, environment: &Environment) -> Result<Url, Error> {
    let configured_key = options.key("hub_endpoint");
    let variable = environment.variable("HF_ENDPOINT").map(|value| ("HF_ENDPOINT", value));
    let configured = options.hub_endpoint.as_deref().map(|value| (configured_key.as_str(), value));
    let (key, text) = configured.or(variable).unwrap_or((&configured_key, ENDPOINT));
    let url = parse_url(text).map_err(|refused| Error::value(key, &format!("`{text}`: {refused}")))?;
    if url.scheme() == "http" && !options.allow_private {
        let message = format!(
            "must begin with https://, since a token is sent there; for a mirror in your own network, set \
             `allow_private = true` in [{}]",
            options.table
        );
        return Err(Error::value(key, &message));
    }
    Ok(url)
}

/// Returns the user's token, from where the hub's own programs look for it: `$HF_TOKEN`, else the file
/// `$HF_TOKEN_PATH`, else the file that logging in writes.
fn token(environment: &Environment) -> Option<String> {
    if environment.variable("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    let usable = |text: &str| {
        let token = text.trim();
        (!token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic())).then(|| token.to_owned())
    };
    environment.variable("HF_TOKEN").and_then(usable).or_else(|| {
        let text = match environment.variable("HF_TOKEN_PATH") {
            Some(path) => fs::read_to_string(path).ok(),
            None => hf_hub::Cache::new(hub_folder(environment)?.join("hub")).token(),
        };
        usable(&text?)
    })
}

/// Returns the cache of the hub's own programs: `$HF_HUB_CACHE`, else `hub` in their folder.
fn hub_cache(environment: &Environment) -> Option<hf_hub::Cache> {
    let configured = environment.variable("HF_HUB_CACHE").map(PathBuf::from);
    configured.or_else(|| Some(hub_folder(environment)?.join("hub"))).map(hf_hub::Cache::new)
}

/// Returns the folder of the hub's own programs: `$HF_HOME`, else `huggingface` in the user's cache.
fn hub_folder(environment: &Environment) -> Option<PathBuf> {
    let cache = environment.variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| environment.home.as_ref().map(|home| home.join(".cache")));
    environment.variable("HF_HOME").map(PathBuf::from).or_else(|| cache.map(|cache| cache.join("huggingface")))
}

#[cfg(test)]
mod tests;
