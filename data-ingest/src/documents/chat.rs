//! Conversations: the published shapes become one validated list of messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The shape of the conversations in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Chat {
    /// OpenAI's: a list of `role` and `content`.
    Messages,
    /// `ShareGPT`'s and Vicuna's: a list of `from` (`human`, `gpt`, `system`) and `value`.
    Sharegpt,
    /// Stanford Alpaca's: the columns `instruction`, `input` (may be empty) and `output`.
    Alpaca,
    /// TRL's preferences: the columns `prompt` (may be missing), `chosen` and `rejected`, texts or lists of `role` and
    /// `content`.
    Preference,
}

/// The role of a speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Instructions before the conversation.
    System,
    /// The user.
    User,
    /// The assistant, whose messages the model learns.
    Assistant,
    /// The rejected answer of a preference pair, after the chosen one.
    Rejected,
}

impl Role {
    /// Returns its name in OpenAI's format.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Rejected => "rejected",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Message {
    /// The role of a speaker.
    pub role: Role,
    /// The text.
    pub content: String,
}

/// Returns a conversation as the JSON of its digest: no spaces, keys in this order.
pub(crate) fn compact_json(messages: &[Message]) -> String {
    // Strings and unit variants always serialize.
    serde_json::to_string(messages).unwrap_or_default()
}

/// Reads a list of turns, or a JSON text of one, in the shape `chat`.
pub(crate) fn turns(value: Value, chat: Chat) -> Result<Vec<Message>, String> {
    checked(unchecked(value, chat)?)
}

/// Makes a preference of a prompt, the chosen and the rejected answer: the conversation with the first, and the second
/// after it. An answer is a text, its own turns, or the whole conversation including them.
pub(crate) fn preference(prompt: Value, chosen: Value, rejected: Value) -> Result<Vec<Message>, String> {
    let before = match prompt {
        Value::Null => Vec::new(),
        Value::String(content) => vec![Message { role: Role::User, content }],
        turns => unchecked(turns, Chat::Messages).map_err(|e| format!("prompt: {e}"))?,
    };
    let whole = |name: &str, answer: Value| {
        let named = |message| format!("{name}: {message}");
        let turns = match answer {
            Value::String(content) => vec![Message { role: Role::Assistant, content }],
            turns => unchecked(turns, Chat::Messages).map_err(named)?,
        };
        let is_whole_conversation = turns.iter().any(|turn| turn.role != Role::Assistant);
        let before = if is_whole_conversation { &[][..] } else { &before };
        checked(before.iter().cloned().chain(turns).collect()).map_err(named)
    };
    let (mut chosen, mut rejected) = (whole("chosen", chosen)?, whole("rejected", rejected)?);
    let answer = rejected.pop().map(|answer| answer.content).unwrap_or_default();
    if chosen.split_last().is_none_or(|(_, before)| before != rejected) {
        return Err("chosen and rejected differ before the last turn".to_owned());
    }
    if chosen.last().is_some_and(|chosen| chosen.content == answer) {
        return Err("chosen and rejected are the same".to_owned());
    }
    chosen.push(Message { role: Role::Rejected, content: answer });
    Ok(chosen)
}

fn unchecked(value: Value, chat: Chat) -> Result<Vec<Message>, String> {
    let turns = match value {
        Value::Array(turns) => turns,
        Value::String(text) => serde_json::from_str(&text).map_err(|_| "it is text, not a JSON list".to_owned())?,
        _ => return Err("it is not a list".to_owned()),
    };
    let (role_key, content_key) = match chat {
        Chat::Sharegpt => ("from", "value"),
        Chat::Messages | Chat::Alpaca | Chat::Preference => ("role", "content"),
    };
    let mut messages = Vec::with_capacity(turns.len());
    for (i, mut turn) in turns.into_iter().enumerate() {
        let at = |message: String| format!("turn {}: {message}", i + 1);
        let mut take = |key| turn.get_mut(key).map(Value::take);
        let role = match take(role_key) {
            Some(Value::String(name)) => role(&name).map_err(at)?,
            _ => return Err(at(format!("`{role_key}` is missing or not text"))),
        };
        let content = match take(content_key) {
            Some(Value::String(text)) => text,
            Some(Value::Array(parts)) => joined(parts).map_err(at)?,
            _ => return Err(at(format!("`{content_key}` is missing or not text"))),
        };
        messages.push(Message { role, content });
    }
    Ok(messages)
}

/// Makes a conversation of an instruction, its input, and the answer.
pub(crate) fn alpaca(instruction: String, input: &str, output: String) -> Result<Vec<Message>, String> {
    let asked = if input.trim().is_empty() { instruction } else { format!("{instruction}\n\n{input}") };
    checked(vec![Message { role: Role::User, content: asked }, Message { role: Role::Assistant, content: output }])
}

fn role(name: &str) -> Result<Role, String> {
    match name {
        "system" => Ok(Role::System),
        "user" | "human" => Ok(Role::User),
        "assistant" | "gpt" => Ok(Role::Assistant),
        other => Err(format!("the role `{}` is not system, user or assistant", other.escape_debug())),
    }
}

/// Returns the text of content in parts, as in OpenAI's newer APIs.
fn joined(parts: Vec<Value>) -> Result<String, String> {
    let text = |mut part: Value| {
        let is_text = part.get("type").and_then(Value::as_str) == Some("text");
        match part.get_mut("text").map(Value::take) {
            Some(Value::String(text)) if is_text => Ok(text),
            _ => Err("its content has a part that is not text".to_owned()),
        }
    };
    parts.into_iter().map(text).collect()
}

/// Validates a conversation: an optional system message, then user and assistant alternately, the assistant last.
fn checked(messages: Vec<Message>) -> Result<Vec<Message>, String> {
    let mut last = Role::Assistant;
    for (i, message) in messages.iter().enumerate() {
        let turn = i + 1;
        match (message.role, last) {
            (Role::System, _) if i == 0 => {}
            (Role::System, _) => return Err(format!("turn {turn}: only the first turn may be the system's")),
            (Role::Assistant, Role::Assistant) if !messages[..i].iter().any(|m| m.role == Role::User) => {
                return Err(format!("turn {turn}: an assistant turn before the first user turn"));
            }
            (role, previous) if role == previous => {
                return Err(format!("turn {turn}: two consecutive {} turns", role.name()));
            }
            (role, _) => last = role,
        }
        if message.content.trim().is_empty() {
            return Err(format!("turn {turn}: it is empty"));
        }
    }
    match messages.last().map(|message| message.role) {
        Some(Role::Assistant) => Ok(messages),
        None => Err("it has no turns".to_owned()),
        Some(other) => {
            Err(format!("turn {}: the last turn is the {}'s, not the assistant's", messages.len(), other.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, chat: Chat, expected: Result<&str, &str>) {
        let found = turns(serde_json::from_str(json).unwrap(), chat).map(|messages| compact_json(&messages));
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{json}");
    }

    #[test]
    fn conversations_of_every_shape_become_messages() {
        let expected = Ok(r#"[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}]"#);
        let openai = r#"[{"role": "user", "content": "Hi", "name": "x"}, {"content": "Hello", "role": "assistant"}]"#;
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
            let found = alpaca(instruction.to_owned(), input, "2".to_owned()).unwrap();
            assert_eq!((found[0].content.as_str(), found[1].content.as_str()), (asked, "2"));
        }
    }

    #[test]
    fn preferences_become_conversations_with_a_rejected_answer() {
        let check = |record: &str, expected: Result<&str, &str>| {
            let mut record: Value = serde_json::from_str(record).unwrap();
            let found = preference(record["prompt"].take(), record["chosen"].take(), record["rejected"].take());
            let found = found.map(|messages| compact_json(&messages));
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

        check(r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#, Err("chosen and rejected are the same"));
        check(
            r#"{"chosen": "b", "rejected": "c"}"#,
            Err("chosen: turn 1: an assistant turn before the first user turn"),
        );
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
            Err("chosen: turn 2: the role `rejected` is not system, user or assistant"),
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
            (&[("user", "a")], "turn 1: the last turn is the user's, not the assistant's"),
            (&[("system", "a")], "turn 1: the last turn is the system's, not the assistant's"),
            (&[("assistant", "a")], "turn 1: an assistant turn before the first user turn"),
            (&[("system", "s"), ("assistant", "a")], "turn 2: an assistant turn before the first user turn"),
            (&[("user", "a"), ("user", "b"), ("assistant", "c")], "turn 2: two consecutive user turns"),
            (&[("user", "a"), ("assistant", "b"), ("assistant", "c")], "turn 3: two consecutive assistant turns"),
            (&[("user", "a"), ("system", "s"), ("assistant", "b")], "turn 2: only the first turn may be the system's"),
            (&[("system", "s"), ("system", "s")], "turn 2: only the first turn may be the system's"),
            (&[("user", " \n"), ("assistant", "b")], "turn 1: it is empty"),
            (&[("user", "a"), ("assistant", "")], "turn 2: it is empty"),
            (
                &[("user", "a"), ("tool", "b"), ("assistant", "c")],
                "turn 2: the role `tool` is not system, user or assistant",
            ),
            (&[("\u{1b}[31m", "a")], "turn 1: the role `\\u{1b}[31m` is not system, user or assistant"),
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
            (r#"[{"role": "user", "content": null}]"#, "turn 1: `content` is missing or not text"),
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
        assert_eq!(alpaca(String::new(), "", "a".to_owned()), Err("turn 1: it is empty".to_owned()));
        assert_eq!(alpaca("a".to_owned(), "b", " ".to_owned()), Err("turn 2: it is empty".to_owned()));
    }
}
