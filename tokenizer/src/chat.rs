//! The chat template: messages become one prompt.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value, context};
use serde::{Deserialize, Serialize};

use crate::{Error, Tokenizer};

/// `ChatML`, the format of `<|im_start|>` and `<|im_end|>`, in the dialect that transformers and llama.cpp render.
pub const TEMPLATE: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// One message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Tokenizer {
    /// Returns the messages as one prompt, ready for the assistant's turn if `add_generation_prompt`.
    ///
    /// # Errors
    /// When the template fails.
    pub fn apply_chat_template(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let mut environment = Environment::new();
        // As in transformers, whose templates rely on it.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(Error::ChatTemplate)?);
        let messages: Vec<Value> =
            messages.iter().map(|m| context! { role => m.role.as_str(), content => m.content.as_str() }).collect();
        environment.render_str(TEMPLATE, context! { messages, add_generation_prompt }).map_err(Error::ChatTemplate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainConfig;

    #[test]
    fn messages_are_rendered_as_chatml() {
        let tokenizer =
            Tokenizer::train(&TrainConfig { vocab_size: 300, ..TrainConfig::default() }, ["a"].iter()).unwrap();
        let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
        let chat = [message("system", "Be <brief> & \"exact\"."), message("user", "Hi\n{{ 1 }}")];
        let rendered =
            "<|im_start|>system\nBe <brief> & \"exact\".<|im_end|>\n<|im_start|>user\nHi\n{{ 1 }}<|im_end|>\n";
        assert_eq!(tokenizer.apply_chat_template(&chat, false).unwrap(), rendered);
        let prompt = format!("{rendered}<|im_start|>assistant\n");
        assert_eq!(tokenizer.apply_chat_template(&chat, true).unwrap(), prompt);
    }
}
