//! The hub, played by a server of this process: what it is asked, what it may see, and what its refusals are told as.

use std::path::Path;
use std::sync::{Arc, Mutex};

use artifact::{Context, Digest};

use super::*;
use crate::inventory::inventory_in;
use crate::lock::{Renewed, lock_in};
use crate::server::{Reply, Request, Server};
use crate::{Source, fetch};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ROWS: &[u8] = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";

fn source() -> Source {
    Source { hub: Some("datasets/owner/name".to_owned()), include: vec!["*.jsonl".to_owned()], ..Source::default() }
}

fn config(endpoint: &str) -> Config {
    let hub_endpoint = Some(endpoint.to_owned());
    Config { sources: vec![source()], hub_endpoint, allow_private: true, download_attempts: 2, ..Config::default() }
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Environment { home: None, variables }
}

fn context(base: &Path) -> Context {
    Context { base: base.to_owned(), offline: false, ..Context::quiet(1) }
}

/// Answers as the hub does for a dataset of three files on two pages, one of them kept by LFS and sent by another host.
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
        path if path == format!("{api}/tree/{COMMIT}") => Reply::body(
            "[{\"type\": \"file\", \"oid\": \"3\", \"size\": 16, \"path\": \"a.jsonl\"},
              {\"type\": \"file\", \"oid\": \"4\", \"size\": 5, \"path\": \"README.md\"}]",
        ),
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
fn a_revision_is_pinned_and_its_files_arrive_without_the_token_leaving_the_hub() {
    let base = tempfile::tempdir().unwrap();
    let cdn = Server::start(|request| Reply::file(request, ROWS, "\"cdn\""));
    let elsewhere = cdn.url.clone();
    let server = Server::start(move |request| hub(request, &elsewhere));
    let (config, environment) = (config(&server.url), environment(&[("HF_TOKEN", "hf_secret")]));
    let changes = lock_in(&config, &context(base.path()), &environment, Renewed::None).unwrap();
    let files: Vec<&str> = changes.iter().map(|change| change.file.as_str()).collect();
    assert_eq!(files, ["a.jsonl", "data/b 1.jsonl"]);
    let bearer = Some("Bearer hf_secret".to_owned());
    assert!(server.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    assert_eq!(server.headers_of(&format!("/datasets/owner/name/resolve/{COMMIT}/a.jsonl"), "authorization"), [bearer]);
    assert_eq!(cdn.headers_of("/bucket/b", "authorization"), [None]);
    let lock = std::fs::read_to_string(base.path().join("dataset.lock")).unwrap();
    assert!(lock.contains(&format!("revision = \"main\"\ncommit = \"{COMMIT}\"\nlicence = \"mit\"\n")), "{lock}");
    assert!(!lock.contains("secret"), "{lock}");

    // From here on nobody is asked: not for the plan, and not for the files.
    let offline = Context { offline: true, ..context(base.path()) };
    let asked = server.requests().len();
    let inventory = inventory_in(&config, &offline, &environment).unwrap();
    fetch::missing(&inventory, &config, &offline, environment.clone()).unwrap();
    assert_eq!(server.requests().len(), asked);
    let [source] = &inventory.sources[..] else { panic!() };
    assert_eq!((source.licence.as_str(), source.not_selected), ("mit", 1));
    assert_eq!(source.origin["commit"], COMMIT);
    assert_eq!(std::fs::read(source.files[1].place.path()).unwrap(), ROWS);

    // Another machine has the lock and no cache: it fetches the same commit without asking what `main` is now.
    std::fs::remove_dir_all(base.path().join("experiments")).unwrap();
    let error = fetch::missing(&inventory, &config, &offline, environment.clone()).unwrap_err();
    assert!(matches!(&error, Error::Offline { url, .. } if url.ends_with("/a.jsonl")), "{error}");
    fetch::missing(&inventory, &config, &context(base.path()), environment).unwrap();
    assert_eq!(server.headers_of("/api/datasets/owner/name/revision/main", "host").len(), 1);
}

#[test]
fn a_file_that_was_cut_off_goes_on_at_the_host_that_has_it() {
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
    lock_in(&config(&server.url), &context(base.path()), &Environment::default(), Renewed::None).unwrap();
    assert_eq!(cdn.headers_of("/bucket/b", "range"), [None, Some("bytes=7-".to_owned())]);
}

#[cfg(unix)]
#[test]
fn what_the_hubs_own_programs_have_is_taken_from_them_if_it_is_the_same() {
    let base = tempfile::tempdir().unwrap();
    let repository = base.path().join("hf/hub/datasets--owner--name");
    let snapshot = repository.join(format!("snapshots/{COMMIT}"));
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write(&repository.join("blobs/b"), ROWS);
    write(&snapshot.join("a.jsonl"), b"not what the hub lists");
    std::fs::create_dir_all(snapshot.join("data")).unwrap();
    std::os::unix::fs::symlink("../../../blobs/b", snapshot.join("data/b 1.jsonl")).unwrap();
    let server = Server::start(move |request| hub(request, "http://nowhere.invalid"));
    let config = config(&server.url);
    let environment = environment(&[("HF_HOME", base.path().join("hf").to_str().unwrap())]);
    lock_in(&config, &context(base.path()), &environment, Renewed::None).unwrap();
    let asked: Vec<String> = server.requests().iter().map(|request| request.path().to_owned()).collect();
    let files: Vec<&String> = asked.iter().filter(|path| path.contains("/resolve/")).collect();
    assert_eq!(files, [&format!("/datasets/owner/name/resolve/{COMMIT}/a.jsonl")]);

    // Without a network and without this program's own downloads.
    std::fs::remove_dir_all(base.path().join("experiments")).unwrap();
    let offline = Context { offline: true, ..context(base.path()) };
    let inventory = inventory_in(&config, &offline, &environment).unwrap();
    let missing = || fetch::missing(&inventory, &config, &offline, environment.clone());
    let error = missing().unwrap_err();
    assert!(matches!(&error, Error::Offline { url, .. } if url.ends_with("/a.jsonl")), "{error}");
    write(&snapshot.join("a.jsonl"), b"{\"text\": \"zero\"}");
    missing().unwrap();
    assert_eq!(std::fs::read(inventory.sources[0].files[1].place.path()).unwrap(), ROWS);
    assert_eq!(server.requests().len(), asked.len());
}

#[test]
fn a_listing_cannot_name_other_files_of_this_machine() {
    let base = tempfile::tempdir().unwrap();
    let snapshot = base.path().join(format!("models--owner--name/snapshots/{COMMIT}"));
    std::fs::create_dir_all(snapshot.join("x")).unwrap();
    for path in ["secret", "x/y"] {
        std::fs::write(snapshot.join(path), "").unwrap();
    }
    let repository = Repository::parse("owner/name").unwrap();
    let endpoint = Url::parse(ENDPOINT).unwrap();
    let shared = shared_cache(&environment(&[("HF_HUB_CACHE", base.path().to_str().unwrap())]));
    let connection = Connection { repository, endpoint, bearer: None, shared };
    assert_eq!(connection.at_hand(COMMIT, "x/y"), Some(snapshot.join("x/y")));
    let absolute = snapshot.join("secret").to_str().unwrap().to_owned();
    for path in ["x", "none", "x/../secret", &absolute] {
        assert_eq!(connection.at_hand(COMMIT, path), None, "{path}");
    }
    for commit in ["", "..", snapshot.to_str().unwrap()] {
        assert_eq!(connection.at_hand(commit, "secret"), None, "{commit}");
    }
}

#[test]
fn what_arrived_before_a_failure_is_not_fetched_again() {
    let base = tempfile::tempdir().unwrap();
    let is_broken = Arc::new(Mutex::new(true));
    let broken = Arc::clone(&is_broken);
    let cdn = Server::start(move |request| {
        let whole = Reply::file(request, ROWS, "\"cdn\"");
        if *broken.lock().unwrap() { Reply::status(500).with("Retry-After", "0") } else { whole }
    });
    let elsewhere = cdn.url.clone();
    let server = Server::start(move |request| hub(request, &elsewhere));
    let lock = || lock_in(&config(&server.url), &context(base.path()), &Environment::default(), Renewed::None);
    assert!(matches!(lock(), Err(Error::Download { attempts: 2, .. })));
    assert!(!base.path().join("dataset.lock").exists());
    *is_broken.lock().unwrap() = false;
    assert_eq!(lock().unwrap().len(), 2);
    assert_eq!(server.headers_of(&format!("/datasets/owner/name/resolve/{COMMIT}/a.jsonl"), "range").len(), 1);
}

/// Locks against a hub that answers `reply` to everything, and compares the error; `<hub>` stands for its address.
fn check_refusal(reply: Reply, variables: &[(&str, &str)], expected: &str) {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(move |_| reply.clone());
    let found = lock_in(&config(&server.url), &context(base.path()), &environment(variables), Renewed::None);
    let found = found.unwrap_err().to_string().replace(&server.url, "<hub>");
    assert_eq!(found, expected);
    assert!(!base.path().join("dataset.lock").exists());
}

#[test]
fn a_refusal_says_what_to_do() {
    let (page, token) = ("<hub>/datasets/owner/name", [("HF_TOKEN", "hf_secret")]);
    let start = format!("source datasets/owner/name: {page}: ");
    check_refusal(
        Reply::status(401).with("X-Error-Code", "GatedRepo"),
        &[],
        &format!(
            "{start}the hub wants to know who asks: the dataset is gated, private or not there; set HF_TOKEN, and accept \
             the terms at {page}"
        ),
    );
    check_refusal(
        Reply::status(401),
        &token,
        &format!("{start}the hub does not accept the token; make another at <hub>/settings/tokens, and set HF_TOKEN"),
    );
    check_refusal(
        Reply::status(403).with("X-Error-Code", "GatedRepo"),
        &token,
        &format!("{start}the token may not read it; accept the terms at {page} with the account that the token is of"),
    );
    check_refusal(Reply::status(404), &[], &format!("{start}there is no such dataset; if it is private, set HF_TOKEN"));
    check_refusal(
        Reply::status(404).with("X-Error-Code", "RevisionNotFound"),
        &[],
        &format!("{start}the dataset has no revision `main`"),
    );
    let nonsense = format!("{start}<hub>/api/datasets/owner/name/revision/main does not answer as the hub does: ");
    check_refusal(Reply::body("<html>"), &[], &format!("{nonsense}expected value at line 1 column 1"));
    check_refusal(
        Reply::status(503).with("Retry-After", "0"),
        &[],
        "source datasets/owner/name: cannot list <hub>/api/datasets/owner/name/revision/main (tried 2 times); try \
         again later, or see that this machine reaches it",
    );
}

#[test]
fn a_listing_that_goes_on_elsewhere_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.path() {
        path if path.contains("/tree/") => Reply::body("[]").with("Link", "<http://localhost:1/steal>; rel=\"next\""),
        _ => Reply::body(format!("{{\"sha\": \"{COMMIT}\"}}")),
    });
    let environment = environment(&[("HF_TOKEN", "hf_secret")]);
    let error =
        lock_in(&config(&server.url), &context(base.path()), &environment, Renewed::None).unwrap_err().to_string();
    assert!(error.ends_with("its listing goes on at another host, http://localhost:1/steal"), "{error}");
}

#[test]
fn a_file_that_differs_from_its_listing_is_not_taken() {
    let base = tempfile::tempdir().unwrap();
    let cdn = Server::start(|request| Reply::file(request, &[b'x'; 32], "\"cdn\""));
    let elsewhere = cdn.url.clone();
    let server = Server::start(move |request| hub(request, &elsewhere));
    let error =
        lock_in(&config(&server.url), &context(base.path()), &Environment::default(), Renewed::None).unwrap_err();
    assert!(
        matches!(&error, Error::Download { attempts: 2, source, .. } if source.to_string().contains("listed with"))
    );
}

#[test]
fn the_token_is_found_where_the_hubs_own_programs_leave_it() {
    let home = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let named = write("named", " hf_named\n");
    write(".cache/huggingface/token", "hf_cached\n");
    write("hf/token", "hf_home");
    write("xdg/huggingface/token", "hf_xdg");
    let (hf, xdg) = (home.path().join("hf"), home.path().join("xdg"));
    let (hf, xdg) = (hf.to_str().unwrap(), xdg.to_str().unwrap());
    let check = |variables: &[(&str, &str)], expected: Option<&str>| {
        let environment = Environment { home: Some(home.path().to_owned()), ..environment(variables) };
        assert_eq!(token(&environment).as_deref(), expected, "{variables:?}");
    };
    check(&[], Some("hf_cached"));
    check(&[("XDG_CACHE_HOME", xdg)], Some("hf_xdg"));
    check(&[("XDG_CACHE_HOME", xdg), ("HF_HOME", hf)], Some("hf_home"));
    check(&[("HF_TOKEN_PATH", &named), ("HF_HOME", hf)], Some("hf_named"));
    check(&[("HF_TOKEN", "hf_set"), ("HF_TOKEN_PATH", &named)], Some("hf_set"));
    check(&[("HF_TOKEN", "hf_set"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None);
    check(&[("HF_TOKEN", "two\nlines"), ("HF_HOME", "/nowhere")], None);
}

#[test]
fn the_endpoint_is_encrypted_unless_it_is_ones_own() {
    let check = |configured: Option<&str>, variables: &[(&str, &str)], expected: &str| {
        let config = Config { hub_endpoint: configured.map(str::to_owned), ..Config::default() };
        let found = endpoint(&config, &environment(variables)).map_or_else(|e| e.to_string(), |url| url.to_string());
        assert!(found.starts_with(expected), "{found}");
    };
    check(None, &[], "https://huggingface.co/");
    check(None, &[("HF_ENDPOINT", "https://mirror.example/hub")], "https://mirror.example/hub");
    check(Some("https://a.example"), &[("HF_ENDPOINT", "https://b.example")], "https://a.example/");
    check(Some("http://a.example"), &[], "collect.hub_endpoint: must begin with https://");
    check(None, &[("HF_ENDPOINT", "mirror")], "HF_ENDPOINT: `mirror`: it is no address");
}

#[test]
fn addresses_of_files_are_encoded() {
    let repository = Repository::parse("owner/name").unwrap();
    let endpoint = Url::parse("https://mirror.example/hub/").unwrap();
    let connection = Connection { repository, endpoint, bearer: None, shared: None };
    let url = connection.file_address("feature/x", "a dir/100% #1?.txt");
    assert_eq!(url.as_str(), "https://mirror.example/hub/owner/name/resolve/feature%2Fx/a%20dir/100%25%20%231%3F.txt");
}

#[test]
fn several_licences_all_hold() {
    let check = |card: &str, expected: Option<&str>| {
        assert_eq!(licence(&serde_json::from_str(card).unwrap()).as_deref(), expected, "{card}");
    };
    check("{\"license\": \"cc-by-4.0\"}", Some("cc-by-4.0"));
    check("{\"license\": [\"mit\", \"apache-2.0\"]}", Some("mit AND apache-2.0"));
    check("{\"license\": []}", None);
    check("{}", None);
    check("null", None);
}
