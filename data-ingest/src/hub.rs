//! Datasets and models of the Hugging Face Hub, or of a mirror that answers as it does.
//!
//! Two questions are asked of its API (which commit a revision is, which files that commit has), and the files are fetched
//! as any other, by this crate's own client: it can go on where a connection broke, counts bytes, and shows the token to
//! the endpoint's own host and to nobody else. The crate `hf-hub` knows where the hub's other programs (`huggingface_hub`,
//! transformers, …) keep the user's token and what they have downloaded: a file of the same commit is taken from there.

use std::fs;
use std::path::{Component, Path, PathBuf};

use artifact::Digest;
use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::address;
use crate::download::{Answer, Failure, retry};
use crate::environment::Environment;
use crate::http::{self, Bearer};
use crate::remote::{Found, Reach};
use crate::{Config, Error};

const ENDPOINT: &str = "https://huggingface.co";
/// The largest page of a listing that is read: a page of the hub has 1,000 entries of about 300 bytes.
const MAX_PAGE_BYTES: u64 = 32 << 20;

/// A dataset or a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    is_dataset: bool,
    /// `owner/name`, or `name` for the oldest ones.
    id: String,
}

impl Repository {
    /// Returns the repository of `datasets/owner/name` or `owner/name`, or what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("spaces/") {
            return Err("a space is a program, not data; name a dataset (`datasets/owner/name`) or a model".to_owned());
        }
        let (is_dataset, id) = text.strip_prefix("datasets/").map_or((false, text), |id| (true, id));
        let is_name = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part.chars().all(known) && !part.starts_with(['.', '-']) && !part.contains("..")
        };
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
            return Err(format!("`{text}` is neither `datasets/owner/name` nor `owner/name`"));
        }
        Ok(Self { is_dataset, id: id.to_owned() })
    }

    /// Returns `owner/name`.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn kind(&self) -> &'static str {
        if self.is_dataset { "dataset" } else { "model" }
    }

    /// Returns the address of its page, to which the addresses of its files are added.
    fn page(&self, endpoint: &Url) -> Url {
        let prefix = if self.is_dataset { Some("datasets") } else { None };
        below(endpoint, prefix.into_iter().chain(self.id.split('/')))
    }

    fn api(&self, endpoint: &Url, rest: [&str; 2]) -> Url {
        let plural = if self.is_dataset { "datasets" } else { "models" };
        below(endpoint, ["api", plural].into_iter().chain(self.id.split('/')).chain(rest))
    }
}

/// Returns an address below another; each segment is encoded, a slash in it too.
fn below<'a>(base: &Url, segments: impl Iterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// A way to the hub.
pub(crate) struct Connection {
    repository: Repository,
    endpoint: Url,
    bearer: Option<Bearer>,
    /// What the hub's other programs have downloaded.
    shared: Option<hf_hub::Cache>,
}

/// What the hub says of a revision.
#[derive(Debug, Deserialize)]
struct Info {
    sha: String,
    #[serde(rename = "cardData", default)]
    card: Value,
}

/// An entry of a listing.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

/// What the hub says of a file that is kept outside git.
#[derive(Debug, Deserialize)]
struct Lfs {
    /// The SHA-256 of its content.
    #[serde(alias = "sha256")]
    oid: Option<Digest>,
    size: Option<u64>,
}

/// A revision that was looked up.
pub(crate) struct Revision {
    /// The commit.
    pub commit: String,
    /// The licence that the repository's card names.
    pub licence: Option<String>,
    /// All files of the commit.
    pub files: Vec<Found>,
}

impl Connection {
    /// Returns the way to a repository.
    pub fn new(repository: &Repository, reach: &Reach<'_>) -> Result<Self, Error> {
        let endpoint = endpoint(reach.config, &reach.environment)?;
        let bearer = token(&reach.environment).map(|token| Bearer::new(&endpoint, token));
        let shared = shared_cache(&reach.environment);
        Ok(Self { repository: repository.clone(), endpoint, bearer, shared })
    }

    /// Returns the address of the repository's page.
    pub fn page(&self) -> Url {
        self.repository.page(&self.endpoint)
    }

    /// Looks up a branch, a tag or a commit, and lists its files.
    pub fn revision(&self, name: &str, revision: &str, reach: &Reach<'_>) -> Result<Revision, Error> {
        let url = self.repository.api(&self.endpoint, ["revision", revision]);
        let (info, _): (Info, _) = self.ask(name, revision, &url, reach)?;
        let commit = info.sha;
        if !is_commit(&commit) {
            return Err(self.error(name, "the hub answers with a commit that is none".to_owned()));
        }
        let mut files = Vec::new();
        let mut page = self.repository.api(&self.endpoint, ["tree", &commit]);
        page.set_query(Some("recursive=true"));
        loop {
            let (entries, next): (Vec<Entry>, _) = self.ask(name, revision, &page, reach)?;
            files.extend(entries.into_iter().filter(|entry| entry.kind == "file").map(|entry| Found {
                bytes: Some(entry.lfs.as_ref().and_then(|lfs| lfs.size).unwrap_or(entry.size)),
                sha256: entry.lfs.and_then(|lfs| lfs.oid),
                path: entry.path,
                version: None,
            }));
            match next {
                None => break,
                // The token would go along.
                Some(next) if next.origin() != self.endpoint.origin() => {
                    let message = format!("its listing goes on at another host, {}", address::shown(&next));
                    return Err(self.error(name, message));
                }
                Some(next) => page = next,
            }
        }
        Ok(Revision { commit, licence: licence(&info.card), files })
    }

    /// Returns the address of a file at a commit.
    pub fn file_address(&self, commit: &str, path: &str) -> Url {
        below(&self.repository.page(&self.endpoint), ["resolve", commit].into_iter().chain(path.split('/')))
    }

    /// Returns where another of the hub's programs has put a file of a commit, if one has.
    pub fn at_hand(&self, commit: &str, path: &str) -> Option<PathBuf> {
        let kind = if self.repository.is_dataset { RepoType::Dataset } else { RepoType::Model };
        let repository = Repo::with_revision(self.repository.id.clone(), kind, commit.to_owned());
        let file = self.shared.as_ref()?.repo(repository).pointer_path(commit).join(path);
        // A listing or a lock could name a file of the user's that is none of the hub's.
        let is_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        (is_below && is_commit(commit) && file.is_file()).then_some(file)
    }

    /// Asks for a file at a commit from byte `from` on.
    pub fn open(&self, name: &str, commit: &str, path: &str, reach: &Reach<'_>, from: u64) -> Result<Answer, Failure> {
        let url = self.file_address(commit, path);
        // A commit does not change, so a part of its file needs no other proof that it is one.
        let answer = http::open(&reach.client, name, &url, self.bearer.as_ref(), from, None);
        answer.map_err(|failure| match failure {
            Failure::Lasting(Error::Status { status: status @ (401 | 403 | 404), .. }) => {
                let message = format!("{path}: {}", self.explain(status, commit, Some("EntryNotFound")));
                self.error(name, message).into()
            }
            other => other,
        })
    }

    /// Asks the API; returns its answer, and where the answer goes on.
    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        revision: &str,
        url: &Url,
        reach: &Reach<'_>,
    ) -> Result<(T, Option<Url>), Error> {
        let address = address::shown(url);
        let give_up =
            |attempts, source| Error::Unlisted { name: name.to_owned(), address: address.clone(), attempts, source };
        retry(reach.config, reach.context, give_up, || {
            let response = reach.client.get(name, url, &[], self.bearer.as_ref())?;
            let status = response.status().as_u16();
            if matches!(status, 401 | 403 | 404) {
                let code = http::header(&response, "x-error-code");
                return Err(self.error(name, self.explain(status, revision, code)).into());
            }
            if let Some(failure) = http::failed(name, url, &response) {
                return Err(failure);
            }
            let next = http::header(&response, "link").and_then(|link| next_page(url, link));
            let text = response.into_body().into_with_config().limit(MAX_PAGE_BYTES).read_to_vec();
            let text = text.map_err(Failure::passing)?;
            let answer = serde_json::from_slice(&text)
                .map_err(|e| self.error(name, format!("{address} does not answer as the hub does: {e}")))?;
            Ok((answer, next))
        })
    }

    /// Returns an error about the repository.
    pub fn error(&self, name: &str, message: String) -> Error {
        Error::Hub { name: name.to_owned(), address: self.repository.page(&self.endpoint).to_string(), message }
    }

    /// Returns what a refusal means and what to do about it.
    fn explain(&self, status: u16, revision: &str, code: Option<&str>) -> String {
        let (kind, page) = (self.repository.kind(), self.repository.page(&self.endpoint));
        let has_token = self.bearer.is_some();
        match (status, code) {
            (404, Some("RevisionNotFound")) => format!("the {kind} has no revision `{revision}`"),
            (404, Some("EntryNotFound")) => format!("the {kind} has no such file at {revision}"),
            (404, _) if has_token => format!("there is no such {kind}, or the token may not see it"),
            (404, _) => format!("there is no such {kind}; if it is private, set HF_TOKEN"),
            (401, _) if has_token => {
                let settings = below(&self.endpoint, ["settings", "tokens"].into_iter());
                format!("the hub does not accept the token; make another at {settings}, and set HF_TOKEN")
            }
            (401, _) => format!(
                "the hub wants to know who asks: the {kind} is gated, private or not there; set HF_TOKEN, and accept the \
                 terms at {page}"
            ),
            _ if has_token => {
                format!("the token may not read it; accept the terms at {page} with the account that the token is of")
            }
            _ => format!("nobody may read it without a token; set HF_TOKEN, and accept the terms at {page}"),
        }
    }
}

fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns where a listing goes on: the address of `Link: <address>; rel="next"`.
fn next_page(url: &Url, link: &str) -> Option<Url> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    url.join(next.split_once('<')?.1.split_once('>')?.0).ok()
}

/// Returns the licence that a repository's card names: the hub's own identifier, which mostly is that of SPDX in lower case.
fn licence(card: &Value) -> Option<String> {
    match card.get("license")? {
        Value::String(licence) => Some(licence.clone()),
        // Nothing says which of several holds for which document, so all of them do.
        Value::Array(several) => {
            let names: Vec<&str> = several.iter().filter_map(Value::as_str).collect();
            (!names.is_empty()).then(|| names.join(" AND "))
        }
        _ => None,
    }
}

/// Returns the address of the hub: the configured one, else `$HF_ENDPOINT`, else that of Hugging Face.
fn endpoint(config: &Config, environment: &Environment) -> Result<Url, Error> {
    let variable = environment.variable("HF_ENDPOINT").map(|value| ("HF_ENDPOINT", value));
    let configured = config.hub_endpoint.as_deref().map(|value| ("collect.hub_endpoint", value));
    let (key, text) = configured.or(variable).unwrap_or(("collect.hub_endpoint", ENDPOINT));
    let url = address::parse(text).map_err(|refused| Error::value(key, &format!("`{text}`: {refused}")))?;
    if url.scheme() == "http" && !config.allow_private {
        let message = "must begin with https://, since a token is sent there; for a mirror of your own network, set \
                       `allow_private = true` in [collect]";
        return Err(Error::value(key, message));
    }
    Ok(url)
}

/// Returns the user's token, from where the hub's own programs look for it: `$HF_TOKEN`, else the file `$HF_TOKEN_PATH`, else
/// the file that logging in leaves.
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
            None => hf_hub::Cache::new(shared_folder(environment)?.join("hub")).token(),
        };
        usable(&text?)
    })
}

/// Returns the cache of the hub's own programs: `$HF_HUB_CACHE`, else `hub` in their folder.
fn shared_cache(environment: &Environment) -> Option<hf_hub::Cache> {
    let named = environment.variable("HF_HUB_CACHE").map(PathBuf::from);
    named.or_else(|| Some(shared_folder(environment)?.join("hub"))).map(hf_hub::Cache::new)
}

/// Returns the folder of the hub's own programs: `$HF_HOME`, else `huggingface` in the user's cache.
fn shared_folder(environment: &Environment) -> Option<PathBuf> {
    let cache = environment.variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| environment.home.as_ref().map(|home| home.join(".cache")));
    environment.variable("HF_HOME").map(PathBuf::from).or_else(|| cache.map(|cache| cache.join("huggingface")))
}

#[cfg(test)]
mod tests;
