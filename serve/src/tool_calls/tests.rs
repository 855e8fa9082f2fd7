//! Calls are taken out of texts in every notation, wherever a text is divided.

use super::*;
use serde_json::json;
use test_support::fuzz::Random;

/// Checks the text outside of calls and the calls, wherever the text is split.
#[track_caller]
fn check(notation: Notation, text: &str, outside: &str, calls: &[(&str, &str)]) {
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let tools = Tools::new(notation, &json!([function("add"), function("f")]));
    let characters: Vec<char> = text.chars().collect();
    for size in 1..=characters.len() {
        let mut filter = CallFilter::new(tools.clone());
        let pieces = characters.chunks(size).map(|piece| piece.iter().collect::<String>());
        let mut parts: Vec<Part> = pieces.flat_map(|piece| filter.push(&piece)).collect();
        parts.extend(filter.finish());
        let (found, found_calls) = join(parts);
        let found_calls: Vec<(&str, &str)> =
            found_calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
        assert_eq!((found, &found_calls[..]), (outside.to_owned(), calls), "{text} by {size}");
    }
}

const ADD: (&str, &str) = ("add", r#"{"a": 1}"#);
const F: (&str, &str) = ("f", "{}");

#[test]
fn calls_of_hermes_are_taken_out_of_the_text() {
    let check = |text: &str, outside: &str, calls: &[_]| check(Notation::Hermes, text, outside, calls);
    check("é <b> x", "é <b> x", &[]);
    let add = r#"<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>"#;
    check(&format!("Sum:{add}"), "Sum:", &[ADD]);
    let open = r#"<tool_call>{"name": "f", "parameters": "{}"}"#;
    check(&format!("{add}\n{open}"), "", &[ADD, F]);
    check("<tool_call>{\"name\"", "<tool_call>{\"name\"", &[]);
    check("a<tool_call>no</tool_call>b", "a<tool_call>no</tool_call>b", &[]);
    check("a <tool_", "a <tool_", &[]);
    check(&format!("a {add} b \n{add}\n"), "a  b", &[ADD, ADD]);
    let nested = r#"<tool_call>{"name": "f", "arguments": {"a": "</tool>", "b": [{}]}}</tool_call>"#;
    check(nested, "", &[("f", r#"{"a": "</tool>", "b": [{}]}"#)]);
    // The mark in a string ends nothing.
    let quoted = r#"<tool_call> {"name": "f", "arguments": {"a": "</tool_call>"}} </tool_call>!"#;
    check(quoted, "!", &[("f", r#"{"a": "</tool_call>"}"#)]);
    // Other keys, in any order; arguments that come before the name or are a string are complete at once.
    check(r#"<tool_call>{"id": [1, {}], "name": "f", "arguments": {}, "x": "}"}</tool_call>"#, "", &[F]);
    check(r#"<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>"#, "", &[("add", r#"{"a":1}"#)]);
    check(r#"<tool_call>{"name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#, "", &[("f", r#"{"a": 1}"#)]);
    // As in OpenAI's API, arguments may be cut off or invalid.
    check(r#"<tool_call>{"name": "f", "arguments": {"a": "#, "", &[("f", r#"{"a": "#)]);
    check(r#"<tool_call>{"name": "f", "arguments": {x}}</tool_call>!"#, "!", &[("f", "{x}")]);
    check(r#"<tool_call>{"name": "f", "arguments": {}} and"#, " and", &[F]);
}

#[test]
fn calls_of_llama_are_taken_out_of_the_text() {
    let check = |text: &str, outside: &str, calls: &[_]| check(Notation::Llama, text, outside, calls);
    let add = r#"{"name": "add", "parameters": {"a": 1}}"#;
    check(add, "", &[ADD]);
    check(&format!("\n\n{add}"), "", &[ADD]);
    check(&format!("<|python_tag|>{add}"), "", &[ADD]);
    check(&format!(r#"{add}; {{"type": "function", "name": "f", "parameters": {{}}}}"#), "", &[ADD, F]);
    check(&format!("<|python_tag|>{add};{add}"), "", &[ADD, ADD]);
    // Another tool, and JSON that is the answer.
    let other = r#"{"name": "other", "parameters": {}}"#;
    check(other, other, &[]);
    check(" {\"a\": [1, {}]} ", " {\"a\": [1, {}]} ", &[]);
    check("{\"name\": \"add\"", "{\"name\": \"add\"", &[]);
    check("{", "{", &[]);
    check("  ", "  ", &[]);
    check("The answer is {}.", "The answer is {}.", &[]);
    let built_in = r#"<|python_tag|>brave_search.call(query="a")"#;
    check(built_in, built_in, &[]);
    check(&format!("Let me see. <|python_tag|>{add}"), "Let me see. ", &[ADD]);
}

#[test]
fn calls_of_mistral_are_taken_out_of_the_text() {
    let check = |text: &str, outside: &str, calls: &[_]| check(Notation::Mistral, text, outside, calls);
    let add = r#"{"name": "add", "arguments": {"a": 1}, "id": "abcdefghi"}"#;
    let both = format!(r#"[TOOL_CALLS] [{add}, {{"name": "f", "arguments": {{}}}}]"#);
    check(&both, "", &[ADD, F]);
    check(r#"Sure.[TOOL_CALLS][{"name":"f","arguments":{}}]"#, "Sure.", &[F]);
    check(r#"[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{}"#, "", &[ADD, F]);
    check(r#"[TOOL_CALLS]add{"a": 1}"#, "", &[ADD]);
    check("[TOOL_CALLS] [{\"name\": 1}]", "[TOOL_CALLS] [{\"name\": 1}]", &[]);
    check("[TOOL_CALLS]no such, I think", "[TOOL_CALLS]no such, I think", &[]);
    check("[TOOL_CALLS] [{", "[TOOL_CALLS] [{", &[]);
    check("[1, 2] [TOOL", "[1, 2] [TOOL", &[]);
}

#[test]
fn calls_of_deepseek_are_taken_out_of_the_text() {
    let call = |inner: &str| format!("<｜tool▁call▁begin｜>{inner}<｜tool▁call▁end｜>");
    let fenced =
        |name: &str, arguments: &str| call(&format!("function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```"));
    let calls = |inner: &str| format!("<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>");
    let (add, f) = (fenced("add", "{\"a\": 1}"), fenced("f", "{}"));
    check(Notation::DeepSeek, &format!("Let me. {}", calls(&format!("{add}\n{f}"))), "Let me. ", &[ADD, F]);
    // Where the outer marks are special tokens without text.
    check(Notation::DeepSeek, &add, "", &[ADD]);
    let plain = calls(&(call("add<｜tool▁sep｜>{\"a\": 1}") + &call("f<｜tool▁sep｜>{}")));
    check(Notation::DeepSeekPlain, &plain, "", &[ADD, F]);
    let broken = call("f<｜tool▁sep｜>1");
    check(Notation::DeepSeekPlain, &broken, &broken, &[]);
    check(Notation::DeepSeek, &call("function<｜tool▁sep｜>f"), "", &[F]);
}

#[test]
fn calls_of_granite_and_phi_are_taken_out_of_the_text() {
    let both = r#"[{"name": "add", "arguments": {"a": 1}}, {"name": "f", "arguments": {}}]"#;
    check(Notation::Granite, &format!("<|tool_call|>{both}"), "", &[ADD, F]);
    check(Notation::Granite, &format!("<|tool_call|> {both}"), "", &[ADD, F]);
    check(Notation::Phi, &format!("<|tool_call|>{both}<|/tool_call|>"), "", &[ADD, F]);
    check(Notation::Phi, r#"<|tool_call|>{"name": "f", "arguments": {}}<|/tool_call|>"#, "", &[F]);
    let wrapped = r#"<|tool_call|>[{"type": "function", "function": {"name": "f", "arguments": {}}}]<|/tool_call|>"#;
    check(Notation::Phi, wrapped, "", &[F]);
    check(Notation::Functools, &format!("functools{both}"), "", &[ADD, F]);
    check(Notation::Functools, "Use functools or functools[0].", "Use functools or functools[0].", &[]);
    check(Notation::Granite, "<|tool_call|>[]", "<|tool_call|>[]", &[]);
    let list = r#"<|tool_call|>[{"name": "f", "arguments": {}}, 5]"#;
    check(Notation::Granite, list, " 5]", &[F]);
}

#[test]
fn arguments_come_as_they_are_written() {
    let arguments = r#"{"a": [1, "}"]}"#;
    let call = format!(r#"{{"name": "add", "arguments": {arguments}}}"#);
    let deepseek = |inner: String| format!("<｜tool▁call▁begin｜>{inner}<｜tool▁call▁end｜>");
    for (notation, text) in [
        (Notation::Hermes, format!("<tool_call>\n{call}\n</tool_call>")),
        (Notation::Llama, call.clone()),
        (Notation::Mistral, format!("[TOOL_CALLS] [{call}]")),
        (Notation::Mistral, format!("[TOOL_CALLS]add[ARGS]{arguments}")),
        (Notation::DeepSeek, deepseek(format!("function<｜tool▁sep｜>add\n```json\n{arguments}\n```"))),
        (Notation::DeepSeekPlain, deepseek(format!("add<｜tool▁sep｜>{arguments}"))),
        (Notation::Granite, format!("<|tool_call|>[{call}]")),
        (Notation::Phi, format!("<|tool_call|>[{call}]<|/tool_call|>")),
        (Notation::Functools, format!("functools[{call}]")),
    ] {
        let mut filter = CallFilter::new(Tools { notation, names: vec!["add".to_owned()] });
        let start = text.find(arguments).unwrap();
        let mut found = String::new();
        for (at, character) in text.char_indices() {
            for part in filter.push(&character.to_string()) {
                match part {
                    Part::Arguments(more) => found += &more,
                    Part::Call { name, .. } => assert_eq!((name.as_str(), at), ("add", start)),
                    Part::Text(text) => panic!("{text} in {notation:?}"),
                }
            }
            let written = &arguments[..(at + 1).saturating_sub(start).min(arguments.len())];
            assert_eq!(found, written, "nothing is held in {notation:?}");
        }
        assert_eq!(filter.finish(), Vec::new(), "{notation:?}");
    }
}

/// A stream is the whole answer: random texts of what calls consist of, divided at random.
#[test]
fn calls_do_not_depend_on_where_a_text_is_divided() {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "\n",
        ";",
        "1",
        "x",
        "é",
        "{}",
        "```",
        "```json",
        "add",
        "f",
        "\"name\": \"add\"",
        "\"name\"",
        "\"arguments\": {",
        "\"parameters\": ",
        "\"function\": {",
        "function",
        "{\"name\": \"f\", \"arguments\": {\"a\": [\"}\"]}}",
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[CALL_ID]",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
        "<|tool_call|>",
        "<|/tool_call|>",
        "functools",
        "functools[",
    ];
    let notations = [
        Notation::Hermes,
        Notation::Llama,
        Notation::Mistral,
        Notation::DeepSeek,
        Notation::DeepSeekPlain,
        Notation::Granite,
        Notation::Phi,
        Notation::Functools,
    ];
    let mut random = Random(1);
    for _ in 0..20_000 {
        let tools = Tools { notation: random.pick(&notations), names: vec!["add".to_owned(), "f".to_owned()] };
        let length = if random.one_in(50) { 200 } else { random.below(16) };
        let text: String = (0..length).map(|_| random.pick(&words)).collect();
        let whole = |(outside, calls): (String, Vec<ToolCall>)| {
            let calls = calls.into_iter().map(|call| (call.name, call.arguments));
            (outside, calls.collect::<Vec<_>>())
        };
        let mut filter = CallFilter::new(tools.clone());
        let (mut parts, mut piece) = (Vec::new(), String::new());
        for character in text.chars() {
            piece.push(character);
            if random.one_in(3) {
                parts.extend(filter.push(&std::mem::take(&mut piece)));
            }
        }
        parts.extend(filter.push(&piece));
        parts.extend(filter.finish());
        assert_eq!(whole(join(parts)), whole(tools.split(&text)), "{text} in {:?}", tools.notation);
    }
}
