//! Sources on other machines, whatever the protocol: what they have, and how it gets into the cache.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use artifact::{Context, Digest, file};
use serde_json::{Value, json};

use crate::config::{Declared, portable_name};
use crate::environment::Environment;
use crate::http::Client;
use crate::select::Filter;
use crate::{Config, Error, Source, address, cloud, download, git, hub};

/// What a source needs in order to reach its machine.
pub(crate) struct Reach<'a> {
    pub config: &'a Config,
    pub context: &'a Context,
    pub environment: Environment,
    /// The folder that keeps downloads.
    pub cache: PathBuf,
    pub client: Client,
}

impl<'a> Reach<'a> {
    /// Returns the reach of a configuration.
    pub fn new(config: &'a Config, context: &'a Context, environment: Environment) -> Result<Self, Error> {
        let cache = context.base.join(environment.expand(&config.cache, "collect.cache")?);
        Ok(Self { config, context, environment, cache, client: Client::new(config.allow_private) })
    }

    /// Waits until no other run uses the cache, and keeps others waiting until the returned file is dropped.
    pub fn lock_cache(&self) -> Result<File, Error> {
        file::create_folder(&self.cache)?;
        let path = self.cache.join("in-use");
        let failed = |e| artifact::Error::io("lock", &path, e);
        let lock = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(e)) => return Err(failed(e).into()),
                Err(TryLockError::WouldBlock) if !told => {
                    told = true;
                    tracing::warn!("waiting for another run that downloads into {}", self.cache.display());
                }
                Err(TryLockError::WouldBlock) => download::sleep(Duration::from_millis(200), self.context)?,
            }
        }
    }
}

/// Where a source is, if it is not on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remote {
    /// One file behind an HTTP address.
    Url(String),
    /// A repository of the Hugging Face Hub, at a branch, a tag or a commit.
    Hub(hub::Repository, String),
    /// Objects of a bucket.
    Store(cloud::Objects),
    /// A git repository, at a branch, a tag or a commit.
    Git(git::Repository, String),
}

/// A file that a source has.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its path inside the source.
    pub path: String,
    /// Its length, where the listing tells it.
    pub bytes: Option<u64>,
    /// Its digest, where the listing tells it.
    pub sha256: Option<Digest>,
    /// What its server tells this version by.
    pub version: Option<String>,
}

/// What looking at a source gave.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The commit that its revision is.
    pub commit: Option<String>,
    /// The licence that its own card names.
    pub licence: Option<String>,
    /// The files taken, sorted by path.
    pub files: Vec<Found>,
    /// Text files above the size cap.
    pub too_large: u64,
    /// Files of another kind, symbolic links, submodules.
    pub not_selected: u64,
}

impl Remote {
    /// Returns where a declared source is, or nothing if it is on this machine.
    pub fn of(declared: &Declared, environment: &Environment) -> Result<Option<Self>, Error> {
        let Declared { key, folder, source, .. } = declared;
        let wrong = |name: &str, message: String| Error::value(&format!("{key}.{name}"), &message);
        if let Some(text) = &source.hub {
            let repository = hub::Repository::parse(text).map_err(|message| wrong("hub", message))?;
            let revision = source.revision.clone().unwrap_or_else(|| "main".to_owned());
            return Ok(Some(Self::Hub(repository, revision)));
        }
        if let Some(text) = &source.git {
            let expanded = if git::is_path(text) {
                folder.join(environment.expand(text, &format!("{key}.git"))?).to_string_lossy().into_owned()
            } else {
                text.clone()
            };
            let repository = git::Repository::parse(&expanded).map_err(|message| wrong("git", message))?;
            let revision = source.commit.as_ref().or(source.revision.as_ref()).cloned().unwrap_or_default();
            return Ok(Some(Self::Git(repository, revision)));
        }
        let Some(text) = &source.url else { return Ok(None) };
        match cloud::Objects::parse(text, source.anonymous) {
            Some(objects) => Ok(Some(Self::Store(objects.map_err(|message| wrong("url", message))?))),
            None => Ok(Some(Self::Url(text.clone()))),
        }
    }

    /// Returns the branch, tag or commit that was asked for.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Self::Hub(_, revision) | Self::Git(_, revision) => Some(revision),
            Self::Url(_) | Self::Store(_) => None,
        }
    }

    /// Returns where the source comes from, as `sources.json` tells it; never an absolute path.
    pub fn origin(&self, declared: &Declared, commit: Option<&str>) -> Value {
        let address = written_address(declared);
        match self {
            Self::Url(_) | Self::Store(_) => json!({ "kind": "url", "url": address }),
            Self::Hub(..) => json!({ "kind": "hub", "hub": address, "commit": commit }),
            Self::Git(..) => json!({ "kind": "git", "git": portable_name(address), "commit": commit }),
        }
    }

    /// Asks what the source has, and selects what is taken of it.
    pub fn list(&self, declared: &Declared, reach: &Reach<'_>) -> Result<Listing, Error> {
        let name = declared.source.known_as();
        let filter = Filter::new(declared)?;
        let mut listing = Listing::default();
        let (found, named) = match self {
            Self::Url(url) if url.starts_with("http://") && !reach.config.allow_private => {
                let message = "missing: without https://, nothing else vouches for what arrives";
                return Err(Error::value(&format!("{}.sha256", declared.key), message));
            }
            Self::Url(url) => {
                let (path, bytes) = (file_name(url), None);
                listing.files.push(Found { path, bytes, sha256: None, version: None });
                return Ok(listing);
            }
            Self::Hub(repository, revision) => {
                let revision = hub::Connection::new(repository, reach)?.revision(&name, revision, reach)?;
                listing.commit = Some(revision.commit);
                listing.licence = revision.licence;
                (revision.files, false)
            }
            Self::Store(objects) => {
                (cloud::Connection::new(objects, &name, reach)?.list(&name, reach)?, objects.is_glob())
            }
            Self::Git(repository, revision) => {
                let tree = git::tree(repository, &name, revision, reach)?;
                listing.commit = Some(tree.commit);
                listing.not_selected = tree.left;
                (tree.files, false)
            }
        };
        for file in found {
            match filter.kind_of(&file.path, named) {
                None => listing.not_selected += 1,
                Some(kind) if filter.is_too_large(kind, file.bytes.unwrap_or(0)) => listing.too_large += 1,
                Some(_) => listing.files.push(file),
            }
        }
        listing.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }
}

/// Checks what is said of a source on another machine; returns the key that is wrong, and how.
pub(crate) fn validate(source: &Source) -> Result<(), (&'static str, String)> {
    if source.revision.is_some() && source.hub.is_none() && source.git.is_none() {
        return Err(("revision", "only a `hub` or `git` repository has revisions".to_owned()));
    }
    match (&source.git, &source.commit, &source.revision) {
        (None, Some(_), _) => return Err(("commit", "only a `git` repository has a `commit`".to_owned())),
        (Some(_), None, None) => {
            return Err(("commit", "missing: the commit, or a `revision` to look up".to_owned()));
        }
        (Some(_), Some(_), Some(_)) => {
            return Err(("revision", "a source has a `commit` or a `revision`, not both".to_owned()));
        }
        (Some(_), Some(commit), None) if !git::is_commit(commit) => {
            return Err(("commit", format!("`{commit}` is not 40 hexadecimal digits in lower case")));
        }
        _ => {}
    }
    if let Some(hub) = &source.hub {
        hub::Repository::parse(hub).map_err(|message| ("hub", message))?;
    }
    if let Some(git) = source.git.as_deref().filter(|git| git.starts_with('-') || !git::is_path(git)) {
        git::Repository::parse(git).map_err(|message| ("git", message))?;
    }
    let Some(url) = &source.url else {
        return if source.anonymous {
            Err(("anonymous", "only an object store can be asked anonymously".to_owned()))
        } else {
            Ok(())
        };
    };
    match cloud::Objects::parse(url, source.anonymous) {
        Some(objects) => objects.map(|_| ()).map_err(|message| ("url", message)),
        None if source.anonymous => Err(("anonymous", "only an object store can be asked anonymously".to_owned())),
        None => {
            let parsed = address::parse(url).map_err(|refused| ("url", format!("`{url}`: {refused}")))?;
            if parsed.username().is_empty() && parsed.password().is_none() {
                return Ok(());
            }
            Err(("url", "holds a user's name or password, which would be written into the corpus".to_owned()))
        }
    }
}

/// Returns the address of a source as it is written.
pub(crate) fn written_address(declared: &Declared) -> &str {
    let source = &declared.source;
    [&source.hub, &source.git, &source.url].into_iter().flatten().next().map_or("", String::as_str)
}

/// Returns the name of the file behind an HTTP address.
pub(crate) fn file_name(url: &str) -> String {
    let address = url.split(['?', '#']).next().unwrap_or(url);
    let after_host = address.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    after_host.rsplit('/').find(|part| !part.is_empty()).unwrap_or("index").to_owned()
}

/// Tells whether the dataset itself says what a source's content is, so that no lock has to.
pub(crate) fn is_pinned(declared: &Declared, remote: &Remote) -> bool {
    matches!(remote, Remote::Url(_)) && declared.source.sha256.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_source(source: &Source, expected: &str) {
        let config = Config { sources: vec![source.clone()], ..Config::default() };
        let found = config.validate().map_or_else(|e| e.to_string(), |()| "valid".to_owned());
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }

    #[test]
    fn a_source_on_another_machine_says_what_it_needs() {
        let some = |text: &str| Some(text.to_owned());
        let url = |text: &str| Source { url: some(text), ..Source::default() };
        check_source(&url("https://x/y.txt"), "valid");
        check_source(&url("ftp://x"), "collect.sources[0].url: `ftp://x`: `ftp://` is neither");
        check_source(&url("file:///etc/passwd"), "collect.sources[0].url: `file:///etc/passwd`: `file://` is neither");
        check_source(&url("x/y"), "collect.sources[0].url: `x/y`: it is no address");
        check_source(&url("https://me:secret@x/y"), "collect.sources[0].url: holds a user's name");
        check_source(&url("s3://b/a/**/*.parquet"), "valid");
        check_source(&url("s3:///a"), "collect.sources[0].url: `s3:///a` names no bucket");
        check_source(&Source { anonymous: true, ..url("gs://b/a") }, "valid");
        check_source(&Source { anonymous: true, ..url("https://x/y") }, "collect.sources[0].anonymous: only an object");
        check_source(
            &Source { revision: some("main"), ..url("s3://b/a") },
            "collect.sources[0].revision: only a `hub`",
        );
        let hub = |text: &str| Source { hub: some(text), ..Source::default() };
        check_source(&hub("datasets/owner/name"), "valid");
        check_source(&Source { revision: some("v1.0"), ..hub("owner/name") }, "valid");
        check_source(&hub("spaces/owner/name"), "collect.sources[0].hub: a space is a program");
        for wrong in ["datasets/a/b/c", "a/../b", "https://huggingface.co/a/b", "a b", "datasets/", "-x/y"] {
            check_source(&hub(wrong), &format!("collect.sources[0].hub: `{wrong}` is neither"));
        }
        let commit = some(&"a1".repeat(20));
        let git = |text: &str| Source { git: some(text), commit: commit.clone(), ..Source::default() };
        for right in ["https://x/y.git", "ssh://git@x/y", "git@x:y/z.git", "../y", "~/y", "$HOME/y"] {
            check_source(&git(right), "valid");
        }
        check_source(&git("ext::sh -c true"), "collect.sources[0].git: `ext::sh -c true` names a transport");
        check_source(&git("file:///y"), "collect.sources[0].git: `file://` is not supported");
        check_source(&git("git://x/y"), "collect.sources[0].git: `git://` is not supported");
        check_source(&git("--upload-pack=x"), "collect.sources[0].git: `--upload-pack=x` begins with `-`");
        check_source(&git("ssh://-oProxyCommand=x/y"), "collect.sources[0].git: ");
        check_source(&git("git@-oProxyCommand=x:y"), "collect.sources[0].git: the host of");
        check_source(&git("https://me:secret@x/y"), "collect.sources[0].git: holds a user's name");
        let git = git("https://x/y");
        check_source(&Source { commit: None, ..git.clone() }, "collect.sources[0].commit: missing");
        check_source(&Source { commit: None, revision: some("main"), ..git.clone() }, "valid");
        check_source(&Source { revision: some("main"), ..git.clone() }, "collect.sources[0].revision: a source has a");
        check_source(&Source { commit: some("a1b2"), ..git }, "collect.sources[0].commit: `a1b2` is not 40");
        check_source(&Source { commit, ..url("https://x/y") }, "collect.sources[0].commit: only a `git`");
    }
}
