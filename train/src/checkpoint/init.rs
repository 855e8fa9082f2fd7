//! The model of `train.init`: its configuration, and its side files.

use artifact::Sealed;
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
