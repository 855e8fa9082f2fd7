//! Values, texts, schemas and templates that are meant to break the server: each gets an answer below 500 in time, and
//! the server goes on to answer.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::{Config, routes};

use super::server::{Server, status};

/// Time for an answer. Far more than any takes here; an endless loop takes longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends a body and returns the status and the answer, which is not an error of the server and comes in time.
fn answer(server: &Server, path: &str, body: &str) -> (u16, Value) {
    let start = Instant::now();
    let (status, answer, _) = server.ask("POST", path, None, body);
    let shown: String = body.chars().take(200).collect();
    assert!(status < 500, "{path} {shown}: {status} {answer}");
    assert!(start.elapsed() < LIMIT, "{path} {shown} took {:?}", start.elapsed());
    if status >= 400 {
        let fields: Vec<&String> = answer["error"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["message", "type", "param", "code"], "{path} {shown}: {answer}");
    }
    (status, answer)
}

fn is_alive(server: &Server) {
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "fn", "max_tokens": 1})).0, 200);
}

/// Returns the paths of all routes that read a body, with a request that is valid or nearly so.
fn bodies() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "user", "content": "x"}]);
    let posts = routes().into_iter().filter(|route| route.method == "POST" && !route.path.starts_with("/admin"));
    let bodies: Vec<(&str, Value)> = posts
        .map(|route| match route.path {
            "/v1/completions" => (route.path, json!({"prompt": "fn", "max_tokens": 1})),
            "/v1/chat/completions" => (route.path, json!({"messages": messages, "max_tokens": 1})),
            "/v1/responses" => (route.path, json!({"input": "x", "max_output_tokens": 1})),
            "/attention" | "/tokenize" => (route.path, json!({"prompt": "x"})),
            "/detokenize" => (route.path, json!({"tokens": [1]})),
            path => (path, json!({"input": "x"})),
        })
        .collect();
    assert!(bodies.len() >= 5, "{bodies:?}");
    bodies
}

/// Returns the parameters of a route, as its description lists them.
fn parameters(description: &Value, path: &str) -> Vec<String> {
    let schema = &description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str().unwrap_or_else(|| panic!("{path} has no schema")).rsplit('/').next().unwrap();
    let properties = description["components"]["schemas"][name]["properties"].as_object().unwrap();
    properties.keys().cloned().collect()
}

#[test]
fn every_parameter_at_the_limits_of_its_type() {
    let server = Server::start(Config::default());
    let (_, description) = server.get("/openapi.json");
    let values = [
        "0",
        "-1",
        "1",
        "2147483648",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "0.5",
        "-0.0",
        "1e308",
        "-1e308",
        "5e-324",
        "null",
        "true",
        "\"\"",
        "[]",
        "{}",
        "[0]",
        "[null]",
        "{\"\": 0}",
    ];
    let mut requests = 0;
    for (path, body) in bodies() {
        for name in parameters(&description, path) {
            for value in values {
                let mut body = body.as_object().unwrap().clone();
                body.insert(name.clone(), json!("PLACE"));
                let body = Value::from(body).to_string().replace("\"PLACE\"", value);
                let (status, answer) = answer(&server, path, &body);
                if status == 400 {
                    let param = answer["error"]["param"].as_str();
                    assert!(param.is_some(), "{path} {body} names no parameter: {answer}");
                }
                requests += 1;
            }
        }
    }
    assert!(requests > 1000, "{requests}");
    is_alive(&server);
}

#[test]
fn nan_and_infinity_are_not_numbers() {
    let server = Server::start(Config::default());
    let (_, description) = server.get("/openapi.json");
    for (path, body) in bodies() {
        for name in parameters(&description, path) {
            for value in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"] {
                let mut body = body.as_object().unwrap().clone();
                body.insert(name.clone(), json!("PLACE"));
                let body = Value::from(body).to_string().replace("\"PLACE\"", value);
                assert_eq!(answer(&server, path, &body).0, 400, "{path} {body}");
            }
        }
    }
    // What overflows only as a 32-bit number.
    let sampled = |name: &str| answer(&server, "/v1/completions", &format!("{{\"prompt\": \"x\", \"{name}\": 1e300}}"));
    for name in
        ["temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "frequency_penalty", "guidance_scale"]
    {
        let (status, error) = sampled(name);
        assert_eq!((status, error["error"]["param"].as_str()), (400, Some(name)));
    }
    is_alive(&server);
}

#[test]
fn deep_json_is_refused_by_every_route() {
    let server = Server::start(Config::default());
    let depth = 10_000;
    for (path, body) in bodies() {
        for name in body.as_object().unwrap().keys() {
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let deep = format!("{{\"{name}\": {}{}}}", open.repeat(depth), close.repeat(depth));
                assert_eq!(answer(&server, path, &deep).0, 400, "{path} {name} {open}");
                let unclosed = format!("{{\"{name}\": {}", open.repeat(depth));
                assert_eq!(answer(&server, path, &unclosed).0, 400, "{path} {name} {open}");
            }
        }
    }
    // A schema in a string is parsed on its own; 10,000 of these are longer than a grammar may be.
    let schema = "{\"items\":".repeat(depth) + "{}" + &"}".repeat(depth);
    let body = json!({"prompt": "x", "max_tokens": 1, "guided_json": schema}).to_string();
    assert_eq!(answer(&server, "/v1/completions", &body).0, 400);
    is_alive(&server);
}

#[test]
fn a_megabyte_of_one_letter_anywhere() {
    let server = Server::start(Config::default());
    // Less than a megabyte, which a body may have; the last is a letter of four bytes.
    for letters in ["a".repeat(1_000_000), " ".repeat(1_000_000), "\n".repeat(500_000), "🦀".repeat(250_000)] {
        let message = json!([{"role": "user", "content": letters}]);
        let x = json!([{"role": "user", "content": "x"}]);
        let cases = [
            ("/v1/completions", json!({"prompt": letters, "max_tokens": 1})),
            ("/v1/completions", json!({"prompt": letters, "max_tokens": 1, "truncate_prompt_tokens": 5})),
            ("/v1/completions", json!({"prompt": "x", "max_tokens": 1, "stop": letters})),
            ("/v1/completions", json!({"prompt": "x", "max_tokens": 1, "guided_regex": letters})),
            ("/v1/completions", json!({"prompt": "x", "max_tokens": 1, "guided_grammar": letters})),
            ("/v1/completions", json!({"prompt": "x", "max_tokens": 1, "guided_json": letters})),
            ("/v1/completions", json!({"prompt": "x", "max_tokens": 1, "user": letters})),
            ("/v1/completions", json!({"prompt": "x", "max_tokens": 1, "model": letters})),
            ("/v1/completions", json!({"prompt": "x", "max_tokens": 1, letters.as_str(): 1})),
            ("/v1/chat/completions", json!({"messages": message, "max_tokens": 1})),
            ("/v1/chat/completions", json!({"messages": x, "max_tokens": 1, "chat_template_kwargs": {"a": letters}})),
            ("/v1/responses", json!({"input": letters, "max_output_tokens": 1})),
            ("/attention", json!({"prompt": letters})),
            ("/tokenize", json!({"prompt": letters})),
            ("/trace", json!({"input": letters})),
        ];
        for (path, body) in cases {
            let (_, answer) = answer(&server, path, &body.to_string());
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            assert!(message.len() < 1000, "{path}: an error repeats what was sent: {} bytes", message.len());
        }
    }
    is_alive(&server);
}

#[test]
fn schemas_and_expressions_that_explode() {
    let server = Server::start(Config::default());
    // Each definition refers to the next twice: 2^40 paths.
    let doubling: serde_json::Map<String, Value> = (0..40)
        .map(|i| {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            (format!("d{i}"), json!({"type": "array", "prefixItems": [next, next]}))
        })
        .chain([("d40".to_owned(), json!({"type": "integer"}))])
        .collect();
    let many: serde_json::Map<String, Value> = (0..2000).map(|i| (format!("p{i}"), json!({}))).collect();
    let schemas = [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"$ref": "#/$defs/d0", "$defs": doubling}),
        json!({"type": "string", "minLength": 1_000_000_000}),
        json!({"type": "string", "maxLength": u64::MAX}),
        json!({"type": "string", "pattern": "^(a+)+$"}),
        json!({"type": "string", "pattern": "(((((a{99}){99}){99}){99}){99})"}),
        json!({"type": "string", "pattern": "[^a]{1000000}"}),
        json!({"type": "array", "minItems": 1_000_000_000}),
        json!({"type": "array", "items": {"type": "array", "minItems": 100_000}, "minItems": 100_000}),
        json!({"type": "number", "minimum": 5, "maximum": 1}),
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"type": "number", "multipleOf": 0}),
        json!({"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX}),
        json!({"type": "integer", "multipleOf": 1_000_000_007}),
        json!({"type": "object", "properties": many, "additionalProperties": false}),
        json!({"allOf": vec![json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}); 500]}),
        json!({"enum": (0..5000).collect::<Vec<u32>>()}),
        json!({"enum": []}),
        json!({"const": f64::MAX}),
        json!({"not": {}}),
        json!({"type": "object", "patternProperties": {"(a*)*b": {}}}),
    ];
    for schema in schemas {
        let body = json!({"prompt": "x", "max_tokens": 8, "seed": 1, "guided_json": schema}).to_string();
        answer(&server, "/v1/completions", &body);
    }
    let repeated = "(a|b|c|ab|bc){0,500}".repeat(50);
    for regex in [&*repeated, "(?:a{0,1000}){0,1000}b", "(?=a)*", r"\p{L}{10000}", "(a?){5000}a{5000}", r"(\w+\s?)*$"] {
        answer(&server, "/v1/completions", &json!({"prompt": "x", "max_tokens": 8, "guided_regex": regex}).to_string());
    }
    let ambiguous = "start: e\ne: e e | \"a\" | e \"+\" e | e \"*\" e | \"(\" e \")\" |";
    for grammar in [ambiguous, "start: start", "start: a\na: b\nb: a", "start: /(a*)*/ start | \"\""] {
        answer(
            &server,
            "/v1/completions",
            &json!({"prompt": "x", "max_tokens": 8, "guided_grammar": grammar}).to_string(),
        );
    }
    is_alive(&server);
}

#[test]
fn templates_reach_nothing_outside() {
    let templates = [
        "{{ messages.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages[0]['__class__']['__base__'] }}",
        "{{ messages | attr('__class__') }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}{{ x }}",
        "{% extends '/etc/passwd' %}",
        "{{ self }}{{ self._TemplateReference__context }}",
        "{{ '%s' | format(messages) }}{{ '{0.__class__}'.format(messages) }}",
        "{{ lipsum.__globals__ }}{{ config }}{{ request }}{{ debug() }}",
        "{{ range(1000000000) | list | length }}",
        "{{ 'a' * 1000000000000 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}a{% endfor %}{% endfor %}",
        "{{ messages | tojson(indent=1000000) | length }}",
    ];
    for template in templates {
        let write = |folder: &Path| fs::write(folder.join("chat_template.jinja"), template).unwrap();
        let server = Server::of_model(Config::default(), 128, write);
        let body = json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}).to_string();
        let (_, answer) = answer(&server, "/v1/chat/completions", &body);
        let text = answer.to_string();
        assert!(!text.contains("uid=") && !text.contains("root:"), "{template}: {text}");
        is_alive(&server);
    }
}

#[test]
fn heads_that_are_not_text() {
    let server = Server::start(Config::default());
    let heads: [&[u8]; 10] = [
        b"GET /v1/models/%ff%fe HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /v1/models/%00 HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /v1/models/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /v1/models/\xff HTTP/1.1\r\nHost: localhost\r\n",
        b"GET /health HTTP/1.1\r\nHost: \xff\xfe\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: \xff/json\r\nContent-Length: 2\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 HTTP/1.1\r\n",
    ];
    for head in heads {
        let mut stream = server.connect();
        stream.write_all(head).unwrap();
        stream.write_all(b"Connection: close\r\n\r\n{}").unwrap();
        let status = status(stream);
        assert!((400..500).contains(&status) || status == 200, "{}: {status}", head.escape_ascii());
    }
    // A chunk that is longer than it says.
    let mut stream = server.connect();
    let head =
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    stream.write_all(format!("{head}\r\n\r\n2\r\n{{\"prompt\": 1}}\r\n0\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(status(stream), 400);
    is_alive(&server);
}

#[test]
fn tokens_outside_of_the_vocabulary_are_refused() {
    let server = Server::start(Config::default());
    let size = server.get("/health").1["model"]["vocab_size"].as_u64().unwrap();
    for token in [size, size + 1, u64::from(u32::MAX)] {
        for (path, body, param) in [
            ("/v1/completions", json!({"prompt": [1, token]}), "prompt"),
            ("/v1/completions", json!({"prompt": [[1], [token]]}), "prompt"),
            ("/v1/completions", json!({"prompt": "x", "stop_token_ids": [token]}), "stop_token_ids"),
            ("/v1/completions", json!({"prompt": "x", "logit_bias": {token.to_string(): 1}}), "logit_bias"),
            ("/detokenize", json!({"tokens": [token]}), "tokens"),
        ] {
            let (status, error) = answer(&server, path, &body.to_string());
            assert_eq!((status, error["error"]["param"].as_str()), (400, Some(param)), "{path} {body}: {error}");
        }
    }
    assert_eq!(server.post("/v1/completions", &json!({"prompt": [size - 1], "max_tokens": 1})).0, 200);
}
