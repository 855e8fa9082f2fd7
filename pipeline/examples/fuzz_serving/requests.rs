//! Bodies of requests, to every route that reads one.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use artifact::Cancel;
use model::Family;
use serde_json::{Value, json};
use serve::Config;
use test_support::fuzz::Random;

use crate::Target;
use crate::json::{self, WORDS};

/// A server in this process, and what is known of its routes.
pub struct Requests {
    address: SocketAddr,
    /// Valid bodies with their paths.
    seeds: Vec<(&'static str, Value)>,
    /// The parameters of all routes.
    keys: Vec<String>,
}

impl Requests {
    /// Starts the server with a tiny model in `folder`.
    ///
    /// # Errors
    /// Returns an error if the server cannot be started.
    pub fn new(folder: &Path) -> Result<Self, Box<dyn Error>> {
        std::fs::create_dir_all(folder)?;
        test_support::tiny::write(folder, Family::Qwen3, 512);
        let config = Config { port: 0, max_tokens: 8, check_max_tokens: 8, request_seconds: 20, ..Config::default() };
        let listener = serve::bind(&config)?;
        let address = listener.local_addr()?;
        let folder = folder.to_owned();
        std::thread::spawn(move || serve::serve_on(listener, &folder, &config, "cpu", &Cancel::default()));
        let mut requests = Self { address, seeds: seeds(), keys: Vec::new() };
        while !requests.ask("GET /ready", b"").starts_with(b"HTTP/1.1 200") {
            std::thread::sleep(Duration::from_millis(10));
        }
        let answer = requests.ask("GET /openapi.json", b"");
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").ok_or("no description")? + 4;
        let description: Value = serde_json::from_slice(&answer[body..])?;
        let schemas = description["components"]["schemas"].as_object().ok_or("no schemas")?;
        let names = schemas.values().filter_map(|schema| schema["properties"].as_object()).flat_map(|map| map.keys());
        requests.keys = names.cloned().collect();
        Ok(requests)
    }

    /// Returns the answer to a request, empty if there is none.
    fn ask(&self, what: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
             close\r\n\r\n",
            body.len()
        );
        let mut answer = Vec::new();
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
            // What was answered before an error counts.
            let _ = sent.and_then(|()| stream.read_to_end(&mut answer).map(drop));
        }
        answer
    }
}

impl Target for Requests {
    /// The first line is the path.
    fn next(&self, random: &mut Random) -> Vec<u8> {
        let (path, seed) = &self.seeds[random.below(self.seeds.len())];
        let mut body = seed.clone();
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        if !random.one_in(10) {
            json::change(&mut body, &keys, random);
        }
        let mut bytes = body.to_string().into_bytes();
        if random.one_in(4) {
            random.damage(&mut bytes, WORDS);
        }
        [path.as_bytes(), b"\n", &bytes].concat()
    }

    fn feed(&self, input: &[u8]) -> bool {
        let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        let path = String::from_utf8_lossy(&input[..end]).into_owned();
        let answer = self.ask(&format!("POST {path}"), &input[(end + 1).min(input.len())..]);
        let status = answer.get(9..12).unwrap_or_default();
        // An error of the server is as bad as a panic.
        assert!(!status.starts_with(b"5") && !status.is_empty(), "{path}: {}", String::from_utf8_lossy(&answer));
        status == b"200"
    }
}

fn seeds() -> Vec<(&'static str, Value)> {
    let chat = "/v1/chat/completions";
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "let x"}]);
    let schema = json!({
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 0, "maximum": 9}, "b": {"enum": ["x", 1, null]},
            "c": {"type": "array", "items": {"$ref": "#/$defs/d"}, "maxItems": 3},
            "e": {"anyOf": [{"type": "string", "pattern": "^[a-z]+$", "maxLength": 5}, {"type": "boolean"}]},
        },
        "required": ["a"], "additionalProperties": false, "$defs": {"d": {"type": "number", "multipleOf": 0.5}},
    });
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    let tools = json!([{"type": "function", "function": {"name": "add", "description": "d", "parameters": schema}}]);
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}});
    let called = json!([
        {"role": "user", "content": "x"}, {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
    ]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    vec![
        ("/v1/completions", json!({"prompt": "fn main", "max_tokens": 4, "temperature": 0.7, "top_k": 5, "seed": 1})),
        (
            "/v1/completions",
            json!({"prompt": ["a", "b"], "n": 2, "best_of": 3, "echo": true, "logprobs": 2, "max_tokens": 3,
                   "stop": ["x", "yz"], "stop_token_ids": [3], "logit_bias": {"5": -100}, "top_p": 0.9, "min_p": 0.1,
                   "typical_p": 0.9, "repetition_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": -0.5}),
        ),
        (
            "/v1/completions",
            json!({"prompt": [[1, 2, 3], [4]], "max_tokens": 2, "stream": true,
                   "stream_options": {"include_usage": true}, "truncate_prompt_tokens": 2}),
        ),
        ("/v1/completions", json!({"prompt": "x", "max_tokens": 8, "guided_regex": "(ab|c{1,3})+[0-9]?"})),
        ("/v1/completions", json!({"prompt": "x", "max_tokens": 4, "guidance_scale": 1.5, "negative_prompt": "y"})),
        ("/v1/completions", json!({"prompt": "x", "max_tokens": 8, "guided_json": schema})),
        (
            "/v1/completions",
            json!({"prompt": "x", "max_tokens": 8, "guided_grammar": "start: a\na: \"x\" a | /[0-9]+/\n%ignore \" \""}),
        ),
        (
            chat,
            json!({"messages": messages, "max_completion_tokens": 4, "logprobs": true, "top_logprobs": 2, "n": 2,
                   "chat_template_kwargs": {"enable_thinking": false}, "metadata": {"a": "b"}, "user": "u"}),
        ),
        (chat, json!({"messages": parts, "max_tokens": 3, "stream": true})),
        (chat, json!({"messages": messages, "max_tokens": 8, "response_format": format})),
        (
            chat,
            json!({"messages": called, "tools": tools, "tool_choice": "required", "max_tokens": 8,
                   "parallel_tool_calls": true}),
        ),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], "instructions": "i",
                   "max_output_tokens": 4, "temperature": 0.5, "metadata": {"a": "b"}, "stream": true}),
        ),
        (
            chat,
            json!({"messages": messages, "tools": tools, "tool_choice": "required", "max_tokens": 60, "stream": true}),
        ),
        ("/v1/embeddings", json!({"input": ["a", "b"], "encoding_format": "float"})),
        ("/tokenize", json!({"prompt": "let x = é🦀<|im_end|>"})),
        ("/detokenize", json!({"tokens": [1, 2, 300]})),
    ]
}
