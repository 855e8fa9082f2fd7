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

    /// Returns the prompt of the same kind that guidance leads away from: a text, or a conversation in which the user
    /// says it.
    #[must_use]
    pub fn negative(&self, text: &str) -> Self {
        match self {
            Self::Text(_) => Self::Text(text.to_owned()),
            Self::Chat(conversation) => Self::Chat(negative_conversation(conversation, text)),
        }
    }
}

/// Returns a conversation that is like another one up to the first message that is not of the system, and in which the
/// user then says `text`.
pub fn negative_conversation(conversation: &Conversation, text: &str) -> Conversation {
    let is_of_system = |message: &&Message| matches!(message.role.as_str(), "system" | "developer");
    let mut messages: Vec<Message> = conversation.messages.iter().take_while(is_of_system).cloned().collect();
    messages.push(Message::new("user", text));
    Conversation { messages, ..conversation.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_prompt_is_of_the_kind_of_the_prompt() {
        assert_eq!(Prompt::Text("a".to_owned()).negative("b"), Prompt::Text("b".to_owned()));
        let turns = ["user", "assistant", "user"].map(|role| Message::new(role, role));
        let messages = [&[Message::new("system", "Be brief.")], &turns[..]].concat();
        let tools = Some(serde_json::json!([{"type": "function"}]));
        let prompt = Prompt::Chat(Conversation { tools: tools.clone(), ..messages.into() });
        let Prompt::Chat(negative) = prompt.negative("b") else { panic!() };
        assert_eq!(Prompt::Chat(negative.messages.into()), Prompt::chat(Some("Be brief."), "b"));
        assert_eq!(negative.tools, tools);
    }
}
