//! The tokenizer files of a Hugging Face folder.

use std::path::Path;

use artifact::file::write_atomically;
use serde_json::json;

use crate::chat::TEMPLATE;
use crate::special_tokens::SPECIAL_TOKENS;
use crate::{Error, Tokenizer};

impl Tokenizer {
    /// Writes `tokenizer.json` and `tokenizer_config.json` for a model with a context of `context_length` tokens.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn write_hugging_face(&self, folder: &Path, context_length: usize) -> Result<(), Error> {
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context_length,
            "add_bos_token": false,
            "add_prefix_space": false,
            "clean_up_tokenization_spaces": false,
        });
        if let Some(end_of_text) = self.end_of_text_name() {
            config["eos_token"] = end_of_text.into();
            config["pad_token"] = end_of_text.into();
        }
        if let Some(unknown) = self.unknown_token_name() {
            config["unk_token"] = unknown.into();
        }
        if SPECIAL_TOKENS[1..].iter().all(|name| self.id(name).is_some()) {
            config["chat_template"] = TEMPLATE.into();
        }
        write_atomically(&folder.join("tokenizer.json"), self.to_json().as_bytes())?;
        write_atomically(&folder.join("tokenizer_config.json"), format!("{config:#}\n").as_bytes())?;
        Ok(())
    }
}
