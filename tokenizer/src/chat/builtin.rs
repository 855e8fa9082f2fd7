//! Chat templates by name, for models that have none; and giving a template to a tokenizer.

use serde::Serialize;
use tokenizers::AddedToken;

use super::message::{ASSISTANT, Conversation, Message};
use super::template::RenderOptions;
use crate::text_interface::ChatTemplates;
use crate::{Error, Tokenizer};

/// A chat template of a common format, with what it needs from a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Builtin {
    /// The name.
    pub name: &'static str,
    /// The source text.
    pub source: &'static str,
    /// The special tokens that it writes, apart from begin-of-text and end-of-text.
    pub special_tokens: &'static [&'static str],
    /// The token after each of the assistant's turns; `None`: end-of-text.
    pub end_of_turn: Option<&'static str>,
}

/// The templates. Each marks the assistant's turns.
pub const BUILTIN: [Builtin; 5] = [
    Builtin {
        name: "chatml",
        source: include_str!("builtin/chatml.jinja"),
        special_tokens: &["<|im_start|>", "<|im_end|>"],
        end_of_turn: Some("<|im_end|>"),
    },
    Builtin {
        name: "llama3",
        source: include_str!("builtin/llama3.jinja"),
        special_tokens: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        end_of_turn: Some("<|eot_id|>"),
    },
    Builtin {
        name: "gemma",
        source: include_str!("builtin/gemma.jinja"),
        special_tokens: &["<start_of_turn>", "<end_of_turn>"],
        end_of_turn: Some("<end_of_turn>"),
    },
    Builtin {
        name: "mistral",
        source: include_str!("builtin/mistral.jinja"),
        special_tokens: &["[INST]", "[/INST]"],
        end_of_turn: None,
    },
    Builtin { name: "alpaca", source: include_str!("builtin/alpaca.jinja"), special_tokens: &[], end_of_turn: None },
];

/// Returns the template with a name.
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|builtin| builtin.name == name)
}

impl Tokenizer {
    /// Returns the tokenizer with a chat template in place of its own: a name of [`BUILTIN`], or the source text of
    /// one. Special tokens that the template writes and the tokenizer lacks are added at the end of the vocabulary; the
    /// token that ends the assistant's turn becomes a stop token.
    ///
    /// # Errors
    /// Returns an error if the template is not valid, or does not render a question and its answer.
    pub fn with_chat_template(self, template: &str) -> Result<Self, Error> {
        let (source, tokens): (&str, Vec<&str>) = match builtin(template) {
            Some(builtin) => (builtin.source, builtin.special_tokens.to_vec()),
            None => (template, written_tokens(template)),
        };
        let missing: Vec<AddedToken> = tokens
            .into_iter()
            .filter(|token| self.id(token).is_none())
            .map(|token| AddedToken::from(token, true).normalized(false))
            .collect();
        let mut interface = self.interface().clone();
        interface.chat_templates = ChatTemplates { default: Some(source.to_owned()), ..ChatTemplates::default() };
        let stop_tokens = self.end_of_text().into_iter().chain(std::mem::take(&mut interface.stop_tokens));
        for id in stop_tokens {
            if !interface.stop_tokens.contains(&id) {
                interface.stop_tokens.push(id);
            }
        }
        let mut inner = self.inner().clone();
        inner.add_special_tokens(missing).map_err(|source| Error::Parse { origin: "tokenizer".to_owned(), source })?;
        let extended = Self::wrap(inner, "the tokenizer")?.with_interface(interface);
        let mut interface = extended.interface().clone();
        if let Some(end) = extended.end_of_turn()?
            && !interface.stop_tokens.contains(&end)
        {
            interface.stop_tokens.push(end);
        }
        Ok(extended.with_interface(interface))
    }

    /// Returns the special token that the chat template writes after an answer.
    fn end_of_turn(&self) -> Result<Option<u32>, Error> {
        let [question, answer] = ["question", "answer"];
        let messages = vec![Message::new("user", question), Message::new(ASSISTANT, answer)];
        let text = self.apply_chat_template(&Conversation::from(messages), &RenderOptions::default())?;
        let after = text.rfind(answer).map_or("", |at| &text[at + answer.len()..]);
        let found = self.special_token_names().iter().filter_map(|token| Some((after.find(token.as_str())?, token)));
        Ok(found.min_by_key(|(at, token)| (*at, usize::MAX - token.len())).and_then(|(_, token)| self.id(token)))
    }
}

/// Returns the names in a template that look like special tokens: `<|name|>`.
fn written_tokens(template: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for (at, _) in template.match_indices("<|") {
        let Some(end) = template[at..].find("|>") else { break };
        let token = &template[at..at + end + 2];
        let is_name = token[2..end].chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if is_name && end > 2 && !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens
}
