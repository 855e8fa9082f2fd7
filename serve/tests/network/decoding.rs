//! Sampling, log probabilities, structured output and limits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::Config;

use super::server::{CHAT, Server, TEXT};

fn start(context_length: usize) -> Server {
    Server::of_model(Config { max_tokens: 1000, ..Config::default() }, context_length, |_| ())
}

/// Returns the choices of all chunks of a streamed answer.
fn chunks(server: &Server, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let events = server.stream(path, &body);
    let chunks = events.iter().filter(|data| *data != "[DONE]");
    chunks.map(|chunk| serde_json::from_str::<Value>(chunk).unwrap()["choices"][0].clone()).collect()
}

/// Returns `param`, `code` and the message of a request that is refused.
fn refused(server: &Server, path: &str, body: &Value) -> (String, String, String) {
    let error = server.error(path, body);
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("param"), text("code"), text("message"))
}

fn strings(values: &Value) -> Vec<&str> {
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// Returns true if a token stands in the text as it is shown: it is UTF-8, and not special.
fn is_text(token: &str) -> bool {
    !token.starts_with("bytes:") && !token.starts_with("<|")
}

#[test]
fn tokens_of_a_completion_have_their_log_probabilities() {
    let server = start(128);
    let body = json!({"prompt": "fn é", "max_tokens": 12, "seed": 4, "logprobs": 3, "echo": true, "n": 2});
    let choices = server.choices(TEXT, &body);
    for choice in &choices {
        let (logprobs, text) = (&choice["logprobs"], choice["text"].as_str().unwrap());
        let tokens = strings(&logprobs["tokens"]);
        let offsets: Vec<u64> =
            logprobs["text_offset"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
        assert!(offsets.is_sorted() && offsets[0] == 0, "{offsets:?}");
        let characters: Vec<char> = text.chars().collect();
        for (token, offset) in tokens.iter().zip(&offsets).filter(|(token, _)| is_text(token)) {
            let found: String = characters[*offset as usize..].iter().take(token.chars().count()).collect();
            assert_eq!(found, **token);
        }
        assert_eq!(logprobs["token_logprobs"][0], Value::Null);
        assert_eq!(logprobs["top_logprobs"][0], Value::Null);
        for at in 1..tokens.len() {
            let logprob = logprobs["token_logprobs"][at].as_f64().unwrap();
            let top = logprobs["top_logprobs"][at].as_object().unwrap();
            assert!(logprob < 0.0 && (3..=4).contains(&top.len()), "{logprobs}");
            assert_eq!(top[tokens[at]].as_f64(), Some(logprob));
        }
    }
    // A chunk has the tokens that begin in it.
    let mut whole: BTreeMap<u64, (String, BTreeMap<&str, Vec<Value>>)> = BTreeMap::new();
    let chunks = chunks(&server, TEXT, &body);
    for chunk in &chunks {
        let (text, logprobs) = whole.entry(chunk["index"].as_u64().unwrap()).or_default();
        *text += chunk["text"].as_str().unwrap();
        for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let more = chunk["logprobs"].get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            logprobs.entry(key).or_default().extend(more);
        }
    }
    for choice in &choices {
        let (text, logprobs) = &whole[&choice["index"].as_u64().unwrap()];
        assert_eq!(choice["text"], **text);
        assert_eq!(choice["logprobs"], json!(logprobs));
    }
}

#[test]
fn prompts_are_scored_without_generating() {
    let server = start(128);
    let generator = server.generator();
    let tokens = generator.tokenizer().encode("let mut total = 0;").unwrap();
    let body = json!({"prompt": tokens, "max_tokens": 0, "echo": true, "logprobs": 1, "temperature": 0});
    let (status, answer) = server.post(TEXT, &body);
    assert_eq!(status, 200, "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("let mut total = 0;"), &json!("length")));
    assert_eq!(strings(&choice["logprobs"]["tokens"]).concat(), "let mut total = 0;");
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    // The log probabilities of the model's logits, one prefix at a time.
    let scored = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(scored.len(), tokens.len());
    for at in 1..tokens.len() {
        let body = json!({"prompt": tokens[..at], "max_tokens": 1, "logprobs": 20, "logit_bias": {
            tokens[at].to_string(): 100
        }});
        let forced = &server.choices(TEXT, &body)[0]["logprobs"]["token_logprobs"][0];
        let (forced, scored) = (forced.as_f64().unwrap(), scored[at].as_f64().unwrap());
        assert!((forced - scored).abs() < 1e-4, "{at}: {forced} {scored}");
    }
    // With one token more, as evaluation harnesses ask for and then leave out, even if it ends the text.
    let end = generator.stop_tokens().ids()[0];
    for bias in [json!({}), json!({ end.to_string(): 100 })] {
        let longer = json!({
            "prompt": tokens, "max_tokens": 1, "echo": true, "logprobs": 1, "temperature": 0, "logit_bias": bias
        });
        let longer = server.choices(TEXT, &longer)[0]["logprobs"].clone();
        let longer = longer["token_logprobs"].as_array().unwrap();
        assert_eq!((&longer[..tokens.len()], longer.len()), (&scored[..], tokens.len() + 1), "{bias}");
    }
}

#[test]
fn tokens_of_an_answer_have_their_log_probabilities() {
    let server = start(128);
    let messages = json!([{"role": "user", "content": "let x"}]);
    let body = json!({"messages": messages, "max_tokens": 20, "seed": 2, "logprobs": true, "top_logprobs": 2});
    let choice = &server.choices(CHAT, &body)[0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u8> = content
        .iter()
        .filter(|token| is_text(token["token"].as_str().unwrap()))
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap())
        .collect();
    assert_eq!(String::from_utf8_lossy(&bytes), choice["message"]["content"].as_str().unwrap());
    assert!(content.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    let streamed: Vec<Value> = chunks(&server, CHAT, &body)
        .iter()
        .filter_map(|chunk| chunk["logprobs"].get("content"))
        .flat_map(|content| content.as_array().unwrap().clone())
        .collect();
    assert_eq!(streamed, *content);
    let without = json!({"messages": messages, "max_tokens": 20, "seed": 2});
    let without = &server.choices(CHAT, &without)[0];
    assert_eq!((&without["message"], &without["logprobs"]), (&choice["message"], &Value::Null));
    // Tokens of a stop string are not shown.
    let text = choice["message"]["content"].as_str().unwrap();
    let stop: String = text.chars().skip(6).take(3).collect();
    let mut stopped = body;
    stopped["stop"] = json!([stop]);
    let stopped = &server.choices(CHAT, &stopped)[0];
    let kept = stopped["message"]["content"].as_str().unwrap();
    assert!(text.starts_with(kept) && kept.len() < text.len());
    let shown = stopped["logprobs"]["content"].as_array().unwrap();
    assert!(shown.len() < content.len() && content.starts_with(shown));
}

#[test]
fn best_of_chooses_by_the_mean_log_probability() {
    let server = start(128);
    // A text that has ended has one more token than are shown: none of these ends.
    let body = |seed| json!({"prompt": "let x", "max_tokens": 8, "seed": seed, "n": 6, "logprobs": 0});
    let are_long = |choices: &Vec<Value>| choices.iter().all(|choice| choice["finish_reason"] == "length");
    let mut found = (0..50).map(|seed| (seed, server.choices(TEXT, &body(seed))));
    let (seed, all) = found.find(|(_, choices)| are_long(choices)).unwrap();
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs.iter().map(|logprob| logprob.as_f64().unwrap()).sum::<f64>() / logprobs.len() as f64
    };
    let mut ranked: Vec<&Value> = all.iter().collect();
    ranked.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let body = json!({"prompt": "let x", "max_tokens": 8, "seed": seed, "n": 2, "best_of": 6});
    let (_, answer) = server.post(TEXT, &body);
    let best = answer["choices"].as_array().unwrap();
    assert_eq!((best.len(), &answer["usage"]["completion_tokens"]), (2, &json!(48)));
    for (rank, (best, expected)) in best.iter().zip(ranked).enumerate() {
        assert_eq!((&best["text"], &best["index"]), (&expected["text"], &json!(rank)));
        assert_eq!(best["logprobs"], Value::Null);
    }
}

#[test]
fn settings_of_sampling_take_effect() {
    let server = start(128);
    let generator = server.generator();
    let id = generator.tokenizer().encode("x").unwrap()[0];
    let greedy = |more: Value| {
        let mut body = json!({"prompt": "let x", "max_tokens": 6, "temperature": 0, "logprobs": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let choice = server.choices(TEXT, &body)[0].clone();
        let tokens: Vec<String> =
            strings(&choice["logprobs"]["tokens"]).iter().map(|token| (*token).to_owned()).collect();
        (tokens, choice["finish_reason"].as_str().unwrap().to_owned())
    };
    let (biased, _) = greedy(json!({"logit_bias": {id.to_string(): 100}}));
    assert_eq!(biased, ["x"; 6]);
    let (penalized, _) = greedy(json!({"logit_bias": {id.to_string(): 1.9}, "frequency_penalty": 2}));
    assert!(penalized.iter().filter(|token| *token == "x").count() < 6, "{penalized:?}");
    let distinct = |more: Value| greedy(more).0.into_iter().collect::<std::collections::BTreeSet<String>>().len();
    assert!(distinct(json!({"presence_penalty": 2})) > distinct(json!({})));
    let (stopped, reason) = greedy(json!({"logit_bias": {id.to_string(): 100}, "stop_token_ids": [id]}));
    assert_eq!((stopped.len(), reason.as_str()), (0, "stop"));
    let texts = |typical_p: f64| -> std::collections::BTreeSet<String> {
        let body = |seed| json!({"prompt": "let x", "max_tokens": 6, "seed": seed, "typical_p": typical_p});
        (0..3).map(|seed| server.choices(TEXT, &body(seed))[0]["text"].to_string()).collect()
    };
    assert_eq!((texts(0.001).len(), texts(1.0).len()), (1, 3), "only the most typical token is left");
    let outside = json!({"prompt": "x", "stop_token_ids": [99_999]});
    let (param, code, message) = refused(&server, TEXT, &outside);
    assert_eq!((param.as_str(), code.as_str()), ("stop_token_ids", "invalid_value"));
    assert_eq!(message, "`stop_token_ids` must be ids of tokens in the vocabulary, not 99999.");
}

#[test]
fn guidance_leads_away_from_the_negative_prompt() {
    let server = start(128);
    let messages = |text: &str| json!([{"role": "user", "content": text}]);
    for (path, prompt, negative) in
        [(TEXT, json!({"prompt": "let x"}), "fn"), (CHAT, json!({"messages": messages("let x")}), "fn")]
    {
        let text = |more: Value| {
            let mut body = json!({"max_tokens": 8, "seed": 3});
            body.as_object_mut().unwrap().extend(prompt.as_object().unwrap().clone());
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let choice = server.choices(path, &body)[0].clone();
            if path == TEXT { choice["text"].to_string() } else { choice["message"]["content"].to_string() }
        };
        let plain = text(json!({}));
        assert_eq!(text(json!({"guidance_scale": 1, "negative_prompt": negative})), plain);
        let of_negative =
            if path == TEXT { json!({"prompt": negative}) } else { json!({"messages": messages(negative)}) };
        assert_eq!(text(json!({"guidance_scale": 0, "negative_prompt": negative})), text(of_negative));
        assert_ne!(text(json!({"guidance_scale": 30})), plain);
        let long = json!({"guidance_scale": 2, "negative_prompt": "let total = 0; ".repeat(40)});
        let mut body = prompt.clone();
        body.as_object_mut().unwrap().extend(long.as_object().unwrap().clone());
        let (param, code, message) = refused(&server, path, &body);
        assert_eq!((param.as_str(), code.as_str()), ("negative_prompt", "context_length_exceeded"));
        assert!(message.ends_with("shorten it."), "{message}");
    }
    let (param, _, _) = refused(&server, "/v1/responses", &json!({"input": "x", "guidance_scale": 2}));
    assert_eq!(param, "guidance_scale");
}

#[test]
fn a_prompt_beyond_the_context_is_refused_or_truncated() {
    let server = start(128);
    let long = "let total = 0; ".repeat(40);
    let messages = json!([{"role": "user", "content": long}]);
    for (path, body, name) in
        [(TEXT, json!({"prompt": long}), "prompt"), (CHAT, json!({"messages": messages}), "messages")]
    {
        let (param, code, message) = refused(&server, path, &body);
        assert_eq!((param.as_str(), code.as_str()), (name, "context_length_exceeded"));
        assert!(message.contains("this model reads at most 128"), "{message}");
        let mut body = body;
        body["max_tokens"] = 4.into();
        for (truncated, expected) in [(-1, 128), (20, 20)] {
            body["truncate_prompt_tokens"] = truncated.into();
            let (status, answer) = server.post(path, &body);
            assert_eq!((status, &answer["usage"]["prompt_tokens"]), (200, &json!(expected)), "{answer}");
        }
    }
    // What is kept is the end, which `echo` shows.
    let body = json!({"prompt": long, "max_tokens": 0, "echo": true, "truncate_prompt_tokens": 5});
    let echoed = server.choices(TEXT, &body)[0]["text"].as_str().unwrap().to_owned();
    assert!(long.ends_with(&echoed) && !echoed.is_empty() && echoed.len() < 40, "{echoed:?}");
}

#[test]
fn answers_obey_a_schema() {
    let server = start(128);
    let schema = json!({
        "type": "object",
        "properties": {
            "kind": {"enum": ["sum", "product"]},
            "digits": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 3},
        },
        "required": ["kind", "digits"],
        "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    let body = json!({
        "messages": [{"role": "user", "content": "let x"}], "max_tokens": 100, "seed": 3, "n": 8, "temperature": 1.5,
        "response_format": format,
    });
    let choices = server.choices(CHAT, &body);
    for choice in &choices {
        let text = choice["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(["sum", "product"].contains(&value["kind"].as_str().unwrap()) && value.as_object().unwrap().len() == 2);
        let digits = value["digits"].as_array().unwrap();
        assert!(digits.len() <= 3 && digits.iter().all(|digit| digit.as_u64().unwrap() <= 9));
        assert_eq!(choice["finish_reason"], "stop");
    }
    let mut texts = vec![String::new(); 8];
    for chunk in chunks(&server, CHAT, &body) {
        texts[chunk["index"].as_u64().unwrap() as usize] += chunk["delta"]["content"].as_str().unwrap_or_default();
    }
    let whole: Vec<&str> = choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(texts, whole);
    let regex = json!({"prompt": "x", "max_tokens": 50, "seed": 1, "guided_regex": "(yes|no), [0-9]{3}"});
    let text = server.choices(TEXT, &regex)[0]["text"].as_str().unwrap().to_owned();
    let (word, number) = text.split_once(", ").unwrap();
    assert!(["yes", "no"].contains(&word) && number.len() == 3 && number.parse::<u32>().is_ok(), "{text}");
    let grammar = "start: \"let \" NAME \" = \" NUMBER \";\"\nNAME: /[a-z]{1,4}/\nNUMBER: /[0-9]{1,3}/";
    let lark = json!({"prompt": "x", "max_tokens": 50, "seed": 1, "guided_grammar": grammar});
    let text = server.choices(TEXT, &lark)[0]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("let ") && text.ends_with(';'), "{text}");
}

#[test]
fn invalid_and_hostile_grammars_are_refused_by_name() {
    let server = start(128);
    let start = Instant::now();
    let mut deep = json!({"type": "integer"});
    for _ in 0..100 {
        deep = json!({"type": "array", "items": deep});
    }
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}});
    let cases = [
        (schema(json!({"type": "string", "pattern": "("})), "response_format"),
        (schema(json!({"type": "unknown"})), "response_format"),
        (schema(json!(3)), "response_format"),
        (schema(json!({"$ref": "https://example.org/schema.json"})), "response_format"),
        (schema(deep), "response_format"),
        (json!({"guided_json": {"type": "string", "pattern": "x".repeat(70_000)}}), "guided_json"),
        (json!({"guided_json": "{"}), "guided_json"),
        (json!({"guided_regex": "("}), "guided_regex"),
        (json!({"guided_grammar": "start: missing"}), "guided_grammar"),
    ];
    for (mut body, param) in cases {
        body["max_tokens"] = 4.into();
        let (found, code, message) = refused(&server, TEXT, &body);
        assert_eq!(found, param, "{message}");
        assert!(["invalid_grammar", "invalid_value"].contains(&code.as_str()), "{code}: {message}");
    }
    for regex in ["(((a{1000}){1000}){1000}){1000}", "(a|b|ab)*c{999}(a*)*(b*)*", "(x+x+)+y"] {
        let (status, answer) = server.post(TEXT, &json!({"prompt": "fn", "max_tokens": 4, "guided_regex": regex}));
        assert!([200, 400].contains(&status), "{regex}: {answer}");
    }
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    assert_eq!(server.post(TEXT, &json!({"prompt": "fn", "max_tokens": 1})).0, 200);
}

#[test]
fn a_required_call_of_a_tool_is_read_from_the_text() {
    let server = start(1024);
    let parameters = json!({
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["a"],
        "additionalProperties": false,
    });
    let tools = json!([
        {"type": "function", "function": {"name": "add", "parameters": parameters}},
        {"type": "function", "function": {"name": "stop", "parameters": {"enum": [{}]}}},
    ]);
    let body = |choice: Value| {
        json!({
            "messages": [{"role": "user", "content": "x"}], "tools": tools, "tool_choice": choice, "seed": 1, "n": 4,
            "max_tokens": 90,
        })
    };
    let required = body(json!("required"));
    let choices = server.choices(CHAT, &required);
    for choice in &choices {
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        assert_eq!((calls.len(), &calls[0]["type"]), (1, &json!("function")));
        assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
        assert!(["add", "stop"].contains(&calls[0]["function"]["name"].as_str().unwrap()));
        serde_json::from_str::<Value>(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    }
    let mut streamed: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for chunk in chunks(&server, CHAT, &required) {
        assert!(chunk["delta"]["content"].as_str().unwrap_or_default().is_empty(), "{chunk}");
        let calls = chunk["delta"].get("tool_calls").and_then(Value::as_array).cloned().unwrap_or_default();
        streamed.entry(chunk["index"].as_u64().unwrap()).or_default().extend(calls);
    }
    for choice in &choices {
        let parts = &streamed[&choice["index"].as_u64().unwrap()];
        assert_eq!(joined(parts), choice["message"]["tool_calls"][0]["function"]);
    }
    for choice in server.choices(CHAT, &body(json!({"type": "function", "function": {"name": "add"}}))) {
        let function = &choice["message"]["tool_calls"][0]["function"];
        let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
        assert!(function["name"] == "add" && arguments["a"].is_u64(), "{function}");
    }
    // What a client sends back is a conversation.
    let messages = json!([
        {"role": "user", "content": "x"}, choices[0]["message"],
        {"role": "tool", "tool_call_id": choices[0]["message"]["tool_calls"][0]["id"], "content": "4"},
    ]);
    let (status, answer) = server.post(CHAT, &json!({"messages": messages, "tools": tools, "max_tokens": 2}));
    assert_eq!(status, 200, "{answer}");
}

/// Joins the parts of one call, as OpenAI's clients do.
fn joined(parts: &[Value]) -> Value {
    let (first, rest) = parts.split_first().unwrap();
    assert_eq!((&first["index"], &first["type"]), (&json!(0), &json!("function")));
    assert!(first["id"].is_string() && first["function"]["arguments"] == "", "{first}");
    let arguments: String = rest.iter().map(|part| part["function"]["arguments"].as_str().unwrap()).collect();
    let is_bare = |part: &Value| part["index"] == 0 && part.as_object().unwrap().keys().eq(["index", "function"]);
    assert!(rest.iter().all(is_bare), "{rest:?}");
    json!({"name": first["function"]["name"], "arguments": arguments})
}

/// The notation is that of the template, and its mark the special token of that name where there is one.
#[test]
fn a_required_call_is_written_as_the_template_shows() {
    let parameters = json!({
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["a"],
        "additionalProperties": false,
    });
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": parameters}}]);
    let body = json!({
        "messages": [{"role": "user", "content": "x"}], "tools": tools, "tool_choice": "required", "seed": 1,
        "max_tokens": 150,
    });
    for mark in ["[TOOL_CALLS]", "<|python_tag|>", "<｜tool▁call▁begin｜>", "<|tool_call|>", "functools"] {
        for is_special in [false, true] {
            let server = Server::of_model(Config { max_tokens: 1000, ..Config::default() }, 1024, |folder| {
                let template =
                    format!("{{# {mark} #}}{{% for message in messages %}}{{{{ message.content }}}}{{% endfor %}}");
                std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
                if is_special {
                    let path = folder.join("tokenizer.json");
                    let text = std::fs::read_to_string(&path).unwrap();
                    std::fs::write(path, text.replace("<|im_start|>", mark)).unwrap();
                }
            });
            let choice = &server.choices(CHAT, &body)[0];
            assert_eq!(
                (&choice["finish_reason"], &choice["message"]["content"]),
                (&json!("tool_calls"), &Value::Null),
                "{mark}"
            );
            let call = &choice["message"]["tool_calls"][0];
            let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            assert!(call["function"]["name"] == "add" && arguments["a"].is_u64(), "{call}");
            let is_short = call["id"].as_str().unwrap().len() == 9;
            assert_eq!(is_short, mark == "[TOOL_CALLS]", "{call}");
            let streamed = chunks(&server, CHAT, &body);
            assert!(streamed.iter().all(|chunk| chunk["delta"]["content"].as_str().unwrap_or_default().is_empty()));
            let parts = streamed.iter().filter_map(|chunk| chunk["delta"].get("tool_calls"));
            assert_eq!(joined(&parts.map(|parts| parts[0].clone()).collect::<Vec<_>>()), call["function"]);
        }
    }
}
