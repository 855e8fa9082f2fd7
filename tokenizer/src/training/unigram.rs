//! Unigram, with bytes for characters outside the vocabulary.

use std::collections::BTreeMap;
use std::convert::Infallible;

use rayon::ThreadPoolBuilder;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::models::unigram::{Unigram, UnigramTrainer};

use super::config::TrainConfig;
use super::word_counts;
use crate::{Error, Kind};

/// The longest word that is trained on, in bytes: the default of `SentencePiece` for a sentence.
const MAX_WORD_BYTES: usize = 4192;

/// The number of byte tokens.
const BYTES: usize = 256;

pub(super) fn train<S: AsRef<str> + Send>(
    config: &TrainConfig,
    special_tokens: &[String],
    documents: impl Iterator<Item = S> + Send,
) -> Result<tokenizers::Tokenizer, Error> {
    let splitter = config.pattern.splitter();
    let Ok(counted) = word_counts::count_words(documents, |text, counter| {
        splitter.split(text, |word| {
            if word.len() <= MAX_WORD_BYTES {
                counter.add(word);
            }
            Ok::<_, Infallible>(())
        })
    });
    let mut alphabet = word_counts::covering_characters(&counted);
    // The trainer uses it as a separator of sentences: it learns nothing about it and, from a text with nothing else,
    // infinite scores. It is encoded as a byte.
    alphabet.retain(|character| *character != '\0');
    // The trainer needs one piece more than the characters.
    let fixed = 1 + BYTES + special_tokens.len();
    config.check_size(fixed + alphabet.len() + 1)?;
    let mut words: BTreeMap<&str, u64> = BTreeMap::new();
    for (word, count) in &counted {
        let known = word.split(|character| alphabet.binary_search(&character).is_err());
        known.filter(|part| !part.is_empty()).for_each(|part| *words.entry(part).or_default() += count);
    }
    let words = words.into_iter().map(|(word, count)| (word.to_owned(), u32::try_from(count).unwrap_or(u32::MAX)));
    let pieces = pieces(config.vocab_size - fixed, words.collect()).map_err(config.failed())?;

    let unknown = Kind::Unigram.unknown_token().expect("Unigram has one");
    let mut vocabulary = vec![(unknown.to_owned(), 0.0)];
    vocabulary.extend((0..BYTES).map(|byte| (format!("<0x{byte:02X}>"), 0.0)));
    // A word of the text must not become a special token.
    vocabulary.extend(pieces.into_iter().filter(|(piece, _)| !special_tokens.contains(piece)));
    let model = Unigram::from(vocabulary, Some(0), true).map_err(config.failed())?;
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(config.pattern.pre_tokenizer(false).map_err(config.failed())?));
    inner.with_decoder(Some(Sequence::new(vec![ByteFallback::new().into(), Fuse::new().into()])));
    Ok(inner)
}

/// Returns `vocab_size` pieces and the logarithms of their probabilities, the most probable first.
fn pieces(vocab_size: usize, words: Vec<(String, u32)>) -> Result<Vec<(String, f64)>, tokenizers::Error> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let trainer = UnigramTrainer::builder().show_progress(false).vocab_size(vocab_size as u32).build()?;
    let mut model = Unigram::default();
    // The trainer adds the sums of its threads in any order: only one thread gives the same bits each time.
    let one_thread = ThreadPoolBuilder::new().num_threads(1).build()?;
    one_thread.install(|| trainer.do_train(words, &mut model))?;
    let mut pieces: Vec<(String, f64)> = model.iter().cloned().collect();
    make_characters_deterministic(&mut pieces);
    pieces.sort_by(|(a, x), (b, y)| y.total_cmp(x).then_with(|| a.cmp(b)));
    Ok(pieces)
}

/// Assigns the probabilities of dropped characters in a deterministic order. The trainer adds the characters that it
/// dropped again with the lowest probability, slightly more for each next one, in the order of a hash map.
fn make_characters_deterministic(pieces: &mut [(String, f64)]) {
    // The trainer's constant.
    const STEP: f64 = 0.0001;
    let lowest = pieces.iter().map(|(_, score)| *score).fold(f64::INFINITY, f64::min);
    let mut indices = Vec::new();
    let mut above = 0.0;
    loop {
        let score = lowest + above;
        let has_score =
            |(piece, other): &(String, f64)| other.to_bits() == score.to_bits() && piece.chars().nth(1).is_none();
        let before = indices.len();
        indices.extend((0..pieces.len()).filter(|index| has_score(&pieces[*index])));
        if indices.len() == before {
            break;
        }
        above += STEP;
    }
    let mut characters: Vec<String> = indices.iter().map(|index| pieces[*index].0.clone()).collect();
    characters.sort_unstable();
    let mut scores: Vec<f64> = indices.iter().map(|index| pieces[*index].1).collect();
    scores.sort_unstable_by(f64::total_cmp);
    for ((index, character), score) in indices.into_iter().zip(characters).zip(scores) {
        pieces[index] = (character, score);
    }
}
