//! Conversations of tables: roles, tool calls, weights, tools.

mod corpus;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, RecordBatch};
use corpus::{collect_into, context, one, write};
use data_ingest::{Chat, Source};
use serde_json::Value;

/// Collects a JSONL table, and returns each conversation as JSON of its columns; `Err` if none is read.
fn collected(lines: &str, chat: Chat) -> Result<Vec<String>, String> {
    let (base, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(base.path(), &[("a.jsonl", lines.as_bytes())]);
    let source = Source { path: Some("a.jsonl".to_owned()), chat: Some(chat), ..Source::default() };
    let collected = collect_into(&one(source), &context(base.path()), out.path());
    collected.map_err(|error| corpus::chain(&error))?;
    Ok(corpus::batches(&out.path().join("documents-00000.parquet")).iter().flat_map(conversations).collect())
}

fn conversations(batch: &RecordBatch) -> Vec<String> {
    let tools = corpus::texts(batch, "tools");
    let weights = batch.column_by_name("weight").unwrap().as_primitive::<Float64Type>();
    let rows = batch.column_by_name("messages").unwrap().as_list::<i32>();
    let row = |i: usize| {
        let turns = rows.value(i);
        let turns = turns.as_struct();
        let text = |name: &str, at: usize| {
            let texts = turns.column_by_name(name).unwrap().as_string::<i32>();
            texts.is_valid(at).then(|| texts.value(at).to_owned())
        };
        let numbers = turns.column_by_name("weight").unwrap().as_primitive::<Float64Type>();
        let turn = |at: usize| {
            let weight = if numbers.is_valid(at) { format!(" weight {}", numbers.value(at)) } else { String::new() };
            let fields = text("fields", at).map_or_else(String::new, |fields| format!(" {fields}"));
            let content = text("content", at).unwrap_or_else(|| "-".to_owned());
            format!("{}: {content}{weight}{fields}", text("role", at).unwrap())
        };
        let mut turns: Vec<String> = (0..turns.len()).map(turn).collect();
        turns.extend(tools[i].as_ref().map(|tools| format!("tools: {tools}")));
        turns.extend(weights.is_valid(i).then(|| format!("weight: {}", weights.value(i))));
        turns.join(" | ")
    };
    (0..batch.num_rows()).map(row).collect()
}

fn check(line: &str, chat: Chat, expected: Result<&str, &str>) {
    match (collected(&format!("{line}\n"), chat), expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, [expected], "{line}"),
        (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}\n{expected}"),
        (found, expected) => panic!("{line}: {found:?}, {expected:?}"),
    }
}

#[test]
fn roles_and_shapes_are_those_of_templates() {
    let messages = |turns: &str, expected: Result<&str, &str>| {
        check(&format!("{{\"messages\": [{turns}]}}"), Chat::Messages, expected);
    };
    let call = r#"{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}"#;
    messages(
        &format!(
            r#"{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": null, "tool_calls": [{call}]}},
               {{"role": "tool", "tool_call_id": "c", "content": "1"}}, {{"role": "assistant", "content": "a"}}"#
        )
        .replace('\n', " "),
        Ok(&format!(
            r#"user: q | assistant: - {{"tool_calls":[{call}]}} | tool: 1 {{"tool_call_id":"c"}} | assistant: a"#
        )),
    );
    messages(
        r#"{"role": "developer", "content": "d"}, {"role": "user", "content": "q", "name": "n"},
           {"role": "assistant", "reasoning_content": "r", "content": "a"}"#
            .replace('\n', " ")
            .as_str(),
        Ok(r#"developer: d | user: q {"name":"n"} | assistant: a {"reasoning_content":"r"}"#),
    );
    let user = r#"{"role": "user", "content": "q"}"#;
    let answer = r#"{"role": "assistant", "content": "a"}"#;
    messages(&format!("{user}, {user}, {answer}"), Ok("user: q | user: q | assistant: a"));
    messages(&format!("{answer}, {user}, {answer}"), Ok("assistant: a | user: q | assistant: a"));
    messages(&format!("{user}, {answer}, {user}"), Ok("user: q | assistant: a | user: q"));
    messages(
        r#"{"role": "User", "content": "q"}, {"role": "Assistant", "content": "a"}"#,
        Ok("user: q | assistant: a"),
    );
    messages(
        r#"{"role": "user", "content": [{"type": "text", "text": "q"}]}, {"role": "assistant", "content": "a"}"#,
        Ok("user: q | assistant: a"),
    );
    messages(user, Err("it has no turn of the assistant, so nothing is learned"));
    messages(&format!(r#"{user}, {{"role": "assistant", "content": ""}}"#), Err("turn 2: it is empty"));
    messages(&format!(r#"{user}, {{"role": "oracle", "content": "a"}}"#), Err("the role `oracle` is none of"));
    check(
        r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\"}"},
           {"from": "observation", "value": "1"}, {"from": "chatgpt", "value": "a"}]}"#
            .replace('\n', " ")
            .as_str(),
        Chat::Sharegpt,
        Ok(
            "user: q | assistant: - {\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]} | tool: 1 \
            | assistant: a",
        ),
    );
}

#[test]
fn messages_and_conversations_have_weights() {
    let line = |weight: &str, rest: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "q"}},
               {{"role": "assistant", "content": "b", "weight": {weight}}},
               {{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "a", "weight": 1}}]{rest}}}"#
        )
        .replace('\n', " ")
    };
    let expected = "user: q | assistant: b weight 0 | user: q | assistant: a weight 1";
    check(&line("0", ""), Chat::Messages, Ok(expected));
    check(&line("0", r#", "weight": 1"#), Chat::Messages, Ok(&format!("{expected} | weight: 1")));
    check(&line("0", r#", "weight": 2.5"#), Chat::Messages, Ok(&format!("{expected} | weight: 2.5")));
    check(&line("0", r#", "weight": null"#), Chat::Messages, Ok(expected));
    check(&line("0.5", ""), Chat::Messages, Err("turn 2: its `weight` is 0.5, but must be 0 (not learned) or 1"));
    for weight in ["-1", "1001", "\"2\"", "[]"] {
        let message = format!("its `weight` is {weight}, but must be a number from 0 to 1000");
        check(&line("0", &format!(", \"weight\": {weight}")), Chat::Messages, Err(&message));
    }
    let lines = format!("{}\n{}\n", line("0", r#", "weight": 0"#), line("0", ""));
    assert_eq!(collected(&lines, Chat::Messages).unwrap(), [expected]);
    check(
        r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}"#,
        Chat::Messages,
        Err("every turn of the assistant has the weight 0, so nothing is learned"),
    );
}

#[test]
fn tools_are_a_list_or_its_json() {
    let messages = r#""messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]"#;
    let with = |tools: &str, expected: Result<&str, &str>| {
        check(&format!("{{{messages}, \"tools\": {tools}}}"), Chat::Messages, expected);
    };
    let tools = r#"[{"type":"function"}]"#;
    with(tools, Ok(&format!("user: q | assistant: a | tools: {tools}")));
    with(&Value::from(tools).to_string(), Ok(&format!("user: q | assistant: a | tools: {tools}")));
    with("[]", Ok("user: q | assistant: a"));
    with("null", Ok("user: q | assistant: a"));
    with("1", Err("tools: it is not a list"));
}
