//! What the types of the parameters do not say: limits of the configuration and of the model, and the shapes of values
//! that are read by hand. How parameters combine is in their descriptions.

use serde_json::{Map, Value, json};

use crate::Config;
use crate::chat_request::{OWN_VARIABLES, ROLES};
use crate::keys::Access;

/// Requires a key for the routes that need one.
pub(super) fn require_key(description: &mut Value) {
    description["security"] = json!([{"key": []}]);
    for route in super::routes().iter().filter(|route| route.access == Access::Public) {
        if let Some(operation) = description["paths"].get_mut(route.path).and_then(|path| path.get_mut("get")) {
            operation["security"] = json!([]);
        }
    }
}

/// Sizes of the models, where all have the same.
pub(super) struct Sizes {
    pub(super) vocab_size: Option<usize>,
    pub(super) width: Option<usize>,
    pub(super) layers: Option<usize>,
    pub(super) heads: Option<usize>,
}

/// Adds the limits to a description of the interface.
pub(super) fn add(description: &mut Value, config: &Config, sizes: &Sizes) {
    let Sizes { vocab_size, width, layers, heads } = *sizes;
    let Some(schemas) = description["components"]["schemas"].as_object_mut() else { return };
    let max_token = vocab_size.unwrap_or(1 << 32) - 1;
    let token = json!({"type": "integer", "minimum": 0, "maximum": max_token});
    for name in ["CompletionRequest", "ChatRequest"] {
        for (property, limits) in common(config, &token) {
            set(schemas, name, property, limits);
        }
        if let Some(size) = vocab_size {
            set(schemas, name, "logit_bias", json!({"propertyNames": {"pattern": below(size)}}));
        }
    }
    let max = |limit: usize| json!({"maximum": limit});
    let several =
        |items: &Value| json!({"type": "array", "items": items, "minItems": 1, "maxItems": config.max_choices});
    let tokens = json!({"type": "array", "items": token, "minItems": 1});
    let prompts = [string(), several(&string()), tokens.clone(), several(&tokens)];
    let function_choice = json!({"function": object(&json!({"name": string()}), &["name"], false)});
    let function = object(&json!({"name": string()}), &["name"], true);
    let chat_tool = object(&json!({"type": {"const": "function"}, "function": function}), &["type", "function"], true);
    let tool = object(&json!({"type": {"const": "function"}, "name": string()}), &["type", "name"], true);
    for (name, property, limits) in [
        ("CompletionRequest", "max_tokens", max(config.max_tokens)),
        ("CompletionRequest", "logprobs", max(config.max_logprobs)),
        ("CompletionRequest", "best_of", max(config.max_choices)),
        ("CompletionRequest", "prompt", one_of(&prompts, true)),
        ("ChatRequest", "max_tokens", max(config.max_tokens)),
        ("ChatRequest", "max_completion_tokens", max(config.max_tokens)),
        ("ChatRequest", "top_logprobs", max(config.max_logprobs)),
        ("ChatRequest", "messages", json!({"items": message(), "minItems": 1})),
        ("ChatRequest", "tool_choice", tool_choice(&function_choice)),
        ("ChatRequest", "chat_template_kwargs", json!({"propertyNames": {"not": {"enum": OWN_VARIABLES}}})),
        ("ChatRequest", "tools", json!({"items": chat_tool})),
        ("ResponsesRequest", "max_output_tokens", max(config.max_tokens)),
        ("ResponsesRequest", "input", one_of(&[string(), input_items()], false)),
        ("ResponsesRequest", "tools", json!({"items": tool})),
        ("ResponsesRequest", "tool_choice", tool_choice(&json!({"name": string()}))),
        ("ResponsesRequest", "stream_options", stream_options()),
        ("ResponsesRequest", "store", json!({"enum": [false, null]})),
        ("ResponsesRequest", "background", json!({"enum": [false, null]})),
        ("ResponsesRequest", "truncation", json!({"enum": ["disabled", null]})),
        ("ResponsesRequest", "include", json!({"maxItems": 0})),
        ("TextOptions", "format", format(&["schema"])),
        ("DetokenizeRequest", "tokens", json!({"items": token})),
    ] {
        set(schemas, name, property, limits);
    }
    schemas["ResponsesRequest"]["additionalProperties"] = false.into();
    // What is not read from the file of an application is not described by its type either.
    schemas["Application"]["properties"]["id"] = json!({"type": "string", "description": "The name of its file."});
    let last = |count: Option<usize>| count.map_or_else(|| json!({}), |count| json!({"maximum": count - 1}));
    let text = json!({"type": "string", "minLength": 1});
    for (property, limits) in
        [("prompt", one_of(&[text, tokens.clone()], false)), ("layer", last(layers)), ("head", last(heads))]
    {
        set(schemas, "AttentionRequest", property, limits);
    }
    for (property, limits) in embeddings(config, &tokens, width) {
        set(schemas, "EmbeddingRequest", property, limits);
    }
}

/// Returns the limits of the parameters of embeddings.
fn embeddings(config: &Config, tokens: &Value, width: Option<usize>) -> [(&'static str, Value); 3] {
    let text = json!({"type": "string", "minLength": 1});
    let several =
        |items: &Value| json!({"type": "array", "items": items, "minItems": 1, "maxItems": config.max_inputs});
    let inputs = [text.clone(), several(&text), tokens.clone(), several(tokens)];
    [
        ("input", one_of(&inputs, false)),
        ("encoding_format", json!({"enum": ["float", "base64", null]})),
        ("dimensions", width.map_or_else(|| json!({}), |width| json!({"enum": [width, null]}))),
    ]
}

/// Returns the limits of parameters that completions and chat have in common.
fn common(config: &Config, token: &Value) -> [(&'static str, Value); 11] {
    let stop = json!({"type": "string", "minLength": 1, "maxLength": config.max_stop_bytes});
    let stops = [stop.clone(), json!({"type": "array", "items": stop, "maxItems": config.max_stop})];
    let truncated = [json!({"const": -1}), json!({"type": "integer", "minimum": 1, "maximum": i64::MAX})];
    let json_text = json!({"type": "string", "contentMediaType": "application/json", "format": "json-schema"});
    [
        ("n", json!({"maximum": config.max_choices})),
        ("top_k", json!({"maximum": u32::MAX})),
        ("seed", json!({"minimum": i64::MIN, "maximum": i64::MAX})),
        ("stop", one_of(&stops, true)),
        ("stop_token_ids", json!({"items": token, "maxItems": config.max_stop})),
        ("truncate_prompt_tokens", one_of(&truncated, true)),
        ("logit_bias", json!({"additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}})),
        ("guided_regex", json!({"format": "regex"})),
        ("guided_grammar", json!({"format": "lark"})),
        ("guided_json", one_of(&[json!({"type": "object"}), json_text], true)),
        ("response_format", format(&["json_schema", "schema"])),
    ]
}

/// Returns the schema of a format whose JSON schema is at this path.
fn format(path: &[&str]) -> Value {
    let text = json!({"type": ["string", "null"]});
    let about = json!({"name": text, "description": text, "strict": {"type": ["boolean", "null"]}});
    let kind = |name: &str| json!({"type": {"const": name}});
    let mut named = about;
    named["schema"] = json!({"type": "object"});
    let with_schema = if let [outer, _] = path {
        let mut fields = kind("json_schema");
        fields[*outer] = object(&named, &["schema"], false);
        object(&fields, &["type", outer], false)
    } else {
        named["type"] = kind("json_schema")["type"].take();
        object(&named, &["type", "schema"], false)
    };
    let plain = ["text", "json_object"].map(|name| object(&kind(name), &["type"], false));
    one_of(&[&plain[..], &[with_schema]].concat(), true)
}

/// Returns the schema of the content of a message whose parts have these types.
fn content(parts: &[&str], may_be_null: bool) -> Value {
    let part = object(&json!({"type": {"enum": parts}, "text": string()}), &["type", "text"], true);
    one_of(&[string(), json!({"type": "array", "items": part})], may_be_null)
}

/// Returns the schema of a message of a chat.
fn message() -> Value {
    let others: Vec<&str> = ROLES.into_iter().filter(|role| *role != "assistant").collect();
    let others = json!({"role": {"enum": others}, "content": content(&["text"], false)});
    let arguments = one_of(&[string(), json!({"type": "object"})], false);
    let function = object(&json!({"name": string(), "arguments": arguments}), &["name", "arguments"], true);
    let call = object(&json!({"function": function}), &["function"], true);
    let calls = json!({"type": ["array", "null"], "items": call});
    let assistant = json!({
        "role": {"const": "assistant"}, "content": content(&["text"], true), "tool_calls": calls,
    });
    one_of(&[object(&others, &["role", "content"], true), object(&assistant, &["role"], true)], false)
}

fn input_items() -> Value {
    let output = content(&["input_text", "output_text"], false);
    let message = json!({"type": {"const": "message"}, "role": {"enum": ROLES}, "content": output});
    let message = object(&message, &["role", "content"], true);
    let (call, called) = (json!({"const": "function_call"}), json!({"const": "function_call_output"}));
    let call = json!({"type": call, "call_id": string(), "name": string(), "arguments": string()});
    let call = object(&call, &["type", "call_id", "name", "arguments"], true);
    let called = json!({"type": called, "call_id": string(), "output": output});
    let called = object(&called, &["type", "call_id", "output"], true);
    json!({"type": "array", "items": one_of(&[message, call, called], false), "minItems": 1})
}

fn tool_choice(function: &Value) -> Value {
    let mut fields = function.clone();
    fields["type"] = json!({"const": "function"});
    let required: Vec<&str> = fields.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let function = object(&fields, &required, false);
    one_of(&[json!({"enum": ["none", "auto", "required"]}), function], true)
}

fn stream_options() -> Value {
    json!({"properties": {"include_obfuscation": {"type": "boolean"}}, "additionalProperties": false})
}

fn string() -> Value {
    json!({"type": "string"})
}

fn object(properties: &Value, required: &[&str], has_more: bool) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": has_more})
}

fn one_of(schemas: &[Value], may_be_null: bool) -> Value {
    let null = may_be_null.then(|| json!({"type": "null"}));
    let schemas: Vec<Value> = null.into_iter().chain(schemas.iter().cloned()).collect();
    json!({"oneOf": schemas})
}

/// Adds limits to a parameter; a choice of schemas replaces its type.
fn set(schemas: &mut Map<String, Value>, name: &str, property: &str, limits: Value) {
    let Some(schema) = schemas.get_mut(name).and_then(|schema| schema["properties"].get_mut(property)) else { return };
    let (Value::Object(schema), Value::Object(limits)) = (schema, limits) else { return };
    if limits.contains_key("oneOf") {
        schema.retain(|key, _| key == "description" || key == "default");
    }
    schema.extend(limits);
}

/// Returns the regular expression of the decimal numbers from 0 to below `size`.
fn below(size: usize) -> String {
    let last = size.saturating_sub(1).to_string();
    let mut numbers = match last.len() {
        1 => Vec::new(),
        2 => vec!["[0-9]".to_owned()],
        digits => vec!["[0-9]".to_owned(), format!("[1-9][0-9]{{1,{}}}", digits - 2)],
    };
    for (at, digit) in last.bytes().enumerate() {
        let (before, rest) = (&last[..at], last.len() - at - 1);
        let first = if at == 0 && rest > 0 { b'1' } else { b'0' };
        if digit > first {
            let range = format!("[{}-{}]", char::from(first), char::from(digit - 1));
            numbers.push(format!("{before}{range}{}", "[0-9]".repeat(rest)));
        }
    }
    numbers.push(last);
    format!("^({})$", numbers.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_a_size_match() {
        for size in [1, 2, 10, 11, 99, 100, 101, 256, 1000, 1234, 4096, 10_000] {
            let expression = below(size);
            let alternatives: Vec<&str> =
                expression.trim_start_matches("^(").trim_end_matches(")$").split('|').collect();
            let matches = |number: usize| alternatives.iter().any(|alternative| is_match(alternative, number));
            assert!((0..size).all(&matches), "{expression}");
            assert!(!(size..size * 12 + 20).any(matches), "{expression}");
        }
    }

    /// Returns true if a number matches an expression of digits, ranges of them and one repetition.
    fn is_match(expression: &str, number: usize) -> bool {
        let text = number.to_string();
        let (mut rest, mut digits) = (expression, text.as_str());
        while !rest.is_empty() {
            let (low, high) = match rest.strip_prefix('[') {
                Some(range) => (range.as_bytes()[0], range.as_bytes()[2]),
                None => (rest.as_bytes()[0], rest.as_bytes()[0]),
            };
            rest = if rest.starts_with('[') { &rest[5..] } else { &rest[1..] };
            let mut most = 1;
            if let Some((repeated, after)) = rest.strip_prefix("{1,").and_then(|repeated| repeated.split_once('}')) {
                (most, rest) = (repeated.parse().unwrap(), after);
            }
            let count = digits.bytes().take(most).take_while(|digit| (low..=high).contains(digit)).count();
            if count == 0 {
                return false;
            }
            digits = &digits[count..];
        }
        digits.is_empty()
    }
}
