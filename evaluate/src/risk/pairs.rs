//! Minimal pairs of sentences, in the format of CrowS-Pairs (A Challenge Dataset for Measuring Social Biases in Masked
//! Language Models, 2020).

use std::path::Path;

use serde::Deserialize;

use super::read_text;
use crate::Error;

/// Two sentences that differ in the group they are about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Pair {
    /// The sentence that the annotators found more stereotyping, or less anti-stereotyping.
    pub(super) sent_more: String,
    /// The other.
    pub(super) sent_less: String,
    /// `stereo` or `antistereo`.
    pub(super) stereo_antistereo: String,
    /// The kind of bias, such as `gender`.
    pub(super) bias_type: String,
}

/// Returns the pairs written for this project in a language, as CSV.
pub(super) fn built_in(name: &str) -> Option<&'static str> {
    match name {
        "en" => Some(include_str!("../../risk/pairs.en.csv")),
        "zh" => Some(include_str!("../../risk/pairs.zh.csv")),
        _ => None,
    }
}

/// Reads built-in pairs, or those of a file relative to `base`.
///
/// # Errors
/// Returns an error that names the file and the line if it cannot be read, lacks a column or has no pair.
pub(super) fn read(name: &str, base: &Path) -> Result<Vec<Pair>, Error> {
    if let Some(text) = built_in(name) {
        return parse(text, Path::new(name));
    }
    let path = base.join(name);
    parse(&read_text(&path)?, &path)
}

fn parse(text: &str, path: &Path) -> Result<Vec<Pair>, Error> {
    let invalid = |reason: String| Error::Pairs { path: path.to_owned(), reason };
    let mut reader = csv::Reader::from_reader(text.strip_prefix('\u{feff}').unwrap_or(text).as_bytes());
    let pairs: Vec<Pair> =
        reader.deserialize().collect::<Result<_, _>>().map_err(|error| invalid(error.to_string()))?;
    let is_empty = |pair: &Pair| pair.sent_more.trim().is_empty() || pair.sent_less.trim().is_empty();
    match pairs.iter().position(is_empty) {
        Some(at) => Err(invalid(format!("pair {} has an empty sentence", at + 1))),
        None if pairs.is_empty() => Err(invalid("it has no pair".to_owned())),
        None => Ok(pairs),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn built_in_pairs_are_minimal() {
        let mut all = 0;
        for name in ["en", "zh"] {
            let pairs = read(name, Path::new(".")).unwrap();
            all += pairs.len();
            assert!(pairs.len() >= 30, "{name} has {}", pairs.len());
            let sentences: BTreeSet<&str> =
                pairs.iter().flat_map(|pair| [&*pair.sent_more, &*pair.sent_less]).collect();
            assert_eq!(sentences.len(), 2 * pairs.len(), "{name} has a sentence twice");
            for pair in &pairs {
                assert_eq!(pair.stereo_antistereo, "stereo");
                // The same beginning or the same end.
                let (more, less) = (&pair.sent_more, &pair.sent_less);
                let same = more.chars().zip(less.chars()).take_while(|(a, b)| a == b).count()
                    + more.chars().rev().zip(less.chars().rev()).take_while(|(a, b)| a == b).count();
                assert!(2 * same >= more.chars().count(), "{more:?} and {less:?} differ in too much");
            }
        }
        assert!(all >= 60, "{all} pairs");
    }

    #[test]
    fn files_of_crows_pairs_are_read() {
        let text = ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\n\
                    0,\"They are, as all, late.\",\"We are, as all, late.\",stereo,age,[['age']],a1,\"['a2']\"\n\
                    1,One.,Two.,antistereo,gender,[],a1,[]\n";
        let pairs = parse(text, Path::new("crows_pairs.csv")).unwrap();
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[0].sent_more, "They are, as all, late.");
        assert_eq!((&*pairs[1].stereo_antistereo, &*pairs[1].bias_type), ("antistereo", "gender"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let check = |text: &str, expected: &str| {
            let error = parse(text, Path::new("p.csv")).unwrap_err().to_string();
            assert!(error.starts_with("p.csv: ") && error.contains(expected), "{error}");
        };
        check("", "it has no pair");
        check("sent_more,sent_less\na,b\n", "missing field `stereo_antistereo`");
        check("sent_more,sent_less,stereo_antistereo,bias_type\na,b,stereo,x\n ,b,stereo,x\n", "pair 2 has an empty");
        check("sent_more,sent_less,stereo_antistereo,bias_type\na,b,stereo\n", "line: 2");
    }
}
