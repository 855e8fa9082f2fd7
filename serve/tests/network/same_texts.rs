//! The same request has the same text: streamed or not, alone or among others, with its beginning in the cache or not.

use serde_json::{Value, json};
use serve::Config;

use super::server::{Server, events};

const TEXT: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const REQUESTS: u64 = 32;

/// Returns the parts of an answer's first text, streamed.
fn pieces(server: &Server, path: &str, body: &Value) -> Vec<String> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let response = server.agent.post(format!("http://{}{path}", server.address)).send_json(&body).unwrap();
    let events = events(response.into_body().into_reader());
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let pieces = chunks.filter_map(|chunk| {
        let choice = &chunk["choices"][0];
        choice["text"].as_str().or(choice["delta"]["content"].as_str()).map(str::to_owned)
    });
    pieces.collect()
}

fn whole(server: &Server, path: &str, body: &Value) -> String {
    let (status, answer) = server.post(path, body);
    assert_eq!(status, 200, "{answer}");
    let choice = &answer["choices"][0];
    choice["text"].as_str().or(choice["message"]["content"].as_str()).unwrap().to_owned()
}

/// Returns requests of several kinds, each with a prompt of its own length.
fn request(seed: u64) -> (&'static str, Value) {
    let prompt = format!("let x{seed} = {};", "1 + ".repeat(seed as usize % 7));
    let temperature = [0.0, 0.7, 1.0, 1.5][seed as usize % 4];
    let settings = json!({"max_tokens": 24, "seed": seed, "temperature": temperature});
    let mut body = settings.as_object().unwrap().clone();
    match seed % 3 {
        0 => body.extend([("messages".to_owned(), json!([{"role": "user", "content": prompt}]))]),
        1 => body.extend([("prompt".to_owned(), json!(prompt)), ("top_p".to_owned(), json!(0.9))]),
        _ => body.extend([("prompt".to_owned(), json!(prompt)), ("frequency_penalty".to_owned(), json!(0.5))]),
    }
    (if seed.is_multiple_of(3) { CHAT } else { TEXT }, body.into())
}

#[test]
fn a_batch_of_32_is_32_texts_one_by_one() {
    let server = Server::start(Config { max_concurrent_requests: 32, ..Config::default() });
    let alone: Vec<String> = (0..REQUESTS)
        .map(|seed| {
            let (path, body) = request(seed);
            whole(&server, path, &body)
        })
        .collect();
    let at_once: Vec<String> = std::thread::scope(|scope| {
        let server = &server;
        let ask = |seed: u64| {
            scope.spawn(move || {
                let (path, body) = request(seed);
                // Every other one is streamed.
                if seed.is_multiple_of(2) { pieces(server, path, &body).concat() } else { whole(server, path, &body) }
            })
        };
        let clients: Vec<_> = (0..REQUESTS).map(ask).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(at_once, alone);
    let distinct: std::collections::BTreeSet<&String> = alone.iter().collect();
    assert!(distinct.len() > 20, "{} distinct texts", distinct.len());
}

#[test]
fn a_prompt_whose_beginning_is_cached_has_the_same_text() {
    // Longer than several blocks of the cache.
    let beginning = "let total = 0; ".repeat(6);
    let body =
        |i: u64| json!({"prompt": format!("{beginning}fn f{i}"), "max_tokens": 20, "seed": i, "temperature": 1.0});
    let warm = Server::start(Config::default());
    let first: Vec<String> = (0..4).map(|i| whole(&warm, TEXT, &body(i))).collect();
    let again: Vec<String> = (0..4).map(|i| whole(&warm, TEXT, &body(i))).collect();
    assert_eq!(again, first);
    for (i, text) in (0..).zip(&first) {
        // Nothing is in the cache of a new server.
        let cold = Server::start(Config::default());
        assert_eq!(whole(&cold, TEXT, &body(i)), *text, "{i}");
    }
}

#[test]
fn no_character_is_cut_in_a_stream() {
    let server = Server::start(Config::default());
    // Every one of these characters is several tokens: the tokenizer of the tests knows few of them.
    let regex = "(🦀|é|日|本|ア|ß|𝒳|👩‍👧){12}";
    for seed in 0..8 {
        let body = json!({"prompt": "x", "max_tokens": 120, "seed": seed, "temperature": 1.5, "guided_regex": regex});
        let pieces = pieces(&server, TEXT, &body);
        assert!(pieces.len() > 1, "{pieces:?}");
        for piece in &pieces {
            assert!(!piece.contains('\u{fffd}'), "a character is cut: {pieces:?}");
        }
        assert_eq!(pieces.concat(), whole(&server, TEXT, &body));
    }
    // A text of bytes that may be no characters is the same streamed.
    for seed in 0..8 {
        let body = json!({"prompt": "x", "max_tokens": 60, "seed": seed, "temperature": 2.0});
        assert_eq!(pieces(&server, TEXT, &body).concat(), whole(&server, TEXT, &body));
    }
}
