//! Downloads over HTTP: resuming, retries, digests and limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use artifact::Digest;
use fetch::{Environment, Error, FetchBatch, FetchItem, Options, Remote, RemoteContext};

use crate::support::{chain, fetch_url, offline, online, options};
use test_support::server::{Reply, Request, Server};

const PATH: &str = "/data/fox.txt";
const CONTENT: &[u8] = b"0123456789 the quick brown fox jumps over the lazy dog";

/// The reply to one request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// The requested range.
    Whole,
    /// The requested range, of which so many bytes are sent before the connection is closed.
    Cut(usize),
    /// The whole file, whatever range was requested.
    IgnoringRange,
    /// The requested range of another file.
    Other(&'static [u8]),
    /// A status without a body, and no wait before the next attempt.
    Status(u16),
    /// Nothing; the connection is closed.
    Nothing,
}

impl Answer {
    fn reply(self, request: &Request) -> Reply {
        match self {
            Self::Whole => Reply::file(request, CONTENT, ""),
            Self::Cut(bytes) => Reply::file(request, CONTENT, "").cut(bytes),
            Self::IgnoringRange => Reply::body(CONTENT),
            Self::Other(content) => Reply::file(request, content, ""),
            Self::Status(status) => Reply::status(status).with("Retry-After", "0"),
            Self::Nothing => Reply::nothing(),
        }
    }
}

/// Starts a server that gives one answer after the other, then nothing; returns it with the URL of a file.
fn scripted(answers: &[Answer]) -> (Server, String) {
    let (answers, next) = (answers.to_vec(), AtomicUsize::new(0));
    let server = Server::start(move |request| {
        answers.get(next.fetch_add(1, Ordering::SeqCst)).copied().unwrap_or(Answer::Nothing).reply(request)
    });
    let url = format!("{}{PATH}?version=1", server.url);
    (server, url)
}

/// Returns the `Range` header of each request so far.
fn requested_ranges(server: &Server) -> Vec<Option<String>> {
    server.headers_of(PATH, "range")
}

/// Fetches from a server that gives `answers`; compares the requested ranges, and the error if one is expected.
fn check(answers: &[Answer], ranges: &[Option<&str>], expected: Result<(), &str>) {
    check_with(&options(), answers, ranges, expected);
}

fn check_with(options: &Options, answers: &[Answer], ranges: &[Option<&str>], expected: Result<(), &str>) {
    let base = tempfile::tempdir().unwrap();
    let (server, url) = scripted(answers);
    let fetch = |context| fetch_url(&url, Some(Digest::of(CONTENT)), options, &context);
    match (fetch(online(base.path())), expected) {
        (Ok(content), Ok(())) => {
            assert_eq!(content, CONTENT);
            // A second run reads the cache, without the network.
            assert_eq!(fetch(offline(base.path())).unwrap(), CONTENT);
        }
        (Err(error), Err(expected)) => {
            // The query may contain a secret, so it is not printed.
            let printed = url.split('?').next().unwrap();
            assert_eq!(chain(&error).replace(printed, "<url>"), expected);
        }
        (found, expected) => panic!("{found:?}\n{expected:?}"),
    }
    let requested = requested_ranges(&server);
    assert_eq!(requested.iter().map(Option::as_deref).collect::<Vec<_>>(), ranges);
}

#[test]
fn a_file_is_downloaded() {
    check(&[Answer::Whole], &[None], Ok(()));
}

#[test]
fn a_broken_download_is_resumed() {
    check(&[Answer::Cut(10), Answer::Whole], &[None, Some("bytes=10-")], Ok(()));
    check(&[Answer::Cut(10), Answer::Cut(5), Answer::Whole], &[None, Some("bytes=10-"), Some("bytes=15-")], Ok(()));
    check(&[Answer::Cut(10), Answer::IgnoringRange], &[None, Some("bytes=10-")], Ok(()));
    check(&[Answer::Nothing, Answer::Whole], &[None, None], Ok(()));
}

#[test]
fn a_resumed_download_of_another_version_restarts() {
    let other = Answer::Other(b"another version of the very same file, somewhat longer");
    check(&[Answer::Cut(10), other, Answer::Whole], &[None, Some("bytes=10-"), None], Ok(()));
    let shorter = Answer::Other(b"short");
    check(&[Answer::Cut(10), shorter, Answer::Whole], &[None, Some("bytes=10-"), None], Ok(()));
}

#[test]
fn a_failing_server_is_retried_up_to_the_maximum() {
    let busy = Answer::Status(503);
    check(&[busy, busy, Answer::Whole], &[None, None, None], Ok(()));
    check_with(
        &Options { download_attempts: 2, ..options() },
        &[busy, busy],
        &[None, None],
        Err("source s: cannot download <url> (2 attempts; the partial file is kept for the next run): HTTP status 503"),
    );
    check(&[Answer::Status(404)], &[None], Err("source s: <url> returned HTTP status 404"));
}

#[test]
fn a_digest_mismatch_names_both_digests() {
    let expected = format!(
        "source s: <url> has SHA-256 {}, but its `sha256` is {}",
        Digest::of(b"something else"),
        Digest::of(CONTENT)
    );
    check(&[Answer::Other(b"something else")], &[None], Err(&expected));
}

#[test]
fn a_download_has_a_size_limit() {
    check_with(
        &Options { max_download_bytes: CONTENT.len() as u64 - 1, ..options() },
        &[Answer::Whole],
        &[None],
        Err("source s: <url> has at least 54 bytes, collect.max_download_bytes is 53"),
    );
}

#[test]
fn offline_fails_for_a_file_that_is_not_cached() {
    let base = tempfile::tempdir().unwrap();
    let url = "http://127.0.0.1:9/fox.txt";
    let error = fetch_url(url, Some(Digest::of(CONTENT)), &options(), &offline(base.path())).unwrap_err();
    assert!(matches!(&error, Error::Offline { url: found, .. } if found == url), "{error}");
}

#[test]
fn the_next_run_resumes_an_interrupted_download() {
    let base = tempfile::tempdir().unwrap();
    let (server, url) = scripted(&[Answer::Cut(20), Answer::Whole]);
    let options = Options { download_attempts: 1, ..options() };
    let fetch = || fetch_url(&url, Some(Digest::of(CONTENT)), &options, &online(base.path()));
    assert!(matches!(fetch(), Err(Error::Download { attempts: 1, .. })));
    assert_eq!(fetch().unwrap(), CONTENT);
    assert_eq!(requested_ranges(&server), [None, Some("bytes=20-".to_owned())]);
}

#[test]
fn a_corrupt_file_in_the_cache_is_downloaded_again() {
    let base = tempfile::tempdir().unwrap();
    let (server, url) = scripted(&[Answer::Whole, Answer::Whole]);
    let fetch = || fetch_url(&url, Some(Digest::of(CONTENT)), &options(), &online(base.path())).unwrap();
    fetch();
    let cached = base.path().join("cache").join(Digest::of(CONTENT).to_string());
    let mut bytes = std::fs::read(&cached).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&cached, bytes).unwrap();
    assert_eq!(fetch(), CONTENT);
    assert_eq!(requested_ranges(&server).len(), 2);
}

/// Fetches one file of unknown digest from a server that answers as `answer` says, given the number of earlier
/// requests.
fn check_unpinned(
    answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    expected: &str,
    requested: &[(Option<&str>, Option<&str>)],
) {
    let base = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| answer(request, count.fetch_add(1, Ordering::SeqCst)));
    let url = format!("{}/a.txt", server.url);
    let found = match fetch_url(&url, None, &options(), &online(base.path())) {
        Ok(content) => String::from_utf8(content).unwrap(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
    let requests = server.requests();
    let found: Vec<_> = requests.iter().map(|request| (request.header("range"), request.header("if-range"))).collect();
    assert_eq!(found, requested);
}

#[test]
fn without_a_digest_a_download_is_resumed_only_with_a_validator() {
    let (old, new) = (b"the old version", b"quite a new one");
    let whole = (None, None);
    let rest = (Some("bytes=4-"), Some("\"1\""));
    // The same version is continued.
    let same = |request: &Request, i: usize| {
        let reply = Reply::file(request, old, "\"1\"");
        if i == 0 { reply.cut(4) } else { reply }
    };
    check_unpinned(same, "the old version", &[whole, rest]);
    // Another version is sent from its beginning.
    let changed = |request: &Request, i: usize| match i {
        0 => Reply::file(request, old, "\"1\"").cut(4),
        _ => Reply::file(request, new, "\"2\""),
    };
    check_unpinned(changed, "quite a new one", &[whole, rest]);
    // A server that ignores `If-Range` sends the rest of another version, with the `ETag` of that.
    let careless = |request: &Request, i: usize| match (i, request.header("range")) {
        (0, _) => Reply::file(request, old, "\"1\"").cut(4),
        (_, None) => Reply::file(request, new, "\"2\""),
        _ => {
            Reply { status: 206, ..Reply::body(&new[4..]) }.with("Content-Range", "bytes 4-14/15").with("ETag", "\"2\"")
        }
    };
    check_unpinned(careless, "quite a new one", &[whole, rest, whole]);
    // Without a strong validator, nothing is resumed.
    for etag in ["", "W/\"1\""] {
        let unknown = move |request: &Request, i: usize| {
            let reply = Reply::file(request, old, etag);
            if i == 0 { reply.cut(4) } else { reply }
        };
        check_unpinned(unknown, "the old version", &[whole, whole]);
    }
    // A body without a length may be truncated.
    let endless = |_: &Request, _: usize| Reply { endless: true, ..Reply::body("the old") };
    let expected = "source s: sha256: missing: the server does not send the length of the file, so a broken connection \
                    would go unnoticed";
    check_unpinned(endless, expected, &[whole]);
}

#[test]
fn files_are_downloaded_concurrently_and_returned_in_order() {
    let base = tempfile::tempdir().unwrap();
    let (active, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let server = Server::start(move |request| {
        most.fetch_max(active.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(30));
        active.fetch_sub(1, Ordering::SeqCst);
        Reply::file(request, request.path().as_bytes(), "\"x\"")
    });
    let mut names: Vec<String> = (10..30).map(|i| format!("f{i}")).collect();
    // The same address twice has one partial file in the cache.
    names.push("f10".to_owned());
    let remotes: Vec<Remote> = names.iter().map(|name| Remote::Url(format!("{}/{name}.txt", server.url))).collect();
    let (options, context, environment) = (options(), online(base.path()), Environment::default());
    let remote_context = RemoteContext::new(&options, &context, &environment).unwrap();
    let _guard = remote_context.lock_cache().unwrap();
    let item = FetchItem { path: "x.txt", bytes: None, version: None, expected: None };
    let batch = |(name, remote)| FetchBatch { name, remote, commit: None, files: vec![item] };
    let batches: Vec<_> = names.iter().map(String::as_str).zip(&remotes).map(batch).collect();
    let (fetched, outcome) = fetch::fetch(&batches, &remote_context);
    outcome.unwrap();
    let found: Vec<Digest> = fetched.into_iter().map(|files| files.unwrap()[0].sha256).collect();
    let expected: Vec<Digest> = names.iter().map(|name| Digest::of(format!("/{name}.txt").as_bytes())).collect();
    assert_eq!(found, expected);
    let most = seen.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at the same time");
}

#[test]
fn a_loopback_address_is_refused_before_it_is_requested() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(|request| Reply::file(request, b"x", "\"x\""));
    let port = server.url.rsplit(':').next().unwrap();
    let options = Options { allow_private: false, ..options() };
    for host in ["127.0.0.1", "localhost", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let url = format!("http://{host}:{port}/a.txt");
        let error = fetch_url(&url, Some(Digest::of(b"x")), &options, &online(base.path())).unwrap_err();
        assert!(matches!(&error, Error::Refused { reason, .. } if reason.contains("allow_private = true")), "{error}");
    }
    assert!(server.requests().is_empty());
}
