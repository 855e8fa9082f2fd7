//! An index of the word sequences of evaluation texts, and the search for them in documents.

use std::collections::BTreeSet;

use super::Config;
use super::words::hash_words;

/// The sequences of all evaluation sets as 64-bit hashes: 12 bytes per sequence, and 2 to 4 for the filter.
#[derive(Debug)]
pub struct Index {
    /// Names of the sets, in the order of their first text.
    sets: Vec<String>,
    /// Hashes of the sequences, sorted and unique.
    hashes: Vec<u64>,
    /// For each of `hashes`, the first set that contains the sequence.
    set_of: Vec<u32>,
    /// A Bloom filter with one hash function, so that nearly all absent sequences cost one memory access.
    filter: Vec<u64>,
    /// Lengths of sequences in words (`ngram`, and the lengths of shorter texts), each with that power of [`BASE`].
    lengths: Vec<(usize, u64)>,
    skipped: u64,
}

/// The overlap of a document with the evaluation sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap<'i> {
    /// The set with the most matches; the first one if several have as many.
    pub set: &'i str,
    /// The number of positions in the document at which a sequence of any set begins.
    pub matches: u64,
    /// The fraction of the document's words in such sequences, from 0 to 1.
    pub fraction: f64,
}

/// Buffers that are reused from document to document.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<u64>,
    prefixes: Vec<u64>,
    /// Matches by set.
    matches: Vec<u64>,
    /// For each word, whether it is part of a match.
    is_matching: Vec<bool>,
}

/// The base of the polynomial that combines the hashes of words into one, modulo 2^64; a random odd number.
const BASE: u64 = 0x9e6c_63d0_876a_46b5;

impl Index {
    /// Builds the index of `texts`, each given with the name of its evaluation set.
    ///
    /// # Errors
    /// Returns the first error in `texts`.
    pub fn build<E>(config: &Config, texts: impl IntoIterator<Item = Result<(String, String), E>>) -> Result<Self, E> {
        let mut sets: Vec<String> = Vec::new();
        let mut entries: Vec<(u64, u32)> = Vec::new();
        let mut lengths = BTreeSet::new();
        let mut skipped = 0;
        let (mut words, mut prefixes) = (Vec::new(), Vec::new());
        for text in texts {
            let (set, text) = text?;
            let number = sets.iter().position(|known| *known == set).unwrap_or_else(|| {
                sets.push(set);
                sets.len() - 1
            }) as u32;
            words.clear();
            hash_words(&text, &mut words);
            let length = words.len().min(config.ngram);
            if length < config.min_words {
                skipped += 1;
                continue;
            }
            lengths.insert(length);
            fill_prefixes(&words, &mut prefixes);
            let power = power(length);
            entries.extend((length..=words.len()).map(|end| (sequence(&prefixes, end, length, power), number)));
        }
        // Of equal sequences, the one of the first set is kept.
        entries.sort_unstable();
        entries.dedup_by_key(|(hash, _)| *hash);
        let (hashes, set_of): (Vec<u64>, Vec<u32>) = entries.into_iter().unzip();
        let mut filter = vec![0; (hashes.len() / 4).next_power_of_two()];
        for hash in &hashes {
            let (word, bit) = filter_place(*hash, filter.len());
            filter[word] |= bit;
        }
        let lengths = lengths.into_iter().map(|length| (length, power(length))).collect();
        Ok(Self { sets, hashes, set_of, filter, lengths, skipped })
    }

    /// Returns the number of distinct sequences.
    pub fn sequences(&self) -> usize {
        self.hashes.len()
    }

    /// Returns the number of evaluation texts that were skipped because they are too short.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Returns the overlap of `text` with the sets, or `None` if there is none.
    pub fn check(&self, text: &str, scratch: &mut Scratch) -> Option<Overlap<'_>> {
        let Scratch { words, prefixes, matches, is_matching } = scratch;
        words.clear();
        hash_words(text, words);
        fill_prefixes(words, prefixes);
        matches.clear();
        matches.resize(self.sets.len(), 0);
        is_matching.clear();
        for &(length, power) in &self.lengths {
            for end in length..=words.len() {
                if let Some(set) = self.find(sequence(prefixes, end, length, power)) {
                    matches[set as usize] += 1;
                    is_matching.resize(words.len(), false);
                    is_matching[end - length..end].fill(true);
                }
            }
        }
        let (max, set) = matches.iter().zip(&self.sets).rev().max_by_key(|(count, _)| **count)?;
        let matching = is_matching.iter().filter(|is_matching| **is_matching).count();
        (*max > 0).then(|| Overlap {
            set,
            matches: matches.iter().sum(),
            fraction: matching as f64 / words.len() as f64,
        })
    }

    fn find(&self, hash: u64) -> Option<u32> {
        let (word, bit) = filter_place(hash, self.filter.len());
        if self.filter[word] & bit == 0 {
            return None;
        }
        self.hashes.binary_search(&hash).ok().map(|at| self.set_of[at])
    }
}

/// Fills `prefixes` with the values of the polynomial over the first 0, 1, 2, … words.
fn fill_prefixes(words: &[u64], prefixes: &mut Vec<u64>) {
    prefixes.clear();
    prefixes.push(0);
    let mut value = 0_u64;
    prefixes.extend(words.iter().map(|word| {
        value = value.wrapping_mul(BASE).wrapping_add(*word);
        value
    }));
}

/// Returns the hash of the `length` words before `end`; `power` is [`BASE`] to the `length`.
fn sequence(prefixes: &[u64], end: usize, length: usize, power: u64) -> u64 {
    prefixes[end].wrapping_sub(prefixes[end - length].wrapping_mul(power))
}

fn power(length: usize) -> u64 {
    (0..length).fold(1, |power, _| power.wrapping_mul(BASE))
}

/// Returns the word and the bit of `hash` in a filter of `words` 64-bit words (a power of two).
fn filter_place(hash: u64, words: usize) -> (usize, u64) {
    ((hash >> 6) as usize & (words - 1), 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn index(config: &Config, texts: &[(&str, &str)]) -> Index {
        let texts = texts.iter().map(|(set, text)| Ok::<_, Infallible>(((*set).to_owned(), (*text).to_owned())));
        Index::build(config, texts).unwrap_or_else(|never| match never {})
    }

    const QUESTION: &str = "Which river flows through the old town before it reaches the sea near the harbour wall?";

    #[test]
    fn overlaps_are_found() {
        let index = index(
            &Config::default(),
            &[
                ("rivers", QUESTION),
                ("short", "Nine words are enough to count as one sequence."),
                ("short", "These are too few words."),
                ("clocks", "The station clock stopped at noon and none in the waiting room noticed it until evening."),
            ],
        );
        assert_eq!((index.sequences(), index.skipped()), (4 + 1 + 4, 1));
        let mut scratch = Scratch::default();
        let mut check = |text: &str, expected: Option<(&str, u64, f64)>| {
            let found = index.check(text, &mut scratch);
            let found = found.map(|overlap| (overlap.set, overlap.matches, (overlap.fraction * 1e4).round() / 1e4));
            assert_eq!(found, expected, "{text:?}");
        };
        check("", None);
        check("Nothing in common.", None);
        check(QUESTION, Some(("rivers", 4, 1.0)));
        check(
            "WHICH river -- flows\nthrough 'the' old  town, before it reaches the sea: near THE harbour-wall",
            Some(("rivers", 4, 1.0)),
        );
        // Twelve words do not match, thirteen do.
        check("I asked which river flows through the old town before it reaches the sea", None);
        check(
            "I asked which river flows through the old town before it reaches the sea near",
            Some(("rivers", 1, 0.8667)),
        );
        // A changed word in the middle hides the match.
        check(&QUESTION.replace("before", "until"), None);
        check("Yes: nine words are enough to count as one sequence!", Some(("short", 1, 0.9)));
        check("These are too few words.", None);
        let clock = "the station clock stopped at noon and none in the waiting room noticed";
        check(&format!("{clock}. {QUESTION}"), Some(("rivers", 5, 1.0)));
        check(&format!("{clock}, {clock}"), Some(("clocks", 2, 1.0)));
    }

    #[test]
    fn an_empty_index_finds_nothing() {
        let index = index(&Config::default(), &[]);
        assert_eq!(index.check(QUESTION, &mut Scratch::default()), None);
    }

    #[test]
    fn characters_are_words_in_scripts_without_spaces() {
        let index = index(&Config::default(), &[("zh", "小猫坐在窗台上看着外面的雨点慢慢落下。")]);
        let mut scratch = Scratch::default();
        let mut check = |text: &str, matches: Option<u64>| {
            assert_eq!(index.check(text, &mut scratch).map(|overlap| overlap.matches), matches, "{text:?}");
        };
        check("那天小猫坐在窗台上，看着外面的雨。", Some(1));
        check("那天小猫坐在窗台上，看着外面的天。", None);
    }

    fn words() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[abc]", 0..60)
    }

    proptest! {
        #[test]
        fn the_index_finds_the_matches_of_a_comparison_of_all_pairs(
            eval in words(),
            document in words(),
            ngram in 1_usize..6,
        ) {
            let config = Config { ngram, min_words: 1, ..Config::default() };
            let index = index(&config, &[("set", &eval.join(" "))]);
            let length = ngram.min(eval.len());
            let matches = if length == 0 { 0 } else {
                document.windows(length).filter(|gram| eval.windows(length).any(|other| other == *gram)).count()
            };
            let found = index.check(&document.join(", "), &mut Scratch::default());
            prop_assert_eq!(found.map_or(0, |overlap| overlap.matches), matches as u64);
        }
    }
}
