//! International bank account numbers (ISO 13616).

use std::ops::Range;

use super::context::{after, before, is_word};

/// The length of each country's numbers, in characters, from SWIFT's IBAN registry.
const LENGTHS: &[(usize, &str)] = &[
    (15, "NO"),
    (16, "BE"),
    (18, "DK FI FK FO GL NL SD"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU MN XK"),
    (21, "CH HR LI LV"),
    (22, "BG BH CR DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ OM SO TL"),
    (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
    (25, "LY PT ST"),
    (26, "IS TR"),
    (27, "BI DJ FR GR IT MC MR SM"),
    (28, "AL AZ BY CY DO GT HU LB NI PL SV"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU YE"),
    (31, "MT SC"),
    (32, "LC"),
    (33, "RU"),
];

/// Returns the number whose check digits begin at `digits`, if it is valid: two letters of a country before them, then
/// letters and digits up to the country's length, with optional single spaces or hyphens.
pub(super) fn find(text: &str, digits: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let spaced = usize::from(digits > 0 && bytes[digits - 1] == b' ');
    let start = digits.checked_sub(2 + spaced)?;
    let country = [bytes[start], bytes[start + 1]];
    let length = country.iter().all(u8::is_ascii_alphabetic).then(|| length(country))??;
    if before(text, start).is_some_and(|c| is_word(c) || c == '-') {
        return None;
    }
    let mut number = Vec::with_capacity(length);
    let mut at = start;
    while number.len() < length {
        match bytes.get(at..)? {
            [byte, ..] if byte.is_ascii_alphanumeric() => number.push(byte.to_ascii_uppercase()),
            [b' ' | b'-', next, ..] if next.is_ascii_alphanumeric() => {}
            // A no-break space has two bytes; the second is skipped below.
            [0xC2, 0xA0, ..] => at += 1,
            _ => return None,
        }
        at += 1;
    }
    // Lower-case words after an upper-case number are not part of it.
    let written = &text[start..at];
    let is_uniform =
        !country.iter().all(u8::is_ascii_uppercase) || !written.bytes().any(|byte| byte.is_ascii_lowercase());
    let ends = after(text, at).is_none_or(|c| !is_word(c));
    (is_uniform && ends && is_valid(&number)).then_some(start..at)
}

fn length(country: [u8; 2]) -> Option<usize> {
    let country = country.map(|letter| letter.to_ascii_uppercase());
    let has = |codes: &str| codes.as_bytes().chunks(3).any(|code| code[..2] == country);
    LENGTHS.iter().find(|(_, codes)| has(codes)).map(|(length, _)| *length)
}

/// Returns true if the check digits are valid: with the first four characters moved to the end and letters as numbers
/// from 10, the remainder modulo 97 is 1 (ISO/IEC 7064, MOD 97-10).
fn is_valid(number: &[u8]) -> bool {
    let (head, tail) = number.split_at(4);
    let remainder = tail.iter().chain(head).fold(0, |remainder, byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    remainder == 1 && head[2..].iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_are_checked() {
        let check = |number: &str, expected| assert_eq!(is_valid(number.as_bytes()), expected, "{number}");
        // The examples of the registry for Germany and the United Kingdom.
        check("DE89370400440532013000", true);
        check("GB29NWBK60161331926819", true);
        check("DE98370400440532013000", false);
        check("GB29NWBK60161331926891", false);
    }
}
