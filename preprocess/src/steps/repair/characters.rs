//! Line ends and control characters.

use std::borrow::Cow;

/// Returns `text` with LF as its only line end, and the number of replaced ones: CR LF, CR, and Unicode's line and
/// paragraph separators.
pub(super) fn unix_line_ends(text: &str) -> (Cow<'_, str>, u32) {
    replace(
        text,
        |c| matches!(c, '\r' | '\u{2028}' | '\u{2029}'),
        |rest| (if rest.starts_with("\r\n") { 2 } else { rest.ceil_char_boundary(1) }, "\n"),
    )
}

/// Returns `text` without control characters that text does not need, and their number: those of ASCII except tab, line
/// feed, form feed and carriage return; deprecated format characters (U+206A to U+206F); interlinear annotations and
/// the object replacement character (U+FFF9 to U+FFFC); byte order marks. A terminal escape sequence is removed as a
/// whole. Joiners and directional marks stay, since they change how text is displayed.
pub(super) fn without_control_characters(text: &str) -> (Cow<'_, str>, u32) {
    replace(text, is_unwanted, |rest| (escape_sequence(rest).unwrap_or_else(|| rest.ceil_char_boundary(1)), ""))
}

fn is_unwanted(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffc}'
            | '\u{feff}'
    )
}

/// Returns the length of the escape sequence at the beginning of `text`: ESC `[`, digits and semicolons, a letter
/// (ECMA-48, 5.4).
fn escape_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let last = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[last..].starts_with(|c: char| c.is_ascii_alphabetic()).then_some(2 + last + 1)
}

/// Replaces each occurrence that begins with a character for which `is_found` is true; `by` returns its length in bytes
/// and the replacement.
fn replace(text: &str, is_found: fn(char) -> bool, by: fn(&str) -> (usize, &'static str)) -> (Cow<'_, str>, u32) {
    let Some(first) = text.find(is_found) else { return (Cow::Borrowed(text), 0) };
    let mut replaced = String::with_capacity(text.len());
    replaced.push_str(&text[..first]);
    let (mut rest, mut count) = (&text[first..], 0);
    while !rest.is_empty() {
        let (length, new) = by(rest);
        replaced.push_str(new);
        count += 1;
        rest = &rest[length..];
        let next = rest.find(is_found).unwrap_or(rest.len());
        replaced.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    (Cow::Owned(replaced), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_line_feeds() {
        let check = |text: &str, expected: &str, count| {
            assert_eq!(unix_line_ends(text), (Cow::Borrowed(expected), count), "{text:?}");
        };
        check("", "", 0);
        check("a\nb\n", "a\nb\n", 0);
        check("one\r\ntwo\rthree\n\rfour\r\r\nfive", "one\ntwo\nthree\n\nfour\n\nfive", 5);
        check("a\u{2028}b\u{2029}", "a\nb\n", 2);
        check("\r", "\n", 1);
    }

    #[test]
    fn control_characters_are_removed() {
        let check = |text: &str, expected: &str, count| {
            assert_eq!(without_control_characters(text), (Cow::Borrowed(expected), count), "{text:?}");
        };
        check("a\tb\nc\u{c}d\r\n", "a\tb\nc\u{c}d\r\n", 0);
        check("\u{feff}a\u{feff}b", "ab", 2);
        check("a\0b\u{8}\u{b}\u{1f}\u{7f}c", "abc", 5);
        check("\u{1b}[1;31mred\u{1b}[0m \u{1b}[Kx", "red x", 3);
        check("\u{1b}[31", "[31", 1);
        check("\u{1b}", "", 1);
        check("\u{206a}\u{fff9}\u{fffc}", "", 3);
        // A family emoji with joiners, and a directional mark.
        check("👨\u{200d}👩\u{200d}👧 \u{200f}", "👨\u{200d}👩\u{200d}👧 \u{200f}", 0);
    }
}
