//! Adapters of one model, beside it and at the same time.

use std::path::Path;

use serde_json::{Value, json};
use serve::{Config, ModelFolder, NewKey, Scope, new_key};

use super::server::{Server, events, long};

/// Serves a model `base` and two adapters of it.
fn start(config: Config) -> Server {
    Server::serving(config, |folder| {
        test_support::tiny::write(&make(folder, "base"), model::Family::Qwen3, 128);
        test_support::tiny::write_adapter(&make(folder, "a"), 1);
        test_support::tiny::write_adapter(&make(folder, "b"), 2);
        // An adapter comes before its base: the order does not matter.
        vec![entry(folder, "a", true), entry(folder, "base", true), entry(folder, "b", true)]
    })
}

fn make(folder: &Path, name: &str) -> std::path::PathBuf {
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    folder
}

fn entry(folder: &Path, name: &str, load: bool) -> ModelFolder {
    let base = (name != "base").then(|| "base".to_owned());
    ModelFolder { name: name.to_owned(), folder: folder.join(name), base, index: None, load }
}

/// Returns a text with the log probabilities of its tokens.
fn complete(server: &Server, model: &str, prompt: &str) -> Value {
    let body = json!({"model": model, "prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 2});
    let (status, answer) = server.post("/v1/completions", &body);
    assert_eq!((status, &answer["model"]), (200, &json!(model)), "{answer}");
    answer["choices"].clone()
}

#[test]
fn base_and_adapters_are_answered_at_the_same_time() {
    let server = start(Config::default());
    let prompts = ["fn main() {", "pub struct Sum<T> { total: T }", "let"];
    let requests: Vec<(&str, &str)> =
        ["base", "a", "b"].into_iter().flat_map(|model| prompts.map(|prompt| (model, prompt))).collect();
    let alone: Vec<Value> = requests.iter().map(|(model, prompt)| complete(&server, model, prompt)).collect();
    for (i, one) in alone.iter().enumerate() {
        let other = &alone[(i + prompts.len()) % alone.len()];
        assert_ne!(one[0]["logprobs"], other[0]["logprobs"], "an adapter changes what its base says");
    }
    std::thread::scope(|scope| {
        let complete = |(model, prompt)| complete(&server, model, prompt);
        let running: Vec<_> = requests.iter().map(|request| scope.spawn(move || complete(*request))).collect();
        for (running, expected) in running.into_iter().zip(&alone) {
            assert_eq!(running.join().unwrap(), *expected);
        }
    });
    let embedding = |model: &str| {
        let (status, answer) = server.post("/v1/embeddings", &json!({"model": model, "input": "let"}));
        assert_eq!(status, 200, "{answer}");
        answer["data"][0]["embedding"].clone()
    };
    assert!(embedding("base") != embedding("a") && embedding("a") != embedding("b"));
    let weights = |model: &str| {
        let answer = server.answer("/attention", &json!({"model": model, "prompt": "fn main() {"}));
        assert_eq!(answer["model"], model);
        answer["weights"].clone()
    };
    assert!(weights("base") != weights("a") && weights("a") != weights("b"));
    let chat = json!({"model": "a", "messages": [{"role": "user", "content": "let"}], "max_tokens": 3});
    assert_eq!(server.post("/v1/chat/completions", &chat).1["model"], "a");
}

#[test]
fn adapters_are_listed_with_their_base() {
    let server = start(Config::default());
    let models = server.get("/v1/models").1["data"].clone();
    let listed: Vec<(&Value, &Value, &Value)> =
        models.as_array().unwrap().iter().map(|model| (&model["id"], &model["root"], &model["parent"])).collect();
    let base = json!("base");
    assert_eq!(
        listed,
        [(&json!("a"), &base, &base), (&base, &base, &Value::Null), (&json!("b"), &base, &base)],
        "{models}"
    );
    assert_eq!(server.get("/v1/models/a").1["max_model_len"], 128);
    let health = server.get("/health").1;
    assert_eq!((&health["models"][0]["base"], &health["models"][1]["base"]), (&base, &Value::Null));
    complete(&server, "a", "let");
    let Value::String(metrics) = server.get("/metrics").1 else { panic!("metrics are text") };
    let has = |line: &str| metrics.lines().any(|other| other.starts_with(line));
    assert!(has("request_success_total{model_name=\"a\",finished_reason=\"length\"} 1"), "{metrics}");
    assert!(has("num_requests_running{model_name=\"base\"} "), "{metrics}");
    assert!(!has("num_requests_running{model_name=\"a\"} "), "the load is that of the base: {metrics}");
}

#[test]
fn adapters_are_loaded_and_unloaded_without_harm_to_others() {
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("keys.jsonl");
    let scopes = vec![Scope::Inference, Scope::Admin];
    let key = new_key(&path, NewKey { name: "k".to_owned(), scopes, requests_per_minute: None }).unwrap();
    let server = start(Config { keys: Some(path), ..Config::default() });
    let admin = |what: &str| server.ask("POST", &format!("/admin/models/{what}"), Some(&key), "");
    let status = |model: &str| {
        let body = json!({"model": model, "prompt": "fn", "max_tokens": 3}).to_string();
        server.ask("POST", "/v1/completions", Some(&key), &body).0
    };
    let url = format!("http://{}/v1/completions", server.address);
    let mut body = long(3000, true);
    body["model"] = json!("a");
    let request = server.agent.post(url).header("authorization", format!("Bearer {key}"));
    let running = request.send_json(body).unwrap();
    // The load is that of the base and its adapters together.
    server.wait_for_load(1, 0);
    assert_eq!(admin("a/unload").1, json!({"id": "a", "base": "base", "state": "unloaded"}));
    assert_eq!([status("a"), status("b"), status("base")], [404, 200, 200]);
    let events = events(running.into_body().into_reader());
    assert_eq!(events.last().unwrap(), "[DONE]");
    let is_whole = events.iter().any(|event| event.contains("\"finish_reason\":\"length\""));
    assert!(is_whole, "the request that was running is answered to its end: {:?}", &events[events.len() - 2..]);
    assert_eq!((admin("a/load").0, status("a")), (200, 200));

    // An adapter does not outlive its base, and is not loaded before it.
    assert_eq!(admin("base/unload").0, 200);
    assert_eq!([status("a"), status("b"), status("base")], [404; 3]);
    let (refused, error, _) = admin("b/load");
    assert_eq!((refused, &error["error"]["code"]), (409, &json!("base_not_loaded")));
    assert_eq!([admin("base/load").0, admin("b/load").0], [200; 2]);
    assert_eq!([status("a"), status("b"), status("base")], [404, 200, 200]);
}

#[test]
fn adapter_that_does_not_fit_is_reported() {
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("keys.jsonl");
    let key = NewKey { name: "k".to_owned(), scopes: vec![Scope::Admin], requests_per_minute: None };
    let key = new_key(&path, key).unwrap();
    let server = Server::serving(Config { keys: Some(path), ..Config::default() }, |folder| {
        test_support::tiny::write(&make(folder, "base"), model::Family::Qwen3, 128);
        let config = make(folder, "a").join("adapter_config.json");
        std::fs::write(config, r#"{"peft_type": "LORA", "lora_alpha": 1, "use_dora": true}"#).unwrap();
        vec![entry(folder, "base", true), entry(folder, "a", false)]
    });
    let (status, error, _) = server.ask("POST", "/admin/models/a/load", Some(&key), "");
    assert_eq!(status, 500);
    assert!(error["error"]["message"].as_str().unwrap().contains("use_dora: true is not supported"), "{error}");
    let (_, states, _) = server.ask("GET", "/admin/models", Some(&key), "");
    assert_eq!((&states[0]["state"], &states[1]["state"]), (&json!("loaded"), &json!("failed")));
    assert_eq!(server.get("/ready").0, 200);
}

#[test]
fn base_of_an_adapter_must_be_served() {
    let folder = tempfile::tempdir().unwrap();
    let check = |models: Vec<ModelFolder>, expected: &str| {
        let config = Config { port: 0, ..Config::default() };
        let listener = serve::bind(&config).unwrap();
        let error = serve::serve_models(listener, models, &config, "cpu", &artifact::Cancel::default()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let model = |name: &str, load| entry(folder.path(), name, load);
    let start = "the adapter `a` cannot be loaded over `base`, which ";
    check(vec![model("a", true)], &format!("{start}is not one of the models"));
    check(vec![model("base", false), model("a", true)], &format!("{start}is not loaded at the start (`load`)"));
    let adapter = ModelFolder { base: Some("a".to_owned()), ..model("base", true) };
    check(vec![model("a", true), adapter], &format!("{start}is an adapter itself"));
}
