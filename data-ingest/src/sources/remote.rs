//! Remote sources: their configuration, and the selection of their files.

use fetch::{Environment, GitRepository, HubRepository, ObjectPattern, Remote, RemoteContext, RemoteFile};
use serde_json::{Value, json};

use crate::config::{Declared, portable_name};
use crate::sources::select::Filter;
use crate::Error;

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
    let filter = Filter::new(declared)?;
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
        // A file that is named outright is selected whatever its name.
        selection.files = listing.files;
        return Ok(selection);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Source};

    fn check_source(source: &Source, expected: &str) {
        let config = Config { sources: vec![source.clone()], ..Config::default() };
        let found = config.validate().map_or_else(|e| e.to_string(), |()| "valid".to_owned());
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }

    #[test]
    fn remote_sources_are_validated() {
        let some = |text: &str| Some(text.to_owned());
        let url = |text: &str| Source { url: some(text), ..Source::default() };
        check_source(&url("https://x/y.txt"), "valid");
        check_source(&url("ftp://x"), "collect.sources[0].url: `ftp://x`: `ftp://` is neither");
        check_source(&url("file:///etc/passwd"), "collect.sources[0].url: `file:///etc/passwd`: `file://` is neither");
        check_source(&url("x/y"), "collect.sources[0].url: `x/y`: not a URL");
        check_source(&url("https://me:secret@x/y"), "collect.sources[0].url: contains a user name");
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
        check_source(&git("https://me:secret@x/y"), "collect.sources[0].git: contains a user name");
        let git = git("https://x/y");
        check_source(&Source { commit: None, ..git.clone() }, "collect.sources[0].commit: missing");
        check_source(&Source { commit: None, revision: some("main"), ..git.clone() }, "valid");
        check_source(&Source { revision: some("main"), ..git.clone() }, "collect.sources[0].revision: a source has a");
        check_source(&Source { commit: some("a1b2"), ..git }, "collect.sources[0].commit: `a1b2` is not 40");
        check_source(&Source { commit, ..url("https://x/y") }, "collect.sources[0].commit: only a `git`");
    }
}
