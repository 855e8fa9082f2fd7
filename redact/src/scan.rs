//! The scan of a text for triggers, and the resolution of overlapping finds.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::config::{Config, KINDS, Kind};
use super::context::is_after_placeholder;
use super::digits::{Run, digits_end};
use super::phone::Phones;
use super::{card, email, iban, ip, secret, user};

/// A find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Its bytes in the text.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
}

/// Finds the kinds of a [`Config`].
#[derive(Debug)]
pub(super) struct Scanner {
    enabled: [bool; KINDS],
    private_addresses: bool,
    /// In lower case.
    allow: BTreeSet<String>,
    /// The literals of `secret`, `email` and `user`; `owners` has the owner of each.
    literals: AhoCorasick,
    owners: Vec<Owner>,
    phones: Phones,
}

/// The module that a literal belongs to, and its index in that module's list.
#[derive(Debug, Clone, Copy)]
enum Owner {
    Token(usize),
    Mark(secret::Mark),
    At,
    Home(usize),
}

/// The minimum number of digits of a run that may contain a card or telephone number.
const MIN_DIGITS: usize = 7;

impl Scanner {
    pub(super) fn new(config: &Config) -> Result<Self, String> {
        let enabled = Kind::ALL.map(|kind| config.kinds.contains(&kind));
        let mut literals = Vec::new();
        let mut owners = Vec::new();
        let mut add = |literal, owner| {
            literals.push(literal);
            owners.push(owner);
        };
        if enabled[Kind::Secret as usize] {
            secret::TOKENS.iter().enumerate().for_each(|(i, token)| add(token.prefix, Owner::Token(i)));
            for (literal, mark) in secret::MARKS {
                add(literal, Owner::Mark(*mark));
            }
        }
        if enabled[Kind::Email as usize] {
            for literal in email::DISGUISED_AT {
                add(literal, Owner::At);
            }
        }
        if enabled[Kind::User as usize] {
            user::HOMES.iter().enumerate().for_each(|(i, home)| add(home, Owner::Home(i)));
        }
        let literals = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(&literals);
        let literals = literals.map_err(|e| format!("kinds: cannot build the automaton of the literals: {e}"))?;
        Ok(Self {
            enabled,
            private_addresses: config.private_addresses,
            allow: config.allow.iter().map(|value| value.to_ascii_lowercase()).collect(),
            literals,
            owners,
            phones: Phones::new()
                .map_err(|e| format!("kinds: cannot compile the formats of telephone numbers: {e}"))?,
        })
    }

    /// Returns the finds in `text`, sorted and without overlaps.
    pub(super) fn find(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.find_literals(text, &mut hits);
        self.find_bytes(text, &mut hits);
        hits.retain(|hit| !touches_placeholder(text, &hit.range));
        if !self.allow.is_empty() {
            hits.retain(|hit| !self.allow.contains(&text[hit.range.clone()].to_ascii_lowercase()));
        }
        without_overlaps(hits)
    }

    fn find_literals(&self, text: &str, hits: &mut Vec<Hit>) {
        if self.owners.is_empty() {
            return;
        }
        for found in self.literals.find_iter(text) {
            let at = found.range();
            let (kind, range) = match self.owners[found.pattern().as_usize()] {
                Owner::Token(i) => (Kind::Secret, secret::token(text, at, &secret::TOKENS[i])),
                Owner::Mark(mark) => (Kind::Secret, secret::marked(text, at, mark)),
                Owner::At => (Kind::Email, email::find(text, at)),
                Owner::Home(i) => (Kind::User, user::find(text, at, user::HOMES[i])),
            };
            hits.extend(range.map(|range| Hit { range, kind }));
        }
    }

    fn find_bytes(&self, text: &str, hits: &mut Vec<Hit>) {
        let bytes = text.as_bytes();
        let enabled = |kind| self.enabled[kind as usize];
        let mut add = |kind, range: Option<Range<usize>>| hits.extend(range.map(|range| Hit { range, kind }));
        let (mut at, mut colons_until, mut numbers_until) = (0, 0, 0);
        while let Some(start) = next_trigger(bytes, at) {
            at = start + 1;
            match bytes[start] {
                b'@' if enabled(Kind::Email) => add(Kind::Email, email::find(text, start..start + 1)),
                b':' if enabled(Kind::Ipv6) && start >= colons_until => {
                    let run = ip::v6_run(bytes, start, colons_until);
                    colons_until = run.end.max(start + 1);
                    add(Kind::Ipv6, ip::v6(text, run, self.private_addresses));
                }
                b'0'..=b'9' => {
                    at = digits_end(bytes, start);
                    if enabled(Kind::Ipv4) && at - start <= 3 && bytes.get(at) == Some(&b'.') {
                        add(Kind::Ipv4, ip::v4(text, start, self.private_addresses));
                    }
                    if enabled(Kind::Iban) {
                        add(Kind::Iban, iban::find(text, start));
                    }
                    if start < numbers_until {
                        continue;
                    }
                    let run = Run::at(bytes, start);
                    numbers_until = run.end;
                    if run.digits < MIN_DIGITS {
                        continue;
                    }
                    if enabled(Kind::Card) {
                        card::find(text, &run, |range| add(Kind::Card, Some(range)));
                    }
                    if enabled(Kind::Phone) {
                        self.phones.find(text, &run, |range| add(Kind::Phone, Some(range)));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Returns the position of the next trigger byte at or after `at`: a digit, a colon or `@`.
fn next_trigger(bytes: &[u8], at: usize) -> Option<usize> {
    // The colon follows the digits in ASCII. Without branches inside a block, the compiler vectorizes the loop.
    let is_trigger = |byte: u8| byte.wrapping_sub(b'0') <= b':' - b'0' || byte == b'@';
    let mut at = at;
    while let Some(block) = bytes.get(at..at + 32) {
        if block.iter().fold(false, |any, byte| any | is_trigger(*byte)) {
            break;
        }
        at += 32;
    }
    bytes[at..].iter().position(|byte| is_trigger(*byte)).map(|skipped| at + skipped)
}

/// Returns true if a placeholder is adjacent to `range`: the value it stands for was part of the same word or number,
/// so `range` was not a find before. In `<EMAIL>…</EMAIL>` it is a tag.
fn touches_placeholder(text: &str, range: &Range<usize>) -> bool {
    let after = &text[range.end..];
    let is_before = after.starts_with('<') && Kind::ALL.into_iter().any(|kind| after.starts_with(kind.placeholder()));
    is_before || (is_after_placeholder(text, range.start) && !after.starts_with("</"))
}

/// Returns `hits` sorted, without those that overlap one of higher precedence.
fn without_overlaps(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by_key(|hit| (hit.range.start, hit.kind));
    let mut kept: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match kept.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                if hit.kind < last.kind {
                    *last = hit;
                }
            }
            _ => kept.push(hit),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_resolved_by_kind() {
        let hit = |start, end, kind| Hit { range: start..end, kind };
        let check = |hits: &[Hit], expected: &[Hit]| assert_eq!(without_overlaps(hits.to_vec()), expected, "{hits:?}");
        let (secret, email, phone) = (hit(5, 20, Kind::Secret), hit(0, 10, Kind::Email), hit(12, 30, Kind::Phone));
        check(&[], &[]);
        check(&[phone.clone(), email.clone()], &[email.clone(), phone.clone()]);
        check(&[email.clone(), secret.clone()], std::slice::from_ref(&secret));
        check(&[phone.clone(), secret.clone()], std::slice::from_ref(&secret));
        check(&[hit(0, 4, Kind::Phone), hit(0, 9, Kind::Card)], &[hit(0, 9, Kind::Card)]);
        check(&[hit(0, 4, Kind::Ipv4), hit(4, 9, Kind::Ipv4)], &[hit(0, 4, Kind::Ipv4), hit(4, 9, Kind::Ipv4)]);
    }
}
