//! Conversations, as chat templates take them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The role whose messages are learned.
pub const ASSISTANT: &str = "assistant";

/// The names of a message's reasoning, the one that counts first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts, such as `{"type": "text", "text": "…"}`.
    Parts(Vec<Value>),
}

/// One message of a conversation: the object that templates take, except for the weight.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The author, such as `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The content; none in a message that only calls tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Whether an assistant's message is learned: 0 if not. Default: learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Further keys, such as `tool_calls`, `tool_call_id`, `name` or `reasoning_content`.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Message {
    /// Returns a message with a text.
    pub fn new(role: impl Into<String>, text: impl Into<String>) -> Self {
        Self { role: role.into(), content: Some(Content::Text(text.into())), ..Self::default() }
    }

    /// Returns the text of the content: that of all its parts.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.content {
            None => Cow::Borrowed(""),
            Some(Content::Text(text)) => Cow::Borrowed(text),
            Some(Content::Parts(parts)) => {
                Cow::Owned(parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect())
            }
        }
    }

    /// Calls `change` for each text of the content.
    pub fn for_each_text(&mut self, mut change: impl FnMut(&mut String)) {
        match &mut self.content {
            None => {}
            Some(Content::Text(text)) => change(text),
            Some(Content::Parts(parts)) => {
                for part in parts {
                    if let Some(Value::String(text)) = part.get_mut("text") {
                        change(text);
                    }
                }
            }
        }
    }

    /// Returns true if the message is the assistant's, and is learned.
    pub fn is_learned(&self) -> bool {
        self.role == ASSISTANT && self.weight != Some(0.0)
    }

    /// Returns the object for a template: without keys that are null and without the weight. As in transformers, the
    /// reasoning is there by both names that templates read.
    pub(super) fn object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let reasoning = REASONING.iter().find_map(|key| self.fields.get(*key).filter(|value| !value.is_null()));
        if let Some(reasoning) = reasoning {
            object.insert("thinking".to_owned(), reasoning.clone());
        }
        object.insert("role".to_owned(), self.role.as_str().into());
        match &self.content {
            None => {}
            Some(Content::Text(text)) => drop(object.insert("content".to_owned(), text.as_str().into())),
            Some(Content::Parts(parts)) => drop(object.insert("content".to_owned(), parts.clone().into())),
        }
        object.extend(self.fields.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())));
        if let Some(reasoning) = reasoning {
            object.insert("reasoning_content".to_owned(), reasoning.clone());
        }
        object
    }
}

/// The messages of a conversation, and what a template is given beside them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Message>,
    /// The tools that the assistant may call, as JSON schemas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// How often the conversation is repeated in training. Default: once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
}

impl Conversation {
    /// The largest weight. Heuristic: more is likely a typing error.
    pub const MAX_WEIGHT: f64 = 1000.0;
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, tools: None, weight: None }
    }
}
