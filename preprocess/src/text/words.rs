//! The words, lines and paragraphs of a text, split once for all rules.
//!
//! Words are the segments between the word boundaries of Unicode Standard Annex 29, without white space: `don't` and
//! `3.14` are one word each, and a punctuation mark is a word of its own, as in the tokenizers of the published
//! filters. [`Word::is_punctuation`] and [`Word::is_alphanumeric`] distinguish them. Inside links, paths and rulers,
//! marks join the words beside them; see `chunks.rs`.
//!
//! Most text is ASCII for long stretches, and ASCII needs four of the annex's rules (`WB5` to `WB13b` without Hebrew,
//! Katakana, flags and emoji), so a scan of bytes finds its words. The stretch around any other character, from one
//! unconditional boundary to the next, is passed to `unicode-segmentation`.

use std::ops::Range;
use std::sync::LazyLock;

use unicode_segmentation::UnicodeSegmentation;

pub use super::word::Word;
use super::word::{LETTER, NUMBER, SYMBOL};
use super::{characters, chunks};

/// The buffer for the words of a text, reused from one text to the next.
#[derive(Debug, Default)]
pub struct Buffers {
    words: Vec<Word>,
}

/// A text and its words.
#[derive(Debug, Clone, Copy)]
pub struct Text<'t> {
    content: &'t str,
    words: &'t [Word],
    chars: usize,
}

/// A mark that joins two letters (`WB6`, `WB7`). Three bits above [`LETTER`], and so is the next above [`NUMBER`].
const JOINS_LETTERS: u8 = LETTER << 3;
/// A mark that joins two digits (`WB11`, `WB12`).
const JOINS_NUMBERS: u8 = NUMBER << 3;
/// The underscore, which is part of a word (`WB13a`, `WB13b`).
const UNDERSCORE: u8 = 1 << 5;
/// White space.
const BLANK: u8 = 1 << 6;
/// Part of a character beyond ASCII.
const WIDE: u8 = 1 << 7;

/// The kinds of each byte.
const KIND: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => NUMBER,
            b'_' => UNDERSCORE,
            b':' => JOINS_LETTERS,
            b'.' | b'\'' => JOINS_LETTERS | JOINS_NUMBERS,
            b',' | b';' => JOINS_NUMBERS,
            b'\t'..=b'\r' | 0x1c..=b' ' => BLANK,
            0x80.. => WIDE,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

impl Buffers {
    /// Returns `text` with its words. A text is truncated at 4 GiB.
    pub fn split<'t>(&'t mut self, text: &'t str) -> Text<'t> {
        let text = &text[..text.floor_char_boundary(u32::MAX as usize)];
        self.words.clear();
        split(text, &mut self.words, chunks::join);
        Text { content: text, words: &self.words, chars: text.chars().count() }
    }
}

impl<'t> Text<'t> {
    /// Returns the text.
    pub fn as_str(&self) -> &'t str {
        self.content
    }

    /// Returns the number of characters.
    pub fn chars(&self) -> usize {
        self.chars
    }

    /// Returns the words, including punctuation marks.
    pub fn words(&self) -> &'t [Word] {
        self.words
    }

    /// Returns the text of `word`, a word of this text.
    pub fn word(&self, word: Word) -> &'t str {
        &self.content[word.start as usize..word.end as usize]
    }

    /// Returns the words of `part`, a slice of the text that begins and ends at white space.
    pub fn words_of(&self, part: &str) -> &'t [Word] {
        let start = part.as_ptr().addr().saturating_sub(self.content.as_ptr().addr());
        let from = self.words.partition_point(|word| (word.start as usize) < start);
        let count = self.words[from..].partition_point(|word| (word.start as usize) < start + part.len());
        &self.words[from..from + count]
    }

    /// Returns the text between two words.
    pub fn between(&self, word: Word, next: Word) -> &'t str {
        &self.content[word.end as usize..next.start as usize]
    }

    /// Returns the lines between line feeds, including empty ones: one more than there are line feeds.
    pub fn lines(&self) -> impl Iterator<Item = &'t str> {
        self.content.split('\n')
    }

    /// Returns the lines between line ends of any kind; a line end at the end of the text starts no further line.
    pub fn universal_lines(&self) -> impl Iterator<Item = &'t str> {
        universal_lines(self.content)
    }

    /// Returns the paragraphs of the trimmed text, separated by empty lines. A blank text has one empty paragraph.
    pub fn paragraphs(&self) -> impl Iterator<Item = &'t str> {
        let text = trim(self.content);
        text.split("\n\n")
            .map(|paragraph| paragraph.trim_start_matches('\n'))
            .filter(move |paragraph| !paragraph.is_empty() || text.is_empty())
    }
}

/// Returns true if Python's `str.strip` removes `c`: Unicode's white space and four separators of ASCII.
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Returns `text` without leading and trailing blanks.
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// Returns the lines of `text` between line ends of any kind (those of Python's `str.splitlines`).
fn universal_lines(text: &str) -> impl Iterator<Item = &str> {
    // In nearly all texts only a line feed can end a line: there is no other line end in ASCII, and no last byte of
    // U+0085, U+2028 or U+2029.
    let may_end = |byte| matches!(byte, 0xb..=0xd | 0x1c..=0x1e | 0x85 | 0xa8 | 0xa9);
    let is_plain = !text.bytes().fold(false, |found, byte| found | may_end(byte));
    let plain = is_plain.then(|| text.lines()).into_iter().flatten();
    plain.chain((!is_plain).then(|| lines_of_all_kinds(text)).into_iter().flatten())
}

fn lines_of_all_kinds(text: &str) -> impl Iterator<Item = &str> {
    let is_line_end = |c| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let line = rest.find(is_line_end).map_or(rest, |end| &rest[..end]);
        let after = &rest[line.len()..];
        let mut end = after.chars();
        rest = after.strip_prefix("\r\n").unwrap_or_else(|| {
            end.next();
            end.as_str()
        });
        Some(line)
    })
}

/// Splits `text`, and calls `join` for each chunk with the index of its first word.
fn split(text: &str, words: &mut Vec<Word>, join: impl Fn(&[u8], &mut Vec<Word>, usize)) {
    let bytes = text.as_bytes();
    let mut chunk = words.len();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let kind = KIND[byte as usize];
        if kind & (LETTER | NUMBER | UNDERSCORE) != 0 {
            let (end, kinds) = ascii_word(bytes, at);
            words.push(Word { start: at as u32, end: end as u32, chars: (end - at) as u32, kinds });
            at = end;
        } else if kind == BLANK {
            if words.len() > chunk + 1 {
                join(bytes, words, chunk);
            }
            chunk = words.len();
            at += 1;
        } else if kind == WIDE {
            let (start, end) = stretch_around(bytes, at);
            let known = words.iter().rev().take_while(|word| word.start as usize >= start).count();
            words.truncate(words.len() - known);
            chunk = words.len();
            split_by_the_annex(text, start..end, words);
            join(bytes, words, chunk);
            chunk = words.len();
            at = end;
        } else {
            words.push(Word { start: at as u32, end: at as u32 + 1, chars: 1, kinds: 0 });
            at += 1;
        }
    }
    join(bytes, words, chunk);
}

/// Returns the end of the word that begins at `start` with a letter, a digit or an underscore, and its kinds.
fn ascii_word(bytes: &[u8], start: usize) -> (usize, u8) {
    let kind = |at: usize| bytes.get(at).map_or(0, |&byte| KIND[byte as usize]);
    let (mut end, mut kinds) = (start, 0);
    loop {
        // Eight bytes at a time without branches, since the length of a word is unpredictable.
        while let Some(eight) = bytes[end..].first_chunk() {
            let (length, found) = leading_word_bytes(u64::from_le_bytes(*eight));
            kinds |= found;
            end += length;
            if length < 8 {
                break;
            }
        }
        while kind(end) & (LETTER | NUMBER | UNDERSCORE) != 0 {
            kinds |= kind(end);
            end += 1;
        }
        // A mark joins two letters or two digits.
        if kind(end - 1) & kind(end + 1) & (kind(end) >> 3) & (LETTER | NUMBER) == 0 {
            return (end, kinds & (LETTER | NUMBER));
        }
        end += 1;
    }
}

/// Returns the number of leading bytes, from the lowest up, that are letters, digits or underscores, and their kinds.
fn leading_word_bytes(eight: u64) -> (usize, u8) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let low = eight & !HIGH;
    // The high bit of each byte that is at least `least`: the sum of two seven-bit numbers carries into it.
    let at_least = |bytes: u64, least: u8| bytes + (0x80 - u64::from(least)) * ONES;
    let between = |bytes: u64, least: u8, most: u8| at_least(bytes, least) & !at_least(bytes, most + 1);
    let letters = between(low | (0x20 * ONES), b'a', b'z');
    let digits = between(low, b'0', b'9');
    let underscores = between(low, b'_', b'_');
    let others = !((letters | digits | underscores) & !eight) & HIGH;
    let length = others.trailing_zeros() / 8;
    // The bits below the first other byte; all bits if there is none.
    let leading = (others & others.wrapping_neg()).wrapping_sub(1) & HIGH;
    let kind = |bytes: u64, kind: u8| if bytes & leading == 0 { 0 } else { kind };
    (length as usize, kind(letters, LETTER) | kind(digits, NUMBER))
}

/// Returns the stretch around the character at `at` between two certain boundaries, so that its words do not depend on
/// the text outside.
fn stretch_around(bytes: &[u8], at: usize) -> (usize, usize) {
    let start = (1..=at).rev().find(|&at| is_certain_boundary(bytes, at)).unwrap_or(0);
    let end = (at + 1..bytes.len()).find(|&at| is_certain_boundary(bytes, at)).unwrap_or(bytes.len());
    (start, end)
}

fn split_by_the_annex(text: &str, stretch: Range<usize>, words: &mut Vec<Word>) {
    for (offset, segment) in text[stretch.clone()].split_word_bound_indices() {
        // Combining marks may extend a blank, and are not part of it.
        let word = trim(segment);
        let offset = stretch.start + offset + (segment.len() - segment.trim_start_matches(is_blank).len());
        if !word.is_empty() {
            let (mut chars, mut kinds) = (0, 0);
            for c in word.chars() {
                chars += 1;
                kinds |= kinds_of(c);
            }
            words.push(Word { start: offset as u32, end: (offset + word.len()) as u32, chars, kinds });
        }
    }
}

/// Returns true if there is a word boundary before `bytes[at]` regardless of the rest of the text: after a line feed
/// (`WB3a`), and between a space and another ASCII character (`WB999`; no ASCII character extends a space).
fn is_certain_boundary(bytes: &[u8], at: usize) -> bool {
    match bytes[at - 1] {
        b'\n' => true,
        b' ' => bytes[at].is_ascii() && bytes[at] != b' ',
        _ => false,
    }
}

/// The kinds of the characters below U+10000, cached because searching Unicode's tables dominates the time here.
static KINDS: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..0x1_0000).map(|c| char::from_u32(c).map_or(0, look_up_kinds_of)).collect());

fn kinds_of(c: char) -> u8 {
    KINDS.get(c as usize).copied().unwrap_or_else(|| look_up_kinds_of(c))
}

fn look_up_kinds_of(c: char) -> u8 {
    if c.is_ascii() {
        KIND[c as usize] & (LETTER | NUMBER)
    } else if c.is_alphabetic() {
        LETTER
    } else if c.is_numeric() {
        NUMBER
    } else if characters::is_symbol(c) {
        SYMBOL
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the words before any are joined.
    fn words(text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        split(text, &mut words, |_, _, _| {});
        words.iter().map(|word| &text[word.start as usize..word.end as usize]).collect()
    }

    #[test]
    fn texts_are_split_by_the_annex() {
        let check = |text: &str, expected: &[&str]| assert_eq!(words(text), expected, "{text:?}");
        check("", &[]);
        check(" \t\r\n\u{a0}\u{3000}", &[]);
        check("Hello, world!", &["Hello", ",", "world", "!"]);
        check(
            "don't 'quote' a.b.c 3.14 1,000;5 a,b 1:2 a:b",
            &["don't", "'", "quote", "'", "a.b.c", "3.14", "1,000;5", "a", ",", "b", "1", ":", "2", "a:b"],
        );
        check("snake_case _x_ a1b2 __ a_.b", &["snake_case", "_x_", "a1b2", "__", "a_", ".", "b"]);
        check("wait... --", &["wait", ".", ".", ".", "-", "-"]);
        check("Größe über’s naïve", &["Größe", "über’s", "naïve"]);
        check("a.é é.a 1,٢", &["a.é", "é.a", "1,٢"]);
        check("你好。", &["你", "好", "。"]);
        check("カタカナ です", &["カタカナ", "で", "す"]);
        check("👩‍💻🇩🇪🇫🇷 👍🏽", &["👩‍💻", "🇩🇪", "🇫🇷", "👍🏽"]);
        // A mark that extends a space is a word of its own.
        check("a \u{301}b", &["a", "\u{301}", "b"]);
    }

    #[test]
    fn words_have_kinds() {
        let check = |text: &str, has_letter: bool, is_alphanumeric: bool, is_punctuation: bool| {
            let mut buffers = Buffers::default();
            let words = buffers.split(text).words();
            assert_eq!(words.len(), 1, "{text:?}");
            let found = (words[0].has_letter(), words[0].is_alphanumeric(), words[0].is_punctuation());
            assert_eq!(found, (has_letter, is_alphanumeric, is_punctuation), "{text:?}");
            assert_eq!(words[0].chars(), text.chars().count(), "{text:?}");
        };
        check("word", true, true, false);
        check("don't", true, true, false);
        check("ünïq", true, true, false);
        check("猫", true, true, false);
        check("42", false, true, false);
        check("٣٤", false, true, false);
        check("_", false, false, true);
        check("#", false, false, true);
        check("…", false, false, true);
        check("。", false, false, true);
        check("\u{7f}", false, false, true);
        check("•", false, false, false);
        check("😀", false, false, false);
    }

    #[test]
    fn texts_are_split_into_lines_and_paragraphs() {
        let check = |text: &str, lines: &[&str], paragraphs: &[&str]| {
            let mut buffers = Buffers::default();
            let split = buffers.split(text);
            assert_eq!(split.universal_lines().collect::<Vec<_>>(), lines, "{text:?}");
            assert_eq!(split.paragraphs().collect::<Vec<_>>(), paragraphs, "{text:?}");
        };
        check("", &[], &[""]);
        check("\n", &[""], &[""]);
        check("a", &["a"], &["a"]);
        check("a\n", &["a"], &["a"]);
        check("a\n\nb", &["a", "", "b"], &["a", "b"]);
        check("\n\na\n\n\nb\nc\n\n\n\nd\n", &["", "", "a", "", "", "b", "c", "", "", "", "d"], &["a", "b\nc", "d"]);
        check(
            "a\r\nb\rc\u{b}d\u{c}e\u{1c}f\u{85}g\u{2028}h\u{2029}",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
            &["a\r\nb\rc\u{b}d\u{c}e\u{1c}f\u{85}g\u{2028}h"],
        );
        check("a\r\r\n\rb", &["a", "", "", "b"], &["a\r\r\n\rb"]);
    }

    fn by_the_annex(text: &str) -> Vec<&str> {
        text.split_word_bounds().map(trim).filter(|word| !word.is_empty()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn ascii_is_split_by_the_annex(text in r"[\x00-\x7f]{0,40}|[ab1_.,:;' \n]{0,40}") {
            prop_assert_eq!(words(&text), by_the_annex(&text));
        }

        #[test]
        fn any_text_is_split_by_the_annex(
            text in r#"\PC{0,40}|[ab1_.,:;'"’ \n\r\téא゛カ好\u{301}\u{200d}\u{3000}\u{2003}🇩👩💻]{0,40}"#,
        ) {
            prop_assert_eq!(words(&text), by_the_annex(&text));
        }

        #[test]
        fn words_are_joined_and_never_split(text in r#"[ab1_./:;,@#(|"=+*<-Éá好…👩 \n]{0,40}"#) {
            let mut buffers = Buffers::default();
            let split = buffers.split(&text);
            let joined: Vec<&str> = split.words().iter().map(|word| split.word(*word)).collect();
            prop_assert_eq!(joined.concat(), words(&text).concat());
            let chars: usize = split.words().iter().map(|word| word.chars()).sum();
            prop_assert_eq!(chars, joined.concat().chars().count());
            let ends = |pieces: &[&str]| {
                pieces.iter().scan(0, |end, piece| { *end += piece.len(); Some(*end) }).collect::<Vec<usize>>()
            };
            let boundaries = ends(&words(&text));
            prop_assert!(ends(&joined).iter().all(|end| boundaries.contains(end)));
        }
    }
}
