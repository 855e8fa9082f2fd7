//! The names of the columns of a conversation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Chat;

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
