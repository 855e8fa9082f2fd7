//! Chat templates against transformers: `fixtures/chat_templates.py` wrote what is expected.

mod chat_families;

use std::fmt::Write as _;

use chat_families::{families, plain, read};
use serde_json::{Map, Value, json};
use tokenizer::{BUILTIN, CHAT_TEMPLATE, ChatTemplate, Conversation, Error, RenderOptions};

/// The keys of a family's file that are not conversations.
const ABOUT: [&str; 4] = ["tokenizer", "bos_token", "eos_token", "forged"];

/// Returns the conversation of an entry of `conversations.json`, and its variables.
fn conversation(entry: &Value) -> (Conversation, Map<String, Value>) {
    let mut variables = entry.as_object().unwrap().clone();
    variables.remove("messages");
    variables.remove("tools");
    (serde_json::from_value(entry.clone()).unwrap(), variables)
}

/// Renders as `apply_chat_template` does: the text, or `{"refused": …}` or `{"failed": …}`.
fn render(
    source: &str,
    conversation: &Conversation,
    options: &RenderOptions,
    special_tokens: [(&str, &str); 2],
) -> Value {
    match ChatTemplate::new(source).and_then(|template| template.render(conversation, options, special_tokens)) {
        Ok(rendered) => rendered.text.into(),
        Err(Error::TemplateRaised { text }) => json!({"refused": text}),
        Err(error) => json!({"failed": format!("{error}: {:?}", std::error::Error::source(&error))}),
    }
}

/// Returns what is expected of a prompt: an error, or the characters that it shares with `whole` and the rest.
fn prompt(whole: &Value, expected: &Value) -> Value {
    match (whole, expected.as_array()) {
        (Value::String(whole), Some(parts)) => {
            let same = whole.chars().take(parts[0].as_u64().unwrap() as usize);
            let rest = parts[1].as_str().unwrap();
            same.chain(rest.chars()).collect::<String>().into()
        }
        _ => expected.clone(),
    }
}

/// Adds a line to `differences` unless both are the same text, the same refusal, or failures.
fn compare(differences: &mut String, name: &str, found: &Value, expected: &Value) {
    if found != expected && !(found.get("failed").is_some() && expected.get("failed").is_some()) {
        writeln!(differences, "{name}\n  found    {found}\n  expected {expected}").unwrap();
    }
}

#[test]
fn templates_render_as_in_transformers() {
    let conversations = read("conversations.json");
    let mut differences = String::new();
    for (family, source) in families() {
        let expected = read(&format!("{family}.json"));
        let token = |key: &str| expected[key].as_str().unwrap();
        let special_tokens = [("bos_token", token("bos_token")), ("eos_token", token("eos_token"))];
        for (title, case) in expected.iter().filter(|(title, _)| !ABOUT.contains(&title.as_str())) {
            let (conversation, variables) = conversation(&conversations[title]);
            for (kind, source) in [("marked", source.clone()), ("plain", plain(&source))] {
                let mut options = RenderOptions { variables: variables.clone(), ..RenderOptions::default() };
                let found = render(&source, &conversation, &options, special_tokens);
                compare(&mut differences, &format!("{family}, {title}, {kind}"), &found, &case["text"]);
                options.add_generation_prompt = true;
                let found = render(&source, &conversation, &options, special_tokens);
                let expected = prompt(&case["text"], &case["prompt"]);
                compare(&mut differences, &format!("{family}, {title}, {kind}, prompt"), &found, &expected);
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn expressions_and_blocks_are_those_of_jinja() {
    let mut snippets = read("snippets.json");
    let Value::Object(variables) = snippets.remove("values").unwrap() else { panic!("the values are an object") };
    let options = RenderOptions { variables, ..RenderOptions::default() };
    let conversation = serde_json::from_value(json!({"messages": [{"role": "user", "content": "q"}]})).unwrap();
    let special_tokens = [("bos_token", "<|endoftext|>"), ("eos_token", "<|im_end|>")];
    let mut differences = String::new();
    for (snippet, expected) in &snippets {
        let found = render(&snippet.replace('↵', "\n"), &conversation, &options, special_tokens);
        compare(&mut differences, snippet, &found, expected);
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn line_ends_of_windows_are_line_feeds() {
    let conversation = serde_json::from_value(json!({"messages": [{"role": "user", "content": "q\r\n"}]})).unwrap();
    let source = "{% for message in messages %}\r\n{{ '<user>\r\n' + message.content }}\r\n{% endfor %}\r\n";
    let found = render(source, &conversation, &RenderOptions::default(), [("bos_token", ""), ("eos_token", "")]);
    assert_eq!(found, "<user>\nq\r\n\n");
}

/// Returns the text of an error with its causes.
fn error(source: &str) -> String {
    let conversation = serde_json::from_value(json!({"messages": [{"role": "user", "content": "q"}]})).unwrap();
    let render = |template: ChatTemplate| template.render(&conversation, &RenderOptions::default(), []);
    let error = ChatTemplate::new(source).and_then(render).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_template_that_does_not_end_is_an_error() {
    let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}";
    assert!(error(loops).contains("engine ran out of fuel"), "{}", error(loops));
    let calls = "{% macro call(a) %}{{ call(a) }}{% endmacro %}{{ call(1) }}";
    assert!(error(calls).contains("recursion limit exceeded"), "{}", error(calls));
    let padding = "{{ 'a'.ljust(100000000000) | length }}{{ ('a' * 1000000000000) | length }}";
    assert!(!error(padding).is_empty());
}

#[test]
fn errors_name_the_line_and_the_cause() {
    assert_eq!(
        error("a\n{{ raise_exception('Only ' + messages[0].role) }}"),
        "the chat template refuses these messages: Only user"
    );
    let unknown = error("a\n{{ 1 | unknown }}");
    assert!(unknown.contains("unknown") && unknown.contains("chat_template:2"), "{unknown}");
    let syntax = error("a\n\n{% if %}");
    assert!(syntax.contains("chat_template:3"), "{syntax}");
}

#[test]
fn tool_calls_are_rendered_or_refused_by_name() {
    let arguments = json!({"train": [0, 1.5, "ü"]});
    let call = |arguments: Value| {
        let function = json!({"name": "leaves", "arguments": arguments});
        json!({"id": "c0", "type": "function", "function": function})
    };
    let chat: Conversation = serde_json::from_value(json!({"messages": [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": null, "tool_calls": [call(arguments), call("{\"train\": 0}".into())]},
        {"role": "tool", "tool_call_id": "c0", "content": "0:15"},
        {"role": "assistant", "content": "At 0:15.", "tool_calls": [{"name": "wait"}]},
        {"role": "assistant", "content": null},
    ]}))
    .unwrap();
    let render = |source: &str| {
        let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
        ChatTemplate::new(source).unwrap().render(&chat, &RenderOptions::default(), tokens)
    };
    let expected = "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\n\
        <tool_call>\n{\"name\": \"leaves\", \"arguments\": {\"train\": [0, 1.5, \"ü\"]}}\n</tool_call>\n\
        <tool_call>\n{\"name\": \"leaves\", \"arguments\": {\"train\": 0}}\n</tool_call><|im_end|>\n\
        <|im_start|>tool\n0:15<|im_end|>\n<|im_start|>assistant\nAt 0:15.\n\
        <tool_call>\n{\"name\": \"wait\", \"arguments\": {}}\n</tool_call><|im_end|>\n\
        <|im_start|>assistant\n<|im_end|>\n";
    assert_eq!(render(CHAT_TEMPLATE).unwrap().text, expected);
    for builtin in BUILTIN {
        match render(builtin.source) {
            Ok(rendered) => assert_eq!((builtin.name, rendered.text.as_str()), ("chatml", expected)),
            Err(error) => assert!(error.to_string().contains(builtin.name), "{error}"),
        }
    }
}
