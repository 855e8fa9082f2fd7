//! A conversation, as chat templates take it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The text of a message, or its parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Text.
    Text(String),
    /// Parts, such as `{"type": "text", "text": "…"}`.
    Parts(Vec<Value>),
}

/// One message: the JSON object that a template takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The author.
    pub role: String,
    /// What the message says.
    pub content: Option<Content>,
    /// The weight of its tokens in the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The other keys.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Messages, and what belongs to all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Message>,
    /// Tools that the template describes to the model.
    pub tools: Option<Value>,
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, tools: None }
    }
}
