//! The words of a text as overlap sees them: lower-cased, without punctuation, whatever blanks stand between.
//!
//! A word is a run of letters, digits and marks. Apostrophes inside it are left out (`don't`, `don’t` and `dont` are
//! one); other punctuation ends it. Where writing has no blanks between words (Chinese, Japanese, Thai, Lao, Khmer,
//! Burmese) each letter is a word, as in Unicode Standard Annex 29.

use unicode_normalization::char::canonical_combining_class;
use xxhash_rust::xxh3::xxh3_64;

/// Appends the hash of each word of `text` to `hashes`.
pub(super) fn hash_words(text: &str, hashes: &mut Vec<u64>) {
    let bytes = text.as_bytes();
    // A word so far, where it is not a stretch of the text as it stands.
    let mut word = Vec::with_capacity(64);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match ASCII[usize::from(byte)] {
            0 if byte < 0x80 => end(&mut word, hashes),
            APOSTROPHE => {}
            0 => {
                let c = text[at - 1..].chars().next().unwrap_or_default();
                at += c.len_utf8() - 1;
                add(c, &mut word, hashes);
            }
            lower => word.push(lower),
        }
    }
    end(&mut word, hashes);
}

const APOSTROPHE: u8 = b'\'';

/// For letters and digits of ASCII their lower case, for the apostrophe itself, for the rest 0.
const ASCII: [u8; 256] = {
    let mut lower = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        if byte.is_ascii_alphanumeric() || byte == APOSTROPHE {
            lower[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    lower
};

fn add(c: char, word: &mut Vec<u8>, hashes: &mut Vec<u64>) {
    match c {
        // The letters that most text beyond ASCII is made of are told at a glance.
        'ß'..='ö' | 'ø'..='ÿ' | 'а'..='џ' | '\u{621}'..='\u{64a}' | '\u{904}'..='\u{939}' | '가'..='힣' => {
            push(c, word);
        }
        'А'..='Я' => push(char::from_u32(c as u32 + 0x20).unwrap_or(c), word),
        c if is_word_alone(c) => {
            end(word, hashes);
            push(c, word);
            end(word, hashes);
        }
        c if c.is_alphanumeric() => c.to_lowercase().for_each(|c| push(c, word)),
        '’' | 'ʼ' | '\u{ad}' | '\u{200c}' | '\u{200d}' => {}
        c if canonical_combining_class(c) != 0 => {}
        _ => end(word, hashes),
    }
}

fn push(c: char, word: &mut Vec<u8>) {
    word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn end(word: &mut Vec<u8>, hashes: &mut Vec<u64>) {
    if !word.is_empty() {
        hashes.push(xxh3_64(word));
        word.clear();
    }
}

fn is_word_alone(c: char) -> bool {
    let is_in_range = matches!(
        c,
        // Thai and Lao; Burmese; Khmer; kana; Chinese, old and new.
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
            | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
    );
    matches!(c, '\u{4e00}'..='\u{9fff}') || (is_in_range && c.is_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_equal_whatever_their_looks() {
        let check = |text: &str, words: &[&str]| {
            let mut hashes = Vec::new();
            hash_words(text, &mut hashes);
            let expected: Vec<u64> = words.iter().map(|word| xxh3_64(word.as_bytes())).collect();
            assert_eq!(hashes, expected, "{text:?}");
        };
        check("", &[]);
        check(" \n…—!", &[]);
        check("The CAT, (sat)...\ton-the\n\n mat!", &["the", "cat", "sat", "on", "the", "mat"]);
        check("don't don’t dont 'quoted'", &["dont", "dont", "dont", "quoted"]);
        check("3.14 x_1 A1", &["3", "14", "x", "1", "a1"]);
        check("ÉTÉ Straße ΣΊΓΜΑ", &["été", "straße", "σίγμα"]);
        check("e\u{301}te\u{301}", &["ete"]);
        check("co\u{ad}operate", &["cooperate"]);
        check("猫は白い。Cat猫", &["猫", "は", "白", "い", "cat", "猫"]);
        check("안녕하세요 여러분", &["안녕하세요", "여러분"]);
        check("प्रेम है", &["परेम", "है"]);
    }
}
