//! The steps that look at one document alone, ready to be applied.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use artifact::Context;
use polars::prelude::{DataFrame, PolarsResult};
use serde_json::Value;

use crate::config::{LengthConfig, LongDocuments, Step};
use crate::dedup::{minhash, repeated};
use crate::engine::record::{Body, ColumnKind, Record, Signal};
use crate::steps::decontaminate;
use crate::steps::decontaminate::Index;
use crate::steps::language;
use crate::steps::quality;
use crate::steps::quality::{Rule, c4};
use crate::steps::redact;
use crate::steps::redact::{Kind, Redactor};
use crate::steps::repair;
use crate::text::words::Buffers;
use crate::{Config, Error, inspect};

/// The signal that names the criterion by which a step would drop a document, whatever other steps say.
pub(crate) const FAILED: &str = "failed";

/// The steps of a pass in their order.
pub(crate) struct Steps {
    prepared: Vec<Prepared>,
}

/// A step with what it needs, and its number from 1 in the list of all steps.
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

/// Memory that is used again from document to document.
#[derive(Default)]
pub(crate) struct Scratch {
    words: Buffers,
    quality: quality::Scratch,
    minhash: minhash::Scratch,
    decontaminate: decontaminate::Scratch,
    repeated: repeated::Scratch,
}

impl Scratch {
    /// Returns the part that near duplicates use.
    pub fn minhash(&mut self) -> &mut minhash::Scratch {
        &mut self.minhash
    }

    /// Returns the part that repeated lines use.
    pub fn repeated(&mut self) -> &mut repeated::Scratch {
        &mut self.repeated
    }
}

impl Steps {
    /// Makes the steps `mapped` ready, each with its number; `repeats` is what the step `repeated` removes.
    ///
    /// # Errors
    /// When what a step needs cannot be read.
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

    /// Returns what the steps do, for whoever watches.
    pub fn what(&self) -> &'static str {
        if self.prepared.is_empty() { "reading" } else { "cleaning and filtering" }
    }

    /// Returns the columns of the signals that the steps write, in order.
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
                Work::Rule(rule) => rule.signals().iter().for_each(|name| add(name, ColumnKind::Number)),
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

    /// Takes a record through the steps: one comes out, or its pieces.
    pub fn apply(&self, record: Record, scratch: &mut Scratch) -> Vec<Record> {
        let mut done = Vec::with_capacity(1);
        self.apply_from(0, record, scratch, &mut done);
        done
    }

    fn apply_from(&self, first: usize, mut record: Record, scratch: &mut Scratch, done: &mut Vec<Record>) {
        let mut at = first;
        while let Some(prepared) = self.prepared.get(at) {
            let rules: Vec<(&Prepared, &Rule)> =
                self.prepared[at..].iter().map_while(|prepared| Some((prepared, prepared.reading_rule()?))).collect();
            if !rules.is_empty() {
                let failed = apply_rules(&rules, &record.body, scratch);
                for ((prepared, _), (signals, failed)) in rules.iter().zip(failed) {
                    record.signals.extend(signals);
                    prepared.note(&mut record, failed);
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

/// Returns the pieces of a text that is too long and shall be cut.
fn cut(length: &LengthConfig, body: &Body) -> Option<Vec<String>> {
    match body {
        Body::Text(text) if length.long == LongDocuments::Cut && text.len() as u64 > length.max_bytes => {
            let most = usize::try_from(length.max_bytes).unwrap_or(usize::MAX);
            Some(pieces(text, most).into_iter().map(str::to_owned).collect())
        }
        _ => None,
    }
}

/// Returns `text` in pieces of at most `max_bytes` that together are the text, each but the last ending at a line's end
/// where it has one. A character longer than that is a piece of its own.
fn pieces(text: &str, max_bytes: usize) -> Vec<&str> {
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

impl Prepared {
    /// Applies the step, notes what it measured, and by which criterion it drops the record, if it does.
    fn apply(&self, record: &mut Record, scratch: &mut Scratch) {
        let failed = self.measure(record, scratch);
        self.note(record, failed);
    }

    fn note(&self, record: &mut Record, failed: Option<&'static str>) {
        if failed.is_some() && record.dropped_by == 0 {
            record.dropped_by = self.number;
        }
        record.signals.push(failed.map_or(Signal::None, |criterion| Signal::Text(Cow::Borrowed(criterion))));
    }

    /// Returns the rule, where the step is one that only reads: several in a row read a text that is split once.
    fn reading_rule(&self) -> Option<&Rule> {
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
                body.rewrite(|text| {
                    let cleaned = c4::clean(config, &words.split(text), quality);
                    sums.iter_mut().zip(cleaned.signals).for_each(|(sum, signal)| *sum += signal);
                    cleaned.text
                });
                sums.into_iter().for_each(number);
                c4::first_failure(config, &sums).map(|failure| failure.criterion)
            }
            // These only read, and are applied several at a time.
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
                let (matches, share) = overlap.as_ref().map_or((0, 0.0), |overlap| (overlap.matches, overlap.share));
                signals.push(Signal::Number(matches as f64));
                signals.push(Signal::Number(share));
                config.failed(matches, share)
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

/// Returns a text that differs from the one it was made from.
fn changed(text: Cow<'_, str>) -> Option<String> {
    match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text),
    }
}

/// What one rule measured, and the criterion it drops the record by.
type Judged = (Vec<Signal>, Option<&'static str>);

/// Applies rules that only read: the text is split once for all of them.
fn apply_rules(rules: &[(&Prepared, &Rule)], body: &Body, scratch: &mut Scratch) -> Vec<Judged> {
    let text = body.text();
    let text = scratch.words.split(&text);
    let quality = &mut scratch.quality;
    let judge = |(_, rule): &(&Prepared, &Rule)| {
        let mut values = Vec::with_capacity(rule.signals().len());
        rule.measure(&text, quality, &mut values);
        let failure = rule.first_failure(&values);
        (values.into_iter().map(Signal::Number).collect(), failure.map(|failure| failure.criterion))
    };
    rules.iter().map(judge).collect()
}

impl LengthConfig {
    fn failed(&self, bytes: u64) -> Option<&'static str> {
        match bytes {
            _ if bytes < self.min_bytes => Some("min_bytes"),
            _ if bytes > self.max_bytes => Some("max_bytes"),
            _ => None,
        }
    }
}

/// Returns the rule that a step is, with its thresholds.
fn rule(config: &Config, step: Step) -> Option<Rule> {
    match step {
        Step::GopherQuality => Some(Rule::GopherQuality(config.gopher_quality.clone())),
        Step::GopherRepetition => Some(Rule::GopherRepetition(config.gopher_repetition.clone())),
        Step::C4 => Some(Rule::C4(config.c4())),
        Step::Fineweb => Some(Rule::FineWeb(config.fineweb.clone())),
        Step::Code => Some(Rule::Code(config.code.clone())),
        _ => None,
    }
}

/// Judges a step anew from the signals that it left.
pub(crate) enum Judge {
    Length(LengthConfig),
    Language(language::Config),
    Decontaminate(decontaminate::Config),
    Rule(Rule),
}

impl Judge {
    /// Returns the judges of the steps that have thresholds.
    pub fn all(config: &Config) -> Vec<(Step, Self)> {
        let judge = |step| match step {
            Step::Length => Some(Self::Length(config.length.clone())),
            Step::Language => Some(Self::Language(config.language.clone())),
            Step::Decontaminate => Some(Self::Decontaminate(config.decontaminate.clone())),
            step => rule(config, step).map(Self::Rule),
        };
        Step::ALL.into_iter().filter_map(|step| Some((step, judge(step)?))).collect()
    }

    /// Tells whether a key, such as `gopher_quality.min_words`, decides from signals alone.
    pub fn decides(config: &Config, step: Step, key: &str) -> bool {
        let name = key.split_once('.').map_or("", |(_, name)| name);
        match step {
            // Cutting makes other documents.
            Step::Length => config.length.long == LongDocuments::Drop && ["min_bytes", "max_bytes"].contains(&name),
            Step::Language => ["keep", "threshold"].contains(&name),
            Step::Decontaminate => ["max_matches", "max_share"].contains(&name),
            step => {
                rule(config, step).is_some_and(|rule| rule.criteria().iter().any(|criterion| criterion.key == name))
            }
        }
    }

    /// Tells of each row of the signals whether the step would drop it.
    pub fn failed(&self, frame: &DataFrame) -> PolarsResult<Vec<bool>> {
        let numbers = |step: Step, signal: &str| inspect::numbers(frame, &format!("{}.{signal}", step.name()));
        let or_0 = |value: &Option<f64>| value.unwrap_or(0.0);
        Ok(match self {
            Self::Length(length) => {
                let bytes = numbers(Step::Length, "bytes")?;
                bytes.iter().map(|bytes| length.failed(or_0(bytes) as u64).is_some()).collect()
            }
            Self::Language(config) => {
                let languages = inspect::texts(frame, "language.language")?;
                let confidences = numbers(Step::Language, "confidence")?;
                let pairs = languages.iter().zip(&confidences);
                pairs.map(|(language, c)| config.failed(language.as_deref(), or_0(c)).is_some()).collect()
            }
            Self::Decontaminate(config) => {
                let matches = numbers(Step::Decontaminate, "matches")?;
                let shares = numbers(Step::Decontaminate, "share")?;
                let pairs = matches.iter().zip(&shares);
                pairs.map(|(matches, share)| config.failed(or_0(matches) as u64, or_0(share)).is_some()).collect()
            }
            Self::Rule(rule) => {
                let column = |signal: &&str| inspect::numbers(frame, &format!("{}.{signal}", rule.name()));
                let columns = rule.signals().iter().map(column).collect::<PolarsResult<Vec<_>>>()?;
                let row = |i: usize| columns.iter().map(|column| or_0(&column[i])).collect::<Vec<f64>>();
                (0..frame.height()).map(|i| rule.first_failure(&row(i)).is_some()).collect()
            }
        })
    }
}

fn redactor(config: &redact::Config) -> Result<Redactor, Error> {
    Redactor::new(config).map_err(|problem| Error::Config { key: "preprocess.redact".to_owned(), problem })
}

/// Reads the evaluation sets that training shall not see.
fn evaluation_sets(config: &decontaminate::Config, base: &Path) -> Result<Index, Error> {
    let mut texts = Vec::new();
    for set in &config.sets {
        let path = base.join(set);
        let name = set.display().to_string();
        let text = fs::read_to_string(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            texts.push((name, text));
            continue;
        }
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let value: Value = serde_json::from_str(line).map_err(|e| Error::EvaluationSet {
                path: path.clone(),
                problem: format!("line {number} is not JSON: {e}"),
            })?;
            let mut strings = Vec::new();
            collect_strings(&value, &mut strings);
            texts.extend(strings.into_iter().map(|text| (name.clone(), text)));
        }
    }
    Index::build(config, texts.into_iter().map(Ok))
}

fn collect_strings(value: &Value, strings: &mut Vec<String>) {
    match value {
        Value::String(text) => strings.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect_strings(value, strings)),
        Value::Object(map) => map.values().for_each(|value| collect_strings(value, strings)),
        _ => {}
    }
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
        fn pieces_are_the_text(text in "[a-zé€\n]{0,200}", max_bytes in 4_usize..50) {
            let pieces = pieces(&text, max_bytes);
            prop_assert_eq!(pieces.concat(), text.as_str());
            prop_assert!(pieces.iter().all(|piece| piece.len() <= max_bytes));
        }
    }
}
