//! Numbers of payment cards.

use std::ops::{Range, RangeInclusive};

use super::context::{after, before, is_word, labelled};
use super::digits::{Run, digits_end};

/// Issuer prefixes, as a range of numbers of that many digits, and how long the issuer's numbers are. From the public
/// tables of issuer identification numbers; Maestro only where its prefix is its own. Visa's numbers of 13 digits are
/// long out of use, and look like the bar codes of half of Europe.
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

/// How the digits are grouped where they are.
const GROUPINGS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4]];

const MOST_DIGITS: usize = 19;

/// What stands between groups: a space, a no-break space wide or narrow, a hyphen.
const SEPARATORS: &[&str] = &[" ", "-", "\u{a0}", "\u{202f}"];

/// Words before a hash sign that leave a number behind it a card's.
const CARDS: &str = "card cc";

/// Words before a number in one group that say that it is none of a card.
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

/// Returns the card whose digits are those from `start` to `end`.
fn contiguous(text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let number = &text.as_bytes()[start..end];
    let alone = is_free(text, start, end) && is_card(number) && !labelled(text, start, OTHER_NUMBERS);
    alone.then_some(start..end)
}

/// Returns the card whose groups, apart by one space or hyphen of a kind, begin at `start`.
fn grouped(text: &str, start: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let separator = SEPARATORS.iter().find(|separator| text[start + 4..].starts_with(**separator))?;
    let is_digits = |group: &&[u8]| group.iter().all(u8::is_ascii_digit);
    if text[..start].strip_suffix(separator).is_some_and(|head| head.ends_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    let fit = |lengths: &&[usize]| {
        let mut number = Vec::with_capacity(MOST_DIGITS);
        let mut at = start;
        for (i, length) in lengths.iter().enumerate() {
            if i > 0 {
                at += text[at..].strip_prefix(separator).map(|_| separator.len())?;
            }
            number.extend_from_slice(bytes.get(at..at + length).filter(is_digits)?);
            at += length;
        }
        let next = text[at..].strip_prefix(separator).map(str::as_bytes);
        let goes_on = next.and_then(|next| next.get(..4)).is_some_and(|group| is_digits(&group));
        (is_free(text, start, at) && !goes_on && is_card(&number)).then_some(start..at)
    };
    GROUPINGS.iter().find_map(fit)
}

/// Returns whether no name, number or fraction goes on at either side.
fn is_free(text: &str, start: usize, end: usize) -> bool {
    let before_is_free = match before(text, start) {
        Some('#') => labelled(text, start, CARDS),
        Some(c) => !is_word(c) && !matches!(c, '.' | '-' | '+' | '/'),
        None => true,
    };
    let mut behind = text[end..].chars();
    let (next, then) = (behind.next(), behind.next());
    let goes_on = match next {
        Some('.' | '-') => then.is_some_and(char::is_alphanumeric),
        Some(c) => is_word(c),
        None => false,
    };
    before_is_free && !goes_on && after(text, end) != Some('@')
}

/// Returns whether issuer, length and check digit are those of a card.
fn is_card(number: &[u8]) -> bool {
    if !(12..=MOST_DIGITS).contains(&number.len()) || !luhn(number) {
        return false;
    }
    let prefix =
        |digits: u32| number[..digits as usize].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    ISSUERS.iter().any(|(least, most, lengths)| {
        lengths.contains(&number.len()) && (*least..=*most).contains(&prefix(least.ilog10() + 1))
    })
}

/// Returns whether the check digit is right: from the right, every second digit counts twice, as the sum of its digits;
/// the sum is a multiple of ten (ISO/IEC 7812-1, annex B, the formula of H. P. Luhn).
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
        // The example of the patent's formula as textbooks give it, and its neighbours.
        check("79927398713", true);
        check("79927398710", false);
        check("79927398712", false);
        check("0", true);
    }
}
