//! Precision and recall on hand-written cases of each kind, in `tests/cases/KIND.tsv`.
//!
//! A line is a case: the number of finds, a tab, and the text with each find between `⟦` and `⟧`; for a known error of
//! the redactor, also a tab and the reason. `⏎` and `⇥` stand for a line feed and a tab. `⟂` stands for nothing: it
//! hides invented tokens from programs that scan repositories for leaked secrets. Lines that begin with `# ` are
//! comments. Every person, address, number and token is invented or reserved for examples.

use std::ops::Range;

use super::config::{Config, Kind};
use super::scan::Scanner;

struct Case {
    text: String,
    finds: Vec<Range<usize>>,
    known_wrong: bool,
}

/// Parses the line of a case.
fn case(line: &str) -> Case {
    let mut columns = line.split('\t');
    let count: usize =
        columns.next().and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no number: {line}"));
    let marked = columns.next().unwrap_or_else(|| panic!("no text: {line}"));
    let marked = marked.replace('⏎', "\n").replace('⇥', "\t").replace('⟂', "");
    let (mut text, mut finds) = (String::new(), Vec::new());
    for c in marked.chars() {
        match c {
            '⟦' => finds.push(text.len()..0),
            '⟧' => finds.last_mut().unwrap_or_else(|| panic!("`⟧` before `⟦`: {line}")).end = text.len(),
            _ => text.push(c),
        }
    }
    assert_eq!(finds.len(), count, "{line}");
    assert!(finds.iter().all(|find| find.start < find.end), "{line}");
    Case { text, finds, known_wrong: columns.next().is_some() }
}

/// Checks every case of `kind`, prints a row of the table, and compares precision and recall with their minimum.
fn check(kind: Kind, file: &str, min_precision: f64, min_recall: f64) {
    let scanner = Scanner::new(&Config::default()).expect("the default is valid");
    let (mut cases, mut near_misses, mut found, mut wanted, mut right) = (0, 0, 0, 0, 0);
    let mut surprises = Vec::new();
    for line in file.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
        let case = case(line);
        let hits = scanner.find(&case.text);
        let finds: Vec<_> = hits.into_iter().filter(|hit| hit.kind == kind).map(|hit| hit.range).collect();
        cases += 1;
        near_misses += usize::from(case.finds.is_empty());
        found += finds.len();
        wanted += case.finds.len();
        right += finds.iter().filter(|find| case.finds.contains(find)).count();
        if (finds != case.finds) != case.known_wrong {
            surprises.push(format!(
                "{line}\n    found {:?}",
                finds.into_iter().map(|find| &case.text[find]).collect::<Vec<_>>()
            ));
        }
    }
    let (precision, recall) = (right as f64 / found as f64, right as f64 / wanted as f64);
    let name = kind.name();
    println!(
        "{name:<7} {cases:>5} cases {near_misses:>5} near-misses {wanted:>5} finds  \
         precision {precision:.4}  recall {recall:.4}"
    );
    assert!(surprises.is_empty(), "{} of {name}:\n{}", surprises.len(), surprises.join("\n"));
    assert!(cases >= 300 && near_misses * 5 >= cases * 2, "{name}: {cases} cases, {near_misses} near-misses");
    assert!(precision >= min_precision && recall >= min_recall, "{name}: {precision} {recall}");
}

#[test]
fn secrets() {
    check(Kind::Secret, include_str!("../tests/cases/secret.tsv"), 0.99, 0.99);
}

#[test]
fn emails() {
    check(Kind::Email, include_str!("../tests/cases/email.tsv"), 0.99, 0.99);
}

#[test]
fn ibans() {
    check(Kind::Iban, include_str!("../tests/cases/iban.tsv"), 0.99, 0.99);
}

#[test]
fn cards() {
    check(Kind::Card, include_str!("../tests/cases/card.tsv"), 0.99, 0.99);
}

#[test]
fn ipv6_addresses() {
    check(Kind::Ipv6, include_str!("../tests/cases/ipv6.tsv"), 0.99, 0.99);
}

#[test]
fn ipv4_addresses() {
    check(Kind::Ipv4, include_str!("../tests/cases/ipv4.tsv"), 0.99, 0.99);
}

#[test]
fn users() {
    check(Kind::User, include_str!("../tests/cases/user.tsv"), 0.99, 0.99);
}

#[test]
fn phones() {
    check(Kind::Phone, include_str!("../tests/cases/phone.tsv"), 0.99, 0.99);
}
