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
    /// one. Special tokens that the template writes and the tokenizer lacks are added at the end of the vocabulary:
    /// names such as `<|name|>`, and a mark such as `</assistant>` after an answer. The token that ends the assistant's
    /// turn becomes a stop token, see [`Tokenizer::turn_end`].
    ///
    /// # Errors
    /// Returns an error if the template is not valid, or does not render a question and its answer.
    pub fn with_chat_template(self, template: &str) -> Result<Self, Error> {
        let (source, tokens): (&str, Vec<&str>) = match builtin(template) {
            Some(builtin) => (builtin.source, builtin.special_tokens.to_vec()),
            None => (template, written_tokens(template)),
        };
        let mut interface = self.interface().clone();
        interface.chat_templates = ChatTemplates { default: Some(source.to_owned()), ..ChatTemplates::default() };
        let stop_tokens = self.end_of_text().into_iter().chain(std::mem::take(&mut interface.stop_tokens));
        for id in stop_tokens {
            if !interface.stop_tokens.contains(&id) {
                interface.stop_tokens.push(id);
            }
        }
        let mut extended = self.with_special_tokens(&tokens)?.with_interface(interface);
        let mut end = extended.turn_end()?;
        if end.token.is_none()
            && let Some(mark) = mark(&end.text)
        {
            let interface = extended.interface().clone();
            extended = extended.with_special_tokens(&[mark])?.with_interface(interface);
            end = extended.turn_end()?;
        }
        Ok(extended.with_stop_token(end.token))
    }

    /// Returns the tokenizer with the token that ends the assistant's turn in its chat template among the stop tokens:
    /// some models declare only the token that ends a document, and generate on after an answer. Unchanged if there is
    /// no template or it does not render a question and its answer.
    #[must_use]
    pub fn with_turn_end_as_stop_token(self) -> Self {
        let end = self.turn_end().ok().and_then(|end| end.token);
        self.with_stop_token(end)
    }

    fn with_stop_token(self, id: Option<u32>) -> Self {
        let Some(id) = id.filter(|id| !self.stop_tokens().contains(id)) else { return self };
        let mut interface = self.interface().clone();
        interface.stop_tokens = self.stop_tokens();
        interface.stop_tokens.push(id);
        self.with_interface(interface)
    }

    /// Returns the tokenizer with special tokens at the end of the vocabulary, as far as it lacks them.
    fn with_special_tokens(&self, tokens: &[&str]) -> Result<Self, Error> {
        let missing = tokens.iter().filter(|token| self.id(token).is_none());
        let missing: Vec<AddedToken> = missing.map(|token| AddedToken::from(*token, true).normalized(false)).collect();
        let mut inner = self.inner().clone();
        inner.add_special_tokens(missing).map_err(|source| Error::Parse { origin: "tokenizer".to_owned(), source })?;
        Self::wrap(inner, "the tokenizer")
    }

    /// Returns what the chat template writes after an answer, and the token that ends the turn: the first special token
    /// in it, else all of it where that is one token.
    ///
    /// # Errors
    /// Returns an error if there is no template, or it does not render a question and its answer.
    pub fn turn_end(&self) -> Result<TurnEnd, Error> {
        let [question, answer] = ["question", "answer"];
        let messages = vec![Message::new("user", question), Message::new(ASSISTANT, answer)];
        let text = self.apply_chat_template(&Conversation::from(messages), &RenderOptions::default())?;
        let after = text.rfind(answer).map_or("", |at| &text[at + answer.len()..]);
        let found = self.special_token_names().iter().filter_map(|token| Some((after.find(token.as_str())?, token)));
        let special = found.min_by_key(|(at, token)| (*at, usize::MAX - token.len()));
        let token = match special {
            Some((_, token)) => self.id(token),
            // Text of its own after every answer, in the vocabulary as one token.
            None if after.trim().is_empty() => None,
            None => self.id(after.trim()),
        };
        Ok(TurnEnd { token, text: after.to_owned() })
    }
}

/// How the assistant's turn ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnEnd {
    /// The token that ends it; `None` if generated text ends with the document only.
    pub token: Option<u32>,
    /// What the chat template writes after an answer.
    pub text: String,
}

/// Returns the mark that `text` begins with, such as `</assistant>` or `[/BOT]`.
fn mark(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let close = match text.chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => return None,
    };
    let mark = &text[..=text.find(close)?];
    let is_name = |c: char| c.is_alphanumeric() || "/_-|".contains(c);
    let name = &mark[1..mark.len() - 1];
    (name.chars().all(is_name) && name.contains(char::is_alphanumeric)).then_some(mark)
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
