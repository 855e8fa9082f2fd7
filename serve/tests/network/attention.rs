//! Weights of attention, and the ids of tokens, over HTTP.

use serde_json::{Value, json};
use serve::Config;

use super::server::{CHAT, Server, TEXT, long};

const ATTENTION: &str = "/attention";

fn attend(server: &Server, body: &Value) -> Value {
    let answer = server.answer(ATTENTION, body);
    assert_eq!((&answer["object"], &answer["model"]), (&json!("attention"), &json!("pipeline")), "{answer}");
    answer
}

/// Returns the weights of an answer, by head.
fn weights(answer: &Value) -> Vec<Vec<f64>> {
    serde_json::from_value(answer["weights"].clone()).unwrap()
}

#[test]
fn texts_and_tokens_have_weights_of_attention() {
    let server = Server::start(Config::default());
    let text = "fn é() → 日本 🦀";
    let tokens = server.answer("/tokenize", &json!({"prompt": text}))["tokens"].clone();
    let count = tokens.as_array().unwrap().len();
    let of_text = attend(&server, &json!({"model": "pipeline", "prompt": text}));
    let (layers, heads) = (of_text["layers"].as_u64().unwrap(), of_text["heads"].as_u64().unwrap());
    assert_eq!(of_text["layer"].as_u64(), Some(layers - 1), "the last layer by default");
    assert_eq!(of_text["usage"], json!({"prompt_tokens": count, "completion_tokens": 0, "total_tokens": count}));
    let found: Vec<&Value> = of_text["tokens"].as_array().unwrap().iter().map(|token| &token["id"]).collect();
    assert_eq!(found, tokens.as_array().unwrap().iter().collect::<Vec<_>>());
    let bytes = of_text["tokens"].as_array().unwrap().iter().flat_map(|token| token["bytes"].as_array().unwrap());
    let bytes: Vec<u8> = bytes.map(|byte| byte.as_u64().unwrap() as u8).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    let mut by_layer = Vec::new();
    for layer in 0..layers {
        let answer = attend(&server, &json!({"prompt": tokens, "layer": layer}));
        let all = weights(&answer);
        assert_eq!(all.len() as u64, heads);
        for (head, weights) in all.iter().enumerate() {
            assert_eq!(weights.len(), count);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-5, "layer {layer}, head {head}");
            let alone = attend(&server, &json!({"prompt": text, "layer": layer, "head": head}));
            assert_eq!(self::weights(&alone), [&weights[..]], "the same alone, and of the text or its tokens");
        }
        by_layer.push(all);
    }
    assert_eq!(by_layer.last(), Some(&weights(&of_text)));
    assert!(by_layer[0] != by_layer[1] && by_layer[0][0] != by_layer[0][1]);
    let metrics = server.get("/metrics").1;
    let requests = 1 + layers * (1 + heads);
    for line in [
        format!("prompt_tokens_total{{model_name=\"pipeline\"}} {}", requests * count as u64),
        format!("request_success_total{{model_name=\"pipeline\",finished_reason=\"stop\"}} {requests}"),
    ] {
        assert!(metrics.as_str().unwrap().lines().any(|other| other == line), "{line} is missing in\n{metrics}");
    }
}

#[test]
fn invalid_requests_are_named() {
    let server = Server::start(Config { max_prompt_tokens: Some(40), ..Config::default() });
    for (body, param, code, message) in [
        (json!({"prompt": ""}), "prompt", "invalid_value", "at least one token"),
        (json!({"prompt": []}), "prompt", "invalid_value", "at least one token"),
        (json!({"prompt": [1, 320]}), "prompt", "invalid_value", "below 320"),
        (json!({"prompt": vec![1; 41]}), "prompt", "context_length_exceeded", "41 tokens"),
        (json!({"prompt": "let", "layer": 99}), "layer", "invalid_value", "an integer from 0 to 1, not 99."),
        (json!({"prompt": "let", "head": -1}), "head", "invalid_value", "an integer from 0 to 3, not -1."),
        (json!({"prompt": "let", "query": 1}), "query", "unsupported_parameter", "`query`"),
        (json!({"prompt": "let", "model": "other"}), "model", "model_not_found", "`other`"),
    ] {
        let (status, answer) = server.post(ATTENTION, &body);
        let error = &answer["error"];
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{body}: {answer}");
        assert_eq!(status, if param == "model" { 404 } else { 400 });
        assert!(error["message"].as_str().unwrap().contains(message), "{body}: {answer}");
    }
}

#[test]
fn attention_waits_in_the_queue_with_texts() {
    let server = Server::start(Config { max_concurrent_requests: 1, max_queue: 1, ..Config::default() });
    let running = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| attend(&server, &json!({"prompt": "let"})));
        server.wait_for_load(1, 1);
        let (status, error, retry_after) = server.ask("POST", ATTENTION, None, r#"{"prompt": "let"}"#);
        assert_eq!((status, &error["error"]["code"]), (429, &json!("queue_full")));
        assert_eq!(retry_after.as_deref(), Some("1"));
        drop(running);
        assert!(!weights(&waiting.join().unwrap()).is_empty());
    });
    server.wait_for_load(0, 0);
}

/// The tokens that an answer names are those that it was made of, so the attention at each of them can be asked for.
#[test]
fn ids_of_tokens_are_returned_as_in_vllm() {
    let server = Server::start(Config::default());
    let prompt = "fn main() {";
    let tokens = server.answer("/tokenize", &json!({"prompt": prompt}))["tokens"].clone();
    let decoded = |tokens: &Value| server.answer("/detokenize", &json!({"tokens": tokens}))["prompt"].clone();
    let joined = |parts: &mut dyn Iterator<Item = Value>| -> Value {
        parts.flat_map(|part| part.as_array().cloned().unwrap_or_default()).collect()
    };
    let body = json!({"prompt": [prompt, "let"], "n": 2, "max_tokens": 12, "seed": 3, "return_token_ids": true});
    let choices = server.choices(TEXT, &body);
    for choice in &choices {
        let is_first = choice["index"].as_u64().unwrap() < 2;
        assert_eq!(choice["prompt_token_ids"] == tokens, is_first, "{choice}");
        assert_eq!(decoded(&choice["token_ids"]), choice["text"]);
        assert_eq!(choice["logprobs"], Value::Null, "only what is asked for");
    }
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let chunks: Vec<Value> =
        server.stream(TEXT, &streamed).iter().filter_map(|d| serde_json::from_str(d).ok()).collect();
    for choice in &choices {
        let own = || chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|own| own["index"] == choice["index"]);
        assert_eq!(joined(&mut own().map(|own| own["token_ids"].clone())), choice["token_ids"]);
        let prompts: Vec<&Value> = own().map(|own| &own["prompt_token_ids"]).filter(|ids| !ids.is_null()).collect();
        assert_eq!(prompts, [&choice["prompt_token_ids"]], "once");
    }
    let echoed = json!({"prompt": prompt, "echo": true, "logprobs": 0, "max_tokens": 5, "return_token_ids": true});
    let echoed = &server.choices(TEXT, &echoed)[0];
    let text = echoed["text"].as_str().unwrap().strip_prefix(prompt).unwrap();
    assert_eq!((decoded(&echoed["token_ids"]), &echoed["prompt_token_ids"]), (json!(text), &tokens));

    let body = json!({
        "messages": [{"role": "user", "content": prompt}], "max_tokens": 12, "seed": 3, "return_token_ids": true,
        "logprobs": true,
    });
    let answer = server.answer(CHAT, &body);
    let (content, ids) = (&answer["choices"][0]["message"]["content"], &answer["choices"][0]["token_ids"]);
    assert_eq!(decoded(ids), *content);
    let scored = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().len();
    assert_eq!(scored, ids.as_array().unwrap().len(), "one for each token");
    assert!(decoded(&answer["prompt_token_ids"]).as_str().unwrap().contains(prompt));
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let chunks: Vec<Value> =
        server.stream(CHAT, &streamed).iter().filter_map(|d| serde_json::from_str(d).ok()).collect();
    assert_eq!(joined(&mut chunks.iter().map(|chunk| chunk["choices"][0]["token_ids"].clone())), *ids);
    assert_eq!(chunks[0]["prompt_token_ids"], answer["prompt_token_ids"]);
    assert!(chunks[1..].iter().all(|chunk| chunk["prompt_token_ids"].is_null()));

    // What the page asks: the attention with which a token of the answer was chosen.
    let mut before: Vec<Value> = answer["prompt_token_ids"].as_array().unwrap().clone();
    before.extend(ids.as_array().unwrap()[..3].iter().cloned());
    let attended = attend(&server, &json!({"prompt": before}));
    assert_eq!(weights(&attended)[0].len(), before.len());
    let plain = server.answer(CHAT, &json!({"messages": body["messages"], "max_tokens": 1})).to_string();
    assert!(!plain.contains("token_ids"), "{plain}");
}
