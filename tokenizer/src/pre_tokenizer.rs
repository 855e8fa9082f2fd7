//! Pre-tokenization: splitting text into words, and mapping bytes to characters.

mod char_class;
mod scan;

use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::utils::SysRegex;

/// The regular expression of GPT-2 (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, in its
/// `encoder.py`), which is built into `tokenizers`.
pub(crate) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The regular expression of Qwen 2, character by character as in its `tokenizer.json`, by which llama.cpp recognises
/// it.
pub(crate) const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Every character by itself.
pub(crate) const CHARACTER: &str = r"[\s\S]";

/// The character of each byte in a byte-level vocabulary (GPT-2's `bytes_to_unicode`): printable Latin-1 characters are
/// themselves, the other bytes are the characters from U+0100 on.
pub(crate) const ALPHABET: [char; 256] = alphabet();

const fn alphabet() -> [char; 256] {
    let mut characters = ['\0'; 256];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 256 {
        let itself = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if itself { byte } else { next };
        characters[byte as usize] = char::from_u32(code).expect("below 0x200");
        next += !itself as u32;
        byte += 1;
    }
    characters
}

/// Returns the byte of a character of a byte-level vocabulary.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    ALPHABET.iter().position(|known| *known == character).map(|byte| byte as u8)
}

/// Returns the characters of the bytes of `word`.
pub(crate) fn to_byte_level(word: &str) -> String {
    word.bytes().map(|byte| ALPHABET[usize::from(byte)]).collect()
}

/// Splits text into words, which concatenated are the text.
#[derive(Debug)]
pub(crate) enum WordSplitter {
    /// By [`GPT2`].
    Gpt2,
    /// By [`QWEN2`].
    Qwen2,
    /// Single digits, and the text between them by [`GPT2`].
    SmolLm,
    /// Every character is a word.
    Character,
    /// By another regular expression: every match is a word, and so is the text between two matches.
    Regex(SysRegex),
}

impl WordSplitter {
    /// Returns the splitter of a regular expression; `None` if the expression is invalid.
    fn by_expression(expression: &str) -> Option<Self> {
        match expression {
            GPT2 => Some(Self::Gpt2),
            QWEN2 => Some(Self::Qwen2),
            CHARACTER => Some(Self::Character),
            _ => SysRegex::new(expression).ok().map(Self::Regex),
        }
    }

    /// Returns the splitter that is equivalent to `pre_tokenizer`, and whether the bytes of the words are mapped to
    /// characters afterwards; `None` if the pre-tokenizer does anything else.
    pub(crate) fn of(pre_tokenizer: &PreTokenizerWrapper) -> Option<(Self, bool)> {
        use PreTokenizerWrapper::{ByteLevel as Bytes, Digits, Sequence, Split as SplitBy};
        match pre_tokenizer {
            Bytes(ByteLevel { add_prefix_space: false, use_regex: true, .. }) => Some((Self::Gpt2, true)),
            SplitBy(split) => Some((Self::by_split(split)?, false)),
            Sequence(sequence) => match sequence.as_ref() {
                [SplitBy(split), Bytes(ByteLevel { add_prefix_space: false, use_regex: false, .. })] => {
                    Some((Self::by_split(split)?, true))
                }
                [Digits(digits), Bytes(ByteLevel { add_prefix_space: false, use_regex: true, .. })]
                    if digits.individual_digits =>
                {
                    Some((Self::SmolLm, true))
                }
                [Digits(digits), SplitBy(split)] if digits.individual_digits => {
                    matches!(Self::by_split(split)?, Self::Gpt2).then_some((Self::SmolLm, false))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn by_split(split: &Split) -> Option<Self> {
        match split {
            Split {
                pattern: SplitPattern::Regex(expression),
                behavior: SplitDelimiterBehavior::Isolated,
                invert: false,
                ..
            } => Self::by_expression(expression),
            _ => None,
        }
    }

    /// Calls `each` with the words of `text` in their order.
    ///
    /// # Errors
    /// Returns the first error of `each`.
    pub(crate) fn split<'a, E>(&self, text: &'a str, each: impl FnMut(&'a str) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::Gpt2 => scan(text, scan::gpt2, each),
            Self::Qwen2 => scan(text, scan::qwen2, each),
            Self::SmolLm => scan_between_digits(text, each),
            Self::Character => scan(text, |text, at| at + text[at..].chars().next().map_or(1, char::len_utf8), each),
            Self::Regex(regex) => split_by_regex(regex, text, each),
        }
    }
}

fn scan<'a, E>(
    text: &'a str,
    end_of_word: impl Fn(&str, usize) -> usize,
    mut each: impl FnMut(&'a str) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = 0;
    while at < text.len() {
        let end = end_of_word(text, at);
        each(&text[at..end])?;
        at = end;
    }
    Ok(())
}

fn scan_between_digits<'a, E>(text: &'a str, mut each: impl FnMut(&'a str) -> Result<(), E>) -> Result<(), E> {
    let mut at = 0;
    for (number, character) in text.char_indices().filter(|(_, character)| character.is_numeric()) {
        scan(&text[at..number], scan::gpt2, &mut each)?;
        at = number + character.len_utf8();
        each(&text[number..at])?;
    }
    scan(&text[at..], scan::gpt2, each)
}

fn split_by_regex<'a, E>(
    regex: &SysRegex,
    text: &'a str,
    mut each: impl FnMut(&'a str) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = 0;
    for (start, end) in regex.find_iter(text) {
        for word in [&text[at..start], &text[start..end]] {
            if !word.is_empty() {
                each(word)?;
            }
        }
        at = end;
    }
    if at < text.len() { each(&text[at..]) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static REFERENCES: LazyLock<[(WordSplitter, WordSplitter); 3]> = LazyLock::new(|| {
        let known = [(WordSplitter::Gpt2, GPT2), (WordSplitter::Qwen2, QWEN2), (WordSplitter::Character, CHARACTER)];
        known.map(|(ours, expression)| (ours, WordSplitter::Regex(SysRegex::new(expression).unwrap())))
    });

    fn words<'a>(splitter: &WordSplitter, text: &'a str) -> Vec<&'a str> {
        let mut found = Vec::new();
        let Ok(()) = splitter.split(text, |word| {
            found.push(word);
            Ok::<_, Infallible>(())
        });
        found
    }

    /// Splits as `tokenizers` does for `SmolLM`: `Digits`, then GPT-2's expression in each piece.
    fn smollm_by_regex(text: &str) -> Vec<&str> {
        let gpt2 = &REFERENCES[0].1;
        let mut found = Vec::new();
        for piece in text.split_inclusive(char::is_numeric) {
            let number = piece.chars().next_back().filter(|character| character.is_numeric());
            let (before, number) = piece.split_at(piece.len() - number.map_or(0, char::len_utf8));
            found.extend(words(gpt2, before));
            found.extend((!number.is_empty()).then_some(number));
        }
        found
    }

    fn check(text: &str) {
        for (ours, theirs) in &*REFERENCES {
            assert_eq!(words(ours, text), words(theirs, text), "{ours:?} {text:?}");
        }
        assert_eq!(words(&WordSplitter::SmolLm, text), smollm_by_regex(text), "{text:?}");
    }

    #[test]
    fn every_character_is_split_as_by_the_regular_expressions() {
        // No other code points are assigned, except some tags.
        for first in (0..0x3_4000).chain(0xe_0000..0xe_0400).step_by(0x400) {
            let characters = (first..first + 0x400).filter_map(char::from_u32);
            // Each next to characters that it may join, and after an apostrophe, where case may be folded.
            let among = |c| format!("a{c}b1{c}2 {c} '{c}e'l{c}\n{c}\n-{c}-\t{c} ");
            let text = characters.map(among).collect::<Vec<String>>().concat();
            check(&text);
        }
    }

    #[test]
    fn all_short_texts_of_special_cases_are_split_as_by_the_regular_expressions() {
        const PARTS: [&str; 12] = ["a", "7", " ", "\n", "\r", "\t", "'", "s", "L", "-", "\u{a0}", "é"];
        for code in 0..PARTS.len().pow(4) {
            let text: String = (0..4).map(|place| PARTS[code / PARTS.len().pow(place) % PARTS.len()]).collect();
            check(&text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn texts_are_split_as_by_the_regular_expressions(
            any in any::<String>(),
            parts in prop::collection::vec(prop_oneof![
                "[ -~]{1,6}", "[ \\t\\r\\n]{1,4}", "'(s|S|t|re|VE|ll|Ll|d|m|\u{17f})", "\\p{L}{1,4}", "\\p{N}{1,3}",
                "\\p{M}{1,2}", "\\p{P}{1,3}", "\\p{S}{1,3}", "\\p{Z}{1,3}", "\\p{C}{1,2}", "\\p{Han}{1,3}",
                "\\p{Arabic}{1,3}",
            ], 0..20),
        ) {
            check(&any);
            check(&parts.concat());
        }
    }
}
