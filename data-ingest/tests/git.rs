//! Git repositories, created by the tests with `git`.

mod corpus;

use std::fs;
use std::path::Path;
use std::process::Command;

use artifact::Context;
use corpus::{collect, context, lock, one, update_lock, write};
use data_ingest::{Config, Source};

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]);
    // Neither the user's configuration nor a hook that runs the tests may have an effect.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env_remove("GIT_DIR");
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Creates a repository with two commits and returns them.
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

/// Collects from the repository in `base`, and compares ids and texts.
fn check(base: &Path, config: &Config, expected: &[(&str, &str)]) {
    let (_, rows) = collect(config, &online(base)).unwrap();
    let found: Vec<(&str, &str)> =
        rows.iter().map(|row| (row.id.as_str(), row.text.as_deref().unwrap_or_default())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_commit_is_collected_regardless_of_later_commits() {
    let base = tempfile::tempdir().unwrap();
    let [first, _] = repository(&base.path().join("repo"));
    check(base.path(), &at_commit(&first), &[("repo/a.md", "first"), ("repo/src/lib.rs", "fn a() {}")]);
    let lock = fs::read_to_string(base.path().join("dataset.lock")).unwrap();
    assert!(lock.contains(&format!("commit = \"{first}\"")), "{lock}");
    assert!(lock.contains("not_selected = 2"), "{lock}");

    let base = tempfile::tempdir().unwrap();
    let [_, second] = repository(&base.path().join("repo"));
    let expected = [("repo/a.md", "second"), ("repo/bä c.md", "spaces and umlauts"), ("repo/src/lib.rs", "fn a() {}")];
    check(base.path(), &at_commit(&second), &expected);
}

#[test]
fn a_revision_is_resolved_once() {
    let base = tempfile::tempdir().unwrap();
    let repo = base.path().join("repo");
    let [first, second] = repository(&repo);
    for (revision, commit) in [("v1", &first), ("main", &second), ("HEAD", &second), ("refs/tags/v1", &first)] {
        let _ = fs::remove_file(base.path().join("dataset.lock"));
        lock(&at_revision(revision), &online(base.path())).unwrap();
        let text = fs::read_to_string(base.path().join("dataset.lock")).unwrap();
        assert!(text.contains(&format!("revision = \"{revision}\"\ncommit = \"{commit}\"\n")), "{revision}\n{text}");
    }
    fs::remove_file(base.path().join("dataset.lock")).unwrap();
    let config = at_revision("main");
    let (_, before) = collect(&config, &online(base.path())).unwrap();
    write(&repo, &[("a.md", b"third")]);
    git(&repo, &["commit", "--quiet", "--all", "--message=three"]);
    assert_eq!(collect(&config, &online(base.path())).unwrap().1, before);
    // The branch is resolved again only on request.
    let changes = update_lock(&config, &online(base.path()), &["repo".to_owned()]).unwrap();
    assert_eq!(changes.iter().map(|change| change.file.as_str()).collect::<Vec<_>>(), ["a.md"]);
    assert!(changes[0].before.is_some() && changes[0].after.is_some());
    assert_eq!(collect(&config, &online(base.path())).unwrap().1[0].text.as_deref(), Some("third"));
}

#[test]
fn links_submodules_and_lfs_pointers_are_skipped_and_counted() {
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
    check(base.path(), &at_commit(&head), &expected);
    // The link, the submodule, the pointer, the picture, and .gitignore.
    let lock = fs::read_to_string(base.path().join("dataset.lock")).unwrap();
    assert!(lock.contains("not_selected = 5"), "{lock}");
}

#[test]
fn the_cache_is_enough_without_the_repository() {
    let base = tempfile::tempdir().unwrap();
    let repo = base.path().join("repo");
    let [first, _] = repository(&repo);
    let config = at_commit(&first);
    let (_, rows) = collect(&config, &online(base.path())).unwrap();
    fs::remove_dir_all(&repo).unwrap();
    assert_eq!(collect(&config, &context(base.path())).unwrap().1, rows);
}
