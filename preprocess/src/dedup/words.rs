//! The words by which texts are compared.
//!
//! A text is simplified before it is cut into words, as datatrove's `simplify_text` does with its defaults: lower case;
//! a number, with its decimals, becomes `0`; diacritics go; whatever is neither letter nor number separates. Words are
//! then those of Unicode Standard Annex 29. Where that differs from datatrove: words are not spaCy's; all that is no
//! letter or number separates, not a list of punctuation; all combining marks go, not only the non-spacing ones; all
//! numeric characters that are no letters are numbers, not only decimal digits; soft hyphens and joiners go without
//! separating.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_segmentation::UnicodeSegmentation;

/// Buffers that are reused between texts.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    word: Vec<u8>,
    simplified: String,
}

const GAP: u8 = 0;
const DIGIT: u8 = 1;
const NOT_ASCII: u8 = 2;

/// What a byte is: [`GAP`], [`DIGIT`], [`NOT_ASCII`], or a letter, for which its lower case stands.
const CLASS: [u8; 256] = {
    let mut class = [GAP; 256];
    let mut byte = 0;
    while byte < 256 {
        let value = byte as u8;
        class[byte] = match value {
            b'a'..=b'z' | b'A'..=b'Z' => value.to_ascii_lowercase(),
            b'0'..=b'9' => DIGIT,
            128.. => NOT_ASCII,
            _ => GAP,
        };
        byte += 1;
    }
    class
};

/// Calls `word` with each word of `text` in its simplified form (UTF-8), in order.
///
/// Nearly all words of nearly all texts are ASCII between two ASCII separators; there a word is a maximal run of
/// letters and numbers, and a table of 256 entries finds it. A run with another character takes the slow path.
pub(super) fn for_each(text: &str, scratch: &mut Scratch, mut word: impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    let class = |at: usize| bytes.get(at).map_or(GAP, |byte| CLASS[usize::from(*byte)]);
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        scratch.word.clear();
        loop {
            match class(at) {
                GAP => break,
                NOT_ASCII => {
                    at = end_of_run(bytes, at);
                    simplify(&text[start..at], &mut scratch.simplified);
                    scratch.simplified.unicode_words().for_each(|found| word(found.as_bytes()));
                    scratch.word.clear();
                    break;
                }
                DIGIT => {
                    scratch.word.push(b'0');
                    at = skip_digits(bytes, at);
                    if is_separator(bytes, at) {
                        match class(at + 1) {
                            DIGIT => at = skip_digits(bytes, at + 1),
                            // It may be a digit of another script, which the slow path handles.
                            NOT_ASCII => at += 1,
                            _ => {}
                        }
                    }
                }
                letter => {
                    scratch.word.push(letter);
                    at += 1;
                }
            }
        }
        if !scratch.word.is_empty() {
            word(&scratch.word);
        }
        at += 1;
    }
}

fn skip_digits(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |length| at + length)
}

fn is_separator(bytes: &[u8], at: usize) -> bool {
    matches!(bytes.get(at), Some(b'.' | b','))
}

/// Returns the end of the run of letters, numbers and non-ASCII characters at `at`. What may be the decimal separator
/// of a number does not end it.
fn end_of_run(bytes: &[u8], mut at: usize) -> usize {
    let may_be_digit = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_digit() || !byte.is_ascii());
    while at < bytes.len() {
        let is_inside_number = || is_separator(bytes, at) && may_be_digit(at - 1) && may_be_digit(at + 1);
        if CLASS[usize::from(bytes[at])] == GAP && !is_inside_number() {
            break;
        }
        at += 1;
    }
    at
}

/// Where in a number a text is.
#[derive(PartialEq)]
enum Number {
    Outside,
    Integer,
    Separator,
    Fraction,
}

/// Writes `text` to `simplified` in the form that is cut into words.
fn simplify(text: &str, simplified: &mut String) {
    simplified.clear();
    let mut number = Number::Outside;
    let lower = text.chars().flat_map(char::to_lowercase);
    for c in lower.nfd().filter(|c| !is_combining_mark(*c) && !is_invisible(*c)) {
        if is_letter(c) {
            if number == Number::Separator {
                simplified.push(' ');
            }
            simplified.push(c);
            number = Number::Outside;
            continue;
        }
        number = match (number, c) {
            (Number::Outside, c) if c.is_numeric() => {
                simplified.push('0');
                Number::Integer
            }
            (Number::Separator, c) if c.is_numeric() => Number::Fraction,
            (inside, c) if c.is_numeric() => inside,
            (Number::Integer, '.' | ',' | '\u{60c}' | '\u{66b}') => Number::Separator,
            _ => {
                simplified.push(' ');
                Number::Outside
            }
        };
    }
}

/// Returns true if a character is a letter. The tables of the standard library are slowest for the most frequent
/// queries, the unified ideographs.
fn is_letter(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}') || c.is_alphabetic()
}

/// Returns true if a character is invisible and does not separate: soft hyphen, joiners, direction marks, byte order
/// mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200c}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        for_each(text, &mut Scratch::default(), |word| words.push(String::from_utf8_lossy(word).into_owned()));
        words
    }

    #[test]
    fn words_are_simplified() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected, "{text:?}");
        check("", &[]);
        check(" \n\t--- !", &[]);
        check("The quick, BROWN fox.", &["the", "quick", "brown", "fox"]);
        check("don't snake_case e.g. a-b", &["don", "t", "snake", "case", "e", "g", "a", "b"]);
        check("don\u{2019}t", &["don", "t"]);
        check("3.14 1,234,567 v1.2.3 x86 2024-01-05", &["0", "0", "0", "v0", "0", "x0", "0", "0", "0"]);
        check("3. 4, .5", &["0", "0", "0"]);
        check("Café CAFE\u{301} naïve", &["cafe", "cafe", "naive"]);
        check("Straße ΣΊΣΥΦΟΣ", &["straße", "σισυφοσ"]);
        check("\u{661}\u{662}\u{66b}\u{663} \u{663}.\u{661}\u{664} 3.\u{661} \u{663}.5é", &["0", "0", "0", "0e"]);
        check("猫是动物。", &["猫", "是", "动", "物"]);
        check("カタカナ語", &["カタカナ", "語"]);
        check("co\u{ad}operate می\u{200c}خواهم", &["cooperate", "میخواهم"]);
        check("smile 😀 x\u{feff}y", &["smile", "xy"]);
        check("½ m² Ⅷ", &["0", "m0", "ⅷ"]);
        check("3.é é3.x é.5", &["0", "e", "e0", "x", "e", "0"]);
    }

    proptest! {
        /// The fast and the slow path agree.
        #[test]
        fn ascii_is_cut_like_any_text(text in "[a-cA-C0-2.,'_ \u{e9}\u{301}\u{661}\u{732b}\u{ad}\u{2019}\n-]{0,40}") {
            let mut simplified = String::new();
            simplify(&text, &mut simplified);
            let expected: Vec<&str> = simplified.unicode_words().collect();
            prop_assert_eq!(words(&text), expected);
        }
    }
}
