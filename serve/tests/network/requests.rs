//! Routes besides those of OpenAI's completions and chat.

use serde_json::{Value, json};
use serve::{Config, check_ready};

use super::server::{Server, events, keys, long};

#[test]
fn liveness_and_readiness_are_answered_without_a_model() {
    let server = Server::loading(Config::default(), &[("pipeline", false)], |_| ());
    assert_eq!(server.get("/health").0, 200);
    let (status, ready) = server.get("/ready");
    assert_eq!((status, &ready["status"]), (503, &json!("unloaded")));
    let error = check_ready("0.0.0.0", server.address.port()).unwrap_err().to_string();
    assert!(error.ends_with(" is not ready: unloaded"), "{error}");
    check_ready("127.0.0.1", Server::start(Config::default()).address.port()).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(check_ready("127.0.0.1", closed.port()).unwrap_err().to_string().contains(&closed.to_string()));
    let (status, error) = server.post("/v1/completions", &long(1, false));
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_loaded")));
}

#[test]
fn every_answer_has_the_id_of_its_request() {
    let server = Server::start(Config::default());
    let id = |headers: &str, path: &str| {
        let (_, answer) =
            server.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n"));
        answer
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "))
            .unwrap_or_else(|| panic!("{answer}"))
            .to_owned()
    };
    assert_eq!(id("X-Request-Id: mine-1\r\n", "/v1/models"), "mine-1");
    let (first, second) = (id("", "/v1/models"), id("", "/no/such/path"));
    assert!(first.starts_with("req_") && second.starts_with("req_") && first != second, "{first} {second}");
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
        ("/tokenize", json!({}), "prompt"),
        ("/tokenize", json!({"prompt": "a", "no_such": 1}), "no_such"),
        ("/detokenize", json!({}), "tokens"),
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
    let body = json!({"prompt": "pub struct", "max_tokens": 60, "seed": 3});
    let (_, answer) = server.post("/v1/completions", &body);
    let usage = &answer["usage"];
    for (name, expected) in [
        ("prompt_tokens_total", usage["prompt_tokens"].as_f64().unwrap()),
        ("generation_tokens_total", usage["completion_tokens"].as_f64().unwrap()),
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

#[test]
fn responses_are_answered_whole_and_streamed() {
    let server = Server::start(Config::default());
    let mut body = json!({
        "model": "pipeline", "instructions": "Be brief.", "input": [{"role": "user", "content": "let x"}],
        "max_output_tokens": 12, "temperature": 0, "metadata": {"a": "b"},
    });
    let (status, whole) = server.post("/v1/responses", &body);
    assert_eq!((status, &whole["object"]), (200, &json!("response")), "{whole}");
    assert_eq!((&whole["status"], &whole["metadata"]), (&json!("incomplete"), &json!({"a": "b"})));
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "let x"}]);
    let chat = json!({"messages": messages, "max_completion_tokens": 12, "temperature": 0});
    let (_, chat) = server.post("/v1/chat/completions", &chat);
    let part = &whole["output"][0]["content"][0];
    assert_eq!((&part["type"], &part["text"]), (&json!("output_text"), &chat["choices"][0]["message"]["content"]));
    assert_eq!(whole["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    assert_eq!(whole["usage"]["output_tokens"], 12);

    body["stream"] = true.into();
    let url = format!("http://{}/v1/responses", server.address);
    let response = server.agent.post(url).send_json(&body).unwrap();
    let events: Vec<Value> =
        events(response.into_body().into_reader()).iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    let deltas: String = of("response.output_text.delta").iter().map(|e| e["delta"].as_str().unwrap()).collect();
    assert_eq!(part["text"], deltas);
    assert_eq!(of("response.output_text.done")[0]["text"], deltas);
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["response"]["usage"]), (&json!("response.incomplete"), &whole["usage"]));

    let empty = json!({"input": "let x", "max_output_tokens": 0});
    assert_eq!(server.answer("/v1/responses", &empty)["output"][0]["content"][0]["text"], "");
    for (change, value, status, param) in [
        ("temperature", json!(3), 400, "temperature"),
        ("max_output_tokens", json!(-1), 400, "max_output_tokens"),
        ("input", json!([{"role": "pirate", "content": "x"}]), 400, "input[0].role"),
        ("model", json!("other"), 404, "model"),
    ] {
        let mut body = body.clone();
        body[change] = value;
        let (found, error) = server.post("/v1/responses", &body);
        assert_eq!((found, error["error"]["param"].as_str()), (status, Some(param)), "{error}");
    }
}

#[test]
fn responses_call_tools_and_obey_formats() {
    let server = Server::of_model(Config::default(), 1024, |_| ());
    let schema = json!({
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["a"],
        "additionalProperties": false,
    });
    let tool = |name: &str| json!({"type": "function", "name": name, "parameters": schema, "strict": true});
    let mut body = json!({
        "input": "let x", "tools": [tool("add"), tool("sub")], "tool_choice": {"type": "function", "name": "sub"},
        "temperature": 0, "max_output_tokens": 100,
    });
    let whole = server.answer("/v1/responses", &body);
    assert_eq!(
        (&whole["status"], &whole["tools"], &whole["tool_choice"]),
        (&json!("completed"), &body["tools"], &body["tool_choice"])
    );
    let call = &whole["output"][0];
    assert_eq!(keys(call), ["id", "type", "status", "call_id", "name", "arguments"]);
    assert_eq!(
        (&call["type"], &call["name"], &call["status"]),
        (&json!("function_call"), &json!("sub"), &json!("completed"))
    );
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["a"].is_u64() && whole["output"].as_array().unwrap().len() == 1, "{whole}");

    body["stream"] = true.into();
    let events: Vec<Value> =
        server.stream("/v1/responses", &body).iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    // How many pieces the arguments have depends on the speed of the model.
    let (pieces, events): (Vec<Value>, Vec<Value>) =
        events.into_iter().partition(|event| event["type"] == "response.function_call_arguments.delta");
    let pieces: String = pieces.iter().map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(pieces, call["arguments"].as_str().unwrap());
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(kinds, expected.map(|kind| format!("response.{kind}")));
    assert_eq!((&events[2]["item"]["arguments"], &events[3]["arguments"]), (&json!(""), &call["arguments"]));
    let last = &events.last().unwrap()["response"]["output"];
    assert_eq!((&last[0]["name"], &last[0]["arguments"]), (&call["name"], &call["arguments"]));
    assert_eq!(last[0], events[4]["item"]);

    // What a client sends back is a conversation.
    let turns = json!([
        {"role": "user", "content": "let x"}, call,
        {"type": "function_call_output", "call_id": call["call_id"], "output": "4"},
    ]);
    let body = json!({"input": turns, "tools": [tool("sub")], "max_output_tokens": 4});
    assert_eq!(server.answer("/v1/responses", &body)["output"][0]["type"], "message");

    let format = json!({"type": "json_schema", "name": "n", "strict": true, "schema": schema});
    let body = json!({"input": "let x", "text": {"format": format}, "max_output_tokens": 100});
    let answer = server.answer("/v1/responses", &body);
    assert_eq!(answer["text"]["format"], format);
    let text = answer["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["a"].is_u64(), "{text}");
    let invalid = json!({"input": "let x", "text": {"format": {"type": "json_schema", "name": "n"}}});
    assert_eq!(server.error("/v1/responses", &invalid)["param"], "text.format.schema");
}
