//! Writing the tokenizer files of a Hugging Face folder.

use std::path::Path;

use artifact::file::write_atomically;
use serde_json::{Map, Value};

use crate::chat::TEMPLATE;
use crate::files::{CHAT_TEMPLATE, GENERATION_CONFIG, NAMED_TEMPLATES, TOKENIZER, TOKENIZER_CONFIG, object};
use crate::special_tokens::SPECIAL_TOKENS;
use crate::text_interface;
use crate::{Error, Tokenizer};

impl Tokenizer {
    /// Writes the tokenizer as it was read: `tokenizer.json`, and what the files beside it declare. A tokenizer that
    /// was trained here is `tokenizer.json` alone. [`Tokenizer::from_folder`] reads an equal one.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        let interface = self.interface();
        write(folder, TOKENIZER, self.to_json())?;
        if !interface.tokenizer_config.is_empty() || !interface.special_tokens.is_empty() {
            write(folder, TOKENIZER_CONFIG, &interface.tokenizer_config_text())?;
        }
        if !interface.generation_config.is_empty() || !interface.stop_tokens.is_empty() {
            write_json(folder, GENERATION_CONFIG, interface.generation_config())?;
        }
        self.write_templates(folder)
    }

    /// Writes the files of the tokenizer beside those of a model with a context of `context_length` tokens, for
    /// transformers: `tokenizer.json`, `tokenizer_config.json`, the chat templates, and the ids that end a text in the
    /// model's `generation_config.json`. What was read is kept, keys included that are not known here.
    ///
    /// # Errors
    /// Returns an error if the model's `generation_config.json` is not valid, and on I/O errors.
    pub fn write_hugging_face(&self, folder: &Path, context_length: usize) -> Result<(), Error> {
        let interface = self.interface();
        write(folder, TOKENIZER, self.to_json())?;
        let is_declared = !interface.tokenizer_config.is_empty() || !interface.special_tokens.is_empty();
        if is_declared {
            write(folder, TOKENIZER_CONFIG, &interface.tokenizer_config_text())?;
        } else {
            write_json(folder, TOKENIZER_CONFIG, self.own_config(context_length))?;
        }
        // The model's own file has the ids of its configuration.
        let mut generation = object(folder, GENERATION_CONFIG)?.unwrap_or_default();
        let mut stop_tokens = interface.stop_tokens.clone();
        stop_tokens.extend(self.end_of_text());
        stop_tokens.extend(text_interface::ids(&generation));
        generation.extend(interface.generation_config());
        text_interface::set_ids(&mut generation, stop_tokens);
        if !generation.is_empty() {
            write_json(folder, GENERATION_CONFIG, generation)?;
        }
        self.write_templates(folder)
    }

    fn write_templates(&self, folder: &Path) -> Result<(), Error> {
        let templates = &self.interface().chat_templates;
        if let Some(source) = templates.default.as_ref().filter(|_| !self.interface().has_template_in_config()) {
            write(folder, CHAT_TEMPLATE, source)?;
        }
        for (name, source) in &templates.named {
            artifact::file::create_folder(&folder.join(NAMED_TEMPLATES))?;
            write(folder, &format!("{NAMED_TEMPLATES}/{name}.jinja"), source)?;
        }
        Ok(())
    }

    /// Returns `tokenizer_config.json` of a tokenizer that was trained here.
    fn own_config(&self, context_length: usize) -> Map<String, Value> {
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
        config.insert("model_max_length".to_owned(), context_length.into());
        for key in ["add_bos_token", "add_prefix_space", "clean_up_tokenization_spaces"] {
            config.insert(key.to_owned(), false.into());
        }
        if let Some(end_of_text) = self.end_of_text_name() {
            config.insert("eos_token".to_owned(), end_of_text.into());
            config.insert("pad_token".to_owned(), end_of_text.into());
        }
        if let Some(unknown) = self.unknown_token_name() {
            config.insert("unk_token".to_owned(), unknown.into());
        }
        let has_chat = self.interface().chat_templates.default.is_none()
            && SPECIAL_TOKENS[1..].iter().all(|name| self.id(name).is_some());
        if has_chat {
            config.insert("chat_template".to_owned(), TEMPLATE.into());
        }
        config
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), Error> {
    Ok(write_atomically(&folder.join(name), text.as_bytes())?)
}

fn write_json(folder: &Path, name: &str, object: Map<String, Value>) -> Result<(), Error> {
    write(folder, name, &format!("{:#}\n", Value::Object(object)))
}
