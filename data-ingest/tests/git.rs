//! Git repositories, made by the tests with the program `git`.

mod corpus;

use std::fs;
use std::path::Path;
use std::process::Command;

use artifact::Context;
use corpus::{chain, collect, context, one, write};
use data_ingest::{Config, Error, Source};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]);
    // Neither the settings of whoever runs the tests nor a hook that runs them may matter.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env_remove("GIT_DIR");
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes a repository with two commits and returns them.
fn repository(folder: &Path) -> [String; 2] {
    fs::create_dir_all(folder).unwrap();
    git(folder, &["init", "--quiet", "--initial-branch=main"]);
    write(folder, &[("a.md", b"first"), ("src/lib.rs", b"fn a() {}"), (".gitignore", b"a.md\n"), ("x.png", b"\x89")]);
    git(folder, &["add", "--force", "."]);
    git(folder, &["commit", "--quiet", "--message=one"]);
    let first = git(folder, &["rev-parse", "HEAD"]);
    git(folder, &["tag", "--annotate", "--message=t", "v1"]);
    write(folder, &[("a.md", b"second"), ("bä c.md", b"spaces and umlauts")]);
    git(folder, &["add", "--all", "--force"]);
    git(folder, &["commit", "--quiet", "--message=two"]);
    [first, git(folder, &["rev-parse", "HEAD"])]
}

fn at_commit(commit: &str) -> Config {
    one(Source { git: Some("repo".to_owned()), commit: Some(commit.to_owned()), ..Source::default() })
}

fn at_revision(revision: &str) -> Config {
    one(Source { git: Some("repo".to_owned()), revision: Some(revision.to_owned()), ..Source::default() })
}

fn online(base: &Path) -> Context {
    Context { offline: false, ..context(base) }
}

/// Collects from the repository in `base`, and compares ids and texts, or the error.
fn check(base: &Path, config: &Config, expected: Result<&[(&str, &str)], &str>) {
    match (collect(config, &online(base)), expected) {
        (Ok((_, rows)), Ok(expected)) => {
            let found: Vec<(&str, &str)> =
                rows.iter().map(|row| (row.id.as_str(), row.text.as_deref().unwrap_or_default())).collect();
            assert_eq!(found, expected);
        }
        (Err(error), Err(expected)) => {
            assert_eq!(chain(&error).replace(&base.display().to_string(), "<base>"), expected);
        }
        (found, expected) => panic!("{found:?}\n{expected:?}"),
    }
}

#[test]
fn a_commit_is_collected_as_it_was_whatever_happened_since() {
    let base = tempfile::tempdir().unwrap();
    let [first, _] = repository(&base.path().join("repo"));
    check(base.path(), &at_commit(&first), Ok(&[("repo/a.md", "first"), ("repo/src/lib.rs", "fn a() {}")]));
    let lock = fs::read_to_string(base.path().join("dataset.lock")).unwrap();
    assert!(lock.contains(&format!("commit = \"{first}\"")), "{lock}");
    assert!(lock.contains("not_selected = 2"), "{lock}");

    let base = tempfile::tempdir().unwrap();
    let [_, second] = repository(&base.path().join("repo"));
    let expected = [("repo/a.md", "second"), ("repo/bä c.md", "spaces and umlauts"), ("repo/src/lib.rs", "fn a() {}")];
    check(base.path(), &at_commit(&second), Ok(&expected));
}

#[test]
fn a_revision_is_looked_up_once() {
    let base = tempfile::tempdir().unwrap();
    let repo = base.path().join("repo");
    let [first, second] = repository(&repo);
    for (revision, commit) in [("v1", &first), ("main", &second), ("HEAD", &second), ("refs/tags/v1", &first)] {
        let _ = fs::remove_file(base.path().join("dataset.lock"));
        data_ingest::lock(&at_revision(revision), &online(base.path())).unwrap();
        let lock = fs::read_to_string(base.path().join("dataset.lock")).unwrap();
        assert!(lock.contains(&format!("revision = \"{revision}\"\ncommit = \"{commit}\"\n")), "{revision}\n{lock}");
    }
    fs::remove_file(base.path().join("dataset.lock")).unwrap();
    let config = at_revision("main");
    let (_, before) = collect(&config, &online(base.path())).unwrap();
    write(&repo, &[("a.md", b"third")]);
    git(&repo, &["commit", "--quiet", "--all", "--message=three"]);
    assert_eq!(collect(&config, &online(base.path())).unwrap().1, before);
    // Only when it is asked for does the branch move.
    let changes = data_ingest::update_lock(&config, &online(base.path()), &["repo".to_owned()]).unwrap();
    assert_eq!(changes.iter().map(|change| change.file.as_str()).collect::<Vec<_>>(), ["a.md"]);
    assert!(changes[0].before.is_some() && changes[0].after.is_some());
    assert_eq!(collect(&config, &online(base.path())).unwrap().1[0].text.as_deref(), Some("third"));
}

#[test]
fn links_submodules_and_lfs_pointers_are_left_and_counted() {
    let base = tempfile::tempdir().unwrap();
    let repo = base.path().join("repo");
    let [commit, _] = repository(&repo);
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "0".repeat(64));
    write(&repo, &[("big.txt", pointer.as_bytes())]);
    git(&repo, &["add", "big.txt"]);
    let link = git(&repo, &["hash-object", "-w", "a.md"]);
    git(&repo, &["update-index", "--add", "--cacheinfo", &format!("120000,{link},link.md")]);
    git(&repo, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},sub.md")]);
    git(&repo, &["commit", "--quiet", "--message=odd"]);
    let head = git(&repo, &["rev-parse", "HEAD"]);
    let expected = [("repo/a.md", "second"), ("repo/bä c.md", "spaces and umlauts"), ("repo/src/lib.rs", "fn a() {}")];
    check(base.path(), &at_commit(&head), Ok(&expected));
    // The link, the submodule, the pointer, the picture, and .gitignore.
    let lock = fs::read_to_string(base.path().join("dataset.lock")).unwrap();
    assert!(lock.contains("not_selected = 5"), "{lock}");
}

#[test]
fn the_cache_serves_without_the_repository() {
    let base = tempfile::tempdir().unwrap();
    let repo = base.path().join("repo");
    let [first, _] = repository(&repo);
    let config = at_commit(&first);
    let (_, rows) = collect(&config, &online(base.path())).unwrap();
    fs::remove_dir_all(&repo).unwrap();
    assert_eq!(collect(&config, &context(base.path())).unwrap().1, rows);
    // Of a single file that is gone, git's own copy is left.
    let cache = base.path().join("experiments/cache/downloads");
    fs::remove_file(cache.join(&rows[0].sha256)).unwrap();
    assert_eq!(collect(&config, &context(base.path())).unwrap().1, rows);
    fs::remove_dir_all(&cache).unwrap();
    let error = collect(&config, &context(base.path())).unwrap_err();
    assert!(matches!(&error, Error::Offline { url, .. } if url.ends_with(&format!("repo at {first}"))), "{error}");
}

#[test]
fn a_fetch_that_was_killed_is_started_again() {
    let base = tempfile::tempdir().unwrap();
    let [first, _] = repository(&base.path().join("repo"));
    let config = at_commit(&first);
    collect(&config, &online(base.path())).unwrap();
    // As a killed git leaves it: no name for the commit, and a lock that nobody holds.
    let cache = base.path().join("experiments/cache/downloads");
    let folder = fs::read_dir(cache.join("git")).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(folder.join("refs/collected")).unwrap();
    fs::write(folder.join("shallow.lock"), "").unwrap();
    fs::remove_file(base.path().join("dataset.lock")).unwrap();
    assert_eq!(collect(&config, &online(base.path())).unwrap().1.len(), 2);
    assert!(!folder.join("shallow.lock").exists());
}

#[test]
fn a_fetch_has_a_size_cap() {
    let base = tempfile::tempdir().unwrap();
    let repo = base.path().join("repo");
    repository(&repo);
    // Digests of numbers: nothing that git could make shorter than half of it.
    let digits: String = (0..30_000_u32).map(|i| artifact::Digest::of(&i.to_le_bytes()).to_string()).collect();
    write(&repo, &[("digits.txt", digits.as_bytes())]);
    git(&repo, &["add", "digits.txt"]);
    git(&repo, &["commit", "--quiet", "--message=large"]);
    let config = at_commit(&git(&repo, &["rev-parse", "HEAD"]));
    let capped = Config { max_download_bytes: 500_000, ..config.clone() };
    let error = collect(&capped, &online(base.path())).unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes: 500_001.., limit: 500_000, .. }), "{error}");
    let told = error.to_string();
    assert!(told.starts_with("source repo: ") && told.contains("/repo has at least "), "{told}");
    assert!(told.ends_with(" bytes, collect.max_download_bytes is 500000"), "{told}");
    let left = base.path().join("experiments/cache/downloads/git");
    assert_eq!(fs::read_dir(left).unwrap().count(), 0, "nothing of it stays");
    assert_eq!(collect(&config, &online(base.path())).unwrap().1.len(), 4);
}

#[test]
fn what_git_says_is_told() {
    let base = tempfile::tempdir().unwrap();
    repository(&base.path().join("repo"));
    // Git's two programs write to one screen, so which of their lines is the last varies.
    let nowhere = "0".repeat(40);
    let error = collect(&at_commit(&nowhere), &online(base.path())).unwrap_err().to_string();
    assert!(error.starts_with("source repo: ") && error.contains("/repo: `git fetch` failed: "), "{error}");
    assert!(error.ends_with(&format!("not our ref {nowhere}")), "{error}");
    check(
        base.path(),
        &at_revision("nobody"),
        Err(
            "source repo: <base>/repo: `git ls-remote` failed: it has no branch or tag `nobody`; a commit is written with \
             all its digits",
        ),
    );
    let missing = one(Source { git: Some("no repo".to_owned()), commit: Some(nowhere), ..Source::default() });
    let error = chain(&collect(&missing, &online(base.path())).unwrap_err());
    assert!(error.starts_with("source no repo: ") && error.contains("`git fetch` failed: "), "{error}");
}

#[test]
fn a_repository_of_a_private_network_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let commit = Some("a".repeat(40));
    for (address, start) in [
        ("https://127.0.0.1:9/x", "127.0.0.1 is a loopback address"),
        ("git@10.0.0.1:x/y", "10.0.0.1 is a private address"),
        ("http://x.invalid/y", "it is not encrypted"),
    ] {
        let config = one(Source { git: Some(address.to_owned()), commit: commit.clone(), ..Source::default() });
        let error = collect(&config, &online(base.path())).unwrap_err();
        assert!(matches!(&error, Error::Refused { reason, .. } if reason.starts_with(start)), "{error}");
    }
}
