//! Character tokenizers.

use std::convert::Infallible;

use ahash::AHashMap;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::wordlevel::WordLevel;

use super::config::{TrainConfig, split};
use super::word_counts;
use crate::pre_tokenizer::{CHARACTER, WordSplitter};
use crate::{Error, Kind};

pub(super) fn train<S: AsRef<str> + Send>(
    config: &TrainConfig,
    special_tokens: &[String],
    documents: impl Iterator<Item = S> + Send,
) -> Result<tokenizers::Tokenizer, Error> {
    let Ok(counted) = word_counts::count_words(documents, |text, counter| {
        WordSplitter::Character.split(text, |character| {
            counter.add(character);
            Ok::<_, Infallible>(())
        })
    });
    let unknown = Kind::Character.unknown_token().expect("characters have one");
    let mut vocabulary: AHashMap<String, u32> = AHashMap::new();
    vocabulary.insert(unknown.to_owned(), 0);
    vocabulary.extend(counted.into_iter().map(|(character, _)| character.into_string()).zip(1..));
    config.check_size(vocabulary.len() + special_tokens.len())?;
    let model =
        WordLevel::builder().vocab(vocabulary).unk_token(unknown.to_owned()).build().map_err(config.failed())?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(split(CHARACTER).map_err(config.failed())?));
    inner.with_decoder(Some(Fuse::new()));
    Ok(inner)
}
