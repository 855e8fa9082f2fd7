//! Remote sources: their configuration, and the selection of their files.

use fetch::{Environment, GitRepository, HubRepository, ObjectPattern, Remote, RemoteContext, RemoteFile};
use serde_json::{Value, json};

use crate::Error;
use crate::config::Declared;
use crate::config::source::portable_name;
use crate::sources::filter::{Filter, named_outright};

/// The selected files of a source.
#[derive(Debug)]
pub(crate) struct RemoteSelection {
    /// The commit that its revision is resolved to.
    pub commit: Option<String>,
    /// The licence in its own card.
    pub licence: Option<String>,
    /// The selected files, sorted by path.
    pub files: Vec<RemoteFile>,
    /// Text files above the size limit.
    pub too_large: u64,
    /// Files of another kind, symbolic links, submodules.
    pub not_selected: u64,
}

/// Returns where a source is, or nothing if it is on this machine.
pub(crate) fn remote_of(declared: &Declared, environment: &Environment) -> Result<Option<Remote>, Error> {
    let Declared { key, folder, source, .. } = declared;
    let wrong = |name: &str, message: String| Error::value(&format!("{key}.{name}"), &message);
    if let Some(text) = &source.hub {
        let repository = HubRepository::parse(text).map_err(|message| wrong("hub", message))?;
        let revision = source.revision.clone().unwrap_or_else(|| "main".to_owned());
        return Ok(Some(Remote::Hub(repository, revision)));
    }
    if let Some(text) = &source.git {
        let expanded = if fetch::is_path(text) {
            folder.join(environment.expand(text, &format!("{key}.git"))?).to_string_lossy().into_owned()
        } else {
            text.clone()
        };
        let repository = GitRepository::parse(&expanded).map_err(|message| wrong("git", message))?;
        let revision = source.commit.as_ref().or(source.revision.as_ref()).cloned().unwrap_or_default();
        return Ok(Some(Remote::Git(repository, revision)));
    }
    let Some(text) = &source.url else { return Ok(None) };
    match ObjectPattern::parse(text, source.anonymous) {
        Some(objects) => Ok(Some(Remote::ObjectStore(objects.map_err(|message| wrong("url", message))?))),
        None => Ok(Some(Remote::Url(text.clone()))),
    }
}

/// Returns where a source comes from, for `sources.json`; never an absolute path.
pub(crate) fn origin(remote: &Remote, declared: &Declared, commit: Option<&str>) -> Value {
    let address = written_address(declared);
    match remote {
        Remote::Url(_) | Remote::ObjectStore(_) => json!({ "kind": "url", "url": address }),
        Remote::Hub(..) => json!({ "kind": "hub", "hub": address, "commit": commit }),
        Remote::Git(..) => json!({ "kind": "git", "git": portable_name(address), "commit": commit }),
    }
}

/// Lists a source's files and selects from them.
pub(crate) fn list(
    remote: &Remote,
    declared: &Declared,
    allow_private: bool,
    context: &RemoteContext<'_>,
) -> Result<RemoteSelection, Error> {
    let mut filter = Filter::new(declared)?;
    if let Remote::Url(url) = remote
        && url.starts_with("http://")
        && !allow_private
    {
        let message = "missing: without https://, only a digest can verify the download";
        return Err(Error::value(&format!("{}.sha256", declared.key), message));
    }
    let listing = remote.list(&declared.source.display_name(), context)?;
    let mut selection = RemoteSelection {
        commit: listing.commit,
        licence: listing.licence,
        files: Vec::new(),
        too_large: 0,
        not_selected: listing.skipped,
    };
    if matches!(remote, Remote::Url(_)) {
        for file in &listing.files {
            named_outright(declared, &filter, &file.path)?;
        }
        selection.files = listing.files;
        return Ok(selection);
    }
    filter.settle(&listing.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>())?;
    for file in listing.files {
        match filter.kind_of(&file.path, remote.is_glob()) {
            None => selection.not_selected += 1,
            Some(kind) if filter.is_too_large(kind, file.bytes.unwrap_or(0)) => selection.too_large += 1,
            Some(_) => selection.files.push(file),
        }
    }
    selection.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(selection)
}

/// Returns the address of a source as it is written.
pub(crate) fn written_address(declared: &Declared) -> &str {
    let source = &declared.source;
    [&source.hub, &source.git, &source.url].into_iter().flatten().next().map_or("", String::as_str)
}

/// Returns whether the configuration has the digest of a source's content, so that the lock need not have it.
pub(crate) fn is_pinned(declared: &Declared, remote: &Remote) -> bool {
    matches!(remote, Remote::Url(_)) && declared.source.sha256.is_some()
}
