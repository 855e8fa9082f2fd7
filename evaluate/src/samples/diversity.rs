//! Diversity of generated text.
//!
//! The units are words, so that models with different vocabularies can be compared: a word is a run of letters, digits
//! and underscores; every other character except white space is a word by itself.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::samples::overlap::BleuCounts;

/// The texts of which self-BLEU is computed, from the first: its cost grows with their square.
const MAX_SELF_BLEU_TEXTS: usize = 100;

/// Diversity of a set of texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Diversity {
    /// Words in all texts.
    pub(crate) words: usize,
    /// Distinct words over all words (A Diversity-Promoting Objective Function for Neural Conversation Models, 2016).
    pub(crate) distinct_1: f64,
    /// Distinct bigrams over all bigrams. Deviation: the paper divides by the number of words, one more per text.
    pub(crate) distinct_2: f64,
    /// Distinct trigrams over all trigrams.
    pub(crate) distinct_3: f64,
    /// The fraction of 4-grams that occurred earlier in the same text, averaged over texts (seq-rep-4 of Neural Text
    /// Generation with Unlikelihood Training, 2020).
    pub(crate) repetition_4: f64,
    /// The mean BLEU of a text with the others as references, from 0 to 100 (Texygen: A Benchmarking Platform for Text
    /// Generation Models, 2018); null for fewer than two texts. Deviation: texts without a common n-gram of some order
    /// are smoothed as by sacrebleu.
    pub(crate) self_bleu: Option<f64>,
}

impl Diversity {
    /// Measures `texts`; fractions of nothing are 0.
    pub(crate) fn of(texts: &[&str]) -> Self {
        let texts: Vec<Vec<&str>> = texts.iter().map(|text| words(text)).collect();
        let repetitions = texts.iter().map(|words| {
            let (distinct, all) = n_grams(std::slice::from_ref(words), 4);
            if all == 0 { 0.0 } else { 1.0 - distinct as f64 / all as f64 }
        });
        Self {
            words: texts.iter().map(Vec::len).sum(),
            distinct_1: distinct(&texts, 1),
            distinct_2: distinct(&texts, 2),
            distinct_3: distinct(&texts, 3),
            repetition_4: repetitions.sum::<f64>() / texts.len().max(1) as f64,
            self_bleu: self_bleu(&texts[..texts.len().min(MAX_SELF_BLEU_TEXTS)]),
        }
    }
}

fn self_bleu(texts: &[Vec<&str>]) -> Option<f64> {
    let of_text = |at: usize| {
        let others: Vec<&Vec<&str>> =
            texts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, t)| t).collect();
        let mut counts = BleuCounts::default();
        counts.add(&texts[at], &others);
        counts.score()
    };
    (texts.len() > 1).then(|| (0..texts.len()).map(of_text).sum::<f64>() / texts.len() as f64)
}

fn distinct(texts: &[Vec<&str>], n: usize) -> f64 {
    let (distinct, all) = n_grams(texts, n);
    if all == 0 { 0.0 } else { distinct as f64 / all as f64 }
}

/// Returns the numbers of distinct and of all n-grams.
fn n_grams(texts: &[Vec<&str>], n: usize) -> (usize, usize) {
    let all = || texts.iter().flat_map(|words| words.windows(n));
    (all().collect::<HashSet<_>>().len(), all().count())
}

fn words(text: &str) -> Vec<&str> {
    let is_word_character = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if is_word_character(first) {
            rest.find(|c| !is_word_character(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_single_characters() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected);
        check("", &[]);
        check("  \n", &[]);
        check("let x_1=a::b;", &["let", "x_1", "=", "a", ":", ":", "b", ";"]);
        check("naïve 東京→x", &["naïve", "東京", "→", "x"]);
    }

    #[test]
    fn measures_match_a_count_by_hand() {
        // [words, distinct-1, -2, -3, repetition-4]
        let check = |texts: &[&str], expected: [f64; 5]| {
            let d = Diversity::of(texts);
            let found = [d.words as f64, d.distinct_1, d.distinct_2, d.distinct_3, d.repetition_4];
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{texts:?}: {d:?}");
            }
        };
        check(&[], [0.0; 5]);
        check(&[""], [0.0; 5]);
        check(&["a b c d"], [4.0, 1.0, 1.0, 1.0, 0.0]);
        // a b a b a b: 2 of 6 words, 2 of 5 bigrams, 2 of 4 trigrams, 2 of 3 4-grams are distinct.
        check(&["a b a b a b"], [6.0, 2.0 / 6.0, 2.0 / 5.0, 2.0 / 4.0, 1.0 / 3.0]);
        // The same text twice: nothing repeats within a text, everything across texts.
        check(&["a b c d", "a b c d"], [8.0, 0.5, 0.5, 0.5, 0.0]);
        // No bigram spans two texts.
        check(&["a", "b"], [2.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn self_bleu_is_the_mean_over_texts() {
        let check = |texts: &[&str], expected: Option<f64>| {
            let found = Diversity::of(texts).self_bleu;
            assert!(
                found.zip(expected).map_or(found == expected, |(a, b)| (a - b).abs() < 1e-8),
                "{texts:?}: {found:?}"
            );
        };
        check(&[], None);
        check(&["a b c d"], None);
        check(&["a b c d e", "a b c d e"], Some(100.0));
        check(&["a b c d e", "f g h i j"], Some(0.0));
        // The values of each text are those of overlap.rs.
        let texts = ["the cat sat on the mat today", "a dog sat on the mat", "the cat sat on a mat"];
        check(&texts, Some((69.853_420_565_8 + 53.728_496_591_2 + 56.234_132_519_0) / 3.0));
    }
}
