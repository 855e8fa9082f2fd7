//! Conversations: the published shapes become one validated list of messages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The shape of the conversations in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Chat {
    /// OpenAI's: a list of `role` and `content`.
    Messages,
    /// `ShareGPT`'s and Vicuna's: a list of `from` (`human`, `gpt`, `system`) and `value`.
    Sharegpt,
    /// Stanford Alpaca's: the columns `instruction`, `input` (may be empty), `output` and `system` (may be missing).
    Alpaca,
    /// TRL's preferences: the columns `prompt` (may be missing), `chosen`, `rejected` and `system` (may be missing);
    /// texts, lists of `role` and `content`, or transcripts with `Human:` and `Assistant:`.
    Preference,
}

/// Other names of the columns of the shapes `alpaca` and `preference`, and of those that every shape may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChatColumns {
    /// The system message, which may be missing or empty. Default: `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The instruction of `alpaca`. Default: `instruction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// The input of `alpaca`, which may be missing or empty. Default: `input`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The answer of `alpaca`. Default: `output`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The prompt of `preference`, which may be missing. Default: `prompt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The better answer of `preference`. Default: `chosen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// The worse answer of `preference`. Default: `rejected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// The tools that the assistant may call, which may be missing. Default: `tools`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// The weight of the conversation, which may be missing. Default: `weight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
}

impl ChatColumns {
    /// Returns the columns that have another name here and that the shape `chat` does not have.
    pub(crate) fn unused(&self, chat: Chat) -> Vec<&'static str> {
        let of_alpaca = chat == Chat::Alpaca;
        let of_preference = chat == Chat::Preference;
        let columns = [
            ("system", &self.system, of_alpaca || of_preference),
            ("instruction", &self.instruction, of_alpaca),
            ("input", &self.input, of_alpaca),
            ("output", &self.output, of_alpaca),
            ("prompt", &self.prompt, of_preference),
            ("chosen", &self.chosen, of_preference),
            ("rejected", &self.rejected, of_preference),
        ];
        columns.into_iter().filter(|(_, name, is_used)| name.is_some() && !is_used).map(|(key, ..)| key).collect()
    }
}

/// The roles of messages, as chat templates take them.
const ROLES: [&str; 8] = ["system", "developer", "user", "assistant", "tool", "function", "ipython", "environment"];

/// Other names of roles, most of them of `ShareGPT`'s descendants.
const OTHER_NAMES: [(&str, &str); 9] = [
    ("human", "user"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("model", "assistant"),
    ("bot", "assistant"),
    ("observation", "tool"),
    ("function_response", "tool"),
];

const SYSTEM: &str = "system";
const USER: &str = "user";
const ASSISTANT: &str = "assistant";

/// The role of the rejected answer of a preference pair, after the chosen one.
const REJECTED: &str = "rejected";

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Message {
    /// The author.
    pub role: String,
    /// The text; none in a message that only calls tools.
    pub content: Option<String>,
    /// 0 if an assistant's message is not learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The other keys, such as `tool_calls`, `tool_call_id`, `name` and `reasoning_content`.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// A conversation, and the tools that its assistant may call.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Conversation {
    pub messages: Vec<Message>,
    pub tools: Option<Value>,
    /// How much it counts in training; no part of its content.
    #[serde(skip)]
    pub weight: Option<f64>,
}

impl Message {
    fn new(role: &str, content: String) -> Self {
        Self { role: role.to_owned(), content: Some(content), ..Self::default() }
    }

    fn is_learned(&self) -> bool {
        self.role == ASSISTANT && self.weight != Some(0.0)
    }

    /// Returns true if it says something: by its content, or as a call of a tool or reasoning.
    fn has_content(&self) -> bool {
        self.content.as_deref().is_some_and(|content| !content.trim().is_empty())
            || ["tool_calls", "function_call", "reasoning_content", "reasoning", "thinking"]
                .iter()
                .any(|key| self.fields.contains_key(*key))
    }
}

impl Conversation {
    /// Returns the JSON of its digest, without spaces: the list of messages, or an object if there are tools.
    pub fn compact_json(&self) -> String {
        // Strings and JSON values always serialize.
        match self.tools {
            None => serde_json::to_string(&self.messages).unwrap_or_default(),
            Some(_) => serde_json::to_string(self).unwrap_or_default(),
        }
    }

    /// Returns the length of its text.
    pub fn text_bytes(&self) -> usize {
        self.messages.iter().filter_map(|message| message.content.as_ref()).map(String::len).sum()
    }
}

/// Reads a list of turns, or a JSON text of one, in the shape `chat`.
pub(crate) fn turns(value: Value, chat: Chat) -> Result<Vec<Message>, String> {
    checked(unchecked(value, chat)?)
}

/// Reads the tools of a conversation, a list or a JSON text of one; `None` if there are none.
pub(crate) fn tools(value: Value) -> Result<Option<Value>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Array(tools) => Ok((!tools.is_empty()).then_some(Value::Array(tools))),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(value @ (Value::Array(_) | Value::Null)) => tools(value),
            _ => Err("tools: it is text, not a JSON list".to_owned()),
        },
        _ => Err("tools: it is not a list".to_owned()),
    }
}

/// The largest weight of a conversation, which is how often it is repeated. Heuristic: more is likely a typing error.
const MAX_WEIGHT: f64 = 1000.0;

/// Reads the weight of a conversation; `None` if it has none.
pub(crate) fn weight(value: &Value) -> Result<Option<f64>, String> {
    match value.as_f64() {
        None if value.is_null() => Ok(None),
        Some(weight) if (0.0..=MAX_WEIGHT).contains(&weight) => Ok(Some(weight)),
        _ => Err(format!("its `weight` is {value}, but must be a number from 0 to {MAX_WEIGHT}")),
    }
}

fn message_weight(value: &Value) -> Result<Option<f64>, String> {
    match value.as_f64() {
        None if value.is_null() => Ok(None),
        Some(weight) if [0.0_f64, 1.0].map(f64::to_bits).contains(&weight.to_bits()) => Ok(Some(weight)),
        _ => Err(format!("its `weight` is {value}, but must be 0 (not learned) or 1")),
    }
}

/// Makes a preference of a prompt, the chosen and the rejected answer: the conversation with the first, and the second
/// after it. An answer is a text, its own turns, or the whole conversation including them.
pub(crate) fn preference(system: &str, prompt: Value, chosen: Value, rejected: Value) -> Result<Vec<Message>, String> {
    let before = match prompt {
        Value::Null => Vec::new(),
        Value::String(text) => transcript(&text).unwrap_or_else(|| vec![Message::new(USER, text)]),
        turns => unchecked(turns, Chat::Messages).map_err(|e| format!("prompt: {e}"))?,
    };
    let whole = |name: &str, answer: Value| {
        let named = |message| format!("{name}: {message}");
        let turns = match answer {
            Value::String(text) => transcript(&text).unwrap_or_else(|| vec![Message::new(ASSISTANT, text)]),
            turns => unchecked(turns, Chat::Messages).map_err(named)?,
        };
        let is_whole_conversation = turns.iter().any(|turn| turn.role != ASSISTANT);
        let before = if is_whole_conversation { &[][..] } else { &before };
        let turns = after_system(system, before.iter().cloned().chain(turns).collect());
        answered(checked(turns).map_err(named)?).map_err(named)
    };
    let (mut chosen, mut rejected) = (whole("chosen", chosen)?, whole("rejected", rejected)?);
    let answer = rejected.pop().unwrap_or_default();
    if chosen.split_last().is_none_or(|(_, before)| before != rejected) {
        return Err("chosen and rejected differ before the last turn".to_owned());
    }
    if chosen.last().is_some_and(|chosen| *chosen == answer) {
        return Err("chosen and rejected are the same".to_owned());
    }
    chosen.push(Message { role: REJECTED.to_owned(), ..answer });
    Ok(chosen)
}

/// Puts a system message before `turns`, unless it is empty or they have one.
fn after_system(system: &str, turns: Vec<Message>) -> Vec<Message> {
    let is_needed = !system.trim().is_empty() && turns.first().is_none_or(|first| first.role != SYSTEM);
    is_needed.then(|| Message::new(SYSTEM, system.to_owned())).into_iter().chain(turns).collect()
}

/// Reads a transcript as in Anthropic's HH-RLHF (Bai et al., 2022): paragraphs that begin with `Human:` or
/// `Assistant:`, the first with `Human:`. `None` if the text is none.
fn transcript(text: &str) -> Option<Vec<Message>> {
    const SPEAKERS: [(&str, &str); 2] = [("Human:", USER), ("Assistant:", ASSISTANT)];
    let text = text.trim();
    text.starts_with(SPEAKERS[0].0).then_some(())?;
    let mut turns: Vec<(&str, String)> = Vec::new();
    for paragraph in text.split("\n\n") {
        let spoken = SPEAKERS.iter().find_map(|(speaker, role)| Some((*role, paragraph.strip_prefix(speaker)?)));
        match (spoken, turns.last_mut()) {
            (Some((role, said)), _) => turns.push((role, said.trim().to_owned())),
            (None, Some((_, said))) => {
                said.push_str("\n\n");
                said.push_str(paragraph);
            }
            (None, None) => {}
        }
    }
    Some(turns.into_iter().map(|(role, said)| Message::new(role, said)).collect())
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
    for (i, turn) in turns.into_iter().enumerate() {
        let at = |message: String| format!("turn {}: {message}", i + 1);
        let Value::Object(mut fields) = turn else { return Err(at(format!("`{role_key}` is missing or not text"))) };
        fields.retain(|_, value| !value.is_null());
        let Some(Value::String(role)) = fields.remove(role_key) else {
            return Err(at(format!("`{role_key}` is missing or not text")));
        };
        let content = match fields.remove(content_key) {
            Some(Value::String(text)) => Some(text),
            Some(Value::Array(parts)) => Some(joined(parts).map_err(at)?),
            None => None,
            Some(_) => return Err(at(format!("`{content_key}` is not text"))),
        };
        let weight = fields.remove("weight").unwrap_or_default();
        let weight = message_weight(&weight).map_err(at)?;
        messages.push(match (role.as_str(), content) {
            ("function_call", Some(call)) => Message { weight, ..tool_call(&call).map_err(at)? },
            (name, content) => Message { role: self::role(name).map_err(at)?, content, weight, fields },
        });
    }
    Ok(messages)
}

/// Makes a message of a call of a tool that is written as JSON of its name and arguments.
fn tool_call(text: &str) -> Result<Message, String> {
    let call: Value = serde_json::from_str(text).unwrap_or_default();
    if !call.get("name").is_some_and(Value::is_string) {
        return Err("the function call is not a JSON object with a name".to_owned());
    }
    let fields = [("tool_calls".to_owned(), json!([{ "type": "function", "function": call }]))];
    let fields = fields.into_iter().collect();
    Ok(Message { role: ASSISTANT.to_owned(), content: None, weight: None, fields })
}

/// Makes a conversation of a system message, which may be empty, an instruction, its input, and the answer.
pub(crate) fn alpaca(system: &str, instruction: String, input: &str, output: String) -> Result<Vec<Message>, String> {
    let asked = if input.trim().is_empty() { instruction } else { format!("{instruction}\n\n{input}") };
    checked(after_system(system, vec![Message::new(USER, asked), Message::new(ASSISTANT, output)]))
}

/// Returns the role of this name, capital letters aside.
fn role(name: &str) -> Result<String, String> {
    let lower = name.to_lowercase();
    let known = OTHER_NAMES.iter().find(|(other, _)| *other == lower).map_or(lower.as_str(), |(_, role)| role);
    if ROLES.contains(&known) {
        return Ok(known.to_owned());
    }
    Err(format!("the role `{}` is none of {}", name.escape_debug(), ROLES.join(", ")))
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

/// Validates a conversation: users and assistants say something, and something is learned. Which order of roles is
/// allowed is up to the chat template.
fn checked(messages: Vec<Message>) -> Result<Vec<Message>, String> {
    for (i, message) in messages.iter().enumerate() {
        if [USER, ASSISTANT].contains(&message.role.as_str()) && !message.has_content() {
            return Err(format!("turn {}: it is empty", i + 1));
        }
    }
    if messages.is_empty() {
        return Err("it has no turns".to_owned());
    }
    if !messages.iter().any(|message| message.role == ASSISTANT) {
        return Err("it has no turn of the assistant, so nothing is learned".to_owned());
    }
    if !messages.iter().any(Message::is_learned) {
        return Err("every turn of the assistant has the weight 0, so nothing is learned".to_owned());
    }
    Ok(messages)
}

/// Validates one side of a preference: a question, and the assistant's answer last.
fn answered(messages: Vec<Message>) -> Result<Vec<Message>, String> {
    let first = messages.iter().position(|message| message.role == ASSISTANT).unwrap_or_default();
    if !messages[..first].iter().any(|message| message.role == USER) {
        return Err(format!("turn {}: an assistant turn before the first user turn", first + 1));
    }
    match messages.last() {
        Some(last) if last.role != ASSISTANT => {
            Err(format!("turn {}: the last turn is the {}'s, not the assistant's", messages.len(), last.role))
        }
        _ => Ok(messages),
    }
}

#[cfg(test)]
mod tests {
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
            let found =
                preference(&system, record["prompt"].take(), record["chosen"].take(), record["rejected"].take());
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
        check(
            &format!(r#"{{"system": "Sing.", "prompt": [{own}, {user}], "chosen": "4", "rejected": "5"}}"#),
            with_system,
        );
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
}
