//! Invisible white space: line ends, empty lines, spaces of other widths.

use std::borrow::Cow;

/// The maximum number of empty lines in a row: two, as between the functions of a Python file.
const MAX_EMPTY_LINES: usize = 2;

/// Returns `text` with tidy white space, and the number of changes:
///
/// - spaces of other widths and no-break spaces become ordinary spaces, except the ideographic space, which indents
///   Chinese and Japanese text;
/// - white space at the end of a line is removed, except two spaces after text, a line break in Markdown;
/// - at most two empty lines in a row are kept.
///
/// Indentation, tabs and spaces inside a line stay.
pub(super) fn tidy(text: &str) -> (Cow<'_, str>, u32) {
    let mut tidied = String::with_capacity(text.len());
    let mut count = 0;
    let mut empty = 0;
    for line in text.split_inclusive('\n') {
        let (content, end) = line.strip_suffix('\n').map_or((line, ""), |content| (content, "\n"));
        let content = ordinary_spaces(content, &mut count);
        let kept = trim_end(&content, !end.is_empty());
        count += u32::from(kept.len() < content.len());
        empty = if kept.is_empty() { empty + 1 } else { 0 };
        if empty > MAX_EMPTY_LINES && !end.is_empty() {
            count += 1;
            continue;
        }
        tidied.push_str(kept);
        tidied.push_str(end);
    }
    if count == 0 { (Cow::Borrowed(text), 0) } else { (Cow::Owned(tidied), count) }
}

fn ordinary_spaces<'t>(line: &'t str, count: &mut u32) -> Cow<'t, str> {
    if line.is_ascii() {
        return Cow::Borrowed(line);
    }
    let replaced = line.chars().filter(|c| is_unusual_space(*c)).count();
    if replaced == 0 {
        return Cow::Borrowed(line);
    }
    *count += replaced as u32;
    Cow::Owned(line.chars().map(|c| if is_unusual_space(c) { ' ' } else { c }).collect())
}

fn is_unusual_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}')
}

fn trim_end(line: &str, has_end: bool) -> &str {
    let trimmed = line.trim_end_matches([' ', '\t']);
    let breaks_line = has_end && !trimmed.is_empty() && &line[trimmed.len()..] == "  ";
    if breaks_line { line } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_tidied() {
        let check = |text: &str, expected: &str, count| {
            assert_eq!(tidy(text), (Cow::Borrowed(expected), count), "{text:?}");
        };
        check("", "", 0);
        check("a\n", "a\n", 0);
        check("def f():\n\treturn  1\n    # indented\n", "def f():\n\treturn  1\n    # indented\n", 0);
        check("a \nb\t\nc   \n", "a\nb\nc\n", 3);
        check("a  \nb", "a  \nb", 0);
        check("a  ", "a", 1);
        check("  \n", "\n", 1);
        check("a\n\n\nb", "a\n\n\nb", 0);
        check("a\n\n\n\n\nb", "a\n\n\nb", 2);
        check("a\n \n\t\n\n\nb", "a\n\n\nb", 4);
        check("\n\n\n\na", "\n\na", 2);
        check("10\u{a0}kg\u{202f}!\u{2003}", "10 kg !", 4);
        check("\u{a0}\u{a0}code", "  code", 2);
        check("\u{3000}春です。", "\u{3000}春です。", 0);
        check("a\u{c}\nb", "a\u{c}\nb", 0);
    }
}
