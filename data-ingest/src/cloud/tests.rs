//! An S3 bucket, played by a server of this process: paging, ranges, conditions and refusals.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use artifact::{Context, Digest};

use crate::environment::Environment;
use crate::inventory::inventory_in;
use crate::lock::{Renewed, lock_in};
use crate::server::{Reply, Request, Server};
use crate::{Config, Error, Source, fetch};

/// The keys of a page of a listing.
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

fn environment(server: &Server) -> Environment {
    let variables = [
        ("AWS_ENDPOINT_URL", server.url.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Environment { home: None, variables }
}

fn config(url: &str) -> Config {
    let source = Source { url: Some(url.to_owned()), name: Some("s".to_owned()), ..Source::default() };
    Config { sources: vec![source], allow_private: true, download_attempts: 3, ..Config::default() }
}

fn context(base: &Path) -> Context {
    Context { base: base.to_owned(), offline: false, ..Context::quiet(1) }
}

/// Locks the source at `url`, and compares the paths of its files.
fn check(url: &str, expected: &[&str]) {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(s3);
    let (config, environment) = (config(url), environment(&server));
    lock_in(&config, &context(base.path()), &environment, Renewed::None).unwrap();
    // Everything is in the cache, and none of it is asked for again.
    let offline = Context { offline: true, ..context(base.path()) };
    let inventory = inventory_in(&config, &offline, &environment).unwrap();
    fetch::missing(&inventory, &config, &offline, environment).unwrap();
    let files = &inventory.sources[0].files;
    assert_eq!(files.iter().map(|file| file.relative.as_str()).collect::<Vec<_>>(), expected, "{url}");
    for file in files {
        let content = std::fs::read(file.place.path()).unwrap();
        let key = bucket().into_iter().find(|(key, _)| key.ends_with(&file.relative)).unwrap();
        assert_eq!(content, key.1, "{}", file.relative);
    }
    assert!(server.requests().iter().all(|request| request.header("authorization").is_some()));
}

#[test]
fn objects_prefixes_and_globs_are_listed_page_by_page() {
    check(
        "s3://bucket/data",
        &["2023/a.jsonl", "2024/b.jsonl", "2024/c d.jsonl", "2024/deep/e.jsonl", "2024/notes.txt"],
    );
    check("s3://bucket/data/2024/", &["b.jsonl", "c d.jsonl", "deep/e.jsonl", "notes.txt"]);
    check("s3://bucket/data/2024/*.jsonl", &["b.jsonl", "c d.jsonl"]);
    check("s3://bucket/data/**/*.jsonl", &["2023/a.jsonl", "2024/b.jsonl", "2024/c d.jsonl", "2024/deep/e.jsonl"]);
    check("s3://bucket/data/202[34]/[ab].jsonl", &["2023/a.jsonl", "2024/b.jsonl"]);
    check("s3://bucket/data/2024/b.jsonl", &["b.jsonl"]);
    check("s3a://bucket/data/2024/c d.jsonl", &["c d.jsonl"]);
    check("s3://bucket/**/f.jsonl", &["database/f.jsonl"]);
}

/// Answers as Azure does: `GET /container?comp=list`, `GET` and `HEAD` of `/container/key`.
fn azure(request: &Request) -> Reply {
    let content = b"{\"text\": \"a\"}";
    let date = "Mon, 01 Jan 2024 00:00:00 GMT";
    match (request.path(), request.parameter("comp")) {
        ("/container", Some("list")) => Reply::body(format!(
            "<EnumerationResults><Blobs><Blob><Name>data/a.jsonl</Name><Properties><Last-Modified>{date}</Last-Modified>\
             <Etag>0x1</Etag><Content-Length>{}</Content-Length><Content-Type>x</Content-Type></Properties></Blob></Blobs>\
             <NextMarker/></EnumerationResults>",
            content.len()
        )),
        ("/container/data/a.jsonl", None) => Reply::file(request, content, "0x1").with("Last-Modified", date),
        _ => Reply::status(404),
    }
}

#[test]
fn other_providers_are_asked_in_their_own_way() {
    for (url, answer, endpoint, account) in [
        ("gs://bucket/data/2023/*.jsonl", s3 as fn(&Request) -> Reply, "GOOGLE_BASE_URL", None),
        ("az://container/data/*.jsonl", azure, "AZURE_STORAGE_ENDPOINT", Some("account")),
        ("abfs://container@account.dfs.core.windows.net/data", azure, "AZURE_STORAGE_ENDPOINT", None),
    ] {
        let base = tempfile::tempdir().unwrap();
        let server = Server::start(answer);
        let mut variables = BTreeMap::from([(endpoint.to_owned(), server.url.clone())]);
        variables.extend(account.map(|name| ("AZURE_STORAGE_ACCOUNT_NAME".to_owned(), name.to_owned())));
        let mut config = config(url);
        config.sources[0].anonymous = true;
        let environment = Environment { home: None, variables };
        let changes = lock_in(&config, &context(base.path()), &environment, Renewed::None).unwrap();
        let found: Vec<_> = changes.iter().map(|change| (change.file.as_str(), change.after)).collect();
        assert_eq!(found, [("a.jsonl", Some(Digest::of(b"{\"text\": \"a\"}")))], "{url}");
    }
}

#[test]
fn an_address_that_names_nothing_is_told_and_not_locked() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(s3);
    for (url, seen) in [
        ("s3://bucket/*.jsonl", "there is none"),
        ("s3://bucket/data/none", "there is none"),
        ("s3://bucket/data/2024/picture.png/", "1 excluded or of an unknown kind"),
    ] {
        let error = lock_in(&config(url), &context(base.path()), &environment(&server), Renewed::None).unwrap_err();
        assert!(matches!(&error, Error::NothingSelected { passed_over, .. } if passed_over == seen), "{url}: {error}");
    }
    assert!(!base.path().join("dataset.lock").exists());
}

/// Locks one object from a server that answers as `answer` says, given how often it was asked for the object before.
fn check_object(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static, expected: &str) -> Vec<Request> {
    let base = tempfile::tempdir().unwrap();
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match request.method.as_str() {
        "GET" => answer(request, asked.fetch_add(1, Ordering::SeqCst)),
        _ => s3(request),
    });
    let (config, environment) = (config("s3://bucket/data/2024/b.jsonl"), environment(&server));
    let found = match lock_in(&config, &context(base.path()), &environment, Renewed::None) {
        Ok(changes) => changes[0].after.unwrap().short(),
        Err(error) => error.to_string(),
    };
    assert_eq!(found, expected);
    server.requests().into_iter().filter(|request| request.method == "GET").collect()
}

#[test]
fn an_object_that_was_cut_off_goes_on_if_it_is_still_the_same() {
    let content = bucket()["data/2024/b.jsonl"];
    let digest = Digest::of(content).short();
    let gets = check_object(|request, i| if i == 0 { s3(request).cut(5) } else { s3(request) }, &digest);
    assert_eq!(gets[1].header("range"), Some("bytes=5-"));
    assert_eq!(gets[1].header("if-match"), Some(etag(content).as_str()));

    // Somebody writes another object under the same key in between: what was listed is no more.
    let other = b"{\"text\": \"x\"}";
    let changed = move |request: &Request, i: usize| {
        let reply = if i == 0 { s3(request).cut(5) } else { Reply::file(request, other, &etag(other)) };
        reply.with("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
    };
    let told = "source s: s3://bucket/data/2024/b.jsonl: the object changed after it was listed; run again (Server returned \
                non-2xx status code: 412 Precondition Failed)";
    let gets = check_object(changed, told);
    assert_eq!(gets.iter().map(|get| get.header("range")).collect::<Vec<_>>(), [None, Some("bytes=5-")]);
}

#[test]
fn a_refusal_says_what_to_do() {
    let address = "source s: s3://bucket/data/2024/b.jsonl: ";
    check_object(
        |_, _| Reply::status(403),
        &format!(
            "{address}the store refuses; set the provider's credentials in the environment, or `anonymous = true` for a \
             public bucket (Server returned non-2xx status code: 403 Forbidden)"
        ),
    );
    let body = "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>The key is gone.</Message></Error>";
    check_object(
        move |_, _| Reply { status: 404, ..Reply::body(body) },
        &format!("{address}there is no such bucket or object; see its `url` (NoSuchKey: The key is gone.)"),
    );
    let gone = "source s: cannot download s3://bucket/data/2024/b.jsonl (tried 3 times; what arrived is kept for the next time)";
    check_object(|_, _| Reply::status(500), gone);
}

#[test]
fn nothing_is_signed_for_a_public_bucket_and_nothing_goes_unencrypted_unless_allowed() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(s3);
    let environment = environment(&server);
    let mut config = config("s3://bucket/data/2023/*");
    config.sources[0].anonymous = true;
    lock_in(&config, &context(base.path()), &environment, Renewed::None).unwrap();
    assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));

    let open =
        Environment { variables: [("AWS_ENDPOINT".to_owned(), "http://s3.invalid".to_owned())].into(), ..environment };
    config.allow_private = false;
    config.download_attempts = 1;
    let other = tempfile::tempdir().unwrap();
    let error = lock_in(&config, &context(other.path()), &open, Renewed::None).unwrap_err();
    let told = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let told: Vec<String> = told.map(ToString::to_string).collect();
    assert!(told.join(": ").contains("URL scheme is not allowed"), "{told:?}");
}

#[test]
fn an_endpoint_of_a_private_network_is_refused() {
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
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = Config { allow_private: false, ..config(url) };
        let environment = Environment { home: None, variables };
        let error = lock_in(&config, &context(base.path()), &environment, Renewed::None).unwrap_err();
        let Error::Refused { reason, .. } = &error else { panic!("{variable}: {error}") };
        let expected = format!(
            "it is the endpoint that the environment names, and {expected}; if that is meant, set `allow_private = true` in \
             [collect]"
        );
        assert_eq!(*reason, expected, "{variable}");
    }
}
