//! Conversations: the published shapes become one validated list of messages.

mod columns;
mod message;
mod preference;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use message::{ASSISTANT, SYSTEM, USER, checked, role};

pub use columns::ChatColumns;
pub(crate) use message::{Conversation, Message};
pub(crate) use preference::preference;

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

/// Makes a conversation of a system message, which may be empty, an instruction, its input, and the answer.
pub(crate) fn alpaca(system: &str, instruction: String, input: &str, output: String) -> Result<Vec<Message>, String> {
    let asked = if input.trim().is_empty() { instruction } else { format!("{instruction}\n\n{input}") };
    checked(after_system(system, vec![Message::new(USER, asked), Message::new(ASSISTANT, output)]))
}

/// Puts a system message before `turns`, unless it is empty or they have one.
fn after_system(system: &str, turns: Vec<Message>) -> Vec<Message> {
    let is_needed = !system.trim().is_empty() && turns.first().is_none_or(|first| first.role != SYSTEM);
    is_needed.then(|| Message::new(SYSTEM, system.to_owned())).into_iter().chain(turns).collect()
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
