//! How varied generated text is.
//!
//! The units are words, so that models with different vocabularies can be compared: a word is a run of letters, digits
//! and underscores, and every other character that is not blank is a word by itself.

use std::collections::HashSet;

use serde::Serialize;

/// Figures over a set of texts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Diversity {
    /// Words in all texts together.
    pub(crate) words: usize,
    /// Different words over all words (A Diversity-Promoting Objective Function for Neural Conversation Models, 2016).
    pub(crate) distinct_1: f64,
    /// Different pairs of neighbouring words over all such pairs. The paper divides by the number of words, which differs
    /// by one a text.
    pub(crate) distinct_2: f64,
    /// The same of three.
    pub(crate) distinct_3: f64,
    /// The share of runs of four words that occurred in the same text before, averaged over texts (seq-rep-4 of Neural
    /// Text Generation with Unlikelihood Training, 2020).
    pub(crate) repetition_4: f64,
}

impl Diversity {
    /// Measures `texts`; shares of nothing are 0.
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
        }
    }
}

fn distinct(texts: &[Vec<&str>], n: usize) -> f64 {
    let (distinct, all) = n_grams(texts, n);
    if all == 0 { 0.0 } else { distinct as f64 / all as f64 }
}

/// Returns how many n-grams differ, and how many there are.
fn n_grams(texts: &[Vec<&str>], n: usize) -> (usize, usize) {
    let all = || texts.iter().flat_map(|words| words.windows(n));
    (all().collect::<HashSet<_>>().len(), all().count())
}

fn words(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if is_part(first) { rest.find(|c| !is_part(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_single_marks() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected);
        check("", &[]);
        check("  \n", &[]);
        check("let x_1=a::b;", &["let", "x_1", "=", "a", ":", ":", "b", ";"]);
        check("naïve 東京→x", &["naïve", "東京", "→", "x"]);
    }

    #[test]
    fn the_figures_are_those_counted_by_hand() {
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
        // a b a b a b: 2 of 6 words, 2 of 5 pairs, 2 of 4 triples, 2 of 3 runs of four.
        check(&["a b a b a b"], [6.0, 2.0 / 6.0, 2.0 / 5.0, 2.0 / 4.0, 1.0 / 3.0]);
        // The same text twice: nothing repeats within a text, everything between them.
        check(&["a b c d", "a b c d"], [8.0, 0.5, 0.5, 0.5, 0.0]);
        // No pair reaches from one text into the next.
        check(&["a", "b"], [2.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
