//! The overlap of texts with references: BLEU and chrF as sacrebleu defines them, ROUGE-L as rouge-score does.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::Serialize;

/// The highest order of BLEU's n-grams.
const BLEU_ORDER: usize = 4;

/// The highest order of chrF's n-grams of characters.
const CHRF_ORDER: usize = 6;

/// How much more recall counts than precision in chrF.
const CHRF_BETA: f64 = 2.0;

/// How much texts have in common with one reference each, from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Overlap {
    /// BLEU over all texts (Papineni et al., 2002): tokenizer `13a`, with every Chinese character a word as in `zh`,
    /// and exponential smoothing.
    pub(crate) bleu: f64,
    /// chrF over all texts (Popović, 2015): n-grams of up to 6 characters without spaces, beta 2.
    pub(crate) chrf: f64,
    /// The mean F-measure of ROUGE-L (Lin, 2004), without stemming. Deviation: words have the letters of all languages,
    /// and a Chinese character is a word.
    pub(crate) rouge_l: f64,
}

impl Overlap {
    /// Returns the overlap of pairs of a text and its reference; none without pairs.
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Option<Self> {
        let words: Vec<[Vec<String>; 2]> =
            pairs.iter().map(|(text, reference)| [text, reference].map(|text| bleu_words(text))).collect();
        let mut bleu = BleuCounts::default();
        for [text, reference] in &words {
            bleu.add(text, &[reference]);
        }
        let rouge = pairs.iter().map(|(text, reference)| rouge_l(&rouge_words(text), &rouge_words(reference)));
        (!pairs.is_empty()).then(|| Self {
            bleu: bleu.score(),
            chrf: chrf(pairs),
            rouge_l: 100.0 * rouge.sum::<f64>() / pairs.len() as f64,
        })
    }
}

/// What BLEU is computed from, summed over texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct BleuCounts {
    /// N-grams of each order that a reference has too.
    matching: [usize; BLEU_ORDER],
    all: [usize; BLEU_ORDER],
    words: usize,
    reference_words: usize,
}

impl BleuCounts {
    /// Adds a text with its references, of which there is at least one.
    pub(crate) fn add<W: Hash + Eq>(&mut self, text: &[W], references: &[&Vec<W>]) {
        self.words += text.len();
        // Of two lengths that are as close, the shorter.
        let closest = references.iter().map(|reference| reference.len()).min_by_key(|n| (n.abs_diff(text.len()), *n));
        self.reference_words += closest.unwrap_or(0);
        for order in 1..=BLEU_ORDER {
            let mut most: HashMap<&[W], usize> = HashMap::new();
            for reference in references {
                for (gram, count) in counts(reference, order) {
                    let entry = most.entry(gram).or_insert(0);
                    *entry = count.max(*entry);
                }
            }
            self.all[order - 1] += (text.len() + 1).saturating_sub(order);
            let matching = |(gram, count): (&[W], usize)| count.min(most.get(gram).copied().unwrap_or(0));
            self.matching[order - 1] += counts(text, order).into_iter().map(matching).sum::<usize>();
        }
    }

    /// Returns BLEU, from 0 to 100.
    pub(crate) fn score(&self) -> f64 {
        if self.matching.iter().all(|count| *count == 0) || self.all.contains(&0) {
            return 0.0;
        }
        let mut smoothing = 1.0;
        let log_precision = |(matching, all): (&usize, &usize)| {
            if *matching > 0 {
                return (*matching as f64 / *all as f64).ln();
            }
            smoothing *= 2.0;
            (1.0 / (smoothing * *all as f64)).ln()
        };
        let mean = self.matching.iter().zip(&self.all).map(log_precision).sum::<f64>() / BLEU_ORDER as f64;
        let ratio = self.reference_words as f64 / self.words as f64;
        100.0 * (mean + (1.0 - ratio).min(0.0)).exp()
    }
}

/// Returns how often each n-gram occurs.
fn counts<W: Hash + Eq>(words: &[W], order: usize) -> HashMap<&[W], usize> {
    let mut counts = HashMap::new();
    for gram in words.windows(order) {
        *counts.entry(gram).or_insert(0) += 1;
    }
    counts
}

/// Returns the words of the tokenizer `13a` of sacrebleu, that of mteval-v13a, after every Chinese character is
/// separated as its tokenizer `zh` does.
fn bleu_words(text: &str) -> Vec<String> {
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        let regex = |pattern| Regex::new(pattern).expect("the patterns are constants");
        [
            // Punctuation.
            (regex(r"([\{-\~\[-\x60\x20-\&\(-\+\:-\@\/])"), " $1 "),
            // Periods and commas unless a digit precedes, or follows.
            (regex(r"([^0-9])([\.,])"), "$1 $2 "),
            (regex(r"([\.,])([^0-9])"), " $1 $2"),
            // A dash after a digit.
            (regex(r"([0-9])(-)"), "$1 $2 "),
        ]
    });
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    let separated: String =
        text.chars().flat_map(|c| if is_chinese(c) { vec![' ', c, ' '] } else { vec![c] }).collect();
    let mut text = format!(" {separated} ");
    for (pattern, replacement) in RULES.iter() {
        text = pattern.replace_all(&text, *replacement).into_owned();
    }
    text.split_whitespace().map(str::to_owned).collect()
}

/// Returns the words of rouge-score in lower case.
fn rouge_words(text: &str) -> Vec<String> {
    let mut separated = String::with_capacity(text.len());
    for c in text.to_lowercase().chars() {
        match c {
            c if is_ideograph(c) => separated.extend([' ', c, ' ']),
            c if c.is_alphanumeric() => separated.push(c),
            _ => separated.push(' '),
        }
    }
    separated.split_whitespace().map(str::to_owned).collect()
}

/// Returns true for Chinese characters: the unified ideographs with extension A, and the compatibility ideographs.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4db5}' | '\u{4e00}'..='\u{9fbb}' | '\u{f900}'..='\u{fad9}')
}

/// Returns true for what sacrebleu's tokenizer `zh` separates, as far as it is in use: Chinese characters, and CJK and
/// full-width punctuation.
fn is_chinese(c: char) -> bool {
    is_ideograph(c) || matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ffef}')
}

/// Returns the F-measure of the longest common subsequence, from 0 to 1.
fn rouge_l(text: &[String], reference: &[String]) -> f64 {
    let mut row = vec![0_usize; reference.len() + 1];
    for word in text {
        let mut diagonal = 0;
        for (at, other) in reference.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == other { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    let common = row[reference.len()] as f64;
    if common == 0.0 { 0.0 } else { 2.0 * common / (text.len() + reference.len()) as f64 }
}

/// Returns chrF over all pairs, from 0 to 100.
fn chrf(pairs: &[(&str, &str)]) -> f64 {
    let mut sums = [[0_usize; 3]; CHRF_ORDER];
    for (text, reference) in pairs {
        let [text, reference] = [text, reference].map(|text| text.chars().filter(|c| !c.is_whitespace()).collect());
        let (text, reference): (Vec<char>, Vec<char>) = (text, reference);
        for (order, [of_text, of_reference, common]) in (1..).zip(&mut sums) {
            let known = counts(&reference, order);
            // Sacrebleu does not count texts without a reference.
            *of_text += if known.is_empty() { 0 } else { (text.len() + 1).saturating_sub(order) };
            *of_reference += (reference.len() + 1).saturating_sub(order);
            let matching =
                counts(&text, order).into_iter().map(|(gram, n)| n.min(known.get(gram).copied().unwrap_or(0)));
            *common += matching.sum::<usize>();
        }
    }
    let orders: Vec<[f64; 2]> = sums
        .iter()
        .filter(|[of_text, of_reference, _]| *of_text > 0 && *of_reference > 0)
        .map(|[of_text, of_reference, common]| [of_text, of_reference].map(|all| *common as f64 / *all as f64))
        .collect();
    let mean = |side: usize| orders.iter().map(|order| order[side]).sum::<f64>() / orders.len().max(1) as f64;
    let (precision, recall, factor) = (mean(0), mean(1), CHRF_BETA * CHRF_BETA);
    let sum = factor * precision + recall;
    if sum > 0.0 { 100.0 * (1.0 + factor) * precision * recall / sum } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected values are those of tests/fixtures/overlap.py: sacrebleu 2.6.0 and rouge-score 0.1.2.
    #[test]
    fn values_are_those_of_sacrebleu_and_rouge_score() {
        let check = |pairs: &[(&str, &str)], expected: [f64; 3]| {
            let Overlap { bleu, chrf, rouge_l } = Overlap::of(pairs).unwrap();
            for (found, expected) in [bleu, chrf, rouge_l].into_iter().zip(expected) {
                assert!((found - expected).abs() < 1e-8, "{pairs:?}: {bleu} {chrf} {rouge_l}");
            }
        };
        let english = [
            ("The cat sat on the mat, and it's 3.5 years old.", "The cat is on the mat; it is 3.5 years old."),
            ("A quick-brown fox (really) jumps over 1,000 dogs!", "The quick brown fox jumps over 1000 lazy dogs."),
            ("nothing", "There is no word in common here, at all."),
        ];
        check(&english, [13.443_995_261_0, 42.944_024_834_6, 47.719_298_245_6]);
        let code = [
            ("fn main() {\n    let x = 1.0;\n}", "fn main() {\n    let y = 2.0;\n    print(y);\n}"),
            ("let s = \"a &amp; b...\"; // 10-20\n", "let t = \"a & b\"; // 10-20, ok.\n"),
        ];
        check(&code, [47.432_277_921_9, 45.648_374_636_2, 64.285_714_285_7]);
        check(&[("a b", "a b"), ("", "c")], [0.0, 86.206_896_551_7, 50.0]);
        check(&[("x y z w", "a b c d")], [0.0; 3]);
        let chinese = [
            ("今天天气很好,我们去公园散步。", "今天天气不错,我们一起去公园。"),
            ("GPU 有 24 GB 内存。", "这个 GPU 有 16 GB 显存。"),
        ];
        check(&chinese, [23.708_987_804_1, 25.066_574_363_4, 63.186_813_186_8]);
        assert_eq!(Overlap::of(&[]), None);
    }

    #[test]
    fn bleu_reads_several_references() {
        let texts = ["the cat sat on the mat today", "a dog sat on the mat", "the cat sat on a mat"]
            .map(|text| text.split(' ').collect::<Vec<&str>>());
        for (text, expected) in [(0, 69.853_420_565_8), (1, 53.728_496_591_2), (2, 56.234_132_519_0)] {
            let others: Vec<&Vec<&str>> = (0..3).filter(|other| *other != text).map(|other| &texts[other]).collect();
            let mut counts = BleuCounts::default();
            counts.add(&texts[text], &others);
            assert!((counts.score() - expected).abs() < 1e-8, "{}", counts.score());
        }
    }

    #[test]
    fn equal_texts_have_the_highest_scores() {
        let text = "The same words, in English and 中文, are here twice.";
        let Overlap { bleu, chrf, rouge_l } = Overlap::of(&[(text, text)]).unwrap();
        for score in [bleu, chrf, rouge_l] {
            assert!((score - 100.0).abs() < 1e-9, "{bleu} {chrf} {rouge_l}");
        }
        let nothing = Overlap::of(&[("", "")]).unwrap();
        assert_eq!(nothing, Overlap { bleu: 0.0, chrf: 0.0, rouge_l: 0.0 });
    }
}
