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

/// Renders a template with one short message, on a thread whose stack is as small as those of the server's threads.
fn on_a_small_stack(source: &str) -> Result<String, String> {
    let source = source.to_owned();
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let conversation = serde_json::from_value(json!({"messages": [{"role": "user", "content": "q"}]})).unwrap();
        match render(&source, &conversation, &RenderOptions::default(), [("bos_token", ""), ("eos_token", "")]) {
            Value::String(text) => Ok(text),
            failed => Err(failed.to_string()),
        }
    });
    thread.unwrap().join().unwrap()
}

#[test]
fn a_namespace_never_contains_itself() {
    let uses = [
        "x",
        "x ~ ''",
        "x|string",
        "x|tojson",
        "[x]|join",
        "''.join([x])",
        "x == y",
        "x < y",
        "{x: 1}",
        "x in [y]",
        "[x, y]|unique|list",
        "[x, y]|sort",
        "x|pprint",
        "'{}'.format(x)",
        "'%s'|format(x)",
        "x|list",
        "[x].index(y)",
        "[x, y]|groupby('a')|list",
        "[x, y]|max",
        "x|dictsort",
        "raise_exception(x)",
        "x.a|length",
    ];
    let assignments = [
        "{% set x.a = x %}",
        "{% set x.a = [x] %}",
        "{% set x.a = {'k': (1, [x])} %}",
        "{% set x.a = y %}",
        "{%- set x.a,z = [x],1 -%}",
        "{% set x.a | default([x], true) %}{% endset %}",
        "{% set x.a = [x] * 2 %}",
        "{% set x.a = [x] + [] %}",
        "{% set x.a = x if true %}",
        "{% set (x.a, z) = (x, 1) %}",
        "{% for z in [x] %}{% set z.a = [z] %}{% endfor %}",
        "{% macro m(z) %}{% set z.a = [z] %}{% endmacro %}{{ m(x) }}",
        "{% set x.a = [x, 1]|map('string')|list + [x] %}",
        "{% set x.a = namespace(b=x) %}",
    ];
    for assigned in assignments {
        for used in uses {
            let start = "{% set x = namespace(a=[]) %}{% set y = namespace(a=[x]) %}";
            let source = format!("{start}{assigned}{{{{ {used} }}}}");
            let error = on_a_small_stack(&source).unwrap_err();
            assert!(error.contains("a namespace cannot be stored in an attribute of a namespace"), "{source}: {error}");
        }
    }
    // What reads the namespace while it is read is copied.
    for (assigned, expected) in [
        ("{% set x.a = x|items %}{{ x }}", "{'a': [('a', 1)]}"),
        ("{% set x.a = x.items() %}{{ x }}", "{'a': [('a', 1)]}"),
        ("{% set x.a = x.values() %}{{ x.a }}", "[1]"),
        ("{% set x.a = x|items|reverse %}{{ x.a|list }}", "[('a', 1)]"),
        (
            "{% for z in [x, 2] %}{% set x.a = loop.index %}{% set x.b = loop.first %}{% endfor %}{{ x }}",
            "{'a': 2, 'b': False}",
        ),
        ("{% set x.b = namespace %}{{ x.b(c=2).c }}", "2"),
    ] {
        let source = format!("{{% set x = namespace(a=1) %}}{assigned}");
        assert_eq!(on_a_small_stack(&source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn namespaces_keep_what_templates_store_in_them() {
    let source = "{%- set ns = namespace(first=true, texts=[], inner=namespace(n=0)) -%}
        {%- for i in range(3) -%}
            {%- set ns.texts = ns.texts + [{'i': i, 't': (i, 'x')}] -%}
            {%- set ns.inner.n = ns.inner.n + i -%}
            {%- set ns.first = false -%}
            {%- set ns.block | upper -%} block {{ i }} {%- endset -%}
        {%- endfor -%}
        {%- macro shout(text, times=1) -%} {{ text|upper * times }} {%- endmacro -%}
        {%- set ns.call = shout -%}
        {%- set a, ns.b = 1, 2 -%}
        {{ ns.texts }} {{ ns.inner.n }} {{ ns.first }} {{ ns.block }} {{ ns.call('a', times=2) }} {{ a }}{{ ns.b }}
        {%- set ns.none = none %} {{ ns.none is none }} {{ ns.missing is defined }}
        {%- set unknown = nothing %} {{ unknown is defined }}";
    let texts = "[{'i': 0, 't': (0, 'x')}, {'i': 1, 't': (1, 'x')}, {'i': 2, 't': (2, 'x')}]";
    let expected = format!("{texts} 3 False BLOCK 2 AA 12 True False False");
    assert_eq!(on_a_small_stack(source), Ok(expected));
}

#[test]
fn values_and_sources_that_are_too_deep_are_errors() {
    for (source, problem) in [
        (
            "{% set x = namespace(a=[]) %}{% for i in range(100000) %}{% set x.a = [x.a] %}{% endfor %}{{ x }}"
                .to_owned(),
            "nested more than 200 levels",
        ),
        ("{% set x = [] %}".to_owned() + &"{% set x = [[x]] %}".repeat(100_000) + "{{ x }}", "nested more than 200"),
        (
            "{% macro m(x, n) %}{% if n %}{{ m([[[[[[[[[[x]]]]]]]]]], n - 1) }}{% else %}{{ x == [x] }}{% endif %}\
             {% endmacro %}{{ m(1, 45) }}"
                .to_owned(),
            "nested more than 200",
        ),
        ("{{ ".to_owned() + &"- ".repeat(100_000) + "1 }}", "more than 1000 tokens"),
        ("{{ 1".to_owned() + &" + 1".repeat(100_000) + " }}", "more than 1000 tokens"),
        ("{{ x".to_owned() + &".x".repeat(100_000) + " }}", "more than 1000 tokens"),
        ("{{ [1]".to_owned() + &"|batch(1)".repeat(100_000) + " }}", "more than 1000 tokens"),
        ("{% if a %}".to_owned() + &"{% elif a %}".repeat(100_000) + "{% endif %}", "more than 200 elif tags"),
    ] {
        let error = on_a_small_stack(&source).unwrap_err();
        assert!(error.contains(problem), "{}…: {error}", &source[..40]);
    }
    // As long and as deep as is allowed.
    for source in [
        "{{ ".to_owned() + &"- ".repeat(998) + "1 }}",
        "{{ 1".to_owned() + &" + 1".repeat(499) + " }}",
        "{{ 1".to_owned() + &" * -1".repeat(330) + " }}",
        "{{ (x".to_owned() + &".x".repeat(400) + ") is defined }}",
        "{{ ".to_owned() + &"not ".repeat(900) + "1 }}",
        "{% set x = [1]".to_owned() + &"|batch(1)".repeat(190) + " %}{{ x == [x] }}{{ x }}{{ x|tojson }}{{ x ~ 1 }}",
        "{{ [1]".to_owned() + &"|batch(1)".repeat(198) + " }}",
        "{{ [1]".to_owned() + &"|reverse".repeat(498) + " }}",
        "{{ [[1]".to_owned() + &"|batch(1)".repeat(198) + "] ~ 1 }}",
        "{% if a %}".to_owned() + &"{% elif a %}".repeat(200) + "{% endif %}",
    ] {
        let rendered = on_a_small_stack(&source);
        let is_whole = rendered.as_ref().err().is_none_or(|error| error.contains("UndefinedError"));
        assert!(is_whole, "{}…: {rendered:?}", &source[..40]);
    }
}

#[test]
fn texts_that_grow_run_out_of_fuel() {
    for source in [
        "{% set x = namespace(a='aaaaaaaa') %}{% for i in range(60) %}{% set x.a = x.a ~ x.a %}{% endfor %}",
        "{% set x = namespace(a='aaaaaaaa') %}{% for i in range(60) %}{% set x.a = x.a + x.a %}{% endfor %}",
        "{% set x = namespace(a=['aaaaaaaa']) %}{% for i in range(60) %}{% set x.a = x.a + x.a %}{% endfor %}{{ x.a }}",
        "{% set x = namespace(a=['aaaaa']) %}{% for i in range(60) %}{% set x.a = [x.a, x.a] %}{% endfor %}{{ x }}",
        "{% set x = namespace(a='a') %}{% for i in range(60) %}{% set x.a %}{{ x.a }}{{ x.a }}{% endset %}{% endfor %}",
        "{% macro m(x, n) %}{% if n %}{{ m(x ~ x, n - 1) }}{% endif %}{% endmacro %}{{ m('a' * 1000000, 40) }}",
        "{% macro m(x, n) %}{{ m([x, x], n - 1) if n else x == [x] }}{% endmacro %}{{ m(1, 40) }}",
        "{{ ('a' * 90000000) ~ ('a' * 90000000) ~ ('a' * 90000000) }}",
        "{{ ['a' * 1000] * 100000000 }}",
        "{{ ['a' * 1000] * 100000000 ~ 'b' }}",
        "{{ (100000000 * ['a' * 1000])|upper }}",
        "{{ ['a' * 1000] * 10000 * 10000 in 'b' }}",
        "{{ (['a'] * 100000000) == (['b'] * 100000000) }}",
        "{{ (['a' * 1000] * 100000000)|tojson }}",
        "{{ (['a' * 1000] * 100000000)|join }}",
        "{{ (['a' * 1000] * 100000000)|join(attribute='x') }}",
        "{{ ''.join(['a' * 1000] * 100000000) }}",
        "{{ ('a' * 1000000)|replace('a', 'a' * 1000000) }}",
        "{{ ('a' * 1000000).replace('a', 'a' * 1000000) }}",
        "{{ ('{0}' * 1000).format('a' * 10000000) }}",
        "{{ ('a\n' * 1000000)|indent(10000) }}",
        "{{ ('a,' * 40000000).split(',') }}",
        "{{ ('%255d' * 10000000)|string|length }}{{ strftime_now('%255d' * 10000000) }}",
        "{{ range(100000)|map('string')|batch(1)|list|tojson(indent=1000000)|length }}{% for i in range(100000) %}\
         {{ 'a' * 10000 }}{% endfor %}",
    ] {
        let error = on_a_small_stack(source).unwrap_err();
        assert!(error.contains("OutOfFuel"), "{source}: {error}");
    }
    assert!(on_a_small_stack("{{ '{:9999999999}'.format(1) }}").unwrap_err().contains("width"));
    assert!(on_a_small_stack("{{ debug() }}").unwrap_err().contains("UnknownFunction"));
}

#[test]
fn long_conversations_are_rendered() {
    let message = |i: usize| {
        let role = if i.is_multiple_of(2) { "user" } else { "assistant" };
        json!({"role": role, "content": "word ".repeat(200)})
    };
    let messages: Vec<Value> = (0..2000).map(message).collect();
    let conversation: Conversation = serde_json::from_value(json!({"messages": messages})).unwrap();
    for (family, source) in families() {
        let expected = read(&format!("{family}.json"));
        let token = |key: &str| expected[key].as_str().unwrap();
        let special_tokens = [("bos_token", token("bos_token")), ("eos_token", token("eos_token"))];
        let rendered = render(&source, &conversation, &RenderOptions::default(), special_tokens);
        // Some families have one question and one answer.
        let is_whole = rendered.as_str().is_some_and(|text| text.len() > 2000 * 900);
        assert!(is_whole || rendered.get("refused").is_some() || family.contains("alpaca"), "{family}: {rendered}");
    }
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
