//! Several models, loaded and unloaded at run time.

use serde_json::{Value, json};
use serve::{Config, NewKey, Scope, new_key};

use super::server::{Server, events, long};

fn ids(server: &Server, key: &str) -> Vec<String> {
    let (_, list, _) = server.ask("GET", "/v1/models", Some(key), "");
    list["data"].as_array().unwrap().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn models_are_chosen_by_name() {
    let server = Server::with_models(Config::default(), &[("a", true), ("b", true)]);
    let complete = |model: Value| server.post("/v1/completions", &json!({"model": model, "prompt": "fn", "seed": 1}));
    for name in ["a", "b"] {
        let (status, answer) = complete(json!(name));
        assert_eq!((status, &answer["model"]), (200, &json!(name)));
    }
    assert_eq!(complete(Value::Null).1["model"], "a", "the first without a name");
    let (status, error) = complete(json!("c"));
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
    assert!(error["error"]["message"].as_str().unwrap().contains("`a`, `b`"), "{error}");
    assert_eq!(server.get("/health").1["requests"]["max_queue"], 64, "a model has a queue of its own");
    let metrics = server.get("/metrics").1;
    for name in ["a", "b"] {
        let line = format!("request_success_total{{model_name=\"{name}\",finished_reason=\"length\"}}");
        assert!(metrics.as_str().unwrap().contains(&line), "{line} is missing in {metrics}");
    }
}

#[test]
fn models_are_loaded_and_unloaded_without_harm_to_running_requests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let scopes = vec![Scope::Inference, Scope::Admin];
    let key = new_key(&path, NewKey { name: "k".to_owned(), scopes, requests_per_minute: None }).unwrap();
    let config = Config { keys: Some(path), ..Config::default() };
    let server = Server::with_models(config, &[("a", true), ("b", false)]);
    let admin = |what: &str| server.ask("POST", &format!("/admin/models/{what}"), Some(&key), "");
    let complete = |model: &str| {
        let body = json!({"model": model, "prompt": "fn", "max_tokens": 3}).to_string();
        let (status, answer, _) = server.ask("POST", "/v1/completions", Some(&key), &body);
        (status, answer["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ids(&server, &key), ["a"]);
    assert_eq!(complete("b"), (404, "model_not_loaded".to_owned()));
    assert_eq!(admin("b/load").1, json!({"id": "b", "state": "loaded"}));
    assert_eq!(admin("b/load").0, 200, "once more does nothing");
    assert_eq!(ids(&server, &key), ["a", "b"]);
    assert_eq!(complete("b").0, 200);

    let url = format!("http://{}/v1/completions", server.address);
    let request = server.agent.post(url).header("authorization", format!("Bearer {key}"));
    let running = request.send_json(long(3000, true)).unwrap();
    server.wait_for_load(1, 0);
    assert_eq!(admin("a/unload").1, json!({"id": "a", "state": "unloaded"}));
    assert_eq!(complete("a"), (404, "model_not_loaded".to_owned()));
    assert_eq!(complete("b").0, 200);
    let events = events(running.into_body().into_reader());
    assert_eq!(events.last().unwrap(), "[DONE]");
    assert!(events.len() > 10, "the request that was running is answered to its end: {} events", events.len());
    assert_eq!(admin("a/load").0, 200);
    assert_eq!(complete("a").0, 200);
    assert_eq!(admin("c/load").0, 404);
    assert_eq!(admin("../a/load").0, 404);
}

#[test]
fn model_that_cannot_be_loaded_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.jsonl");
    let key = NewKey { name: "k".to_owned(), scopes: vec![Scope::Admin], requests_per_minute: None };
    let key = new_key(&path, key).unwrap();
    let config = Config { keys: Some(path), ..Config::default() };
    let server = Server::loading(config, &[("empty", false)], |_| ());
    let (status, error, _) = server.ask("POST", "/admin/models/empty/load", Some(&key), "");
    assert_eq!(status, 500);
    assert!(error["error"]["message"].as_str().unwrap().contains("tokenizer.json"), "{error}");
    let (_, states, _) = server.ask("GET", "/admin/models", Some(&key), "");
    assert_eq!(states[0]["state"], "failed");
    assert_eq!(server.get("/ready").0, 503);
}
