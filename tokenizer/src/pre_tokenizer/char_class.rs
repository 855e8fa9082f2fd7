//! Character classes, as in the regular expressions of pre-tokenizers.

use std::sync::LazyLock;

use tokenizers::utils::SysRegex;

/// The class of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s`.
    Space,
    /// Anything else.
    Other,
}

const ASCII: [Class; 128] = ascii();

const fn ascii() -> [Class; 128] {
    let mut classes = [Class::Other; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            // As `char::is_whitespace`: vertical tab is white space too.
            b'\t'..=b'\r' | b' ' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
}

/// The classes of all code points below [`END`]. They are computed by the regular expression engine, so that both
/// always have the same version of Unicode.
static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other; END as usize];
    for (expression, class) in [(r"\p{L}+", Class::Letter), (r"\p{N}+", Class::Number), (r"\s+", Class::Space)] {
        let regex = SysRegex::new(expression).expect("a valid expression");
        for first in (0..END).step_by(BLOCK as usize) {
            let block: String = (first..first + BLOCK).filter_map(char::from_u32).collect();
            for (start, end) in regex.find_iter(&block) {
                block[start..end].chars().for_each(|character| classes[character as usize] = class);
            }
        }
    }
    classes
});

/// The end of the table: planes 4 to 13 are empty, 14 has tags, 15 and 16 are private.
const END: u32 = 0x4_0000;

/// The number of code points that are classified at a time.
const BLOCK: u32 = 0x1000;

/// Returns the class and the length in bytes of the character at byte `at`; `None` at the end of `text`.
#[inline]
pub(super) fn class_at(text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 128 {
        return Some((ASCII[usize::from(byte)], 1));
    }
    let character = text[at..].chars().next()?;
    let class = CLASSES.get(character as usize).copied().unwrap_or(Class::Other);
    Some((class, character.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_regular_expressions() {
        let patterns = [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)];
        let patterns = patterns.map(|(expression, class)| (SysRegex::new(expression).unwrap(), class));
        for character in '\0'..=char::MAX {
            let text = character.to_string();
            let matching = patterns.iter().find(|(regex, _)| regex.find_iter(&text).next().is_some());
            let expected = matching.map_or(Class::Other, |(_, class)| *class);
            assert_eq!(class_at(&text, 0), Some((expected, text.len())), "U+{:04X}", character as u32);
        }
    }
}
