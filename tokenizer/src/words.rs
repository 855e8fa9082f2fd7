//! Cutting text into words, and writing bytes as characters: what happens to a text before its bytes are merged.

use tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::utils::SysRegex;

/// The regular expression of GPT-2 (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, in its
/// `encoder.py`), which `tokenizers` has built in.
pub(crate) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The regular expression of Qwen 2, letter for letter as in its own `tokenizer.json`, from which llama.cpp knows it.
pub(crate) const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// The character that stands for each byte in a byte-level vocabulary (GPT-2's `bytes_to_unicode`): printable Latin-1
/// stands for itself, the other bytes for the characters from U+0100 on.
const ALPHABET: [char; 256] = alphabet();

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

/// Returns the byte that a character of a byte-level vocabulary stands for.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    ALPHABET.iter().position(|known| *known == character).map(|byte| byte as u8)
}

/// Returns the characters that stand for the bytes of `word`.
pub(crate) fn to_byte_level(word: &str) -> String {
    word.bytes().map(|byte| ALPHABET[usize::from(byte)]).collect()
}

/// Cuts text by a regular expression: every match is a word, and so is what lies between two matches.
#[derive(Debug)]
pub(crate) struct Words(SysRegex);

impl Words {
    /// Returns the cutter for a regular expression.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn new(regular_expression: &str) -> Result<Self, tokenizers::Error> {
        SysRegex::new(regular_expression).map(Self)
    }

    /// Returns the cutter that does what `pre_tokenizer` does before it writes bytes as characters; none where that is
    /// more than cutting by one regular expression.
    pub(crate) fn of(pre_tokenizer: &PreTokenizerWrapper) -> Option<Self> {
        let pattern = match pre_tokenizer {
            PreTokenizerWrapper::ByteLevel(ByteLevel { add_prefix_space: false, use_regex: true, .. }) => GPT2,
            PreTokenizerWrapper::Sequence(sequence) => match sequence.as_ref() {
                [
                    PreTokenizerWrapper::Split(Split {
                        pattern: SplitPattern::Regex(pattern),
                        behavior: SplitDelimiterBehavior::Isolated,
                        invert: false,
                        ..
                    }),
                    PreTokenizerWrapper::ByteLevel(ByteLevel { add_prefix_space: false, use_regex: false, .. }),
                ] => pattern,
                _ => return None,
            },
            _ => return None,
        };
        Self::new(pattern).ok()
    }

    /// Returns the words of `text`; together they are the text.
    pub(crate) fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut matches = self.0.find_iter(text);
        let (mut at, mut found) = (0, None);
        std::iter::from_fn(move || {
            if found.is_none() {
                found = matches.next();
            }
            let (start, end) = found.unwrap_or((text.len(), text.len()));
            let end = if at < start {
                start
            } else {
                found = None;
                end
            };
            let word = &text[at..end];
            at = end;
            (!word.is_empty()).then_some(word)
        })
    }
}
