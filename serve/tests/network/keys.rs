//! Keys: every route without, with a wrong and with a right key.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::{Access, Config, Error, NewKey, Scope, bind, new_key, routes};
use tempfile::TempDir;

use super::server::Server;

fn key(path: &Path, name: &str, scopes: &[Scope], requests_per_minute: Option<u32>) -> String {
    let requests_per_minute = requests_per_minute.map(|limit| limit.try_into().unwrap());
    new_key(path, NewKey { name: name.to_owned(), scopes: scopes.to_vec(), requests_per_minute }).unwrap()
}

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    (folder, path)
}

fn with_keys(path: &Path) -> Server {
    Server::start(Config { keys: Some(path.to_owned()), ..Config::default() })
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

#[test]
fn every_route_without_with_a_wrong_and_with_a_right_key() {
    let (_folder, path) = file();
    let inference = key(&path, "inference", &[Scope::Inference], None);
    let admin = key(&path, "admin", &[Scope::Admin], None);
    let server = with_keys(&path);
    assert!(routes().len() > 10);
    for route in routes() {
        let target = route.path.replace("{id}", "pipeline");
        let ask = |key: Option<&str>| {
            let (status, answer, _) = server.ask(route.method, &target, key, "{}");
            if status >= 400 {
                let fields: Vec<&String> = answer["error"].as_object().unwrap().keys().collect();
                assert_eq!(fields, ["message", "type", "param", "code"], "{route:?}: {answer}");
            }
            (status, code(&answer).to_owned())
        };
        let unauthorized = (401, "invalid_api_key".to_owned());
        let forbidden = (403, "insufficient_scope".to_owned());
        let passes = |key: Option<&str>| {
            let (status, code) = ask(key);
            // A request without parameters may be invalid, but it has reached its route.
            assert!(status == 200 || status == 400, "{route:?}: {status} {code}");
        };
        if route.access == Access::Public {
            passes(None);
            passes(Some("wrong"));
            continue;
        }
        assert_eq!(ask(None), unauthorized, "{route:?}");
        let almost = format!("{}x", &inference[..inference.len() - 1]);
        for wrong in ["wrong", "", &almost, &inference[..20], &inference.to_uppercase()] {
            assert_eq!(ask(Some(wrong)), unauthorized, "{route:?} with {wrong}");
        }
        match route.access {
            Access::AnyKey => {
                passes(Some(&inference));
                passes(Some(&admin));
            }
            Access::Inference => {
                assert_eq!(ask(Some(&admin)), forbidden, "{route:?}");
                passes(Some(&inference));
            }
            Access::Admin => {
                assert_eq!(ask(Some(&inference)), forbidden, "{route:?}");
                if !target.ends_with("/unload") {
                    passes(Some(&admin));
                }
            }
            Access::Public => unreachable!("handled above"),
        }
    }
    let (status, _, _) = server.ask("POST", "/admin/models/pipeline/unload", Some(&admin), "");
    assert_eq!(status, 200);
}

#[test]
fn the_secret_is_not_in_the_file_and_only_the_owner_reads_it() {
    let (_folder, path) = file();
    let secret = key(&path, "a", &[Scope::Inference], None);
    let other = key(&path, "b", &[Scope::Inference], Some(5));
    assert_ne!(secret, other);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(!text.contains(&secret) && !text.contains(secret.trim_start_matches("sk-pipeline-")), "{text}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let again = NewKey { name: "a".to_owned(), scopes: vec![Scope::Admin], requests_per_minute: None };
    let error = new_key(&path, again).unwrap_err().to_string();
    assert!(error.contains("the name `a` is there already"), "{error}");
}

#[test]
fn requests_per_minute_are_limited_for_each_key() {
    let (_folder, path) = file();
    let limited = key(&path, "limited", &[Scope::Inference], Some(3));
    let other = key(&path, "other", &[Scope::Inference], Some(3));
    let server = with_keys(&path);
    let ask = |key: &str| server.ask("POST", "/tokenize", Some(key), "{\"prompt\": \"fn\"}");
    for _ in 0..3 {
        assert_eq!(ask(&limited).0, 200);
    }
    let (status, error, retry_after) = ask(&limited);
    assert_eq!((status, code(&error)), (429, "rate_limit_exceeded"));
    assert_eq!(error["error"]["type"], "rate_limit_error");
    let seconds: u64 = retry_after.unwrap().parse().unwrap();
    assert!((1..=20).contains(&seconds), "three a minute is one in 20 s, not {seconds}");
    assert_eq!(ask(&other).0, 200, "another key has a limit of its own");
    assert_eq!(server.ask("GET", "/v1/models", Some(&limited), "").0, 200, "only inference counts");
}

#[test]
fn keys_are_read_again_when_the_file_changes() {
    let (_folder, path) = file();
    let first = key(&path, "first", &[Scope::Inference], Some(2));
    let server = with_keys(&path);
    let status = |key: &str| server.ask("POST", "/tokenize", Some(key), "{\"prompt\": \"fn\"}").0;
    let wait_for = |key: &str, expected: u16| {
        let start = Instant::now();
        while server.ask("GET", "/v1/models", Some(key), "").0 != expected {
            assert!(start.elapsed() < Duration::from_secs(10), "the file is not read again");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    assert_eq!((status(&first), status(&first), status(&first)), (200, 200, 429));
    let second = key(&path, "second", &[Scope::Inference], None);
    wait_for(&second, 200);
    assert_eq!(status(&first), 429, "what a key has used is not forgotten");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, "not a key\n").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(status(&second), 200, "the last valid keys remain");
    fs::write(&path, text.lines().nth(1).unwrap()).unwrap();
    wait_for(&first, 401);
    assert_eq!(status(&second), 200);
}

#[test]
fn other_machines_need_a_key() {
    let public = Config { host: "0.0.0.0".to_owned(), port: 0, ..Config::default() };
    let error = bind(&public).unwrap_err();
    assert!(matches!(error, Error::Unprotected { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("0.0.0.0:0") && text.contains("--new-key") && text.contains("--allow-anonymous"), "{text}");
    bind(&Config { allow_anonymous: true, ..public.clone() }).unwrap();
    bind(&Config { keys: Some("keys.jsonl".into()), ..public }).unwrap();
    for host in ["127.0.0.1", "localhost", "127.0.0.2"] {
        bind(&Config { host: host.to_owned(), port: 0, ..Config::default() }).unwrap();
    }
}

#[test]
fn administration_needs_keys() {
    let server = Server::start(Config::default());
    let (status, error) = server.post("/admin/models/pipeline/unload", &json!({}));
    assert_eq!((status, code(&error)), (403, "insufficient_scope"));
    assert_eq!(server.get("/v1/models").1["data"][0]["id"], "pipeline");
}

#[test]
fn missing_file_of_keys_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { port: 0, keys: Some(folder.path().join("none.jsonl")), ..Config::default() };
    let error = serve::serve(folder.path(), &config, "cpu", &artifact::Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("none.jsonl: "), "{error}");
}
