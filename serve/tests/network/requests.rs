//! Routes besides those of OpenAI's completions and chat.

use serde_json::{Value, json};
use serve::Config;

use super::server::{Server, long};

#[test]
fn liveness_and_readiness_are_answered_without_a_model() {
    let server = Server::loading(Config::default(), &[("pipeline", false)], |_| ());
    assert_eq!(server.get("/health").0, 200);
    let (status, ready) = server.get("/ready");
    assert_eq!((status, &ready["status"]), (503, &json!("loading")));
    let (status, error) = server.post("/v1/completions", &long(1, false));
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_loaded")));
}

#[test]
fn texts_are_tokenized_and_back() {
    let server = Server::start(Config::default());
    let text = "fn main() { é 日本 🦀 }";
    let (status, tokens) = server.post("/tokenize", &json!({"model": "pipeline", "prompt": text}));
    assert_eq!((status, &tokens["max_model_len"]), (200, &json!(128)), "{tokens}");
    assert_eq!(tokens["count"], tokens["tokens"].as_array().unwrap().len());
    let (status, back) = server.post("/detokenize", &json!({"tokens": tokens["tokens"]}));
    assert_eq!((status, &back["prompt"]), (200, &json!(text)));
    for (path, body, param) in [
        ("/tokenize", json!({}), ""),
        ("/tokenize", json!({"prompt": 1}), "prompt"),
        ("/detokenize", json!({"tokens": [4_000_000_000_u32]}), "tokens"),
        ("/detokenize", json!({"tokens": [-1]}), "tokens"),
        ("/detokenize", json!({"tokens": [0], "model": "other"}), "model"),
    ] {
        let (status, error) = server.post(path, &body);
        assert!(status == 400 || status == 404, "{path} {body}: {status}");
        assert_eq!(error["error"]["param"].as_str().unwrap_or_default(), param, "{path} {body}: {error}");
    }
}

#[test]
fn metrics_count_what_was_done() {
    let server = Server::start(Config { max_concurrent_requests: 1, ..Config::default() });
    let value = |name: &str| {
        let Value::String(text) = server.get("/metrics").1 else { panic!("metrics are text") };
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap_or_else(|| {
            panic!("{name} is missing in\n{text}");
        });
        assert!(line.contains("model_name=\"pipeline\""), "{line}");
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let (_, answer) = server.post("/v1/completions", &long(20, false));
    let usage = &answer["usage"];
    for (name, expected) in [
        ("prompt_tokens_total", usage["prompt_tokens"].as_f64().unwrap()),
        ("generation_tokens_total", 20.0),
        ("request_success_total", 1.0),
        ("time_to_first_token_seconds_count", 1.0),
        ("e2e_request_latency_seconds_count", 1.0),
        ("num_requests_running", 0.0),
        ("num_requests_waiting", 0.0),
    ] {
        assert!((value(name) - expected).abs() < 1e-9, "{name} is {}, not {expected}", value(name));
    }
    assert!(value("inter_token_latency_seconds_count") > 5.0);
    let running = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 0);
    let waiting = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 1);
    assert!((value("num_requests_running") - 1.0).abs() < 1e-9);
    assert!((value("num_requests_waiting") - 1.0).abs() < 1e-9);
    assert!((0.0..=1.0).contains(&value("kv_cache_usage_perc")) && value("kv_cache_usage_perc") > 0.0);
    drop((running, waiting));
}
