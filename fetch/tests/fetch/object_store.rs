//! An S3 bucket, simulated by a server of this process: paging, ranges, conditions and rejections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use artifact::Digest;
use fetch::{Environment, Error, ObjectPattern, Options, Remote};

use crate::support::{chain, contents, environment, fetch_all, fetch_listed, list, offline, online, options};
use test_support::server::{Reply, Request, Server};

/// The number of keys in a page of a listing.
const PAGE: usize = 2;

fn bucket() -> BTreeMap<&'static str, &'static [u8]> {
    BTreeMap::from([
        ("data/2023/a.jsonl", &b"{\"text\": \"a\"}"[..]),
        ("data/2024/b.jsonl", b"{\"text\": \"b\"}"),
        ("data/2024/c d.jsonl", b"{\"text\": \"c\"}"),
        ("data/2024/deep/e.jsonl", b"{\"text\": \"e\"}"),
        ("data/2024/notes.txt", b"notes"),
        ("data/2024/picture.png", b"\x89PNG"),
        ("data/empty/", b""),
        ("database/f.jsonl", b"{\"text\": \"f\"}"),
    ])
}

fn etag(content: &[u8]) -> String {
    format!("\"{}\"", Digest::of(content).short())
}

/// Answers as S3 does: `GET /bucket?list-type=2`, `GET` and `HEAD` of `/bucket/key`.
fn s3(request: &Request) -> Reply {
    let objects = bucket();
    let Some(key) = request.path().strip_prefix("/bucket").map(|key| key.trim_start_matches('/')) else {
        return Reply::status(404);
    };
    if request.parameter("list-type") == Some("2") {
        let prefix = request.parameter("prefix").unwrap_or("").replace("%2F", "/");
        let after = request.parameter("continuation-token").unwrap_or("").replace("%2F", "/").replace("%20", " ");
        let mut keys = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after.as_str());
        let page: Vec<_> = keys.by_ref().take(PAGE).collect();
        let mut answer = "<ListBucketResult>".to_owned();
        for (key, content) in &page {
            let (etag, bytes) = (etag(content), content.len());
            let entry = format!("<Key>{key}</Key><ETag>{etag}</ETag><Size>{bytes}</Size>");
            answer.extend(["<Contents><LastModified>2024-01-01T00:00:00.000Z</LastModified>", &entry, "</Contents>"]);
        }
        if keys.next().is_some() {
            let last = page[PAGE - 1].0;
            answer.extend(["<NextContinuationToken>", last, "</NextContinuationToken>"]);
        }
        return Reply::body(answer + "</ListBucketResult>");
    }
    match objects.get(key.replace("%20", " ").replace("%2F", "/").replace("%2E", ".").as_str()) {
        None => Reply::status(404),
        Some(content) => {
            let reply = Reply::file(request, content, &etag(content));
            reply.with("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        }
    }
}

fn s3_environment(server: &Server) -> Environment {
    environment(&[
        ("AWS_ENDPOINT_URL", server.url.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ])
}

fn remote(url: &str, anonymous: bool) -> Remote {
    Remote::ObjectStore(ObjectPattern::parse(url, anonymous).unwrap().unwrap())
}

/// Lists and fetches the objects at `url`, and compares their paths.
fn check(url: &str, expected: &[&str]) {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(s3);
    let (remote, environment) = (remote(url, false), s3_environment(&server));
    let (listing, files) = fetch_all(&remote, &options(), &online(base.path()), &environment).unwrap();
    let mut found: Vec<_> =
        listing.files.iter().map(|file| file.path.as_str()).zip(contents(base.path(), &files)).collect();
    found.sort();
    assert_eq!(found.iter().map(|(path, _)| *path).collect::<Vec<_>>(), expected, "{url}");
    for (path, content) in found {
        let object = bucket().into_iter().find(|(key, _)| key.ends_with(path)).unwrap();
        assert_eq!(content, object.1, "{path}");
    }
    assert!(server.requests().iter().all(|request| request.header("authorization").is_some()));
}

#[test]
fn objects_prefixes_and_globs_are_listed_page_by_page() {
    check(
        "s3://bucket/data",
        &["2023/a.jsonl", "2024/b.jsonl", "2024/c d.jsonl", "2024/deep/e.jsonl", "2024/notes.txt", "2024/picture.png"],
    );
    check("s3://bucket/data/2024/", &["b.jsonl", "c d.jsonl", "deep/e.jsonl", "notes.txt", "picture.png"]);
    check("s3://bucket/data/2024/*.jsonl", &["b.jsonl", "c d.jsonl"]);
    check("s3://bucket/data/**/*.jsonl", &["2023/a.jsonl", "2024/b.jsonl", "2024/c d.jsonl", "2024/deep/e.jsonl"]);
    check("s3://bucket/data/202[34]/[ab].jsonl", &["2023/a.jsonl", "2024/b.jsonl"]);
    check("s3://bucket/data/2024/b.jsonl", &["b.jsonl"]);
    check("s3a://bucket/data/2024/c d.jsonl", &["c d.jsonl"]);
    check("s3://bucket/**/f.jsonl", &["database/f.jsonl"]);
    check("s3://bucket/*.jsonl", &[]);
    check("s3://bucket/data/none", &[]);
}

#[test]
fn a_cached_object_is_not_requested_again() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(s3);
    let (remote, environment) = (remote("s3://bucket/data/2024/*.jsonl", false), s3_environment(&server));
    let (listing, _) = fetch_all(&remote, &options(), &online(base.path()), &environment).unwrap();
    let requests = server.requests().len();
    fetch_listed(&remote, &listing, &options(), &online(base.path()), &environment).unwrap();
    assert_eq!(server.requests().len(), requests);
    // Without a digest from a lock, an offline run cannot know that the object is in the cache.
    let error = fetch_listed(&remote, &listing, &options(), &offline(base.path()), &environment).unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
}

/// Answers as Azure does: `GET /container?comp=list`, `GET` and `HEAD` of `/container/key`.
fn azure(request: &Request) -> Reply {
    let content = b"{\"text\": \"a\"}";
    let date = "Mon, 01 Jan 2024 00:00:00 GMT";
    match (request.path(), request.parameter("comp")) {
        ("/container", Some("list")) => Reply::body(format!(
            "<EnumerationResults><Blobs><Blob><Name>data/a.jsonl</Name><Properties>\
             <Last-Modified>{date}</Last-Modified><Etag>0x1</Etag><Content-Length>{}</Content-Length>\
             <Content-Type>x</Content-Type></Properties></Blob></Blobs><NextMarker/></EnumerationResults>",
            content.len()
        )),
        ("/container/data/a.jsonl", None) => Reply::file(request, content, "0x1").with("Last-Modified", date),
        _ => Reply::status(404),
    }
}

#[test]
fn google_and_azure_are_supported() {
    for (url, answer, endpoint, account) in [
        ("gs://bucket/data/2023/*.jsonl", s3 as fn(&Request) -> Reply, "GOOGLE_BASE_URL", None),
        ("az://container/data/*.jsonl", azure, "AZURE_STORAGE_ENDPOINT", Some("account")),
        ("abfs://container@account.dfs.core.windows.net/data", azure, "AZURE_STORAGE_ENDPOINT", None),
    ] {
        let base = tempfile::tempdir().unwrap();
        let server = Server::start(answer);
        let mut variables = vec![(endpoint, server.url.as_str())];
        variables.extend(account.map(|name| ("AZURE_STORAGE_ACCOUNT_NAME", name)));
        let environment = environment(&variables);
        let (listing, files) = fetch_all(&remote(url, true), &options(), &online(base.path()), &environment).unwrap();
        let found: Vec<_> = listing.files.iter().zip(&files).map(|(l, f)| (l.path.as_str(), f.sha256)).collect();
        assert_eq!(found, [("a.jsonl", Digest::of(b"{\"text\": \"a\"}"))], "{url}");
    }
}

/// Fetches one object from a server that answers as `answer` says, given the number of earlier requests for the object.
fn check_object(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static, expected: &str) -> Vec<Request> {
    let base = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "GET" => answer(request, count.fetch_add(1, Ordering::SeqCst)),
        _ => s3(request),
    });
    let (remote, environment) = (remote("s3://bucket/data/2024/b.jsonl", false), s3_environment(&server));
    let options = Options { download_attempts: 3, ..options() };
    let found = match fetch_all(&remote, &options, &online(base.path()), &environment) {
        Ok((_, files)) => files[0].sha256.short(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
    server.requests().into_iter().filter(|request| request.method == "GET").collect()
}

#[test]
fn a_broken_download_is_resumed_if_the_object_is_the_same() {
    let content = bucket()["data/2024/b.jsonl"];
    let digest = Digest::of(content).short();
    let gets = check_object(|request, i| if i == 0 { s3(request).cut(5) } else { s3(request) }, &digest);
    assert_eq!(gets[1].header("range"), Some("bytes=5-"));
    assert_eq!(gets[1].header("if-match"), Some(etag(content).as_str()));

    // Another object is written under the same key in between: the listed version no longer exists.
    let other = b"{\"text\": \"x\"}";
    let changed = move |request: &Request, i: usize| {
        let reply = if i == 0 { s3(request).cut(5) } else { Reply::file(request, other, &etag(other)) };
        reply.with("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
    };
    let expected = "source s: s3://bucket/data/2024/b.jsonl: the object changed after it was listed; run again (Server \
                    returned non-2xx status code: 412 Precondition Failed)";
    let gets = check_object(changed, expected);
    assert_eq!(gets.iter().map(|get| get.header("range")).collect::<Vec<_>>(), [None, Some("bytes=5-")]);
}

#[test]
fn a_rejection_says_what_to_do() {
    let address = "source s: s3://bucket/data/2024/b.jsonl: ";
    check_object(
        |_, _| Reply::status(403),
        &format!(
            "{address}access denied; set the provider's credentials in the environment, or `anonymous = true` for a \
             public bucket (Server returned non-2xx status code: 403 Forbidden)"
        ),
    );
    let body = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>The key is gone.</Message></Error>";
    check_object(
        move |_, _| Reply { status: 404, ..Reply::body(body) },
        &format!("{address}there is no such bucket or object; check its `url` (NoSuchKey: The key is gone.)"),
    );
    let failed = "source s: cannot download s3://bucket/data/2024/b.jsonl (3 attempts; the partial file is kept for \
                  the next run)";
    check_object(|_, _| Reply::status(500), failed);
}

#[test]
fn anonymous_requests_are_unsigned_and_http_must_be_allowed() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(s3);
    let remote = remote("s3://bucket/data/2023/*", true);
    let environment = s3_environment(&server);
    fetch_all(&remote, &options(), &online(base.path()), &environment).unwrap();
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));

    let unencrypted = crate::support::environment(&[("AWS_ENDPOINT", "http://s3.invalid")]);
    let options = Options { allow_private: false, download_attempts: 1, ..options() };
    let error = chain(&list(&remote, &options, &online(base.path()), &unencrypted).unwrap_err());
    assert!(error.contains("URL scheme is not allowed"), "{error}");
}

#[test]
fn an_endpoint_in_a_private_network_is_refused() {
    let private = "10.0.0.1 is a private address";
    let loopback = "127.0.0.1 is a loopback address";
    for (url, variable, endpoint, expected) in [
        ("s3://bucket/a", "AWS_ENDPOINT", "https://10.0.0.1:9000", private),
        ("s3://bucket/a", "AWS_ENDPOINT_URL", "http://127.0.0.1:9", loopback),
        ("s3://bucket/a", "AWS_ENDPOINT_URL_S3", "https://10.0.0.1/", private),
        ("s3://bucket/a", "AWS_ENDPOINT", "https://localhost:9", loopback),
        ("gs://bucket/a", "GOOGLE_BASE_URL", "https://10.0.0.1", private),
        ("az://container/a", "AZURE_STORAGE_ENDPOINT", "https://10.0.0.1", private),
        ("az://container/a", "AZURE_STORAGE_USE_EMULATOR", "true", loopback),
    ] {
        let base = tempfile::tempdir().unwrap();
        let variables = [(variable, endpoint), ("AZURE_STORAGE_ACCOUNT_NAME", "account"), ("AWS_REGION", "us-east-1")];
        let options = Options { allow_private: false, ..options() };
        let error = list(&remote(url, false), &options, &online(base.path()), &environment(&variables)).unwrap_err();
        let Error::Refused { reason, .. } = &error else { panic!("{variable}: {error}") };
        let expected = format!(
            "it is the endpoint set in the environment, and {expected}; if that is intended, set `allow_private = \
             true` in [collect]"
        );
        assert_eq!(*reason, expected, "{variable}");
    }
}
