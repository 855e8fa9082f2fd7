//! Telephone numbers.

mod plan;

use std::ops::Range;

use regex::Regex;

use super::context::{before, follows_label, has_word, is_after_placeholder, is_word, line_before};
use super::digits::{Run, digits_end};
use plan::{MAX_DIGITS, international};

/// Words before a number that label it as a telephone number.
const LABELS: &str = "call callback called calling cel cell cellphone cellular celular contact dial faks fax fone \
    fono gsm handy hotline hp landline mob mobiel mobil mobile mobiltelefon movil msisdn pager ph phone phones \
    portable puhelin ring sms tel telefax telefon telefone telefonnummer telefono telefonu telefoon telephone telf \
    text tfno tlf tlp viber voicemail wa whats whatsapp tél téléphone teléfono móvil komórka điện thoại τηλ тел \
    телефон моб мобильный звоните факс 电话 電話 手机 手機 热线 携帯 传真 전화 휴대폰 연락처 फोन मोबाइल هاتف جوال טלפון โทร";

/// Phrases directly before a number that label it as a telephone number, in lower case.
const PHRASES: &[&str] = &[
    "my number is ",
    "his number is ",
    "her number is ",
    "our number is ",
    "reach me at ",
    "reach us at ",
    "my number: ",
];

/// Words before a number that exclude a telephone number in any format except the international one.
const OTHER_NUMBERS: &str = "account acct aktenzeichen amount article award barcode batch belegnummer bestellnummer \
    bestellung build case catalog catalogue code commande contract customer docket doi ean factura file grant gtin \
    id ids invoice isbn isin issn item kundennummer licence license lot meter model nino npi oclc orcid order parcel \
    part patent pedido permit pmid po policy postcode product pubmed receipt rechnung record ref reference \
    registration rev revision rfc sample serial shipment siren siret sku sn ssn ticket tin tracking transaction uid \
    upc vat version voucher zip заказ 订单 注文番号";

/// Words after a number that make it a quantity.
const COUNTED: &str = "bytes days eur euros items kb kg km lines mb ms ns people pixels points records rows seconds \
    steps times tokens units usd users votes words years";

/// National formats, without `+`, of the countries whose numbers are most common in text. `~` stands for a space or
/// hyphen of any kind, `_` for that or nothing, `=` for that or a dot.
const FORMATS: &[&str] = &[
    // North America: area and exchange begin with 2 to 9.
    r"(?:1=)?\([2-9]\d\d\)_[2-9]\d\d=\d{4}",
    r"(?:1=)?[2-9]\d\d(?:=|/)[2-9]\d\d=\d{4}",
    // A trunk 0 and an area, then groups: most of Europe, Asia, Africa and Oceania.
    r"\(0[1-9]\d{0,4}\)_/?_\d{2,8}(?:~\d{1,5}){0,4}",
    r"0[1-9]\d{0,4}(?: ?[/–-] ?|~)\d{2,8}(?:~\d{1,5}){0,4}",
    // France, Switzerland and others, with dots.
    r"0[1-9](?:\.\d\d){4}",
    r"0\d\d\.\d{3}\.\d\d\.\d\d",
    // Brazil and Poland: an area in brackets without a 0.
    r"\([1-9]\d\)_9?_\d{4}~\d{4}",
    r"\([1-9]\d\)~\d{3}~\d\d~\d\d",
    // Russia and its neighbours.
    r"(?:8_)?\(\d{3,5}\)_\d{1,3}~\d\d~\d\d",
    r"8~[3489]\d\d~\d{3}~\d\d~\d\d",
    // China: mobile numbers.
    r"1[3-9]\d~\d{4}~\d{4}",
];

/// The format of dates, which are excluded.
const DATE: &str = r"^\(?(?:(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ](?:19|20)\d\d)(?:\D|$)";

/// The number of digits of the shortest labelled number.
const MIN_DIGITS: usize = 7;

/// Finds telephone numbers.
#[derive(Debug)]
pub(super) struct Phones {
    formats: Regex,
    date: Regex,
}

impl Phones {
    pub(super) fn new() -> Result<Self, regex::Error> {
        const SPACE_OR_HYPHEN: &str = r" \-\u{a0}\u{2009}\u{2010}-\u{2013}\u{202f}";
        let formats = FORMATS.join("|");
        let formats = formats.replace('~', &format!("[{SPACE_OR_HYPHEN}]"));
        let formats = formats.replace('_', &format!("[{SPACE_OR_HYPHEN}]?"));
        let formats = formats.replace('=', &format!("[{SPACE_OR_HYPHEN}.]"));
        Ok(Self { formats: Regex::new(&format!("^(?:{formats})"))?, date: Regex::new(DATE)? })
    }

    /// Finds the numbers among the groups of digits of `run`.
    pub(super) fn find(&self, text: &str, run: &Run, mut add: impl FnMut(Range<usize>)) {
        let mut at = start_of_number(text, run.start, 0);
        let is_labelled = run.digits <= 4 * MAX_DIGITS && (follows_label(text, at, LABELS) || follows_phrase(text, at));
        while at < run.end {
            let whole = Some(run.end).filter(|end| is_labelled && self.may_be_phone(&text[at..*end]));
            let end = self.formatted(text, at, run, is_labelled).or(whole);
            let end = end.filter(|end| is_free(text, at..*end, is_labelled) && !self.date.is_match(&text[at..*end]));
            let done = end.unwrap_or_else(|| group_end(text, at));
            if let Some(end) = end {
                add(without_bracket(text, at, end)..extension_end(text, end));
            }
            let Some(next) = text.as_bytes()[done..run.end].iter().position(u8::is_ascii_digit) else { break };
            at = start_of_number(text, done + next, done);
        }
    }

    /// Returns the end of the number that begins at `at`, if its format needs no label.
    fn formatted(&self, text: &str, at: usize, run: &Run, is_labelled: bool) -> Option<usize> {
        let number = &text[at..run.end];
        if let Some(after) = number.trim_start_matches('(').strip_prefix('+') {
            return international(text, run.end - after.len(), run.end);
        }
        let exit = ["00", "011 ", "011-"]
            .iter()
            .find_map(|exit| number.strip_prefix(exit))
            .filter(|after| !after.starts_with('0'));
        if let Some(end) = exit.and_then(|after| international(text, run.end - after.len(), run.end))
            && (is_labelled || group_end(text, at) < end)
        {
            return (!follows_label(text, at, OTHER_NUMBERS)).then_some(end);
        }
        let end = at + self.formats.find(number)?.end();
        let written = &text[at..end];
        let digits = digits(written);
        // Groups separated only by spaces are a telephone number only if no other group is adjacent, and not if they
        // are a list of pairs; five pairs are a French number.
        let is_spaced = !written.contains(['-', '(', '/']);
        let is_pairs = written.split(' ').all(|group| group.len() == 2) && digits != 10;
        let is_list = is_spaced && (is_beside_digit(text, at) || end < run.end || is_pairs || digits > 11);
        let found = (9..=12).contains(&digits) && !is_list && !follows_label(text, at, OTHER_NUMBERS);
        found.then_some(end)
    }

    /// Returns true if a labelled number of any format may be a telephone number.
    fn may_be_phone(&self, number: &str) -> bool {
        let is_quad =
            number.bytes().filter(|byte| *byte == b'.').count() == 3 && number.split('.').all(|part| part.len() <= 3);
        (MIN_DIGITS..=MAX_DIGITS).contains(&digits(number)) && !is_quad && !self.date.is_match(number)
    }
}

fn digits(number: &str) -> usize {
    number.bytes().filter(u8::is_ascii_digit).count()
}

fn follows_phrase(text: &str, at: usize) -> bool {
    let line = line_before(text, at, 24).to_ascii_lowercase();
    PHRASES.iter().any(|phrase| line.ends_with(phrase))
}

/// Returns the end of the first digits of the number at `at`.
fn group_end(text: &str, at: usize) -> usize {
    let signs = text[at..].bytes().take_while(|byte| matches!(byte, b'+' | b'(')).count();
    digits_end(text.as_bytes(), at + signs)
}

/// Returns the start of the number whose first digit is at `digit`, including a bracket or plus before it, not before
/// `least`.
fn start_of_number(text: &str, digit: usize, least: usize) -> usize {
    let signs =
        text.as_bytes()[least..digit].iter().rev().take(2).take_while(|byte| matches!(byte, b'+' | b'(')).count();
    digit - signs
}

/// Returns the start of the number at `at` without an opening bracket that closes after `end`: `(+44 20 7946 0958)`.
fn without_bracket(text: &str, at: usize, end: usize) -> usize {
    let inside = text[at..end].strip_prefix('(');
    let is_open =
        inside.is_some_and(|inside| inside.find(['(', ')']).is_none_or(|bracket| inside[bracket..].starts_with('(')));
    at + usize::from(is_open)
}

/// Returns true if there are digits before `at`, one character away.
fn is_beside_digit(text: &str, at: usize) -> bool {
    let Some(sign) = before(text, at) else { return false };
    let end = at - sign.len_utf8();
    before(text, end).is_some_and(|c| c.is_ascii_digit()) || is_after_placeholder(text, end)
}

/// Returns true if no name, amount or longer number continues on either side of `range`.
fn is_free(text: &str, range: Range<usize>, is_labelled: bool) -> bool {
    let mut back = text[..range.start].chars().rev();
    let before_is_free = match (back.next(), back.next()) {
        (Some('=' | '/'), _) => is_labelled,
        (Some(':'), Some(c)) => !c.is_ascii_digit() && !is_after_placeholder(text, range.start - 1),
        (Some(c), _) => {
            !is_word(c) && !matches!(c, '.' | '-' | '#' | '&' | '$' | '€' | '£' | '¥' | '%' | '@' | '\\' | '+' | '±')
        }
        (None, _) => true,
    };
    let word = text[range.end..].strip_prefix(' ').and_then(|after| after.split(|c: char| !c.is_alphabetic()).next());
    if word.is_some_and(|word| has_word(COUNTED, word)) && !text[range.clone()].contains('+') {
        return false;
    }
    let mut forth = text[extension_end(text, range.end)..].chars();
    let continues = match (forth.next(), forth.next()) {
        (Some('-' | '/' | ':'), Some(c)) => is_word(c),
        (Some('.'), Some(c)) => is_word(c) && !c.is_uppercase(),
        (Some(c), _) => is_word(c) || matches!(c, '%' | '°' | '€' | '$' | '£' | '@' | '='),
        (None, _) => false,
    };
    before_is_free && !continues
}

/// Returns the end of the extension after a number, if there is one, else `end`: ` ext. 123`, `x123`.
fn extension_end(text: &str, end: usize) -> usize {
    let rest = &text[end..];
    let spaced = rest.trim_start_matches([' ', ',']);
    let leads = ["extension ", "ext. ", "ext.", "ext ", "ext: ", "Ext. ", "Ext ", "x ", "x", "доб. ", "#"];
    let lead = leads.iter().find(|lead| rest.len() - spaced.len() <= 2 && spaced.starts_with(**lead));
    let Some(lead) = lead else { return end };
    let start = text.len() - spaced.len() + lead.len();
    let stop = digits_end(text.as_bytes(), start);
    let is_extension = (1..=5).contains(&(stop - start)) && text[stop..].chars().next().is_none_or(|c| !is_word(c));
    if is_extension { stop } else { end }
}
