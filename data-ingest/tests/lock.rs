//! `dataset.lock`: written at the first fetch, and compared afterwards.

mod corpus;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use artifact::{Context, Digest};
use corpus::{collect, collect_into, context, inventory, lock, update_lock, write};
use data_ingest::dataset::card;
use data_ingest::{Config, Error, LockChange, Source};
use test_support::server::{Reply, Request, Server};

fn url(server: &Server, name: &str) -> Source {
    Source { url: Some(format!("{}/{name}.txt", server.url)), name: Some(name.to_owned()), ..Source::default() }
}

fn config(sources: Vec<Source>) -> Config {
    Config { sources, allow_private: true, download_attempts: 3, ..Config::default() }
}

fn online(base: &Path) -> Context {
    Context { offline: false, ..context(base) }
}

fn read_lock(base: &Path) -> String {
    fs::read_to_string(base.join("dataset.lock")).unwrap()
}

/// Starts a server whose files have the current content of `content`.
fn changing(content: &Arc<Mutex<&'static str>>) -> Server {
    let content = Arc::clone(content);
    Server::start(move |request| {
        let content = *content.lock().unwrap();
        Reply::file(request, content.as_bytes(), &format!("\"{}\"", Digest::of(content.as_bytes()).short()))
    })
}

#[test]
fn the_first_fetch_is_locked() {
    let base = tempfile::tempdir().unwrap();
    let content = Arc::new(Mutex::new("first"));
    let server = changing(&content);
    let config = config(vec![url(&server, "fox")]);

    // A plan before any download neither connects to a server nor writes a file, and will see the difference.
    let before = inventory(&config, &online(base.path())).unwrap();
    assert!(server.requests().is_empty() && fs::read_dir(base.path()).unwrap().next().is_none());

    let (_, rows) = collect(&config, &online(base.path())).unwrap();
    assert_eq!(rows[0].text.as_deref(), Some("first"));
    let first = Digest::of(b"first");
    let expected = format!(
        "# What was fetched from other machines. Written by `pipeline`; keep it under version control, and do not \
         edit it.\n\nversion = 1\n\n[[source]]\nname = \"fox\"\naddress = \"<url>/fox.txt\"\nselection = \
         \"<digest>\"\n\n[[source.file]]\npath = \"fox.txt\"\nbytes = 5\nsha256 = \"{first}\"\netag = '\"{}\"'\n",
        first.short()
    );
    let found = read_lock(base.path()).replace(&server.url, "<url>");
    let selection = found.split("selection = \"").nth(1).unwrap()[..64].to_owned();
    assert_eq!(found.replace(&selection, "<digest>"), expected);

    let after = inventory(&config, &online(base.path())).unwrap();
    assert_ne!(before.inputs(), after.inputs());
    assert_eq!(after.summaries()[0].sha256, first);
    assert_eq!(before.inputs().keys().collect::<Vec<_>>(), after.inputs().keys().collect::<Vec<_>>());

    // The lock and the cache have the fetched file, regardless of changes on the server.
    *content.lock().unwrap() = "second";
    let asked = server.requests().len();
    let locked = Config { locked: true, ..config.clone() };
    assert_eq!(collect(&locked, &context(base.path())).unwrap().1, rows);
    assert_eq!(server.requests().len(), asked);
    assert_eq!(inventory(&locked, &context(base.path())).unwrap().inputs(), after.inputs());

    // Without the cache the difference is an error, and the lock is unchanged.
    let locked_text = read_lock(base.path());
    fs::remove_dir_all(base.path().join("experiments")).unwrap();
    for config in [&config, &locked] {
        let found = collect(config, &online(base.path())).unwrap_err().to_string();
        let expected = format!(
            "source fox: fox.txt has SHA-256 {}, but {} has {first}; if the new content is wanted, run `pipeline data \
             lock --update fox`",
            Digest::of(b"second"),
            base.path().join("dataset.lock").display()
        );
        assert_eq!(found, expected);
        assert_eq!(read_lock(base.path()), locked_text);
    }
    let changes = update_lock(&config, &online(base.path()), &[]).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].before, changes[0].after), (Some(first), Some(Digest::of(b"second"))));
    assert_eq!(collect(&locked, &online(base.path())).unwrap().1[0].text.as_deref(), Some("second"));
    assert_eq!(update_lock(&config, &online(base.path()), &[]).unwrap(), []);
}

#[test]
fn unlocked_sources_are_rejected_with_locked() {
    let base = tempfile::tempdir().unwrap();
    let server = changing(&Arc::new(Mutex::new("x")));
    let config = config(vec![url(&server, "a"), url(&server, "b")]);
    let locked = Config { locked: true, ..config.clone() };
    let lock_path = base.path().join("dataset.lock");
    let expected = format!(
        "source a: {} has no entry for {}/a.txt; run `pipeline data lock` where the network may be used, without \
         --locked",
        lock_path.display(),
        server.url
    );
    assert_eq!(lock(&locked, &online(base.path())).unwrap_err().to_string(), expected);
    assert_eq!(inventory(&locked, &online(base.path())).unwrap_err().to_string(), expected);
    assert_eq!(update_lock(&locked, &online(base.path()), &[]).unwrap_err().to_string(), expected);
    let error = lock(&config, &context(base.path())).unwrap_err();
    let Error::Fetch(fetch::Error::Offline { name, url: address, .. }) = &error else { panic!("{error}") };
    assert!(name == "a" && address.ends_with("/a.txt"), "{error}");
    assert!(server.requests().is_empty());
    assert!(!lock_path.exists());
    let twice = Config { sources: vec![url(&server, "a"), url(&server, "a")], ..config.clone() };
    assert!(matches!(lock(&twice, &online(base.path())), Err(Error::SameName { name }) if name == "a"));

    let error = update_lock(&config, &online(base.path()), &["c".to_owned()]).unwrap_err().to_string();
    assert_eq!(error, "`c`: is not a locked source; only remote sources without `sha256` are locked");
    // Local sources, and sources with a digest, need no lock.
    write(base.path(), &[("d.txt", b"d")]);
    let path = Source { path: Some("d.txt".to_owned()), ..Source::default() };
    let pinned = Source { sha256: Some(Digest::of(b"x")), ..url(&server, "a") };
    let config = Config { sources: vec![path, pinned], locked: true, ..config };
    assert_eq!(collect(&config, &online(base.path())).unwrap().1.len(), 2);
    assert!(!lock_path.exists());
}

#[test]
fn a_source_that_differs_from_its_lock_is_an_error() {
    let base = tempfile::tempdir().unwrap();
    let server = changing(&Arc::new(Mutex::new("x")));
    let source = url(&server, "a");
    lock(&config(vec![source.clone()]), &online(base.path())).unwrap();
    let locked_text = read_lock(base.path());
    let check = |source: Source, what: &str| {
        let error = collect(&config(vec![source]), &online(base.path())).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("dataset.lock has {what}")), "{text}");
        assert!(text.ends_with("run `pipeline data lock --update a`"), "{text}");
        assert_eq!(read_lock(base.path()), locked_text);
    };
    let elsewhere = format!("{}/elsewhere.txt", server.url);
    let found = format!("address {}/a.txt, but it is now {elsewhere}", server.url);
    check(Source { url: Some(elsewhere), ..source.clone() }, &found);
    check(Source { include: vec!["*.md".to_owned()], ..source.clone() }, "a selection of files");
    check(Source { max_file_bytes: Some(1), ..source }, "a selection of files");
}

#[test]
fn an_invalid_lock_is_an_error() {
    let base = tempfile::tempdir().unwrap();
    let config = config(vec![Source { url: Some("https://x.invalid/a.txt".to_owned()), ..Source::default() }]);
    for (text, expected) in [
        ("version = 2\n", "its version is 2, expected 1"),
        ("version = 1\n[[source]]\nname = \"a\"\n", "missing field `address`"),
        ("version = 1\nextra = 1\n", "unknown field `extra`"),
        ("<<<<<<< HEAD\n", ""),
    ] {
        write(base.path(), &[("dataset.lock", text.as_bytes())]);
        let error = lock(&config, &online(base.path())).unwrap_err();
        assert!(
            matches!(&error, Error::Fetch(fetch::Error::InvalidLock { message, .. }) if message.contains(expected)),
            "{text}: {error}"
        );
        assert!(inventory(&config, &online(base.path())).is_err());
    }
}

#[test]
fn the_lock_lies_beside_the_dataset() {
    let base = tempfile::tempdir().unwrap();
    let server = changing(&Arc::new(Mutex::new("x")));
    let toml = format!("[[source]]\nname = \"a\"\nurl = \"{}/a.txt\"\n", server.url);
    write(base.path(), &[("datasets/d/dataset.toml", toml.as_bytes()), ("datasets/d/other.toml", toml.as_bytes())]);
    for (dataset, expected) in [("datasets/d", "dataset.lock"), ("datasets/d/other.toml", "other.lock")] {
        let config = Config { dataset: Some(dataset.to_owned()), ..config(Vec::new()) };
        lock(&config, &online(base.path())).unwrap();
        assert!(base.path().join("datasets/d").join(expected).is_file());
    }
    // An entry of a removed source is ignored, and removed when all entries are updated.
    let toml = toml.replace("\"a\"", "\"b\"");
    write(base.path(), &[("datasets/d/dataset.toml", toml.as_bytes())]);
    let config = Config { dataset: Some("datasets/d".to_owned()), ..config(Vec::new()) };
    let names = |changes: Vec<LockChange>| {
        let name = |change: &LockChange| (change.source.clone(), change.after.is_some());
        changes.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(lock(&config, &online(base.path())).unwrap()), [("b".to_owned(), true)]);
    assert_eq!(names(update_lock(&config, &online(base.path()), &[]).unwrap()), [("a".to_owned(), false)]);
}

#[test]
fn files_fetched_before_a_failure_are_kept() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.path() {
        "/broken.txt" => Reply::status(404),
        _ => Reply::file(request, b"x", "\"x\""),
    });
    let config = config(vec![url(&server, "whole"), url(&server, "broken")]);
    let error = lock(&config, &online(base.path())).unwrap_err();
    assert!(
        matches!(&error, Error::Fetch(fetch::Error::Status { name, status: 404, .. }) if name == "broken"),
        "{error}"
    );
    let found = read_lock(base.path());
    assert!(found.contains("name = \"whole\"") && !found.contains("broken"), "{found}");
    lock(&config, &online(base.path())).unwrap_err();
    assert_eq!(server.headers_of("/whole.txt", "range").len(), 1);
}

/// Responds like the Hub for a dataset of two files.
fn hub(request: &Request) -> Reply {
    let (api, page) = ("/api/datasets/owner/name", "/datasets/owner/name");
    match request.path() {
        path if path == format!("{api}/revision/main") => {
            Reply::body(format!("{{\"sha\": \"{COMMIT}\", \"cardData\": {{\"license\": \"mit\"}}}}"))
        }
        path if path == format!("{api}/tree/{COMMIT}") => Reply::body(
            "[{\"type\": \"file\", \"size\": 15, \"path\": \"a.jsonl\"},
              {\"type\": \"file\", \"size\": 5, \"path\": \"README.md\"}]",
        ),
        path if path == format!("{page}/resolve/{COMMIT}/a.jsonl") => {
            Reply::file(request, b"{\"text\": \"one\"}", "\"e\"")
        }
        _ => Reply::status(404),
    }
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_revision_of_the_hub_is_pinned() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(hub);
    let source = Source {
        hub: Some("datasets/owner/name".to_owned()),
        include: vec!["*.jsonl".to_owned()],
        ..Source::default()
    };
    let config = Config { hub_endpoint: Some(server.url.clone()), ..config(vec![source]) };
    let changes = lock(&config, &online(base.path())).unwrap();
    assert_eq!(changes.iter().map(|change| change.file.as_str()).collect::<Vec<_>>(), ["a.jsonl"]);
    let text = read_lock(base.path());
    assert!(text.contains(&format!("revision = \"main\"\ncommit = \"{COMMIT}\"\nlicence = \"mit\"\n")), "{text}");
    assert!(text.contains("not_selected = 1"), "{text}");

    // From here on nothing is requested, neither for the plan nor for the files.
    let requests = server.requests().len();
    let locked = Config { locked: true, ..config.clone() };
    let (_, rows) = collect(&locked, &context(base.path())).unwrap();
    assert_eq!((rows[0].text.as_deref(), rows[0].licence.as_str()), (Some("one"), "mit"));
    assert_eq!(server.requests().len(), requests);

    // Another machine has the lock but not the cache: it fetches the same commit without resolving `main` again.
    fs::remove_dir_all(base.path().join("experiments")).unwrap();
    let error = collect(&locked, &context(base.path())).unwrap_err();
    let Error::Fetch(fetch::Error::Offline { url, .. }) = &error else { panic!("{error}") };
    assert!(url.ends_with("/a.jsonl"), "{url}");
    assert_eq!(collect(&locked, &online(base.path())).unwrap().1, rows);
    assert_eq!(server.headers_of("/api/datasets/owner/name/revision/main", "host").len(), 1);
}

#[test]
fn a_download_without_tls_needs_a_digest() {
    let base = tempfile::tempdir().unwrap();
    let unpinned = Source { url: Some("http://x.invalid/a.txt".to_owned()), ..Source::default() };
    let config = Config { allow_private: false, ..config(vec![unpinned]) };
    let expected = "collect.sources[0].sha256: missing: without https://, only a digest can verify the download";
    assert_eq!(lock(&config, &online(base.path())).unwrap_err().to_string(), expected);
}

#[test]
fn a_card_lists_sources_and_licences() {
    let base = tempfile::tempdir().unwrap();
    let server = changing(&Arc::new(Mutex::new("hello")));
    let toml = format!(
        "name = \"demo\"\ndescription = \"Two texts.\"\n[[source]]\nname = \"a|b\"\nurl = \"{}/a.txt\"\nlicence = \
         \"MIT\"\n[[source]]\npath = \"notes\"\n",
        server.url
    );
    write(base.path(), &[("d/dataset.toml", toml.as_bytes()), ("d/notes/n.md", b"note")]);
    let config = Config { dataset: Some("d".to_owned()), ..config(Vec::new()) };
    let out = tempfile::tempdir().unwrap();
    collect_into(&config, &online(base.path()), out.path()).unwrap();
    let inventory = inventory(&config, &context(base.path())).unwrap();
    let path = base.path().join("d/README.md");
    let tokens = [("MIT".to_owned(), 7)].into();
    card::write(&path, &inventory, out.path(), Some(&tokens)).unwrap();
    let note = inventory.summaries().iter().find(|source| source.name == "notes").unwrap().sha256;
    let remote = inventory.summaries().iter().find(|source| source.name == "a|b").unwrap().sha256;
    let expected = format!(
        "# demo\n\nTwo texts.\n\n## Licences\n\n| licence | documents | bytes | tokens |\n|---|---:|---:|---:|\n\
         | MIT | 1 | 5 | 7 |\n| unknown | 1 | 4 | – |\n\n\
         Documents of unknown licence may not be free to use; set the key `licence` of their source.\n\n\
         ## Sources\n\n| source | from | licence | files | documents | bytes | SHA-256 |\n\
         |---|---|---|---:|---:|---:|---|\n\
         | a\\|b | <url>/a.txt | MIT | 1 | 1 | 5 | `{remote}` |\n\
         | notes | files, notes | unknown | 1 | 1 | 4 | `{note}` |\n\n\
         The digest of a source is that of its one downloaded file, or of the lines that `sha256sum` prints for its \
         files.\n"
    );
    assert_eq!(fs::read_to_string(path).unwrap().replace(&server.url, "<url>"), expected);
}
