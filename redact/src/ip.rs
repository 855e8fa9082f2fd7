//! IPv4 and IPv6 addresses.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::context::{before, follows_label, is_after_placeholder, is_word, line_before};
use super::digits::digits_end;

/// Words before four numbers that indicate a version, a section or an object identifier.
const NOT_ADDRESSES: &str = "abschnitt acrobat android appendix article assembly broadcast build bump chapter chrome \
    chromium clause driver ec edge edition enzyme fig figure fileversion firefox firmware flash identifier \
    identifiers ios java jdk jre kapitel kernel library macos nvidia oid opera package paragraph patch player \
    productversion reader rel release released requires revision safari sdk sec section sections skype table tag \
    update upgrade upgraded v ver version versions versión версия 版本";

/// The same for signs directly before four numbers: version comparisons, sections, enzymes.
const SIGNS: &[&str] = &["==", ">=", "<=", "!=", "~=", "~>", "§", "E.C."];

/// The same for words anywhere on the line before four numbers: `bump serde to 1.2.3.4`.
const LINE_WORDS: &[&str] = &["bump", "upgrad", "downgrad", "identifier"];

/// The maximum length of an IPv6 address: 8 groups of 4 and 7 colons, or with the last two groups as an IPv4 address.
const MAX_V6_BYTES: usize = 45;

/// Returns the IPv4 address whose first digit is at `start`, if it is a find.
pub(super) fn v4(text: &str, start: usize, private_too: bool) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut octets = [0; 4];
    let mut end = start;
    for (i, octet) in octets.iter_mut().enumerate() {
        if i > 0 {
            (bytes.get(end) == Some(&b'.')).then_some(())?;
            end += 1;
        }
        let digits = &text[end..digits_end(bytes, end)];
        if digits.len() > 3 || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        *octet = digits.parse().ok()?;
        end += digits.len();
    }
    let address = Ipv4Addr::from(octets);
    let found =
        is_find_v4(address, private_too) && is_free_v4(text, start, end) && !is_number_of(text, start, end, address);
    found.then_some(start..end)
}

/// Returns true if the address is global, or private and `private_too`.
fn is_find_v4(address: Ipv4Addr, private_too: bool) -> bool {
    let [a, b, c, d] = address.octets();
    let is_private = address.is_private() || address.is_link_local() || (a == 100 && b & 0xC0 == 64);
    if is_private {
        return private_too;
    }
    let is_benchmark = a == 198 && b & 0xFE == 18;
    // Object identifiers: the internet arc, X.500 attributes and extensions.
    let is_identifier = matches!((a, b, c, d), (1, 3, 6, 1) | (2, 5, 4 | 29, _));
    // `x.0.0.0` is a whole network, or a version.
    !(is_identifier
        || a == 0
        || a == 127
        || a >= 224
        || (b, c, d) == (0, 0, 0)
        || address.is_documentation()
        || is_benchmark)
}

/// Returns true if no name, version or longer number continues on either side.
fn is_free_v4(text: &str, start: usize, end: usize) -> bool {
    let mut back = text[..start].chars().rev();
    let before_is_free = match (back.next(), back.next()) {
        // A product and its version: `Chrome/1.2.3.4`; a scheme ends with two slashes.
        (Some('/'), Some(c)) => !is_word(c) && !is_after_placeholder(text, start - 1),
        (Some(c), _) => !is_word(c) && !matches!(c, '.' | '-' | '+' | '~' | '^'),
        (None, _) => true,
    };
    let mut forth = text[end..].chars();
    let continues = match (forth.next(), forth.next()) {
        (Some('.' | '-' | '+'), Some(c)) => is_word(c),
        (Some(c), _) => is_word(c) || c == '%',
        (None, _) => false,
    };
    before_is_free && !continues
}

/// Returns true if the four numbers are a version or a section number.
fn is_number_of(text: &str, start: usize, end: usize, address: Ipv4Addr) -> bool {
    let line = line_before(text, start, 16);
    let quoted = line.trim_end_matches([' ', '"', '\'']);
    if SIGNS.iter().any(|sign| quoted.ends_with(sign)) || follows_label(text, start, NOT_ADDRESSES) {
        return true;
    }
    let longer = line_before(text, start, 48).to_ascii_lowercase();
    if LINE_WORDS.iter().any(|word| longer.contains(word)) {
        return true;
    }
    // `2.4.1.3 Title`: small numbers, a heading or a line of a table of contents.
    let begins_line = line.len() < 16 && line.chars().all(|c| matches!(c, '#' | ' ' | '\t' | '*'));
    let mut following = text[end..].chars();
    let titled =
        matches!(following.next(), Some(' ' | '\t')) && following.find(|c| *c != ' ').is_some_and(char::is_alphabetic);
    begins_line && titled && address.octets().iter().all(|octet| *octet < 30)
}

/// Returns the range of hexadecimal digits, colons and dots around the colon at `colon`, not before `least`.
pub(super) fn v6_run(bytes: &[u8], colon: usize, least: usize) -> Range<usize> {
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let from = least.max(colon.saturating_sub(4));
    let start = colon - bytes[from..colon].iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let length = bytes[colon..].iter().take_while(|byte| is_part(byte)).count();
    start..colon + length
}

/// Returns the IPv6 address of `run`, without a full stop or colon after it, if it is a find.
pub(super) fn v6(text: &str, run: Range<usize>, private_too: bool) -> Option<Range<usize>> {
    let mut written = text[run.clone()].trim_end_matches('.');
    // The colon of a label before it, such as `IPv6:`, and one after it.
    let label =
        ["6:", ":"].into_iter().find(|label| written.starts_with(label) && !written[label.len()..].starts_with(':'));
    written = &written[label.map_or(0, str::len)..];
    written = written.strip_suffix(':').filter(|shorter| !shorter.ends_with(':')).unwrap_or(written);
    let start = run.start + label.map_or(0, str::len);
    // A port may follow, after a colon or, in BSD's notation, a dot.
    let (head, port) = written.split_at(written.rfind([':', '.'])?);
    let is_port = port.len() > 2 && port[1..].bytes().all(|byte| byte.is_ascii_digit());
    let parsed = |written: &str| (written.len() <= MAX_V6_BYTES).then(|| written.parse::<Ipv6Addr>().ok()).flatten();
    let (address, written) = match parsed(written) {
        Some(address) => (address, written),
        None => (parsed(head).filter(|_| is_port)?, head),
    };
    let range = start..start + written.len();
    // `x[2000::2]` is a slice: a compressed address has at least three groups.
    let groups = written.split([':', '.']).filter(|group| !group.is_empty()).count();
    let before_is_free =
        label.is_some() || before(text, range.start).is_none_or(|c| !is_word(c) && !matches!(c, ':' | '.' | '-'));
    let after_is_free = text[range.end..].chars().next().is_none_or(|c| !is_word(c));
    let found = groups >= 3 && before_is_free && after_is_free && is_find_v6(address, private_too);
    found.then_some(range)
}

/// Returns true if the address is global unicast (`2000::/3`, RFC 4291) and not for documentation (RFC 3849, RFC 9637).
fn is_find_v6(address: Ipv6Addr, private_too: bool) -> bool {
    if let Some(address) = address.to_ipv4_mapped() {
        return is_find_v4(address, private_too);
    }
    let [first, second, ..] = address.segments();
    let is_documentation = (first == 0x2001 && second == 0xDB8) || (first == 0x3FFF && second < 0x1000);
    let is_private = address.is_unique_local() || address.is_unicast_link_local();
    (first & 0xE000 == 0x2000 && !is_documentation) || (is_private && private_too)
}
