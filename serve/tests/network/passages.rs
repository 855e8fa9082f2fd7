//! Passages of the training data, over HTTP.

use serde_json::{Value, json};
use serve::Config;

use super::server::{Server, write_index};

const TRACE: &str = "/trace";

const DOCUMENTS: [&str; 3] = [
    "fn first() {\n    println!(\"é → 日本 🦀 is here\");\n}\n",
    "fn second() {\n    println!(\"é → 日本 🦀 is here\");\n}\n",
    "struct Other { one: u8 }\n",
];

fn traced() -> Server {
    Server::of_model(Config::default(), 128, |folder| write_index(folder, &DOCUMENTS, &trace::Config::default()))
}

#[test]
fn passages_have_their_places_in_the_text_and_documents() {
    let server = traced();
    let text = "Says ü: println!(\"é → 日本 🦀 is here\"), it does.";
    let answer = server.answer(TRACE, &json!({"model": "pipeline", "input": text}));
    assert_eq!((&answer["object"], &answer["model"]), (&json!("trace"), &json!("pipeline")));
    assert_eq!(answer["training_documents"], 3);
    let passages = answer["passages"].as_array().unwrap();
    assert_eq!(passages.len(), 1, "{answer}");
    let (start, end) = (passages[0]["start"].as_u64().unwrap() as usize, passages[0]["end"].as_u64().unwrap() as usize);
    let passage: String = text.chars().skip(start).take(end - start).collect();
    assert_eq!(passages[0]["text"], passage);
    assert!(passage.contains("println!(\"é → 日本 🦀 is here\")"), "{passage}");
    assert_eq!(passages[0]["count"], 2);
    let documents = passages[0]["documents"].as_array().unwrap();
    let mut ids: Vec<&str> = documents.iter().map(|document| document["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["0", "1"]);
    for document in documents {
        let place = format!("{}{passage}{}", document["before"].as_str().unwrap(), document["after"].as_str().unwrap());
        assert!(DOCUMENTS.iter().any(|text| text.contains(&place)), "{place:?}");
    }

    let fewer = json!({"input": text, "max_documents": 1, "min_tokens": 2, "max_passages": 1});
    let fewer = server.answer(TRACE, &fewer);
    assert_eq!(fewer["passages"].as_array().unwrap().len(), 1);
    assert_eq!(fewer["passages"][0]["documents"].as_array().unwrap().len(), 1);
    let none = server.answer(TRACE, &json!({"input": text, "min_tokens": 1000}));
    assert_eq!((&none["passages"], &none["training_tokens"]), (&json!([]), &answer["training_tokens"]));
    assert_eq!(server.answer(TRACE, &json!({"input": ""}))["passages"], json!([]));
}

#[test]
fn invalid_requests_are_named() {
    let server = traced();
    for (body, param, code, message) in [
        (json!({}), "input", "missing_required_parameter", "`input` is missing."),
        (json!({"input": ["a"]}), "input", "invalid_type", "`input` must be a string, not an array."),
        (json!({"input": "a".repeat(100_000)}), "input", "context_length_exceeded", "at most 16384 can be traced"),
        (json!({"input": "a", "min_tokens": 0}), "min_tokens", "invalid_value", "from 1 to 16384, not 0."),
        (json!({"input": "a", "tokens": 1}), "tokens", "unsupported_parameter", "`tokens`"),
        (json!({"input": "a", "model": "other"}), "model", "model_not_found", "`other`"),
    ] {
        let (status, answer) = server.post(TRACE, &body);
        let error = &answer["error"];
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{answer}");
        assert_eq!(status, if param == "model" { 404 } else { 400 });
        assert!(error["message"].as_str().unwrap().contains(message), "{answer}");
    }
}

#[test]
fn a_model_without_an_index_says_why() {
    let check = |server: &Server, expected: &str| {
        let (status, answer) = server.post(TRACE, &json!({"input": "fn main() {"}));
        let error = &answer["error"];
        assert_eq!((status, &error["param"], &error["code"]), (404, &json!("model"), &json!("trace_not_available")));
        assert!(error["message"].as_str().unwrap().contains(expected), "{error}");
        assert_eq!(server.get("/health").1["models"][0]["trace"], json!(false));
    };
    check(&Server::start(Config::default()), "it was not served as a run with stage index");
    let small = trace::Config { max_tokens: 10, ..trace::Config::default() };
    let limited = Server::of_model(Config::default(), 128, |folder| write_index(folder, &DOCUMENTS, &small));
    check(&limited, "and index.max_tokens is 10; raise it and run again");
    let damaged = Server::of_model(Config::default(), 128, |folder| {
        write_index(folder, &DOCUMENTS, &trace::Config::default());
        std::fs::write(folder.join("index/block-00000.safetensors"), "other").unwrap();
    });
    check(&damaged, "block-00000.safetensors");
    let off = Config { trace: false, ..Config::default() };
    let off = Server::of_model(off, 128, |folder| write_index(folder, &DOCUMENTS, &trace::Config::default()));
    check(&off, "`serve.trace` of this server is false");
    let traced: Value = traced().get("/health").1["models"][0]["trace"].clone();
    assert_eq!(traced, json!(true));
}
