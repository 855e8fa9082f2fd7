//! The per-document steps of a pass, prepared and applied.

use std::borrow::Cow;

use artifact::Context;
use redact::{Kind, Redactor};

use crate::config::{LengthConfig, LongDocuments, Step};
use crate::dedup::{minhash, repeated};
use crate::engine::record::{Body, ColumnKind, Record, Signal};
use crate::engine::thresholds::rule;
use crate::steps::decontaminate::{self, Index, evaluation_sets};
use crate::steps::language;
use crate::steps::quality::{self, Orthography, Rule, c4};
use crate::steps::repair;
use crate::text::words::Buffers;
use crate::{Config, Error};

/// The signal that names the criterion by which a step drops a document, even if an earlier step dropped it already.
pub(crate) const FAILED: &str = "failed";

/// The signal with the language that a quality rule took a text to be in.
pub(crate) const LANGUAGE: &str = "language";

/// The steps of a pass, in order.
pub(crate) struct Steps {
    prepared: Vec<Prepared>,
}

/// A step with the data it needs, and its number, from 1, in the list of all steps.
struct Prepared {
    number: u16,
    step: Step,
    work: Work,
}

enum Work {
    Repair(repair::Config),
    Length(LengthConfig),
    Language(language::Config),
    Rule(Rule),
    Redact(Redactor),
    Decontaminate(decontaminate::Config, Index),
    Repeated(repeated::Config, repeated::Repeats),
}

/// Buffers that are reused from document to document.
#[derive(Default)]
pub(crate) struct Scratch {
    words: Buffers,
    quality: quality::Scratch,
    minhash: minhash::Scratch,
    decontaminate: decontaminate::Scratch,
    repeated: repeated::Scratch,
}

impl Scratch {
    /// Returns the buffers for `MinHash` signatures.
    pub fn minhash(&mut self) -> &mut minhash::Scratch {
        &mut self.minhash
    }

    /// Returns the buffers for hashes of lines and paragraphs.
    pub fn repeated(&mut self) -> &mut repeated::Scratch {
        &mut self.repeated
    }
}

impl Steps {
    /// Prepares the steps `mapped`, each with its number; `repeats` are the lines that the step `repeated` removes.
    ///
    /// # Errors
    /// Returns an error if a file that a step needs cannot be read.
    pub fn new(
        config: &Config,
        mapped: &[(u16, Step)],
        mut repeats: Option<repeated::Repeats>,
        context: &Context,
    ) -> Result<Self, Error> {
        let mut prepared = Vec::with_capacity(mapped.len());
        for (number, step) in mapped.iter().copied() {
            let work = match step {
                Step::Repair => Work::Repair(config.repair.clone()),
                Step::Length => Work::Length(config.length.clone()),
                Step::Language => Work::Language(config.language.clone()),
                Step::Redact => Work::Redact(redactor(&config.redact)?),
                Step::Decontaminate => {
                    let index = evaluation_sets(&config.decontaminate, &context.base)?;
                    Work::Decontaminate(config.decontaminate.clone(), index)
                }
                Step::Repeated => match repeats.take() {
                    Some(repeats) => Work::Repeated(config.repeated.clone(), repeats),
                    None => continue,
                },
                Step::ExactDuplicates | Step::NearDuplicates => continue,
                _ => match rule(config, step) {
                    Some(rule) => Work::Rule(rule),
                    None => continue,
                },
            };
            prepared.push(Prepared { number, step, work });
        }
        Ok(Self { prepared })
    }

    /// Returns a description of the steps for the progress display.
    pub fn description(&self) -> &'static str {
        if self.prepared.is_empty() { "reading" } else { "cleaning and filtering" }
    }

    /// Returns the signal columns that the steps write, in order.
    pub fn columns(&self) -> Vec<(String, ColumnKind)> {
        let mut columns = Vec::new();
        for Prepared { step, work, .. } in &self.prepared {
            let mut add = |signal: &str, kind| columns.push((format!("{}.{signal}", step.name()), kind));
            match work {
                Work::Repair(_) => repair::CHANGES.iter().for_each(|name| add(name, ColumnKind::Number)),
                Work::Length(_) => add("bytes", ColumnKind::Number),
                Work::Language(_) => {
                    add("language", ColumnKind::Text);
                    add("confidence", ColumnKind::Number);
                }
                Work::Rule(rule) => {
                    rule.signals().iter().for_each(|name| add(name, ColumnKind::Number));
                    if rule.depends_on_language() {
                        add(LANGUAGE, ColumnKind::Text);
                    }
                }
                Work::Redact(_) => Kind::ALL.iter().for_each(|kind| add(kind.name(), ColumnKind::Number)),
                Work::Decontaminate(..) => {
                    add("set", ColumnKind::Text);
                    add("matches", ColumnKind::Number);
                    add("share", ColumnKind::Number);
                }
                Work::Repeated(..) => {
                    add("lines", ColumnKind::Number);
                    add("paragraphs", ColumnKind::Number);
                }
            }
            add(FAILED, ColumnKind::Text);
        }
        columns
    }

    /// Applies the steps to a record. Returns the record, or its pieces if it was cut.
    pub fn apply(&self, record: Record, scratch: &mut Scratch) -> Vec<Record> {
        let mut done = Vec::with_capacity(1);
        self.apply_from(0, record, scratch, &mut done);
        done
    }

    fn apply_from(&self, first: usize, mut record: Record, scratch: &mut Scratch, done: &mut Vec<Record>) {
        let mut at = first;
        while let Some(prepared) = self.prepared.get(at) {
            let rules: Vec<(&Prepared, &Rule)> =
                self.prepared[at..].iter().map_while(|prepared| Some((prepared, prepared.read_only_rule()?))).collect();
            if !rules.is_empty() {
                let failed = apply_rules(&rules, &record.body, scratch);
                for ((prepared, _), (signals, failed)) in rules.iter().zip(failed) {
                    record.signals.extend(signals);
                    prepared.record_failure(&mut record, failed);
                }
                at += rules.len();
                continue;
            }
            if let Work::Length(length) = &prepared.work
                && let Some(pieces) = cut(length, &record.body)
            {
                for (piece, text) in (0..).zip(pieces) {
                    let mut record = Record { piece, body: Body::Text(text), ..record.clone() };
                    prepared.apply(&mut record, scratch);
                    self.apply_from(at + 1, record, scratch, done);
                }
                return;
            }
            prepared.apply(&mut record, scratch);
            at += 1;
        }
        done.push(record);
    }
}

/// Returns the pieces of a text that is too long, if long texts are cut.
fn cut(length: &LengthConfig, body: &Body) -> Option<Vec<String>> {
    match body {
        Body::Text(text) if length.long == LongDocuments::Cut && text.len() as u64 > length.max_bytes => {
            let max_bytes = usize::try_from(length.max_bytes).unwrap_or(usize::MAX);
            Some(pieces(text, max_bytes).into_iter().map(str::to_owned).collect())
        }
        _ => None,
    }
}

/// Cuts `text` into pieces of at most `max_bytes`. Each piece except the last ends at the end of a line if it contains
/// one. A character that is longer than `max_bytes` is a piece of its own.
fn pieces(text: &str, max_bytes: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > max_bytes {
        let limit = rest.floor_char_boundary(max_bytes).max(rest.ceil_char_boundary(1));
        let end = rest[..limit].rfind('\n').map_or(limit, |at| at + 1);
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

impl Prepared {
    /// Applies the step, and records its signals and the criterion by which it drops the record, if any.
    fn apply(&self, record: &mut Record, scratch: &mut Scratch) {
        let failed = self.measure(record, scratch);
        self.record_failure(record, failed);
    }

    fn record_failure(&self, record: &mut Record, failed: Option<&'static str>) {
        if failed.is_some() && record.dropped_by == 0 {
            record.dropped_by = self.number;
        }
        record.signals.push(failed.map_or(Signal::None, |criterion| Signal::Text(Cow::Borrowed(criterion))));
    }

    /// Returns the rule, if the step is a read-only one. The text is split into words once for consecutive ones.
    fn read_only_rule(&self) -> Option<&Rule> {
        match &self.work {
            Work::Rule(Rule::C4(_)) => None,
            Work::Rule(rule) => Some(rule),
            _ => None,
        }
    }

    fn measure(&self, record: &mut Record, scratch: &mut Scratch) -> Option<&'static str> {
        let Record { body, signals, document, number: document_number, .. } = record;
        let mut number = |value: f64| signals.push(Signal::Number(value));
        match &self.work {
            Work::Repair(config) => {
                let mut counts = [0.0; repair::CHANGES.len()];
                body.rewrite(|text| {
                    let repaired = repair::repair(config, text);
                    counts.iter_mut().zip(repaired.changes).for_each(|(sum, count)| *sum += f64::from(count));
                    changed(repaired.text)
                });
                counts.into_iter().for_each(number);
                let rejects = config.invalid_utf8 == repair::InvalidUtf8::Reject;
                (document.invalid_utf8 && rejects).then_some("invalid_utf8")
            }
            Work::Length(length) => {
                let bytes = body.bytes();
                number(bytes as f64);
                length.failed(bytes)
            }
            Work::Language(config) => {
                let (language, confidence) = language::identify(&body.text()).unzip();
                signals.push(language.map_or(Signal::None, |language| Signal::Text(Cow::Borrowed(language))));
                signals.push(confidence.map_or(Signal::None, Signal::Number));
                config.failed(language, confidence.unwrap_or(0.0))
            }
            Work::Rule(Rule::C4(config)) => {
                let mut sums = [0.0; c4::SIGNALS.len()];
                let Scratch { words, quality, .. } = scratch;
                let orthography = Orthography::of(&body.text());
                body.rewrite(|text| {
                    let cleaned = c4::clean(config, &words.split(text), orthography, quality);
                    sums.iter_mut().zip(cleaned.signals).for_each(|(sum, signal)| *sum += signal);
                    cleaned.text
                });
                sums.into_iter().for_each(number);
                signals.push(Signal::Text(Cow::Borrowed(orthography.language())));
                c4::first_failure(config, &sums).map(|failure| failure.criterion)
            }
            // Read-only rules are applied together, by `apply_rules`.
            Work::Rule(_) => None,
            Work::Redact(redactor) => {
                let (mut counts, mut dropped) = ([0.0; redact::KINDS], false);
                body.rewrite(|text| {
                    let redacted = redactor.redact(text);
                    counts.iter_mut().zip(redacted.counts).for_each(|(sum, count)| *sum += f64::from(count));
                    dropped |= redacted.dropped;
                    changed(redacted.text)
                });
                counts.into_iter().for_each(number);
                dropped.then_some("found")
            }
            Work::Decontaminate(config, index) => {
                let overlap = index.check(&body.text(), &mut scratch.decontaminate);
                let set = overlap.as_ref().map(|overlap| overlap.set.to_owned());
                signals.push(set.map_or(Signal::None, |set| Signal::Text(Cow::Owned(set))));
                let (matches, fraction) =
                    overlap.as_ref().map_or((0, 0.0), |overlap| (overlap.matches, overlap.fraction));
                signals.push(Signal::Number(matches as f64));
                signals.push(Signal::Number(fraction));
                config.failed(matches, fraction)
            }
            Work::Repeated(config, repeats) => {
                let (mut lines, mut paragraphs) = (0, 0);
                body.rewrite(|text| {
                    let removal = repeats.remove(config, *document_number, text, &mut scratch.repeated)?;
                    lines += removal.lines;
                    paragraphs += removal.paragraphs;
                    Some(removal.text)
                });
                number(f64::from(lines));
                number(f64::from(paragraphs));
                (body.bytes() == 0).then_some("nothing_left")
            }
        }
    }
}

/// Returns the text if it was changed.
fn changed(text: Cow<'_, str>) -> Option<String> {
    match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text),
    }
}

/// The signals of one rule, and the criterion by which it drops the record.
type RuleResult = (Vec<Signal>, Option<&'static str>);

/// Applies read-only rules: the text is split into words once for all of them.
fn apply_rules(rules: &[(&Prepared, &Rule)], body: &Body, scratch: &mut Scratch) -> Vec<RuleResult> {
    let text = body.text();
    let depends = rules.iter().any(|(_, rule)| rule.depends_on_language());
    let orthography = if depends { Orthography::of(&text) } else { Orthography::ENGLISH };
    let text = scratch.words.split(&text);
    let quality = &mut scratch.quality;
    let evaluate = |(_, rule): &(&Prepared, &Rule)| {
        let mut values = Vec::with_capacity(rule.signals().len());
        rule.measure(&text, orthography, quality, &mut values);
        let failure = rule.first_failure(&values);
        let mut signals: Vec<Signal> = values.into_iter().map(Signal::Number).collect();
        if rule.depends_on_language() {
            signals.push(Signal::Text(Cow::Borrowed(orthography.language())));
        }
        (signals, failure.map(|failure| failure.criterion))
    };
    rules.iter().map(evaluate).collect()
}

fn redactor(config: &redact::Config) -> Result<Redactor, Error> {
    Redactor::new(config).map_err(|problem| Error::config("preprocess.redact", problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_texts_are_cut_at_line_ends() {
        let check =
            |text: &str, max_bytes, expected: &[&str]| assert_eq!(pieces(text, max_bytes), expected, "{text:?}");
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
        fn pieces_concatenate_to_the_text(text in "[a-zé€\n]{0,200}", max_bytes in 4_usize..50) {
            let pieces = pieces(&text, max_bytes);
            prop_assert_eq!(pieces.concat(), text.as_str());
            prop_assert!(pieces.iter().all(|piece| piece.len() <= max_bytes));
        }
    }
}
