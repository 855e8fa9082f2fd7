//! Payment card numbers.

use std::ops::{Range, RangeInclusive};

use super::context::{after, before, follows_label, is_word};
use super::digits::{Run, digits_end};

/// Issuer prefixes, as a range of numbers with that many digits, and the lengths of the issuer's numbers. From the
/// public tables of issuer identification numbers; Maestro only with prefixes of its own. Visa's numbers of 13 digits
/// are left out: they are no longer used, and look like European bar codes.
const ISSUERS: &[(u32, u32, RangeInclusive<usize>)] = &[
    (4, 4, 16..=16),             // Visa
    (51, 55, 16..=16),           // Mastercard
    (2221, 2720, 16..=16),       // Mastercard
    (34, 34, 15..=15),           // American Express
    (37, 37, 15..=15),           // American Express
    (300, 305, 14..=16),         // Diners Club
    (36, 36, 14..=16),           // Diners Club
    (38, 39, 14..=16),           // Diners Club
    (6011, 6011, 16..=19),       // Discover
    (644, 659, 16..=19),         // Discover
    (3528, 3589, 16..=19),       // JCB
    (620, 629, 16..=19),         // UnionPay
    (2200, 2204, 16..=19),       // Mir
    (9792, 9792, 16..=16),       // Troy
    (508_500, 508_999, 16..=16), // RuPay
    (606_985, 607_984, 16..=16), // RuPay
    (5018, 5018, 12..=19),       // Maestro
    (5020, 5020, 12..=19),       // Maestro
    (5038, 5038, 12..=19),       // Maestro
    (5893, 5893, 12..=19),       // Maestro
    (6304, 6304, 12..=19),       // Maestro
    (6759, 6759, 12..=19),       // Maestro
    (6761, 6763, 12..=19),       // Maestro
];

/// The lengths of digit groups.
const GROUPINGS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4]];

const MAX_DIGITS: usize = 19;

/// Separators of groups: a space, a hyphen, a no-break space, a narrow no-break space.
const SEPARATORS: &[&str] = &[" ", "-", "\u{a0}", "\u{202f}"];

/// Words before a hash sign after which a number may be a card number.
const CARDS: &str = "card cc";

/// Words before a number without groups that exclude a card number.
const OTHER_NUMBERS: &str = "article barcode ean gtin iccid id ids imei invoice isbn issn meid order parcel ref \
    reference seed serial shipment sku timestamp tracking tweet uid upc vin";

/// Finds the cards among the groups of digits of `run`.
pub(super) fn find(text: &str, run: &Run, mut add: impl FnMut(Range<usize>)) {
    let bytes = text.as_bytes();
    let mut start = run.start;
    while start < run.end {
        let end = digits_end(bytes, start);
        let found = if end - start == 4 { grouped(text, start) } else { contiguous(text, start, end) };
        let done = found.as_ref().map_or(end, |range| range.end);
        found.into_iter().for_each(&mut add);
        start = bytes[done..run.end].iter().position(u8::is_ascii_digit).map_or(run.end, |skipped| done + skipped);
    }
}

/// Returns the card number with the digits from `start` to `end`, if it is one.
fn contiguous(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let number = &text.as_bytes()[start..end];
    let alone = is_free(text, start, end) && is_card(number) && !follows_label(text, start, OTHER_NUMBERS);
    alone.then_some(start..end)
}

/// Returns the card number whose groups begin at `start`, with the same separator between them, if it is one.
fn grouped(text: &str, start: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let separator = SEPARATORS.iter().find(|separator| text[start + 4..].starts_with(**separator))?;
    let is_digits = |group: &&[u8]| group.iter().all(u8::is_ascii_digit);
    if text[..start].strip_suffix(separator).is_some_and(|head| head.ends_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    let fit = |lengths: &&[usize]| {
        let mut number = Vec::with_capacity(MAX_DIGITS);
        let mut at = start;
        for (i, length) in lengths.iter().enumerate() {
            if i > 0 {
                at += text[at..].strip_prefix(separator).map(|_| separator.len())?;
            }
            number.extend_from_slice(bytes.get(at..at + length).filter(is_digits)?);
            at += length;
        }
        let next = text[at..].strip_prefix(separator).map(str::as_bytes);
        let continues = next.and_then(|next| next.get(..4)).is_some_and(|group| is_digits(&group));
        (is_free(text, start, at) && !continues && is_card(&number)).then_some(start..at)
    };
    GROUPINGS.iter().find_map(fit)
}

/// Returns true if no name, number or fraction continues on either side.
fn is_free(text: &str, start: usize, end: usize) -> bool {
    let before_is_free = match before(text, start) {
        Some('#') => follows_label(text, start, CARDS),
        Some(c) => !is_word(c) && !matches!(c, '.' | '-' | '+' | '/'),
        None => true,
    };
    let mut following = text[end..].chars();
    let (next, then) = (following.next(), following.next());
    let continues = match next {
        Some('.' | '-') => then.is_some_and(char::is_alphanumeric),
        Some(c) => is_word(c),
        None => false,
    };
    before_is_free && !continues && after(text, end) != Some('@')
}

/// Returns true if issuer, length and check digit are those of a card.
fn is_card(number: &[u8]) -> bool {
    if !(12..=MAX_DIGITS).contains(&number.len()) || !luhn(number) {
        return false;
    }
    let prefix =
        |digits: u32| number[..digits as usize].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    ISSUERS.iter().any(|(least, most, lengths)| {
        lengths.contains(&number.len()) && (*least..=*most).contains(&prefix(least.ilog10() + 1))
    })
}

/// Returns true if the check digit is valid: counted from the right, every second digit is doubled and replaced by the
/// sum of its digits; the total is a multiple of ten (ISO/IEC 7812-1, annex B, Luhn's formula).
fn luhn(number: &[u8]) -> bool {
    let value = |(i, digit): (usize, &u8)| {
        let value = u32::from(digit - b'0');
        if i % 2 == 0 { value } else { value * 2 / 10 + value * 2 % 10 }
    };
    number.iter().rev().enumerate().map(value).sum::<u32>() % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_are_checked() {
        let check = |number: &str, expected| assert_eq!(luhn(number.as_bytes()), expected, "{number}");
        // The usual textbook example of Luhn's formula, and its neighbours.
        check("79927398713", true);
        check("79927398710", false);
        check("79927398712", false);
        check("0", true);
    }
}
