//! The input of a response as the messages of a chat.

use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::json_body::shown;

/// Messages of a chat, and where each came from.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) messages: Vec<Value>,
    /// The index of the item of the input that each message began with; none for the instructions.
    pub(super) origins: Vec<Option<usize>>,
}

/// The types of the items that are read.
const TYPES: &str = "a message with a role, a function_call or a function_call_output";

impl Messages {
    /// Reads the input.
    ///
    /// # Errors
    /// Returns an error that names the item that is not text.
    pub(super) fn read(instructions: Option<&str>, input: Value) -> Result<Self, ApiError> {
        let mut read = Self::default();
        if let Some(instructions) = instructions {
            read.add(json!({"role": "system", "content": instructions}), None);
        }
        match input {
            Value::String(text) => read.add(json!({"role": "user", "content": text}), None),
            Value::Array(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    read.item(item, i)?;
                }
            }
            other => {
                let message = format!("`input` must be a string or an array of items, not {}.", shown(&other));
                return Err(ApiError::parameter("input", "invalid_type", message));
            }
        }
        Ok(read)
    }

    fn add(&mut self, message: Value, origin: Option<usize>) {
        self.messages.push(message);
        self.origins.push(origin);
    }

    fn item(&mut self, item: &Value, i: usize) -> Result<(), ApiError> {
        let name = format!("input[{i}]");
        match item["type"].as_str() {
            Some("function_call") => {
                let (id, function) = (string(item, "call_id", &name)?, string(item, "name", &name)?);
                let arguments = string(item, "arguments", &name)?;
                let call = json!({
                    "id": id, "type": "function", "function": {"name": function, "arguments": arguments},
                });
                // Text and calls of one turn are one message.
                let is_same_turn = self.origins.last().is_some_and(Option::is_some);
                let last = self.messages.last_mut().filter(|last| is_same_turn && last["role"] == "assistant");
                match last {
                    Some(last) => match last.get_mut("tool_calls").and_then(Value::as_array_mut) {
                        Some(calls) => calls.push(call),
                        None => last["tool_calls"] = json!([call]),
                    },
                    None => self.add(json!({"role": "assistant", "content": null, "tool_calls": [call]}), Some(i)),
                }
            }
            Some("function_call_output") => {
                let id = string(item, "call_id", &name)?;
                let output = content(&item["output"], &format!("{name}.output"))?;
                let mut calls = self.messages.iter().filter_map(|message| message["tool_calls"].as_array()).flatten();
                let function = calls.rfind(|call| call["id"] == id).map(|call| &call["function"]["name"]);
                let message = json!({
                    "role": "tool", "tool_call_id": id, "name": function.cloned(), "content": output,
                });
                self.add(message, Some(i));
            }
            None | Some("message") if item["role"].is_string() => {
                let content = content(&item["content"], &format!("{name}.content"))?;
                self.add(json!({"role": item["role"], "content": content}), Some(i));
            }
            _ => {
                let message = format!("`{name}` must be {TYPES}: this server reads only text and calls of functions.");
                return Err(ApiError::parameter(&name, "invalid_value", message));
            }
        }
        Ok(())
    }
}

fn string<'i>(item: &'i Value, key: &str, name: &str) -> Result<&'i str, ApiError> {
    item[key].as_str().ok_or_else(|| {
        let name = format!("{name}.{key}");
        let message = format!("`{name}` must be a string, not {}.", shown(&item[key]));
        ApiError::parameter(&name, "invalid_type", message)
    })
}

/// Returns content with the parts that a chat has: texts.
fn content(content: &Value, name: &str) -> Result<Value, ApiError> {
    let parts = match content {
        Value::String(_) => return Ok(content.clone()),
        Value::Array(parts) => parts,
        other => {
            let message = format!("`{name}` must be a string or an array of parts, not {}.", shown(other));
            return Err(ApiError::parameter(name, "invalid_type", message));
        }
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (i, part) in parts.iter().enumerate() {
        let is_text = matches!(part["type"].as_str(), Some("input_text" | "output_text"));
        let Some(text) = part["text"].as_str().filter(|_| is_text) else {
            let name = format!("{name}[{i}]");
            let message = format!("`{name}` must be an `input_text` or `output_text` with a text.");
            return Err(ApiError::parameter(&name, "invalid_value", message));
        };
        texts.push(json!({"type": "text", "text": text}));
    }
    Ok(Value::Array(texts))
}
