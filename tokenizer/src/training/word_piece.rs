//! `WordPiece` as in BERT: the vocabulary is trained as in BPE, and words are encoded by greedy longest match.

use ahash::AHashMap;
use tokenizers::decoders::wordpiece::WordPiece as WordPieceDecoder;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::config::TrainConfig;
use super::{merges, word_counts};
use crate::{Error, Kind};

/// The prefix of pieces that do not begin a word.
const CONTINUING_PREFIX: &str = "##";

pub(super) fn train<S: AsRef<str> + Send>(
    config: &TrainConfig,
    special_tokens: &[String],
    documents: impl Iterator<Item = S> + Send,
) -> Result<tokenizers::Tokenizer, Error> {
    // Removes control characters and splits Chinese characters; keeps accents and case.
    let normalizer = BertNormalizer::new(true, true, Some(false), false);
    let counted = word_counts::count_words(documents, |text, counter| {
        let mut normalized = NormalizedString::from(text);
        normalizer.normalize(&mut normalized)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words)?;
        for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            counter.add(word);
        }
        Ok(())
    });
    let counted = counted.map_err(config.failed())?;

    let alphabet = word_counts::covering_characters(&counted);
    let unknown = Kind::WordPiece.unknown_token().expect("WordPiece has one");
    let mut vocabulary = vec![unknown.to_owned()];
    vocabulary.extend(alphabet.iter().map(char::to_string));
    vocabulary.extend(alphabet.iter().map(|character| format!("{CONTINUING_PREFIX}{character}")));
    config.check_size(vocabulary.len() + special_tokens.len())?;

    let mut words = merges::WordTokens::default();
    for (word, count) in &counted {
        let tokens: Option<Vec<u32>> = word
            .chars()
            .enumerate()
            .map(|(at, character)| {
                let index = alphabet.binary_search(&character).ok()?;
                Some((1 + index + if at == 0 { 0 } else { alphabet.len() }) as u32)
            })
            .collect();
        // A word with a character outside the alphabet is unknown as a whole.
        if let Some(tokens) = tokens {
            words.push(tokens, *count);
        }
    }
    let limits = merges::Limits {
        vocab_size: config.vocab_size - special_tokens.len(),
        min_frequency: config.min_frequency,
        continuing_prefix: CONTINUING_PREFIX,
        reserved: special_tokens,
    };
    merges::merge(&mut vocabulary, words, &limits);

    let vocabulary: AHashMap<String, u32> = vocabulary.into_iter().zip(0..).collect();
    let model = WordPiece::builder()
        .vocab(vocabulary)
        .unk_token(unknown.to_owned())
        .continuing_subword_prefix(CONTINUING_PREFIX.to_owned())
        .build()
        .map_err(config.failed())?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(normalizer)).map_err(config.failed())?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner.with_decoder(Some(WordPieceDecoder::new(CONTINUING_PREFIX.to_owned(), true)));
    Ok(inner)
}
