//! Byte-level BPE.

use std::convert::Infallible;

use ahash::AHashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::config::TrainConfig;
use super::{merges, word_counts};
use crate::Error;
use crate::pre_tokenizer::ALPHABET;

pub(super) fn train<S: AsRef<str> + Send>(
    config: &TrainConfig,
    special_tokens: &[String],
    documents: impl Iterator<Item = S> + Send,
) -> Result<tokenizers::Tokenizer, Error> {
    config.check_size(ALPHABET.len() + special_tokens.len())?;
    let splitter = config.pattern.splitter();
    let Ok(counted) = word_counts::count_words(documents, |text, counter| {
        splitter.split(text, |word| {
            counter.add(word);
            Ok::<_, Infallible>(())
        })
    });

    // Special tokens first, then the bytes in the order of their characters.
    let mut alphabet = ALPHABET;
    alphabet.sort_unstable();
    let mut vocabulary = special_tokens.to_vec();
    vocabulary.extend(alphabet.map(String::from));
    let rank = |character| alphabet.binary_search(&character).expect("a character of the alphabet");
    let ids = ALPHABET.map(|character| (special_tokens.len() + rank(character)) as u32);

    let mut words = merges::WordTokens::default();
    for (word, count) in counted {
        words.push(word.bytes().map(|byte| ids[usize::from(byte)]), count);
    }
    let limits = merges::Limits {
        vocab_size: config.vocab_size,
        min_frequency: config.min_frequency,
        continuing_prefix: "",
        reserved: special_tokens,
    };
    let pairs = merges::merge(&mut vocabulary, words, &limits);

    let name = |id: u32| vocabulary[id as usize].clone();
    let pairs = pairs.iter().map(|(first, second)| (name(*first), name(*second))).collect();
    let vocabulary: AHashMap<String, u32> = vocabulary.iter().cloned().zip(0..).collect();
    let model = BPE::builder().vocab_and_merges(vocabulary, pairs).build().map_err(config.failed())?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(config.pattern.pre_tokenizer(true).map_err(config.failed())?));
    inner.with_decoder(Some(ByteLevel::new(false, false, false)));
    inner.with_post_processor(Some(ByteLevel::new(false, false, false)));
    Ok(inner)
}
