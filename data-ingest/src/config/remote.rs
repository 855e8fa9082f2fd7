//! Validation of the keys of remote sources.

use fetch::{GitRepository, HubRepository, ObjectPattern};

use crate::config::source::Source;

/// Validates the keys of a remote source; returns the wrong key and the reason.
pub(crate) fn validate(source: &Source) -> Result<(), (&'static str, String)> {
    if source.revision.is_some() && source.hub.is_none() && source.git.is_none() {
        return Err(("revision", "only a `hub` or `git` repository has revisions".to_owned()));
    }
    match (&source.git, &source.commit, &source.revision) {
        (None, Some(_), _) => return Err(("commit", "only a `git` repository has a `commit`".to_owned())),
        (Some(_), None, None) => {
            return Err(("commit", "missing: the commit, or a `revision` to resolve".to_owned()));
        }
        (Some(_), Some(_), Some(_)) => {
            return Err(("revision", "a source has a `commit` or a `revision`, not both".to_owned()));
        }
        (Some(_), Some(commit), None) if !fetch::is_commit(commit) => {
            return Err(("commit", format!("`{commit}` is not 40 hexadecimal digits in lower case")));
        }
        _ => {}
    }
    if let Some(hub) = &source.hub {
        HubRepository::parse(hub).map_err(|message| ("hub", message))?;
    }
    if let Some(git) = source.git.as_deref().filter(|git| git.starts_with('-') || !fetch::is_path(git)) {
        GitRepository::parse(git).map_err(|message| ("git", message))?;
    }
    let not_anonymous = || ("anonymous", "only an object store can be accessed anonymously".to_owned());
    let Some(url) = &source.url else {
        return if source.anonymous { Err(not_anonymous()) } else { Ok(()) };
    };
    match ObjectPattern::parse(url, source.anonymous) {
        Some(objects) => objects.map(|_| ()).map_err(|message| ("url", message)),
        None if source.anonymous => Err(not_anonymous()),
        None => {
            let parsed = fetch::parse_url(url).map_err(|error| ("url", format!("`{url}`: {error}")))?;
            if parsed.username().is_empty() && parsed.password().is_none() {
                return Ok(());
            }
            Err(("url", "contains a user name or password, which would be written into the corpus".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

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
