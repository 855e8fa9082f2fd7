//! The hub, simulated by a server of this process: requests, tokens and rejections.

use std::path::Path;
use std::sync::{Arc, Mutex};

use artifact::Digest;
use fetch::{Environment, Error, HubModel, HubRepository, Options, Remote, RemoteContext};

use crate::support::{contents, environment, fetch_all, fetch_listed, list, offline, online, options};
use test_support::server::{Reply, Request, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ROWS: &[u8] = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";

fn dataset() -> Remote {
    Remote::Hub(HubRepository::parse("datasets/owner/name").unwrap(), "main".to_owned())
}

fn with_hub(endpoint: &str) -> Options {
    Options { hub_endpoint: Some(endpoint.to_owned()), download_attempts: 2, ..options() }
}

/// Answers as the hub does for a dataset of two files on two pages, one of them kept by LFS and sent by another host.
fn hub(request: &Request, elsewhere: &str) -> Reply {
    let api = "/api/datasets/owner/name";
    let lfs = format!("{{\"oid\": \"{}\", \"size\": {}, \"pointerSize\": 130}}", Digest::of(ROWS), ROWS.len());
    match request.path() {
        path if path == format!("{api}/revision/main") => {
            let info =
                format!("{{\"id\": \"owner/name\", \"sha\": \"{COMMIT}\", \"cardData\": {{\"license\": \"mit\"}}}}");
            Reply::body(info)
        }
        path if path == format!("{api}/tree/{COMMIT}") && request.parameter("cursor").is_none() => {
            let page = format!(
                "[{{\"type\": \"directory\", \"oid\": \"1\", \"size\": 0, \"path\": \"data\"}},
                  {{\"type\": \"file\", \"oid\": \"2\", \"size\": 130, \"path\": \"data/b 1.jsonl\", \"lfs\": {lfs}}}]"
            );
            let next = format!("<http://{}{}&cursor=x>; rel=\"next\"", request.header("host").unwrap(), request.target);
            Reply::body(page).with("Link", &next)
        }
        path if path == format!("{api}/tree/{COMMIT}") => {
            Reply::body("[{\"type\": \"file\", \"oid\": \"3\", \"size\": 16, \"path\": \"a.jsonl\"}]")
        }
        path if path == format!("/datasets/owner/name/resolve/{COMMIT}/a.jsonl") => {
            Reply::file(request, b"{\"text\": \"zero\"}", "\"e\"").with("X-Repo-Commit", COMMIT)
        }
        path if path == format!("/datasets/owner/name/resolve/{COMMIT}/data/b%201.jsonl") => {
            Reply::redirect(&format!("{elsewhere}/bucket/b?X-Amz-Signature=1")).with("X-Linked-Etag", "\"x\"")
        }
        _ => Reply::status(404).with("X-Error-Code", "RepoNotFound"),
    }
}

#[test]
fn a_revision_is_resolved_and_the_token_is_sent_to_the_hub_only() {
    let base = tempfile::tempdir().unwrap();
    let cdn = Server::start(|request| Reply::file(request, ROWS, "\"cdn\""));
    let elsewhere = cdn.url.clone();
    let server = Server::start(move |request| hub(request, &elsewhere));
    let (options, environment) = (with_hub(&server.url), environment(&[("HF_TOKEN", "hf_secret")]));
    let (listing, files) = fetch_all(&dataset(), &options, &online(base.path()), &environment).unwrap();
    assert_eq!((listing.commit.as_deref(), listing.licence.as_deref()), (Some(COMMIT), Some("mit")));
    let paths: Vec<&str> = listing.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["data/b 1.jsonl", "a.jsonl"]);
    assert_eq!(listing.files[0].sha256, Some(Digest::of(ROWS)));
    assert_eq!(contents(base.path(), &files), [ROWS, b"{\"text\": \"zero\"}"]);
    let bearer = Some("Bearer hf_secret".to_owned());
    assert!(server.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    assert_eq!(server.headers_of(&format!("/datasets/owner/name/resolve/{COMMIT}/a.jsonl"), "authorization"), [bearer]);
    assert_eq!(cdn.headers_of("/bucket/b", "authorization"), [None]);

    // The content at a commit never changes, so it is fetched once.
    let requests = server.requests().len();
    fetch_listed(&dataset(), &listing, &options, &online(base.path()), &environment).unwrap();
    assert_eq!(server.requests().len(), requests);
}

#[test]
fn a_broken_download_is_resumed_at_the_host_that_the_hub_redirects_to() {
    let base = tempfile::tempdir().unwrap();
    let tries = Arc::new(Mutex::new(0));
    let cdn = Server::start(move |request| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        let reply = Reply::file(request, ROWS, "\"cdn\"");
        if *tries == 1 { reply.cut(7) } else { reply }
    });
    let elsewhere = cdn.url.clone();
    let server = Server::start(move |request| hub(request, &elsewhere));
    fetch_all(&dataset(), &with_hub(&server.url), &online(base.path()), &Environment::default()).unwrap();
    assert_eq!(cdn.headers_of("/bucket/b", "range"), [None, Some("bytes=7-".to_owned())]);
}

#[cfg(unix)]
#[test]
fn a_file_in_the_hub_cache_is_copied_if_its_digest_matches() {
    let base = tempfile::tempdir().unwrap();
    let repository = base.path().join("hf/hub/datasets--owner--name");
    let snapshot = repository.join(format!("snapshots/{COMMIT}"));
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write(&repository.join("blobs/b"), ROWS);
    write(&snapshot.join("a.jsonl"), b"not the listed content");
    std::fs::create_dir_all(snapshot.join("data")).unwrap();
    std::os::unix::fs::symlink("../../../blobs/b", snapshot.join("data/b 1.jsonl")).unwrap();
    let server = Server::start(move |request| hub(request, "http://nowhere.invalid"));
    let options = with_hub(&server.url);
    let environment = environment(&[("HF_HOME", base.path().join("hf").to_str().unwrap())]);
    let (mut listing, files) = fetch_all(&dataset(), &options, &online(base.path()), &environment).unwrap();
    let requested: Vec<String> = server.requests().iter().map(|request| request.path().to_owned()).collect();
    let resolved: Vec<&String> = requested.iter().filter(|path| path.contains("/resolve/")).collect();
    assert_eq!(resolved, [&format!("/datasets/owner/name/resolve/{COMMIT}/a.jsonl")]);

    // Without the network and this program's own cache; a lock has the digests of all files.
    std::fs::remove_dir_all(base.path().join("cache")).unwrap();
    for (listed, file) in listing.files.iter_mut().zip(&files) {
        listed.sha256 = Some(file.sha256);
    }
    let fetch = || fetch_listed(&dataset(), &listing, &options, &offline(base.path()), &environment);
    let error = fetch().unwrap_err();
    assert!(matches!(&error, Error::Offline { url, .. } if url.ends_with("/a.jsonl")), "{error}");
    write(&snapshot.join("a.jsonl"), b"{\"text\": \"zero\"}");
    assert_eq!(contents(base.path(), &fetch().unwrap())[0], ROWS);
    assert_eq!(server.requests().len(), requested.len());
}

#[test]
fn files_fetched_before_a_failure_are_not_fetched_again() {
    let base = tempfile::tempdir().unwrap();
    let is_broken = Arc::new(Mutex::new(true));
    let broken = Arc::clone(&is_broken);
    let cdn = Server::start(move |request| {
        let whole = Reply::file(request, ROWS, "\"cdn\"");
        if *broken.lock().unwrap() { Reply::status(500).with("Retry-After", "0") } else { whole }
    });
    let elsewhere = cdn.url.clone();
    let server = Server::start(move |request| hub(request, &elsewhere));
    let fetch = || fetch_all(&dataset(), &with_hub(&server.url), &online(base.path()), &Environment::default());
    assert!(matches!(fetch(), Err(Error::Download { attempts: 2, .. })));
    *is_broken.lock().unwrap() = false;
    assert_eq!(fetch().unwrap().1.len(), 2);
    assert_eq!(server.headers_of(&format!("/datasets/owner/name/resolve/{COMMIT}/a.jsonl"), "range").len(), 1);
}

/// Lists a hub that answers `reply` to everything, and compares the error; `<hub>` stands for its address.
fn check_rejection(reply: Reply, variables: &[(&str, &str)], expected: &str) {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(move |_| reply.clone());
    let found = list(&dataset(), &with_hub(&server.url), &online(base.path()), &environment(variables));
    assert_eq!(found.unwrap_err().to_string().replace(&server.url, "<hub>"), expected);
}

#[test]
fn a_rejection_says_what_to_do() {
    let (page, token) = ("<hub>/datasets/owner/name", [("HF_TOKEN", "hf_secret")]);
    let start = format!("source s: {page}: ");
    check_rejection(
        Reply::status(401).with("X-Error-Code", "GatedRepo"),
        &[],
        &format!(
            "{start}the hub requires authentication: the dataset is gated, private or does not exist; set HF_TOKEN, \
             and accept the terms at {page}"
        ),
    );
    check_rejection(
        Reply::status(401),
        &token,
        &format!("{start}the hub rejects the token; create another one at <hub>/settings/tokens, and set HF_TOKEN"),
    );
    check_rejection(
        Reply::status(403).with("X-Error-Code", "GatedRepo"),
        &token,
        &format!("{start}the token has no access to it; accept the terms at {page} with the account of the token"),
    );
    check_rejection(
        Reply::status(404),
        &[],
        &format!("{start}there is no such dataset; if it is private, set HF_TOKEN"),
    );
    check_rejection(
        Reply::status(404).with("X-Error-Code", "RevisionNotFound"),
        &[],
        &format!("{start}the dataset has no revision `main`"),
    );
    let invalid = format!("{start}the response of <hub>/api/datasets/owner/name/revision/main is not that of a hub: ");
    check_rejection(Reply::body("<html>"), &[], &format!("{invalid}expected value at line 1 column 1"));
    check_rejection(
        Reply::status(503).with("Retry-After", "0"),
        &[],
        "source s: cannot list <hub>/api/datasets/owner/name/revision/main (2 attempts); try again later, or check \
         that this machine can reach it",
    );
}

#[test]
fn a_listing_that_continues_on_another_host_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.path() {
        path if path.contains("/tree/") => Reply::body("[]").with("Link", "<http://localhost:1/steal>; rel=\"next\""),
        _ => Reply::body(format!("{{\"sha\": \"{COMMIT}\"}}")),
    });
    let environment = environment(&[("HF_TOKEN", "hf_secret")]);
    let error = list(&dataset(), &with_hub(&server.url), &online(base.path()), &environment).unwrap_err().to_string();
    assert!(error.ends_with("the next page of its listing is on another host, http://localhost:1/steal"), "{error}");
}

#[test]
fn a_file_that_differs_from_its_listing_is_rejected() {
    let base = tempfile::tempdir().unwrap();
    let cdn = Server::start(|request| Reply::file(request, &[b'x'; 32], "\"cdn\""));
    let elsewhere = cdn.url.clone();
    let server = Server::start(move |request| hub(request, &elsewhere));
    let fetched = fetch_all(&dataset(), &with_hub(&server.url), &online(base.path()), &Environment::default());
    let error = fetched.unwrap_err();
    assert!(matches!(
        &error,
        Error::Download { attempts: 2, source, .. } if source.to_string().contains("its listed SHA-256 is")
    ));
}

#[test]
fn a_model_is_locked_at_its_commit() {
    let base = tempfile::tempdir().unwrap();
    let lock = base.path().join("model.lock");
    let server = Server::start(|request| match request.path() {
        "/api/models/owner/name/revision/main" => Reply::body(format!("{{\"sha\": \"{COMMIT}\"}}")),
        path if path == format!("/api/models/owner/name/tree/{COMMIT}") => Reply::body(
            "[{\"type\": \"file\", \"size\": 2, \"path\": \"config.json\"},
              {\"type\": \"file\", \"size\": 9, \"path\": \"pytorch_model.bin\"}]",
        ),
        path if path == format!("/owner/name/resolve/{COMMIT}/config.json") => Reply::file(request, b"{}", "\"e\""),
        _ => Reply::status(404),
    });
    let model = HubModel::parse("owner/name").unwrap();
    let (context, without_network) = (online(base.path()), offline(base.path()));
    let (options, environment) = (with_hub(&server.url), Environment::default());
    let locked_only = Options { locked: true, ..options.clone() };
    let choose = |names: &[&str]| {
        assert_eq!(names, ["config.json", "pytorch_model.bin"]);
        Ok(vec!["config.json".to_owned()])
    };
    let fetch = |options, context| {
        model.fetch(&lock, false, &choose, &RemoteContext::new(options, context, &environment).unwrap())
    };
    assert!(matches!(fetch(&locked_only, &context), Err(Error::ModelNotLocked { .. })));
    assert!(matches!(fetch(&options, &without_network), Err(Error::Offline { .. })));
    let snapshot = fetch(&options, &context).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    let [file] = &snapshot.files[..] else { panic!("{snapshot:?}") };
    assert_eq!((file.path.as_str(), file.bytes, file.sha256), ("config.json", 2, Digest::of(b"{}")));
    assert_eq!(std::fs::read(&file.place).unwrap(), b"{}");
    let requests = server.requests().len();
    assert_eq!(fetch(&locked_only, &without_network).unwrap(), snapshot);
    let remote = RemoteContext::new(&locked_only, &without_network, &environment).unwrap();
    assert_eq!(model.locked(&lock, &remote).unwrap(), Some(snapshot));
    assert_eq!(server.requests().len(), requests);
}
