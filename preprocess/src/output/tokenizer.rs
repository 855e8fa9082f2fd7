//! The tokenizer: a given one, or one trained on the train split; with the configured chat template.

use std::collections::BinaryHeap;
use std::fs;

use artifact::{Context, Digest};
use tokenizer::{Tokenizer, TrainConfig};

use crate::engine::documents::Documents;
use crate::engine::split::Split;
use crate::{Config, Error, TokenizerConfig};

/// The minimum frequency of a pair of tokens that is merged: a pair that occurs once would be one occurrence.
const MIN_FREQUENCY: u64 = 2;

/// Reads the given tokenizer, or trains one on the train split.
pub(crate) fn tokenizer(config: &Config, documents: &Documents, context: &Context) -> Result<Tokenizer, Error> {
    let TokenizerConfig { file, from_init, init_file, .. } = &config.tokenizer;
    if let Some(file) = if *from_init { init_file } else { file } {
        let path = context.base.join(file);
        let tokenizer = with_template(Tokenizer::from_file(&path)?, config, documents, context)?;
        return if tokenizer.end_of_text().is_some() { Ok(tokenizer) } else { Err(Error::NoEndOfText { path }) };
    }
    let sample = sample(config, documents, context)?;
    let total = sample.iter().map(|text| text.len() as u64).sum();
    context.progress.begin("training the tokenizer", total, "bytes");
    let mut done = 0;
    let texts = sample.iter().take_while(|text| {
        done += text.len() as u64;
        context.progress.position(done);
        !context.cancel.is_requested()
    });
    let train = TrainConfig {
        kind: config.tokenizer.kind,
        vocab_size: config.tokenizer.vocab_size,
        pattern: config.tokenizer.pattern,
        special_tokens: special_tokens(&config.tokenizer),
        min_frequency: MIN_FREQUENCY,
    };
    let tokenizer = with_template(Tokenizer::train(&train, texts)?, config, documents, context)?;
    if context.cancel.is_requested() {
        return Err(Error::Interrupted);
    }
    let (vocab_size, wanted) = (tokenizer.vocab_size(), config.tokenizer.vocab_size);
    if vocab_size < wanted {
        let why = "the train split has no more that could become one";
        context.progress.line(&format!("the vocabulary has {vocab_size} tokens instead of {wanted}: {why}"));
    }
    Ok(tokenizer)
}

/// Returns the texts of the train split in the order of their digests, up to `train_bytes`; one at the least.
fn sample(config: &Config, documents: &Documents, context: &Context) -> Result<Vec<String>, Error> {
    // The largest digest of the sample is on top: it is removed first.
    let mut chosen: BinaryHeap<(Digest, u64, usize, usize)> = BinaryHeap::new();
    let mut bytes = 0;
    for file in 0..documents.files() {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        for (at, entry) in documents.index(file)?.iter().enumerate() {
            if documents.split(config, file, at, entry) != Some(Split::Train) {
                continue;
            }
            chosen.push((entry.digest, entry.text_bytes, file, at));
            bytes += entry.text_bytes;
            while bytes > config.tokenizer.train_bytes && chosen.len() > 1 {
                bytes -= chosen.pop().map_or(0, |(_, bytes, ..)| bytes);
            }
        }
    }
    let mut places: Vec<(Digest, usize, usize)> =
        chosen.into_iter().map(|(digest, _, file, at)| (digest, file, at)).collect();
    places.sort_unstable();
    let text = |(_, file, at): &(Digest, usize, usize)| Ok(documents.body(*file, *at)?.text().into_owned());
    places.iter().map(text).collect()
}

/// Returns the special tokens to train a tokenizer with, in addition to those of every tokenizer: the configured ones
/// and those of the chat template.
fn special_tokens(config: &TokenizerConfig) -> Vec<String> {
    let mut tokens = config.special_tokens.clone();
    let template = config.chat_template.as_deref().and_then(tokenizer::builtin);
    for token in template.map_or(&[][..], |template| template.special_tokens) {
        if !tokenizer::SPECIAL_TOKENS.contains(token) && !tokens.iter().any(|other| other == token) {
            tokens.push((*token).to_owned());
        }
    }
    tokens
}

/// Returns a tokenizer with the chat template of the configuration, if there is one. With its own, it stops where the
/// answers in `documents` stop, whatever its files declare.
fn with_template(
    tokenizer: Tokenizer,
    config: &Config,
    documents: &Documents,
    context: &Context,
) -> Result<Tokenizer, Error> {
    let Some(name) = &config.tokenizer.chat_template else {
        return Ok(if documents.has_chats() { tokenizer.with_turn_end_as_stop_token() } else { tokenizer });
    };
    Ok(match config.tokenizer.template_file() {
        Some(file) => {
            let path = context.base.join(file);
            let source = fs::read_to_string(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
            let tokenizer = tokenizer.with_chat_template(&source)?;
            let end = tokenizer.turn_end()?;
            if end.token.is_none() {
                context.progress.line(&format!(
                    "train.chat_template: {} ends an answer by {:?}, which is no token, so that the model learns to \
                     stop only after the last message; write eos_token or a token such as <|end|> after each answer",
                    path.display(),
                    end.text
                ));
            }
            tokenizer
        }
        None => tokenizer.with_chat_template(name)?,
    })
}
