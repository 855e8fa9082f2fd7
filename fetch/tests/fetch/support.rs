//! Options and contexts for tests, and one call that lists and fetches a source.

use std::fs;
use std::path::Path;

use artifact::{Context, Digest};
use fetch::{
    CachedFile, DigestSource, Environment, Error, ExpectedDigest, FetchBatch, FetchItem, Listing, Options, Remote,
    RemoteContext, cached_path,
};

/// Returns options that allow servers of this machine.
pub fn options() -> Options {
    Options {
        table: "collect",
        cache: "cache".to_owned(),
        max_download_bytes: 1 << 30,
        download_attempts: 5,
        hub_endpoint: None,
        allow_private: true,
        locked: false,
    }
}

/// Returns an environment with these variables and no home folder.
pub fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment { home: None, variables }
}

/// Returns a context in `base` that may use the network.
pub fn online(base: &Path) -> Context {
    Context { base: base.to_owned(), offline: false, ..Context::quiet(1) }
}

/// Returns a context in `base` that may not use the network.
pub fn offline(base: &Path) -> Context {
    Context { base: base.to_owned(), offline: true, ..Context::quiet(1) }
}

/// Fetches the file `fox.txt` behind a URL, with its digest if that is known; returns its content.
pub fn fetch_url(url: &str, sha256: Option<Digest>, options: &Options, context: &Context) -> Result<Vec<u8>, Error> {
    let expected = sha256.map(|sha256| ExpectedDigest { sha256, source: DigestSource::Key });
    let item = FetchItem { path: "fox.txt", bytes: None, version: None, expected };
    let files = fetch_items(&Remote::Url(url.to_owned()), None, vec![item], options, context, &Environment::default())?;
    let cache = options.cache_folder(&context.base, &Environment::default())?;
    Ok(fs::read(cached_path(&cache, files[0].sha256)).unwrap())
}

/// Fetches files of a source called `s`.
pub fn fetch_items(
    remote: &Remote,
    commit: Option<&str>,
    files: Vec<FetchItem<'_>>,
    options: &Options,
    context: &Context,
    environment: &Environment,
) -> Result<Vec<CachedFile>, Error> {
    let remote_context = RemoteContext::new(options, context, environment)?;
    // Like stage collect, which asks for the missing files only.
    let cache = options.cache_folder(&context.base, environment)?;
    let is_cached = |item: &FetchItem<'_>| {
        let expected = item.expected.as_ref().map(|expected| expected.sha256);
        expected.is_some_and(|sha256| fetch::cached_path(&cache, sha256).is_file())
    };
    let is_complete = files.iter().all(is_cached);
    let batches = [FetchBatch { name: "s", remote, commit, files }];
    if !is_complete {
        fetch::check_offline(&batches, &remote_context)?;
    }
    let _guard = remote_context.lock_cache()?;
    let (mut fetched, outcome) = fetch::fetch(&batches, &remote_context);
    outcome.map(|()| fetched.remove(0).unwrap())
}

/// Lists a source called `s`.
pub fn list(
    remote: &Remote,
    options: &Options,
    context: &Context,
    environment: &Environment,
) -> Result<Listing, Error> {
    remote.list("s", &RemoteContext::new(options, context, environment)?)
}

/// Lists a source and fetches all its files.
pub fn fetch_all(
    remote: &Remote,
    options: &Options,
    context: &Context,
    environment: &Environment,
) -> Result<(Listing, Vec<CachedFile>), Error> {
    let listing = list(remote, options, context, environment)?;
    let files = fetch_listed(remote, &listing, options, context, environment)?;
    Ok((listing, files))
}

/// Fetches all files of a listing.
pub fn fetch_listed(
    remote: &Remote,
    listing: &Listing,
    options: &Options,
    context: &Context,
    environment: &Environment,
) -> Result<Vec<CachedFile>, Error> {
    let items = listing.files.iter().map(FetchItem::from).collect();
    fetch_items(remote, listing.commit.as_deref(), items, options, context, environment)
}

/// Returns the content of files in the cache.
pub fn contents(base: &Path, files: &[CachedFile]) -> Vec<Vec<u8>> {
    files.iter().map(|file| fs::read(cached_path(&base.join("cache"), file.sha256)).unwrap()).collect()
}

/// Returns an error and its causes as the command line prints them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
