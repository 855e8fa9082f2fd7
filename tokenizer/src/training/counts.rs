//! How often words and characters occur.

use ahash::AHashMap;
use rayon::iter::{ParallelBridge, ParallelIterator};
use rayon::slice::ParallelSliceMut;

/// How much of the text the characters in a vocabulary make, where bytes or an unknown token stand for the others: the
/// default of `SentencePiece` (Kudo and Richardson, 2018).
const CHARACTER_COVERAGE: f64 = 0.9995;

/// Counts of the words of one thread.
pub(super) struct Counter(AHashMap<Box<str>, u64>);

impl Counter {
    /// Counts one more of `word`.
    pub(super) fn add(&mut self, word: &str) {
        if let Some(count) = self.0.get_mut(word) {
            *count += 1;
        } else {
            self.0.insert(word.into(), 1);
        }
    }
}

/// Returns how often each word occurs in `documents`, in the order of the words; `cut` adds those of one document.
pub(super) fn count_words<S: AsRef<str> + Send, E: Send>(
    documents: impl Iterator<Item = S> + Send,
    cut: impl Fn(&str, &mut Counter) -> Result<(), E> + Sync,
) -> Result<Vec<(Box<str>, u64)>, E> {
    let counts = documents
        .par_bridge()
        .try_fold(
            || Counter(AHashMap::new()),
            |mut counter, document| {
                cut(document.as_ref(), &mut counter)?;
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

/// Returns how often each character occurs, the most frequent first.
pub(super) fn count_characters(words: &[(Box<str>, u64)]) -> Vec<(char, u64)> {
    let mut counts: AHashMap<char, u64> = AHashMap::new();
    for (word, count) in words {
        word.chars().for_each(|character| *counts.entry(character).or_default() += count);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|(character, count)| (std::cmp::Reverse(*count), *character));
    counts
}

/// Returns the characters that a vocabulary should have: the most frequent ones, which make nearly all of the text.
pub(super) fn covering_characters(words: &[(Box<str>, u64)]) -> Vec<char> {
    let counts = count_characters(words);
    let enough = counts.iter().map(|(_, count)| *count as f64).sum::<f64>() * CHARACTER_COVERAGE;
    let mut covered = 0.0;
    let is_needed = |(_, count): &&(char, u64)| {
        let is_needed = covered < enough;
        covered += *count as f64;
        is_needed
    };
    let mut characters: Vec<char> = counts.iter().take_while(is_needed).map(|(character, _)| *character).collect();
    characters.sort_unstable();
    characters
}
