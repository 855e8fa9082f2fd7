//! Git repositories, created by the tests with `git`.

use std::fs;
use std::path::Path;
use std::process::Command;

use fetch::{Environment, Error, GitRepository, Options, Remote};

use crate::support::{chain, contents, fetch_all, fetch_listed, list, offline, online, options};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]);
    // Neither the user's configuration nor a hook that runs the tests may have an effect.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env_remove("GIT_DIR");
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit_files(folder: &Path, files: &[(&str, &[u8])]) -> String {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    git(folder, &["add", "--all", "--force"]);
    git(folder, &["commit", "--quiet", "--message=m"]);
    git(folder, &["rev-parse", "HEAD"])
}

/// Makes a repository `repo` in `base` with a tagged commit and another one; returns both.
fn repository(base: &Path) -> [String; 2] {
    let folder = base.join("repo");
    fs::create_dir_all(&folder).unwrap();
    git(&folder, &["init", "--quiet", "--initial-branch=main"]);
    let first = commit_files(&folder, &[("a.md", b"first"), ("src/lib.rs", b"fn a() {}"), (".gitignore", b"a.md\n")]);
    git(&folder, &["tag", "--annotate", "--message=t", "v1"]);
    [first, commit_files(&folder, &[("a.md", b"second"), ("bä c.md", b"spaces and umlauts")])]
}

fn remote(base: &Path, revision: &str) -> Remote {
    Remote::Git(GitRepository::parse(base.join("repo").to_str().unwrap()).unwrap(), revision.to_owned())
}

/// Returns the paths and contents of a revision.
fn files_of(base: &Path, revision: &str) -> Vec<(String, String)> {
    let (listing, files) =
        fetch_all(&remote(base, revision), &options(), &online(base), &Environment::default()).unwrap();
    let contents = contents(base, &files).into_iter().map(|content| String::from_utf8(content).unwrap());
    listing.files.into_iter().map(|file| file.path).zip(contents).collect()
}

#[test]
fn the_files_of_a_commit_are_extracted() {
    let base = tempfile::tempdir().unwrap();
    let [first, second] = repository(base.path());
    let check = |revision: &str, expected: &[(&str, &str)]| {
        let found = files_of(base.path(), revision);
        assert_eq!(found.iter().map(|(path, text)| (&path[..], &text[..])).collect::<Vec<_>>(), expected, "{revision}");
    };
    let ignore = (".gitignore", "a.md\n");
    check(&first, &[ignore, ("a.md", "first"), ("src/lib.rs", "fn a() {}")]);
    let expected = [ignore, ("a.md", "second"), ("bä c.md", "spaces and umlauts"), ("src/lib.rs", "fn a() {}")];
    check(&second, &expected);
    check("main", &expected);
}

#[test]
fn a_revision_is_resolved_to_its_commit() {
    let base = tempfile::tempdir().unwrap();
    let [first, second] = repository(base.path());
    for (revision, commit) in [("v1", &first), ("main", &second), ("HEAD", &second), ("refs/tags/v1", &first)] {
        let remote = remote(base.path(), revision);
        let listing = list(&remote, &options(), &online(base.path()), &Environment::default()).unwrap();
        assert_eq!(listing.commit.as_ref(), Some(commit), "{revision}");
    }
}

#[test]
fn the_cache_is_enough_without_the_repository() {
    let base = tempfile::tempdir().unwrap();
    let [first, _] = repository(base.path());
    let remote = remote(base.path(), &first);
    let environment = Environment::default();
    let (listing, files) = fetch_all(&remote, &options(), &online(base.path()), &environment).unwrap();
    fs::remove_dir_all(base.path().join("repo")).unwrap();
    // A file that is gone is extracted again from git's own copy.
    fs::remove_file(base.path().join("cache").join(files[0].sha256.to_string())).unwrap();
    let again = fetch_listed(&remote, &listing, &options(), &offline(base.path()), &environment).unwrap();
    assert_eq!(contents(base.path(), &again)[1], b"first");
    fs::remove_dir_all(base.path().join("cache")).unwrap();
    let error = fetch_listed(&remote, &listing, &options(), &offline(base.path()), &environment).unwrap_err();
    assert!(matches!(&error, Error::Offline { url, .. } if url.ends_with(&format!("repo at {first}"))), "{error}");
}

#[test]
fn an_interrupted_fetch_is_started_again() {
    let base = tempfile::tempdir().unwrap();
    let [first, _] = repository(base.path());
    assert_eq!(files_of(base.path(), &first).len(), 3);
    // What a killed git leaves: no reference to the commit, and a stale lock.
    let folder = fs::read_dir(base.path().join("cache/git")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(folder.join("refs/collected")).unwrap();
    fs::write(folder.join("shallow.lock"), "").unwrap();
    assert_eq!(files_of(base.path(), &first).len(), 3);
    assert!(!folder.join("shallow.lock").exists());
}

#[test]
fn a_fetch_has_a_size_limit() {
    let base = tempfile::tempdir().unwrap();
    repository(base.path());
    // Digests of numbers, which git cannot compress below half of their length.
    let digits: String = (0..30_000_u32).map(|i| artifact::Digest::of(&i.to_le_bytes()).to_string()).collect();
    let commit = commit_files(&base.path().join("repo"), &[("digits.txt", digits.as_bytes())]);
    let limited = Options { max_download_bytes: 500_000, ..options() };
    let remote = remote(base.path(), &commit);
    let error = list(&remote, &limited, &online(base.path()), &Environment::default()).unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 500_001.., limit: 500_000, .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("source s: ") && text.contains("/repo has at least "), "{text}");
    assert!(text.ends_with(" bytes, collect.max_download_bytes is 500000"), "{text}");
    assert_eq!(fs::read_dir(base.path().join("cache/git")).unwrap().count(), 0, "the partial repository is removed");
    assert_eq!(files_of(base.path(), &commit).len(), 5);
}

#[test]
fn an_error_has_the_message_of_git() {
    let base = tempfile::tempdir().unwrap();
    repository(base.path());
    let error_of = |remote: &Remote| {
        let error = list(remote, &options(), &online(base.path()), &Environment::default()).unwrap_err();
        chain(&error).replace(&base.path().display().to_string(), "<base>")
    };
    // Two processes of git write to standard error, so which of their lines is the last varies.
    let nowhere = "0".repeat(40);
    let error = error_of(&remote(base.path(), &nowhere));
    assert!(error.starts_with("source s: <base>/repo: `git fetch` failed: "), "{error}");
    assert!(error.ends_with(&format!("not our ref {nowhere}")), "{error}");
    assert_eq!(
        error_of(&remote(base.path(), "unknown")),
        "source s: <base>/repo: `git ls-remote` failed: it has no branch or tag `unknown`; a commit must be written \
         with all its digits"
    );
    let error = error_of(&remote(&base.path().join("missing"), &nowhere));
    assert!(error.starts_with("source s: ") && error.contains("`git fetch` failed: "), "{error}");
}

#[test]
fn a_repository_in_a_private_network_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let options = Options { allow_private: false, ..options() };
    for (address, start) in [
        ("https://127.0.0.1:9/x", "127.0.0.1 is a loopback address"),
        ("git@10.0.0.1:x/y", "10.0.0.1 is a private address"),
        ("http://x.invalid/y", "it is not encrypted"),
    ] {
        let remote = Remote::Git(GitRepository::parse(address).unwrap(), "a".repeat(40));
        let error = list(&remote, &options, &online(base.path()), &Environment::default()).unwrap_err();
        assert!(matches!(&error, Error::Refused { reason, .. } if reason.starts_with(start)), "{error}");
    }
}
