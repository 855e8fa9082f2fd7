//! A word of a text, and the kinds of its characters.

/// A word: its byte range, its number of characters, and the kinds of its characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) chars: u32,
    pub(super) kinds: u8,
}

/// A letter; the first bit of [`Word::kinds`].
pub(super) const LETTER: u8 = 1;
/// A digit or another numeric character.
pub(super) const NUMBER: u8 = 1 << 1;
/// A character that is neither alphanumeric nor punctuation.
pub(super) const SYMBOL: u8 = 1 << 2;
impl Word {
    /// Returns the number of characters.
    pub fn chars(self) -> usize {
        self.chars as usize
    }

    /// Returns true if the word has a letter.
    pub fn has_letter(self) -> bool {
        self.kinds & LETTER != 0
    }

    /// Returns true if the word has a letter or a number.
    pub fn is_alphanumeric(self) -> bool {
        self.kinds & (LETTER | NUMBER) != 0
    }

    /// Returns true if the word consists of punctuation and control characters only.
    pub fn is_punctuation(self) -> bool {
        self.kinds == 0
    }
}
