//! Embeddings over HTTP.

use serde_json::{Value, json};
use serve::Config;

use super::server::{Server, long};

/// The width of the model of these tests.
const WIDTH: usize = 32;

fn embed(server: &Server, body: &Value) -> Value {
    let (status, answer) = server.post("/v1/embeddings", body);
    assert_eq!((status, &answer["object"], &answer["model"]), (200, &json!("list"), &json!("pipeline")), "{answer}");
    answer
}

/// Returns the bits of the numbers of embedding `index`.
fn bits(answer: &Value, index: usize) -> Vec<u32> {
    let item = &answer["data"][index];
    assert_eq!((&item["object"], &item["index"]), (&json!("embedding"), &json!(index)));
    let numbers = item["embedding"].as_array().unwrap_or_else(|| panic!("{item}"));
    numbers.iter().map(|number| (number.as_f64().unwrap() as f32).to_bits()).collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> = text.trim_end_matches('=').chars().map(|digit| DIGITS.find(digit).unwrap() as u32).collect();
    let bytes = |group: &[u32]| {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(bytes).collect()
}

#[test]
fn texts_and_tokens_are_embedded() {
    let server = Server::start(Config::default());
    let texts = ["fn main() {", "é → 日本 🦀", "let"];
    let tokens: Vec<Value> =
        texts.iter().map(|text| server.post("/tokenize", &json!({"prompt": text})).1["tokens"].clone()).collect();
    let all = embed(&server, &json!({"model": "pipeline", "input": texts, "user": "a", "dimensions": WIDTH}));
    let count: usize = tokens.iter().map(|tokens| tokens.as_array().unwrap().len()).sum();
    assert_eq!(all["usage"], json!({"prompt_tokens": count, "total_tokens": count}));
    assert_eq!(all["data"].as_array().unwrap().len(), texts.len());
    let lists = embed(&server, &json!({"input": tokens}));
    let in_base64 = embed(&server, &json!({"input": texts, "encoding_format": "base64"}));
    for (i, text) in texts.into_iter().enumerate() {
        let expected = bits(&all, i);
        let length = expected.iter().map(|x| f32::from_bits(*x).powi(2)).sum::<f32>().sqrt();
        assert_eq!(expected.len(), WIDTH);
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        // Alone or with others, as a text or as its tokens.
        assert_eq!(bits(&embed(&server, &json!({"input": text})), 0), expected);
        assert_eq!(bits(&embed(&server, &json!({"input": tokens[i]})), 0), expected);
        assert_eq!(bits(&lists, i), expected);
        let bytes = from_base64(in_base64["data"][i]["embedding"].as_str().unwrap());
        assert_eq!(bytes, expected.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
    }
    assert_ne!(bits(&all, 0), bits(&all, 1));
    let metrics = server.get("/metrics").1;
    // Every text has been embedded five times.
    for line in [
        format!("prompt_tokens_total{{model_name=\"pipeline\"}} {}", 5 * count),
        "generation_tokens_total{model_name=\"pipeline\"} 0".to_owned(),
        "request_success_total{model_name=\"pipeline\",finished_reason=\"stop\"} 15".to_owned(),
    ] {
        assert!(metrics.as_str().unwrap().lines().any(|other| other == line), "{line} is missing in\n{metrics}");
    }
}

#[test]
fn invalid_inputs_are_named() {
    let server = Server::start(Config { max_prompt_tokens: Some(40), max_inputs: 5, ..Config::default() });
    for (body, param, code, message) in [
        (json!({"input": ["let", [1]]}), "input", "invalid_type", "an array"),
        (json!({"input": (["let", "x"].repeat(3))}), "input", "invalid_value", "at most 5 inputs, not 6"),
        (json!({"input": [[0], [1, 320]]}), "input", "invalid_value", "below 320"),
        (json!({"input": ["let", "🐈".repeat(40)]}), "input", "context_length_exceeded", "Input 1 of `input`"),
        (json!({"input": vec![1; 41]}), "input", "context_length_exceeded", "41 tokens"),
        (json!({"input": "let", "dimensions": 16}), "dimensions", "invalid_value", "must be 32"),
        (json!({"input": "let", "dimensions": -1}), "dimensions", "invalid_value", "must be 32"),
        (json!({"input": "let", "dimensions": "32"}), "dimensions", "invalid_type", "an integer"),
        (json!({"input": "let", "model": "other"}), "model", "model_not_found", "`other`"),
    ] {
        let (status, answer) = server.post("/v1/embeddings", &body);
        let error = &answer["error"];
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{body}: {answer}");
        assert_eq!(status, if param == "model" { 404 } else { 400 });
        assert!(error["message"].as_str().unwrap().contains(message), "{body}: {answer}");
    }
}

#[test]
fn embeddings_wait_in_the_queue_with_texts() {
    let config = Config { max_concurrent_requests: 1, max_queue: 1, ..Config::default() };
    let server = Server::start(config);
    let running = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| embed(&server, &json!({"input": "let"})));
        server.wait_for_load(1, 1);
        let (status, error, retry_after) = server.ask("POST", "/v1/embeddings", None, r#"{"input": "let"}"#);
        assert_eq!((status, &error["error"]["code"]), (429, &json!("queue_full")));
        assert_eq!(retry_after.as_deref(), Some("1"));
        drop(running);
        assert_eq!(bits(&waiting.join().unwrap(), 0).len(), WIDTH);
    });
    server.wait_for_load(0, 0);
}
