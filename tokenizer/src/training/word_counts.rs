//! Counts of words and characters.

use ahash::AHashMap;
use rayon::iter::{ParallelBridge, ParallelIterator};
use rayon::slice::ParallelSliceMut;

/// The fraction of the text's characters that are in the vocabulary; bytes or an unknown token replace the others. The
/// default of `SentencePiece` (Kudo and Richardson, 2018).
const CHARACTER_COVERAGE: f64 = 0.9995;

/// The word counts of one thread.
pub(super) struct Counter(AHashMap<Box<str>, u64>);

impl Counter {
    /// Counts an occurrence of `word`.
    pub(super) fn add(&mut self, word: &str) {
        if let Some(count) = self.0.get_mut(word) {
            *count += 1;
        } else {
            self.0.insert(word.into(), 1);
        }
    }
}

/// Returns the count of each word in `documents`, sorted by word; `split` adds the words of one document.
pub(super) fn count_words<S: AsRef<str> + Send, E: Send>(
    documents: impl Iterator<Item = S> + Send,
    split: impl Fn(&str, &mut Counter) -> Result<(), E> + Sync,
) -> Result<Vec<(Box<str>, u64)>, E> {
    let counts = documents
        .par_bridge()
        .try_fold(
            || Counter(AHashMap::new()),
            |mut counter, document| {
                split(document.as_ref(), &mut counter)?;
                Ok(counter)
            },
        )
        .try_reduce(
            || Counter(AHashMap::new()),
            |first, second| {
                let (small, mut large) = if first.0.len() < second.0.len() { (first, second) } else { (second, first) };
                for (word, count) in small.0 {
                    *large.0.entry(word).or_default() += count;
                }
                Ok(large)
            },
        )?;
    let mut counts: Vec<_> = counts.0.into_iter().collect();
    counts.par_sort_unstable();
    Ok(counts)
}

/// Returns the count of each character, the most frequent first.
pub(super) fn count_characters(words: &[(Box<str>, u64)]) -> Vec<(char, u64)> {
    let mut counts: AHashMap<char, u64> = AHashMap::new();
    for (word, count) in words {
        word.chars().for_each(|character| *counts.entry(character).or_default() += count);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|(character, count)| (std::cmp::Reverse(*count), *character));
    counts
}

/// Returns the most frequent characters, up to [`CHARACTER_COVERAGE`] of the text.
pub(super) fn covering_characters(words: &[(Box<str>, u64)]) -> Vec<char> {
    let counts = count_characters(words);
    let target = counts.iter().map(|(_, count)| *count as f64).sum::<f64>() * CHARACTER_COVERAGE;
    let mut covered = 0.0;
    let is_needed = |(_, count): &&(char, u64)| {
        let is_needed = covered < target;
        covered += *count as f64;
        is_needed
    };
    let mut characters: Vec<char> = counts.iter().take_while(is_needed).map(|(character, _)| *character).collect();
    characters.sort_unstable();
    characters
}
