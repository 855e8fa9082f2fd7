//! `/v1/completions`, and what every route has in common.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use artifact::Cancel;
use serde_json::{Value, json};
use serve::{Config, bind};

use super::server::{Server, TEXT, events, keys, long, read};

#[test]
fn whole_answer_has_openais_shape() {
    let server = Server::start(Config::default());
    let (status, answer) =
        server.post(TEXT, &json!({"model": "pipeline", "prompt": "fn main() {", "max_tokens": 5, "seed": 1}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(keys(&answer), ["id", "object", "created", "model", "choices", "usage"]);
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("text_completion"), &json!("pipeline")));
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    let choice = &answer["choices"][0];
    assert_eq!(keys(choice), ["text", "index", "logprobs", "finish_reason"]);
    assert_eq!(
        (&choice["index"], &choice["logprobs"], &choice["finish_reason"]),
        (&json!(0), &Value::Null, &json!("length"))
    );
    let usage = &answer["usage"];
    let total = usage["prompt_tokens"].as_u64().unwrap() + 5;
    assert_eq!((&usage["completion_tokens"], &usage["total_tokens"]), (&json!(5), &json!(total)));
}

#[test]
fn prompts_and_texts_are_numbered_and_echoed() {
    let server = Server::start(Config::default());
    let body = json!({"prompt": ["let a", "let b"], "n": 2, "echo": true, "max_tokens": 4, "seed": 9});
    let (status, answer) = server.post(TEXT, &body);
    assert_eq!(status, 200, "{answer}");
    let choices = answer["choices"].as_array().unwrap();
    let starts: Vec<(u64, bool, bool)> = choices
        .iter()
        .map(|choice| {
            let text = choice["text"].as_str().unwrap();
            (choice["index"].as_u64().unwrap(), text.starts_with("let a"), text.starts_with("let b"))
        })
        .collect();
    assert_eq!(starts, [(0, true, false), (1, true, false), (2, false, true), (3, false, true)]);
    let (_, single) = server.post(TEXT, &json!({"prompt": "let a", "max_tokens": 4, "seed": 9}));
    let prompt_tokens = single["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(answer["usage"]["prompt_tokens"], 2 * prompt_tokens, "a prompt counts once");
    // A text may end before its token limit.
    assert!((4..=16).contains(&answer["usage"]["completion_tokens"].as_u64().unwrap()), "{answer}");
    let (_, second) = server.post(TEXT, &json!({"prompt": "let a", "max_tokens": 4, "seed": 10}));
    assert_eq!(
        choices[1]["text"].as_str().unwrap(),
        format!("let a{}", second["choices"][0]["text"].as_str().unwrap())
    );
    let (_, only_echo) = server.post(TEXT, &json!({"prompt": "let a", "max_tokens": 0, "echo": true}));
    assert_eq!(only_echo["choices"][0]["text"], "let a");
    let mut streamed = vec![String::new(); 4];
    let mut body = body;
    body["stream"] = json!(true);
    for event in server.stream(TEXT, &body).iter().filter(|event| *event != "[DONE]") {
        let chunk: Value = serde_json::from_str(event).unwrap();
        let choice = &chunk["choices"][0];
        streamed[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    let whole: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(streamed, whole);
}

#[test]
fn streamed_chunks_are_the_whole_answer() {
    let server = Server::start(Config::default());
    let mut body = json!({"prompt": "pub struct", "max_tokens": 60, "seed": 3, "stop": ["zzzz", "\u{0}\u{0}"]});
    let (_, whole) = server.post(TEXT, &body);
    body["stream"] = json!(true);
    let events = server.stream(TEXT, &body);
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect();
    assert!(chunks.len() > 1, "{} chunks", chunks.len());
    let text: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, whole["choices"][0]["text"]);
    for chunk in &chunks {
        assert_eq!(keys(chunk), ["id", "object", "created", "model", "choices"]);
        assert_eq!(keys(&chunk["choices"][0]), ["text", "index", "logprobs", "finish_reason"]);
        assert_eq!(chunk["id"], chunks[0]["id"]);
    }
    let reasons: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert!(reasons[..reasons.len() - 1].iter().all(|reason| reason.is_null()));
    assert_eq!(*reasons[reasons.len() - 1], whole["choices"][0]["finish_reason"]);

    body["stream_options"] = json!({"include_usage": true});
    let events = server.stream(TEXT, &body);
    let chunks: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(others.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
}

#[test]
fn other_routes_answer() {
    let server = Server::start(Config::default());
    let (status, health) = server.get("/health");
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    assert_eq!(health["requests"], json!({"running": 0, "waiting": 0, "max_queue": 32}));
    assert_eq!((&health["model"]["context_length"], &health["model"]["family"]), (&json!(128), &json!("qwen3")));
    let (status, models) = server.get("/v1/models");
    assert_eq!((status, &models["object"], &models["data"][0]["id"]), (200, &json!("list"), &json!("pipeline")));
    assert_eq!(keys(&models["data"][0]), ["id", "object", "created", "owned_by", "root", "parent", "max_model_len"]);
    assert_eq!(server.get("/v1/models/pipeline").1, models["data"][0]);
    let (status, page) = server.get("/");
    assert!(status == 200 && page.as_str().unwrap().contains("</html>"));
    let (status, description) = server.get("/openapi.json");
    assert_eq!((status, description["paths"]["/v1/completions"]["post"].is_object()), (200, true));
}

#[test]
fn invalid_requests_get_openais_errors() {
    let server = Server::start(Config { max_body_bytes: 2000, ..Config::default() });
    let of = |answer: (u16, Value)| {
        let (status, body) = answer;
        let error = &body["error"];
        assert_eq!(keys(error), ["message", "type", "param", "code"], "{body}");
        let text = |key: &str| error[key].as_str().unwrap_or("").to_owned();
        (status, text("type"), text("param"), text("code"))
    };
    let expect = |status: u16, param: &str, code: &str| {
        (status, "invalid_request_error".to_owned(), param.to_owned(), code.to_owned())
    };
    let cases = [
        (json!({"temperature": "hot"}), expect(400, "temperature", "invalid_type")),
        (json!({"temperature": 3}), expect(400, "temperature", "invalid_value")),
        (json!({"best_of_all": 5}), expect(400, "best_of_all", "unsupported_parameter")),
        (json!({"model": "gpt-4"}), expect(404, "model", "model_not_found")),
        (json!([1]), expect(400, "", "")),
        (json!({"prompt": "x".repeat(3000)}), expect(413, "", "")),
    ];
    for (body, expected) in cases {
        assert_eq!(of(server.post(TEXT, &body)), expected);
    }
    assert_eq!(of(server.get("/v1/chat")), expect(404, "", ""));
    assert_eq!(of(server.get("/v1/models/other")), expect(404, "model", "model_not_found"));
    assert_eq!(of(server.get("/v1/completions")), expect(405, "", ""));
    let url = format!("http://{}/v1/completions", server.address);
    let plain_text = server.agent.post(&url).content_type("text/plain").send("{}").unwrap();
    assert_eq!(of(read(plain_text)), expect(415, "", ""));
    let broken = server.agent.post(&url).content_type("application/json; charset=utf-8").send("{\"prompt\"").unwrap();
    assert_eq!(of(read(broken)), expect(400, "", ""));
}

#[test]
fn cross_site_requests_are_blocked() {
    let body = "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let ask = |server: &Server, host: &str, origin: &str| {
        server.raw(&format!("POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{body}"))
    };
    let preflight = |server: &Server, origin: &str| {
        let head = "OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\nAccess-Control-Request-Method: POST\r\n\
                    Access-Control-Request-Headers: authorization,content-type,x-stainless-lang";
        server.raw(&format!("{head}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n")).1.to_lowercase()
    };
    let server = Server::start(Config::default());
    let (status, answer) = ask(&server, "evil.example", "http://evil.example");
    assert_eq!(status, 403);
    assert!(answer.contains("does not answer to the name `evil.example`"), "{answer}");
    let (status, answer) = ask(&server, "localhost", "http://evil.example");
    assert_eq!(status, 200, "the browser enforces the missing CORS headers: {answer}");
    assert!(!answer.to_lowercase().contains("access-control"), "{answer}");
    assert!(!preflight(&server, "http://evil.example").contains("access-control-allow"));

    let origin = "https://friend.example".to_owned();
    let server = Server::start(Config {
        cors_origins: vec![origin],
        allowed_hosts: vec!["model.example".to_owned()],
        ..Config::default()
    });
    assert_eq!(ask(&server, "model.example:80", "x").0, 200);
    let allowed = preflight(&server, "https://friend.example");
    assert!(allowed.contains("access-control-allow-origin: https://friend.example"), "{allowed}");
    assert!(allowed.contains("access-control-allow-headers: authorization,content-type,x-stainless-lang"), "{allowed}");
    assert!(!preflight(&server, "https://evil.example").contains("access-control-allow-origin"));
}

#[test]
fn disconnecting_cancels_the_text() {
    let server = Server::start(Config::default());
    let client = server.send(&long(1_000_000, true));
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    assert_eq!(server.get("/health").1["requests"]["running"], 1);
    drop(reader);
    server.wait_for_load(0, 0);
    let client = server.send(&long(1_000_000, false));
    server.wait_for_load(1, 0);
    drop(client);
    server.wait_for_load(0, 0);
}

#[test]
fn full_queue_is_refused_with_retry_after() {
    let server = Server::start(Config { max_concurrent_requests: 1, max_queue: 1, ..Config::default() });
    let running = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 0);
    let waiting = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 1);
    let mut refused = BufReader::new(server.send(&json!({"prompt": "fn"})));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        refused.read_line(&mut head).unwrap();
    }
    assert!(head.starts_with("HTTP/1.1 429 ") && head.to_lowercase().contains("retry-after: 1"), "{head}");
    // Before prompts are encoded: this one is too long.
    let (_, error) = server.post(TEXT, &json!({"prompt": "fn ".repeat(500)}));
    assert_eq!((&error["error"]["type"], &error["error"]["code"]), (&json!("rate_limit_error"), &json!("queue_full")));
    drop((running, waiting));
    server.wait_for_load(0, 0);
    assert_eq!(server.post(TEXT, &json!({"prompt": "fn"})).0, 200);
}

#[test]
fn concurrent_requests_do_not_interfere() {
    let server = Server::start(Config::default());
    let body = |seed: u64| json!({"prompt": "let x =", "max_tokens": 20, "seed": seed});
    let text = |answer: Value| answer["choices"][0]["text"].as_str().unwrap().to_owned();
    let one_by_one: Vec<String> = (0..8).map(|seed| text(server.post(TEXT, &body(seed)).1)).collect();
    let at_once: Vec<String> = std::thread::scope(|scope| {
        let server = &server;
        let clients: Vec<_> = (0..8).map(|seed| scope.spawn(move || server.post(TEXT, &body(seed)).1)).collect();
        clients.into_iter().map(|client| text(client.join().unwrap())).collect()
    });
    assert_eq!(at_once, one_by_one);
    assert_ne!(one_by_one[0], one_by_one[1]);
}

#[test]
fn short_request_does_not_wait_for_a_long_one() {
    let server = Server::start(Config::default());
    let body = json!({"prompt": "let x =", "max_tokens": 20, "seed": 5});
    let (_, alone) = server.post(TEXT, &body);
    let long_ones = [server.send(&long(1_000_000, true)), server.send(&long(1_000_000, false))];
    server.wait_for_load(2, 0);
    let (status, beside) = server.post(TEXT, &body);
    assert_eq!((status, &beside["choices"]), (200, &alone["choices"]), "the same text whatever else runs");
    server.wait_for_load(2, 0);
    drop(long_ones);
    server.wait_for_load(0, 0);
}

#[test]
fn texts_of_one_request_are_streamed_side_by_side() {
    let server = Server::start(Config::default());
    let body = json!({
        "prompt": ["let a", "let b"], "n": 2, "max_tokens": 30, "temperature": 0, "stream": true,
    });
    let events = server.stream(TEXT, &body);
    let chunks = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let order: Vec<u64> = chunks.map(|chunk| chunk["choices"][0]["index"].as_u64().unwrap()).collect();
    let last = |index| order.iter().rposition(|other| *other == index).unwrap();
    let first = |index| order.iter().position(|other| *other == index).unwrap();
    assert!(first(3) < last(0), "the last text starts before the first ends: {order:?}");
}

#[test]
fn request_that_does_not_fit_in_the_cache_is_refused() {
    let server = Server::start(Config { kv_cache_tokens: Some(64), ..Config::default() });
    let (status, error) = server.post(TEXT, &json!({"prompt": "fn", "max_tokens": 100}));
    assert_eq!((status, &error["error"]["code"]), (400, &json!("kv_cache_exceeded")), "{error}");
    let (status, answer) = server.post(TEXT, &json!({"prompt": "fn", "max_tokens": 30, "temperature": 0, "n": 4}));
    assert_eq!((status, answer["choices"].as_array().unwrap().len()), (200, 4), "although all four do not fit at once");
}

#[test]
fn shutdown_drains_in_flight_requests() {
    let mut server = Server::start(Config::default());
    let client = server.send(&long(1000, true));
    server.wait_for_load(1, 0);
    let (served, _) = server.stop();
    served.unwrap();
    assert_eq!(events(client).last().unwrap(), "[DONE]");
    assert!(TcpStream::connect(server.address).is_err(), "the listener is closed");
}

#[test]
fn shutdown_cancels_requests_that_take_too_long() {
    let mut server = Server::start(Config { shutdown_seconds: 1, ..Config::default() });
    let client = server.send(&long(1_000_000, true));
    server.wait_for_load(1, 0);
    let idle = TcpStream::connect(server.address).unwrap();
    // Without a reader, the connection's buffers fill up and block the server.
    let reader = std::thread::spawn(move || events(client));
    let (served, took) = server.stop();
    served.unwrap();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    let events = reader.join().unwrap();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "stopping");
    drop(idle);
}

#[test]
fn address_in_use_is_named() {
    let server = Server::start(Config::default());
    let error = bind(&Config { port: server.address.port(), ..Config::default() }).unwrap_err();
    let expected = format!(
        "127.0.0.1:{} is in use by another program; stop that one, or choose another port with `--port` or \
         `serve.port` (0 takes any free one)",
        server.address.port()
    );
    assert_eq!(error.to_string(), expected);
    let error = bind(&Config { host: "192.0.2.1".to_owned(), ..Config::default() }).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:8080"), "{error}");
}

#[test]
fn folder_without_a_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { port: 0, ..Config::default() };
    let error = serve::serve(folder.path(), &config, "cpu", &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
}
