//! The model of `train.init`: its configuration, and its side files.

use artifact::file::write_atomically;
use artifact::{Sealed, Unsealed};
use model::hub_layout::SIDE_FILES;
use model::{ModelConfig, checkpoint};
use tokenizer::Tokenizer;

use crate::{Config, Error};

/// Returns the configuration of the model `init`, after comparing its files with their digests.
///
/// # Errors
/// Returns an error if a file is not what was sealed, the tokenizer has more tokens than the model, or the sequences of
/// `config` are longer than the model's context.
pub fn model_config(config: &Config, init: &Sealed, tokenizer: &Tokenizer) -> Result<ModelConfig, Error> {
    for name in init.files("") {
        init.verified(&name)?;
    }
    let model_config = checkpoint::load_config(init.folder())?;
    tokenizer.check_vocabulary(model_config.vocab_size)?;
    config.check_init(&model_config)?;
    Ok(model_config)
}

/// Copies the side files of the model `init`, such as its chat template, if its tokenizer was kept.
///
/// # Errors
/// Returns an error if a file is not what was sealed, and on I/O errors.
pub fn copy_side_files(init: &Sealed, tokenizer: &Tokenizer, out: &Unsealed) -> Result<(), Error> {
    if Tokenizer::from_file(&init.verified(model::hub_layout::TOKENIZER)?)?.digest() != tokenizer.digest() {
        return Ok(());
    }
    for name in SIDE_FILES.into_iter().filter(|name| init.manifest().files.contains_key(*name)) {
        let path = init.verified(name)?;
        let bytes = std::fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        write_atomically(&out.path(name), &bytes)?;
    }
    Ok(())
}
