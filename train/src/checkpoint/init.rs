//! The model of `train.init`, with the vocabulary that the training needs.

use artifact::Sealed;
use burn::tensor::Device;
use model::lora::LoraConfig;
use model::{ModelConfig, Transformer, checkpoint, vocabulary};
use tokenizer::Tokenizer;

use crate::{Config, Error};

/// Returns the configuration of the model `init`, after comparing its files with their digests.
///
/// # Errors
/// Returns an error if a file is not what was sealed, the tokenizer has more tokens than the model though no chat
/// template added them, or the sequences of `config` are longer than the model's context.
pub fn model_config(config: &Config, init: &Sealed, tokenizer: &Tokenizer) -> Result<ModelConfig, Error> {
    for name in init.files("") {
        init.verified(&name)?;
    }
    let mut model_config = checkpoint::load_config(init.folder())?;
    if config.chat_template.is_none() {
        tokenizer.check_vocabulary(model_config.vocab_size)?;
    }
    config.check_context(&model_config, "train.init")?;
    let vocab_size = model_config.vocab_size.max(tokenizer.vocab_size());
    model_config.vocab_size = vocab_size.next_multiple_of(config.pad_vocab_to_multiple_of);
    Ok(model_config)
}

/// Loads the model `init`, with a row for each token that the chat template added.
///
/// # Errors
/// Returns an error if a file is not valid, or the device fails.
pub fn load(init: &Sealed, vocab_size: usize, seed: u64, device: &Device) -> Result<Transformer, Error> {
    let model = checkpoint::load(init.folder(), device)?;
    Ok(vocabulary::grow(model, vocab_size, seed)?)
}

/// Returns the adapters to train: embeddings that grew are trained in full.
///
/// # Errors
/// Returns an error if the model's configuration cannot be read.
pub fn adapters(config: &Config, init: Option<&Sealed>, model: &ModelConfig) -> Result<Option<LoraConfig>, Error> {
    let (Some(mut adapters), Some(init)) = (config.lora.clone(), init) else { return Ok(config.lora.clone()) };
    if checkpoint::load_config(init.folder())?.vocab_size < model.vocab_size {
        let grown = ["embed_tokens", "lm_head"].into_iter().take(if model.tied_embeddings { 1 } else { 2 });
        for name in grown.map(str::to_owned) {
            if !adapters.modules_to_save.contains(&name) {
                adapters.modules_to_save.push(name);
            }
        }
    }
    Ok(Some(adapters))
}
