//! Cleaning one text, and cutting a long one.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Returns `bytes` as UTF-8 in Unicode's composed form (NFC, Unicode Standard Annex 15) with line ends of one LF and
/// without a byte order mark; U+FFFD stands for bytes that make no character.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => Cow::Borrowed(rest),
        None => Cow::Borrowed(&*text),
    };
    let text = unix_line_ends(text);
    if text.is_ascii() || is_nfc(&text) { text.into_owned() } else { text.nfc().collect() }
}

fn unix_line_ends(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { text }
}

/// Returns `text` in pieces of at most `max_bytes` that together are the text, each but the last ending at a line's end
/// where it has one. A character longer than that is a piece of its own.
pub(crate) fn cut(text: &str, max_bytes: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > max_bytes {
        let most = rest.floor_char_boundary(max_bytes).max(rest.ceil_char_boundary(1));
        let end = rest[..most].rfind('\n').map_or(most, |at| at + 1);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_cleaned() {
        let check = |input: &[u8], expected: &str| assert_eq!(clean(input), expected, "{input:?}");
        check(b"", "");
        check(b"plain\n", "plain\n");
        check(b"one\r\ntwo\rthree\n\rfour\r\r\nfive", "one\ntwo\nthree\n\nfour\n\nfive");
        check("\u{feff}marked".as_bytes(), "marked");
        check("in\u{feff}side".as_bytes(), "in\u{feff}side");
        check("e\u{301}\u{f1} n\u{303}".as_bytes(), "\u{e9}\u{f1} \u{f1}");
        check("\u{1100}\u{1161}".as_bytes(), "\u{ac00}");
        check("\u{212b}".as_bytes(), "\u{c5}");
        // Compatibility characters keep their look: that would be NFKC.
        check("\u{fb01}\u{b2}".as_bytes(), "\u{fb01}\u{b2}");
        check(b"caf\xe9!", "caf\u{fffd}!");
        check(b"\xe2\x82", "\u{fffd}");
        check(b"a\xff\xfeb", "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn long_texts_are_cut_at_line_ends() {
        let check = |text: &str, max_bytes, expected: &[&str]| assert_eq!(cut(text, max_bytes), expected, "{text:?}");
        check("", 4, &[""]);
        check("abcd", 4, &["abcd"]);
        check("ab\ncd\nef", 6, &["ab\ncd\n", "ef"]);
        check("ab\ncd\nef", 5, &["ab\n", "cd\nef"]);
        check("abcdef", 4, &["abcd", "ef"]);
        check("aé€b", 2, &["a", "é", "€", "b"]);
        check("\n\n\n", 1, &["\n", "\n", "\n"]);
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing_more(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let once = clean(&bytes);
            // A byte order mark behind another is text.
            prop_assume!(!once.starts_with('\u{feff}'));
            prop_assert_eq!(clean(once.as_bytes()), once);
        }

        #[test]
        fn pieces_are_the_text(text in "[a-zé€\n]{0,200}", max_bytes in 4_usize..50) {
            let pieces = cut(&text, max_bytes);
            prop_assert_eq!(pieces.concat(), text.as_str());
            prop_assert!(pieces.iter().all(|piece| piece.len() <= max_bytes));
        }
    }
}
