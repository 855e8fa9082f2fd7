//! Telephone numbers in international format.

use std::ops::Range;

/// The maximum number of digits including the country code (ITU-T E.164).
pub(super) const MAX_DIGITS: usize = 15;

/// Country codes, or their first digits, and the number of digits after the code; from ITU-T E.164's list of codes and
/// the national numbering plans.
const COUNTRIES: &[(&str, Range<usize>)] = &[
    ("1", 10..11),
    ("7", 10..11),
    ("20", 8..11),
    ("27", 9..10),
    ("30", 10..11),
    ("31", 9..10),
    ("32", 8..10),
    ("33", 9..10),
    ("34", 9..10),
    ("36", 8..10),
    ("39", 8..12),
    ("40", 9..10),
    ("41", 9..10),
    ("43", 7..13),
    ("44", 9..11),
    ("45", 8..9),
    ("46", 7..11),
    ("47", 8..9),
    ("48", 9..10),
    ("49", 7..13),
    ("51", 8..10),
    ("52", 10..12),
    ("53", 8..9),
    ("54", 10..12),
    ("55", 10..12),
    ("56", 9..10),
    ("57", 8..11),
    ("58", 10..11),
    ("60", 7..11),
    ("61", 9..10),
    ("62", 8..13),
    ("63", 8..11),
    ("64", 8..11),
    ("65", 8..9),
    ("66", 8..10),
    ("81", 9..11),
    ("82", 8..11),
    ("84", 9..11),
    ("86", 9..12),
    ("90", 10..11),
    ("91", 10..11),
    ("92", 9..11),
    ("93", 9..10),
    ("94", 9..10),
    ("95", 7..11),
    ("98", 10..11),
    ("21", 8..10),
    ("22", 7..11),
    ("23", 7..11),
    ("24", 6..10),
    ("25", 7..10),
    ("26", 7..10),
    ("29", 4..8),
    ("35", 7..12),
    ("37", 6..10),
    ("38", 7..10),
    ("42", 7..10),
    ("50", 7..9),
    ("59", 6..10),
    ("67", 5..9),
    ("68", 5..8),
    ("69", 5..8),
    ("80", 8..9),
    ("85", 8..11),
    ("87", 7..10),
    ("88", 8..11),
    ("96", 7..11),
    ("97", 7..11),
    ("99", 8..11),
];

/// Returns the end of the number whose country code begins at `start`: the last group of digits up to which it has a
/// length of the country's numbers.
pub(super) fn international(text: &str, start: usize, end: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let start = start + usize::from(bytes.get(start) == Some(&b'('));
    let mut number = String::with_capacity(MAX_DIGITS);
    let mut last = None;
    let mut at = start;
    while at < end && number.len() <= MAX_DIGITS {
        match bytes[at] {
            digit @ b'0'..=b'9' => {
                number.push(char::from(digit));
                let group_ends = bytes.get(at + 1).is_none_or(|next| !next.is_ascii_digit());
                if group_ends && is_national_length(&number) {
                    last = Some(at + 1);
                }
            }
            // The trunk prefix 0, which is not dialled from abroad.
            b'(' if bytes[at..].starts_with(b"(0)") => at += 2,
            b'+' => break,
            b'/' if number.len() > 6 => break,
            _ => {}
        }
        at += 1;
    }
    last
}

/// Returns true if `number` begins with a country code and has the length of that country's numbers.
fn is_national_length(number: &str) -> bool {
    let Some((code, lengths)) = COUNTRIES.iter().find(|(code, _)| number.starts_with(code)) else { return false };
    // Codes of three digits are listed by their first two.
    let three = matches!(
        code.as_bytes(),
        [b'2', b'1'..=b'6' | b'9'] | [b'3', b'5' | b'7' | b'8'] | [b'4', b'2'] | [b'5', b'0' | b'9']
    ) || matches!(
        code.as_bytes(),
        [b'6', b'7'..=b'9'] | [b'8', b'0' | b'5' | b'7' | b'8'] | [b'9', b'6' | b'7' | b'9']
    );
    let national = &number[(code.len() + usize::from(three)).min(number.len())..];
    let fits = number.len() <= MAX_DIGITS && lengths.contains(&national.len());
    let in_north_america = |digit: usize| matches!(national.as_bytes().get(digit), Some(b'2'..=b'9'));
    fits && (*code != "1" || (in_north_america(0) && in_north_america(3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_length_of_their_country() {
        let check = |number: &str, expected| assert_eq!(international(number, 0, number.len()), expected, "{number}");
        check("44 20 7946 0958", Some(15));
        check("44 20 7946 0958 2024", Some(15));
        check("44 (0)20 7946 0958", Some(18));
        check("44 20 7946", None);
        check("12025550143", Some(11));
        check("11155550143", None);
        check("12021550143", None);
        check("353 1 234 5678", Some(14));
        check("999 1", None);
        check("4", None);
        check("", None);
    }
}
