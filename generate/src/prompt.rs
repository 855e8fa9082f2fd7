//! What a text is generated from.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use tokenizer::{Conversation, Message};

/// What a text is generated from.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A text, which is continued. Special tokens in it are read as such, and begin-of-text is put before it where
    /// transformers' `tokenizer(text)` does. An empty text starts a new document.
    Text(String),
    /// A conversation, which is answered after the model's chat template.
    Chat(Conversation),
}

impl Prompt {
    /// Returns the conversation of a user's message, after a system prompt if there is one.
    pub fn chat(system: Option<&str>, user: &str) -> Self {
        let system = system.map(|text| Message::new("system", text));
        Self::Chat(system.into_iter().chain([Message::new("user", user)]).collect::<Vec<_>>().into())
    }

    /// Returns the text, or that of the last message; empty if it has none.
    pub fn last_text(&self) -> String {
        let message = match self {
            Self::Text(text) => return text.clone(),
            Self::Chat(conversation) => conversation.messages.last(),
        };
        message.map_or_else(String::new, |message| message.text().into_owned())
    }
}

/// The keys of a prompt in a line of samples: `prompt`, and `messages` where a conversation is more than that.
impl Serialize for Prompt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("prompt", &self.last_text())?;
        if let Self::Chat(conversation) = self {
            if conversation.messages.len() > 1 {
                map.serialize_entry("messages", &conversation.messages)?;
            }
            if let Some(tools) = &conversation.tools {
                map.serialize_entry("tools", tools)?;
            }
        }
        map.end()
    }
}
