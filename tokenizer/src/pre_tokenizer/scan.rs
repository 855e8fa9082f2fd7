//! Scanners equivalent to the known regular expressions, about fifty times as fast as the regular expression engine.

use super::char_class::{Class, class_at};

/// Returns the end of the word at byte `at` by GPT-2's expression.
pub(super) fn gpt2(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    if bytes[at] == b'\'' {
        match bytes[at + 1..] {
            [b's' | b't' | b'm' | b'd', ..] => return at + 2,
            [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => return at + 3,
            _ => {}
        }
    }
    // ` ?` before a run of letters, of numbers, or of other characters.
    let first = at + usize::from(bytes[at] == b' ');
    match class_at(text, first) {
        Some((class, length)) if class != Class::Space => run(text, first + length, class),
        _ => spaces(text, at).end(text),
    }
}

/// Returns the end of the word at byte `at` by Qwen 2's expression.
pub(super) fn qwen2(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    if let Some(length) = contraction(&bytes[at..]) {
        return at + length;
    }
    let Some((class, length)) = class_at(text, at) else { return at };
    match class {
        Class::Letter => return run(text, at + length, Class::Letter),
        Class::Number => return at + length,
        // `[^\r\n\p{L}\p{N}]?\p{L}+`
        Class::Space | Class::Other => {
            if let Some((Class::Letter, next)) = class_at(text, at + length)
                && !is_line_end(bytes[at])
            {
                return run(text, at + length + next, Class::Letter);
            }
        }
    }
    // ` ?[^\s\p{L}\p{N}]+[\r\n]*`
    let first = at + usize::from(bytes[at] == b' ');
    if let Some((Class::Other, length)) = class_at(text, first) {
        let end = run(text, first + length, Class::Other);
        return end + bytes[end..].iter().take_while(|byte| is_line_end(**byte)).count();
    }
    // `\s*[\r\n]+` extends to the last line end of the white space; without one, as in GPT-2's.
    let spaces = spaces(text, at);
    spaces.after_line_end.unwrap_or_else(|| spaces.end(text))
}

/// Returns the length of `(?i:'s|'t|'re|'ve|'m|'ll|'d)` at the beginning of `bytes`.
fn contraction(bytes: &[u8]) -> Option<usize> {
    let (b'\'', letters) = bytes.split_first()? else { return None };
    match letters {
        [b's' | b't' | b'm' | b'd' | b'S' | b'T' | b'M' | b'D', ..] => Some(2),
        // The last is the long s, U+017F, which folds to s.
        [b'r' | b'v' | b'R' | b'V', b'e' | b'E', ..] | [b'l' | b'L', b'l' | b'L', ..] | [0xc5, 0xbf, ..] => Some(3),
        _ => None,
    }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// Returns the end of the run of characters of `class` that continues at `at`.
#[inline]
fn run(text: &str, mut at: usize, class: Class) -> usize {
    while let Some((next, length)) = class_at(text, at)
        && next == class
    {
        at += length;
    }
    at
}

/// A run of white space.
struct Spaces {
    start: usize,
    /// The start of its last character.
    last: usize,
    end: usize,
    /// The end of its last line end.
    after_line_end: Option<usize>,
}

/// Returns the run of white space at `at`; there is at least one.
fn spaces(text: &str, at: usize) -> Spaces {
    let mut spaces = Spaces { start: at, last: at, end: at, after_line_end: None };
    while let Some((Class::Space, length)) = class_at(text, spaces.end) {
        spaces.last = spaces.end;
        spaces.end += length;
        if is_line_end(text.as_bytes()[spaces.last]) {
            spaces.after_line_end = Some(spaces.end);
        }
    }
    spaces
}

impl Spaces {
    /// Returns the end of the match of `\s+(?!\S)|\s+`: before the last character, which belongs to the next word,
    /// unless there is no next word or no other character.
    fn end(&self, text: &str) -> usize {
        if self.end == text.len() || self.last == self.start { self.end } else { self.last }
    }
}
