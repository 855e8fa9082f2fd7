//! The context of a position in a text: the characters beside it, and the words before it.

use super::config::Kind;

/// The distance to search backwards for words; bytes.
const MAX_WORD_DISTANCE_BYTES: usize = 48;

/// The length of the longest placeholder; one that reaches into the searched text must be included as a whole.
const MAX_PLACEHOLDER_BYTES: usize = "<SECRET>".len();

/// The maximum number of filler words that are skipped before a label.
const MAX_FILLERS: usize = 4;

/// Words between a label and its number: "phone number is", "call me at", "Telefon Nr.".
const FILLERS: &str = "a am app at au auf avec by de del der direct do e earlier el en et from her him home if in is \
    it la le least main me my n new no nr num number numbers numero nummer o of office ok old on older or our prior \
    private the them to uk und unter us usa value was work y you your número номер";

/// Returns the character before the byte `at`.
pub(super) fn before(text: &str, at: usize) -> Option<char> {
    text[..at].chars().next_back()
}

/// Returns the character at the byte `at`.
pub(super) fn after(text: &str, at: usize) -> Option<char> {
    text[at..].chars().next()
}

/// Returns true if a name or a number may continue with `c`. Scripts without spaces do not count, since their words are
/// adjacent to it.
pub(super) fn is_word(c: char) -> bool {
    (c.is_alphanumeric() && !is_ideographic(c)) || c == '_'
}

/// Returns true if `c` belongs to a script without spaces: the CJK radicals and everything after them, including kana
/// and Hangul.
pub(super) fn is_ideographic(c: char) -> bool {
    c >= '\u{2e80}'
}

/// Returns true if a placeholder ends at `at`. It counts as the word or number it stands for, so that text that was not
/// a find because of it does not become one.
pub(super) fn is_after_placeholder(text: &str, at: usize) -> bool {
    let before = &text[..at];
    before.ends_with('>') && Kind::ALL.into_iter().any(|kind| before.ends_with(kind.placeholder()))
}

/// Returns the text before `at` on its line, at most `most` bytes.
pub(super) fn line_before(text: &str, at: usize, most: usize) -> &str {
    let start = text.ceil_char_boundary(at.saturating_sub(most));
    let window = &text[start..at];
    window.rfind('\n').map_or(window, |end| &window[end + 1..])
}

/// Returns the text after `at` on its line, at most `most` bytes.
pub(super) fn line_after(text: &str, at: usize, most: usize) -> &str {
    let window = &text[at..text.floor_char_boundary((at + most).min(text.len()))];
    window.find('\n').map_or(window, |end| &window[..end])
}

/// Returns true if the nearest meaningful word before `at` on its line is one of `labels`: digits, punctuation and up
/// to four fillers such as "number is" are skipped. `phoneNumber` and `phone_number` are two words each; an ideographic
/// label may be part of a longer word. The search ends at a placeholder, except one directly before `at`, which is a
/// tag.
pub(super) fn follows_label(text: &str, at: usize, labels: &str) -> bool {
    let line = line_before(text, at, MAX_WORD_DISTANCE_BYTES + MAX_PLACEHOLDER_BYTES);
    let head = line.strip_suffix('>').unwrap_or(line);
    let end = |kind: Kind| Some(head.rfind(kind.placeholder())? + kind.placeholder().len());
    let done = Kind::ALL.into_iter().filter_map(end).max();
    let rest = &line[done.unwrap_or(0)..];
    let mut rest = &rest[rest.ceil_char_boundary(rest.len().saturating_sub(MAX_WORD_DISTANCE_BYTES))..];
    for _ in 0..=MAX_FILLERS {
        let Some(word) = last_word(&mut rest) else { return false };
        let word = word.to_lowercase();
        let is_uncased_label = |label| is_uncased(label) && word.contains(label);
        if has_word(labels, &word) || (!word.is_ascii() && words(labels).any(is_uncased_label)) {
            return true;
        }
        if !has_word(FILLERS, &word) {
            return false;
        }
    }
    false
}

/// Returns the words of a space-separated, lower-case list.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split_ascii_whitespace()
}

/// Returns true if `word` is in `list`.
pub(super) fn has_word(list: &str, word: &str) -> bool {
    words(list).any(|other| other == word)
}

/// Returns true if the script of `label` has no lower case, as most scripts without spaces.
fn is_uncased(label: &str) -> bool {
    !label.chars().any(|c| c.is_lowercase() || c.is_uppercase())
}

/// Removes the last word from `rest` and returns it: letters; an upper-case letter after a lower-case one begins a
/// word.
fn last_word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let end = rest.trim_end_matches(|c: char| !c.is_alphabetic()).len();
    let mut start = end;
    let mut next = None;
    for (i, c) in rest[..end].char_indices().rev() {
        if !c.is_alphabetic() || (c.is_lowercase() && next.is_some_and(char::is_uppercase)) {
            break;
        }
        start = i;
        next = Some(c);
    }
    let word = &rest[start..end];
    *rest = &rest[..start];
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_before_a_position() {
        let check =
            |text: &str, expected| assert_eq!(follows_label(text, text.len(), "phone 电话"), expected, "{text:?}");
        check("phone ", true);
        check("Phone: ", true);
        check("phoneNumber = \"", true);
        check("PHONE_NUMBER=", true);
        check("my phone number is ", true);
        check("phone 12 or ", true);
        check("联系电话：", true);
        check("phone <EMAIL> ", false);
        check("<PHONE>, ", false);
        check("<PHONE>", true);
        check("microphone ", false);
        check("phone costs ", false);
        check("phone\n", false);
        check("", false);
        check(&format!("phone{}", " ".repeat(100)), false);
    }
}
