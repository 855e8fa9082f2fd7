//! Messages and conversations, and what makes them valid.

use serde::Serialize;
use serde_json::{Map, Value};

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

pub(super) const SYSTEM: &str = "system";
pub(super) const USER: &str = "user";
pub(super) const ASSISTANT: &str = "assistant";

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
    pub(super) fn new(role: &str, content: String) -> Self {
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

/// Returns the role of this name, capital letters aside.
pub(super) fn role(name: &str) -> Result<String, String> {
    let lower = name.to_lowercase();
    let known = OTHER_NAMES.iter().find(|(other, _)| *other == lower).map_or(lower.as_str(), |(_, role)| role);
    if ROLES.contains(&known) {
        return Ok(known.to_owned());
    }
    Err(format!("the role `{}` is none of {}", name.escape_debug(), ROLES.join(", ")))
}

/// Validates a conversation: users and assistants say something, and something is learned. Which order of roles is
/// allowed is up to the chat template.
pub(super) fn checked(messages: Vec<Message>) -> Result<Vec<Message>, String> {
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
