//! The model to start from: its shape, once everything that is read of it is what was sealed; and what it says of itself.

use artifact::file::write_atomically;
use artifact::{Sealed, Unsealed};
use model::{ModelConfig, checkpoint};
use tokenizer::Tokenizer;

use crate::{Config, Error};

/// Returns the shape of the checkpoint `init`, after comparing its files with their digests.
///
/// # Errors
/// When a file is not what was sealed, the tokenizer has tokens that the model does not know, or the sequences of `config`
/// are longer than the model's context.
pub fn config(config: &Config, init: &Sealed, tokenizer: &Tokenizer) -> Result<ModelConfig, Error> {
    for name in init.files("") {
        init.verified(&name)?;
    }
    let of_init = checkpoint::load_config(init.folder())?;
    tokenizer.check_vocabulary(of_init.vocab_size)?;
    config.check_init(&of_init)?;
    Ok(of_init)
}

/// Files of the Hugging Face layout that say how a tokenizer and a model are used, not what they are.
const PASSED_ON: [&str; 5] = [
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Copies what the checkpoint `init` says of how it is used, its chat template above all, if its tokenizer was kept.
///
/// # Errors
/// When a file cannot be read or written.
pub fn pass_on(init: &Sealed, tokenizer: &Tokenizer, out: &Unsealed) -> Result<(), Error> {
    if Tokenizer::from_file(&init.verified("tokenizer.json")?)?.digest() != tokenizer.digest() {
        return Ok(());
    }
    for name in PASSED_ON.into_iter().filter(|name| init.manifest().files.contains_key(*name)) {
        let path = init.verified(name)?;
        let bytes = std::fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        write_atomically(&out.path(name), &bytes)?;
    }
    Ok(())
}
