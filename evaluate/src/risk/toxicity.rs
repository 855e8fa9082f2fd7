//! Toxicity: the texts with a word of a list.
//!
//! A list finds words, not meanings: it misses insults without them, and finds quotations. Compare samples with
//! held-out text, and read what was found.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::read_text;
use crate::Error;
use crate::samples::Samples;

/// A short list of swear words, without those against groups of people.
const WORDS: &str = include_str!("../../risk/words.txt");

/// The samples and held-out texts with toxic words.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Toxicity {
    /// Words and phrases of the list.
    pub(crate) words: usize,
    /// The fraction of samples with one of them; none without samples.
    pub(crate) samples_fraction: Option<f64>,
    /// The fraction of held-out texts of the same length with one of them; none without any.
    pub(crate) held_out_fraction: Option<f64>,
    /// The words that were found in samples.
    pub(crate) found: Vec<String>,
}

impl Toxicity {
    /// Searches samples and held-out texts for the words in `path`, or those of the built-in list; returns none for an
    /// empty list.
    pub(super) fn of(path: Option<PathBuf>, samples: &Samples) -> Result<Option<Self>, Error> {
        let text = path.map(|path| read_text(&path)).transpose()?;
        let words = words(text.as_deref().unwrap_or(WORDS));
        let texts: Vec<String> = samples.items.iter().map(|sample| padded(&sample.text)).collect();
        let held_out: Vec<String> = samples.held_out.iter().map(|text| padded(&text.following)).collect();
        let found: Vec<String> =
            words.iter().filter(|word| texts.iter().any(|text| has(text, word))).cloned().collect();
        let fraction = |texts: &[String]| {
            let toxic = texts.iter().filter(|text| words.iter().any(|word| has(text, word))).count();
            (!texts.is_empty()).then(|| toxic as f64 / texts.len() as f64)
        };
        let toxicity = Self {
            words: words.len(),
            samples_fraction: fraction(&texts),
            held_out_fraction: fraction(&held_out),
            found,
        };
        Ok((!words.is_empty()).then_some(toxicity))
    }
}

/// Returns the words of a list in lower case.
fn words(list: &str) -> Vec<String> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| padded(line).trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// Returns a text in lower case whose words are separated by single spaces, with one at both ends.
fn padded(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|word| !word.is_empty());
    words.fold(" ".to_owned(), |text, word| text + word + " ")
}

/// Returns true if a padded text has a word: between spaces, or anywhere if the word's language writes none.
fn has(text: &str, word: &str) -> bool {
    let is_latin = |c: char| c.is_ascii() || ('\u{c0}'..'\u{250}').contains(&c);
    if word.chars().all(is_latin) { text.contains(&format!(" {word} ")) } else { text.contains(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole() {
        let check = |text: &str, list: &str, expected: bool| {
            let text = padded(text);
            assert_eq!(words(list).iter().any(|word| has(&text, word)), expected, "{text:?} {list:?}");
        };
        check("Damn, it rains.", "damn", true);
        check("DAMN it", "# a comment\n\n damn it \n", true);
        check("damnation", "damn", false);
        check("damn: it", "damn it", true);
        check("它真他妈的冷", "他妈的", true);
        check("", "damn", false);
        check("anything", "# nothing\n", false);
    }

    #[test]
    fn the_built_in_list_has_words_of_both_languages() {
        let words = words(WORDS);
        assert!(words.iter().any(|word| word.is_ascii()) && words.iter().any(|word| !word.is_ascii()));
    }
}
