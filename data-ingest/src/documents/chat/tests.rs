use super::*;

fn check(json: &str, chat: Chat, expected: Result<&str, &str>) {
    let found = turns(serde_json::from_str(json).unwrap(), chat)
        .map(|messages| Conversation { messages, ..Conversation::default() }.compact_json());
    assert_eq!(found.as_deref().map_err(String::as_str), expected, "{json}");
}

#[test]
fn conversations_of_every_shape_become_messages() {
    let expected = Ok(r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]"#);
    let openai = r#"[{"role": "user", "content": "Hi", "name": null}, {"content": "Hello", "role": "assistant"}]"#;
    check(openai, Chat::Messages, expected);
    check(&Value::from(openai).to_string(), Chat::Messages, expected);
    check(
        r#"[{"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
            {"role": "assistant", "content": "Hello"}]"#,
        Chat::Messages,
        expected,
    );
    check(r#"[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]"#, Chat::Sharegpt, expected);
    check(
        r#"[{"from": "system", "value": "s"}, {"from": "user", "value": "a"}, {"from": "assistant", "value": "b"},
            {"from": "human", "value": "c"}, {"from": "gpt", "value": " d "}]"#,
        Chat::Sharegpt,
        Ok("[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"a\"},\
            {\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"},\
            {\"role\":\"assistant\",\"content\":\" d \"}]"),
    );
    let pairs = [("Add.", "1 + 1", "Add.\n\n1 + 1"), ("Sing.", "", "Sing."), ("Sing.", " \n", "Sing.")];
    for (instruction, input, asked) in pairs {
        let found = alpaca("", instruction.to_owned(), input, "2".to_owned()).unwrap();
        assert_eq!((found[0].content.as_deref(), found[1].content.as_deref()), (Some(asked), Some("2")));
    }
}

#[test]
fn preferences_become_conversations_with_a_rejected_answer() {
    let check = |record: &str, expected: Result<&str, &str>| {
        let mut record: Value = serde_json::from_str(record).unwrap();
        let system = record["system"].as_str().unwrap_or_default().to_owned();
        let found = preference(&system, record["prompt"].take(), record["chosen"].take(), record["rejected"].take());
        let found = found.map(|messages| Conversation { messages, ..Conversation::default() }.compact_json());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{record}");
    };
    let expected = Ok("[{\"role\":\"user\",\"content\":\"2 + 2?\"},{\"role\":\"assistant\",\"content\":\"4\"},\
                       {\"role\":\"rejected\",\"content\":\"5\"}]");
    check(r#"{"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}"#, expected);
    let user = r#"{"role": "user", "content": "2 + 2?"}"#;
    let [four, five] = ["4", "5"].map(|answer| format!(r#"{{"role": "assistant", "content": "{answer}"}}"#));
    check(&format!(r#"{{"prompt": [{user}], "chosen": [{four}], "rejected": [{five}]}}"#), expected);
    check(&format!(r#"{{"chosen": [{user}, {four}], "rejected": [{user}, {five}]}}"#), expected);
    check(&format!(r#"{{"prompt": "2 + 2?", "chosen": [{user}, {four}], "rejected": "5"}}"#), expected);

    let with_system =
        Ok("[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"2 + 2?\"},\
                          {\"role\":\"assistant\",\"content\":\"4\"},{\"role\":\"rejected\",\"content\":\"5\"}]");
    check(r#"{"system": "Be brief.", "prompt": "2 + 2?", "chosen": "4", "rejected": "5"}"#, with_system);
    let own = r#"{"role": "system", "content": "Be brief."}"#;
    check(&format!(r#"{{"system": "Sing.", "prompt": [{own}, {user}], "chosen": "4", "rejected": "5"}}"#), with_system);
    check(
        r#"{"chosen": "\n\nHuman: 2 + 2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2 + 2?\n\nAssistant: 5"}"#,
        expected,
    );
    check(
        r#"{"chosen": "Human: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: e\n\nf",
            "rejected": "Human: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: g"}"#,
        Ok("[{\"role\":\"user\",\"content\":\"a\\n\\nb\"},{\"role\":\"assistant\",\"content\":\"c\"},\
            {\"role\":\"user\",\"content\":\"d\"},{\"role\":\"assistant\",\"content\":\"e\\n\\nf\"},\
            {\"role\":\"rejected\",\"content\":\"g\"}]"),
    );

    check(r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#, Err("chosen and rejected are the same"));
    check(r#"{"chosen": "b", "rejected": "c"}"#, Err("chosen: turn 1: an assistant turn before the first user turn"));
    check(r#"{"prompt": "a", "chosen": "b", "rejected": " "}"#, Err("rejected: turn 2: it is empty"));
    check(r#"{"prompt": 1, "chosen": "b", "rejected": "c"}"#, Err("prompt: it is not a list"));
    let other = r#"{"role": "user", "content": "3 + 3?"}"#;
    check(
        &format!(r#"{{"chosen": [{user}, {four}], "rejected": [{other}, {five}]}}"#),
        Err("chosen and rejected differ before the last turn"),
    );
    let role = r#"{"role": "rejected", "content": "a"}"#;
    check(
        &format!(r#"{{"chosen": [{user}, {role}], "rejected": [{user}, {five}]}}"#),
        Err("chosen: turn 2: the role `rejected` is none of system, developer, user, assistant, tool, function, \
             ipython, environment"),
    );
}

#[test]
fn invalid_conversations_name_the_turn() {
    let messages = |turns: &[(&str, &str)]| {
        let turn = |(role, content): &(&str, &str)| serde_json::json!({ "role": role, "content": content });
        Value::Array(turns.iter().map(turn).collect()).to_string()
    };
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "it has no turns"),
        (&[("user", "a")], "it has no turn of the assistant, so nothing is learned"),
        (&[("user", " \n"), ("assistant", "b")], "turn 1: it is empty"),
        (&[("user", "a"), ("assistant", "")], "turn 2: it is empty"),
        (
            &[("user", "a"), ("oracle", "b"), ("assistant", "c")],
            "turn 2: the role `oracle` is none of system, developer, user, assistant, tool, function, ipython, \
             environment",
        ),
        (
            &[("\u{1b}[31m", "a")],
            "turn 1: the role `\\u{1b}[31m` is none of system, developer, user, assistant, tool, function, \
             ipython, environment",
        ),
    ];
    for (turns, expected) in cases {
        check(&messages(turns), Chat::Messages, Err(expected));
    }
    let cases = [
        ("{}", "it is not a list"),
        ("null", "it is not a list"),
        ("\"text\"", "it is text, not a JSON list"),
        ("[1]", "turn 1: `role` is missing or not text"),
        (r#"[{"role": 1}]"#, "turn 1: `role` is missing or not text"),
        (r#"[{"role": "user", "content": null}]"#, "turn 1: it is empty"),
        (r#"[{"role": "user", "content": 1}]"#, "turn 1: `content` is not text"),
        (
            r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]"#,
            "turn 1: its content has a part that is not text",
        ),
        (r#"[{"from": "human", "value": "a"}]"#, "turn 1: `role` is missing or not text"),
    ];
    for (json, expected) in cases {
        check(json, Chat::Messages, Err(expected));
    }
    check(r#"[{"role": "user", "content": "a"}]"#, Chat::Sharegpt, Err("turn 1: `from` is missing or not text"));
    let alpaca = |instruction: &str, output: &str| super::alpaca("", instruction.to_owned(), "", output.to_owned());
    assert_eq!(alpaca("", "a"), Err("turn 1: it is empty".to_owned()));
    assert_eq!(alpaca("a", " "), Err("turn 2: it is empty".to_owned()));
}
