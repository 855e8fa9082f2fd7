//! `report.json`: the totals, and how many documents each step left.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use artifact::{Digest, Outcome, file};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;
use tokenizer::shard::ShardTotals;

use crate::config::Step;
use crate::engine::parquet::Table;
use crate::engine::split::Split;
use crate::engine::steps::{FAILED, LANGUAGE};
use crate::engine::thresholds::rule;
use crate::output::outcome::DocumentOutcome;
use crate::steps::quality::{Inapplicable, Rule};
use crate::{Config, Error};

/// What `report.json` holds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    documents_in: u64,
    bytes_in: u64,
    /// Documents and bytes kept, each once.
    documents_out: u64,
    bytes_out: u64,
    /// Tokens written: more than those of the documents kept where `mix` repeats some.
    tokens: u64,
    /// Of them, those that stand for text that the vocabulary cannot write; none where it can write everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown_tokens: Option<u64>,
    bytes_per_token: f64,
    /// Documents that were not UTF-8.
    invalid_utf8: u64,
    /// What each step left, from everything collected to what was kept.
    funnel: Vec<Remaining>,
    /// What was dropped, by step.
    dropped: BTreeMap<&'static str, Amount>,
    /// How many documents fail each criterion, whichever step dropped them first.
    failed: BTreeMap<String, u64>,
    /// What the steps that change texts did, over all documents: `repair.mojibake`, `redact.email`, ….
    changes: BTreeMap<String, u64>,
    /// What a reader should know: a step or a source that lost much, a split that was filled.
    notices: Vec<String>,
    /// What was written, by split.
    splits: Map<String, Value>,
    /// What was kept, by licence and by source.
    licences: BTreeMap<String, Amount>,
    sources: BTreeMap<String, Amount>,
    tokenizer: TokenizerReport,
}

#[derive(Debug, Serialize)]
struct Remaining {
    step: &'static str,
    documents: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Amount {
    documents: u64,
    bytes: u64,
    tokens: u64,
}

#[derive(Debug, Serialize)]
struct TokenizerReport {
    vocab_size: usize,
    digest: Digest,
    /// The given file; none where the tokenizer was trained.
    file: Option<String>,
}

/// Returns which tokenizer was given, in words that are the same on every machine.
fn given_tokenizer(config: &Config) -> Option<String> {
    let file = config.tokenizer.file.as_ref().map(|file| file.display().to_string());
    if config.tokenizer.from_init { Some("train.init".to_owned()) } else { file }
}

impl Amount {
    fn add(&mut self, outcome: &DocumentOutcome) {
        self.documents += 1;
        self.bytes += outcome.text_bytes;
        self.tokens += outcome.tokens;
    }
}

/// The sums, row by row.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    documents_in: u64,
    bytes_in: u64,
    invalid_utf8: u64,
    /// By the number of the step that dropped them; those kept are number 0.
    by_step: BTreeMap<u16, Amount>,
    failed: BTreeMap<String, u64>,
    changes: BTreeMap<String, u64>,
    licences: BTreeMap<String, Amount>,
    sources: BTreeMap<String, Amount>,
    /// Documents without a signal, by its column and their language.
    inapplicable: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Totals {
    /// Adds rows of the signals.
    pub fn add(&mut self, signals: &Table, outcomes: &[DocumentOutcome]) -> Result<(), Error> {
        let (pieces, bytes_in) = (signals.numbers("piece")?, signals.numbers("bytes_in")?);
        let invalid = signals.numbers("invalid_utf8")?;
        for ((piece, bytes), invalid) in pieces.iter().zip(&bytes_in).zip(&invalid) {
            if piece == Some(0.0) {
                self.documents_in += 1;
                self.bytes_in += bytes.unwrap_or(0.0) as u64;
                self.invalid_utf8 += u64::from(invalid == Some(1.0));
            }
        }
        let (licences, sources) = (signals.texts("licence")?, signals.texts("source")?);
        for ((outcome, licence), source) in outcomes.iter().zip(&licences).zip(&sources) {
            self.by_step.entry(outcome.dropped_by).or_default().add(outcome);
            if outcome.dropped_by == 0 {
                self.licences.entry(licence.unwrap_or_default().to_owned()).or_default().add(outcome);
                self.sources.entry(source.unwrap_or_default().to_owned()).or_default().add(outcome);
            }
        }
        for (name, column) in signals.columns() {
            let Some((step, signal)) = name.split_once('.') else { continue };
            let numbers = column.as_primitive_opt::<Float64Type>();
            if signal == FAILED {
                for criterion in signals.texts(name)?.iter().flatten() {
                    *self.failed.entry(format!("{step}.{criterion}")).or_default() += 1;
                }
            } else if let Some(numbers) = numbers.filter(|_| CHANGING.iter().any(|known| known.name() == step)) {
                let sum: f64 = numbers.iter().flatten().sum();
                *self.changes.entry(name.to_owned()).or_default() += sum as u64;
            } else if let Some(numbers) = numbers.filter(|values| values.iter().flatten().any(f64::is_nan)) {
                let languages = signals.texts(&format!("{step}.{LANGUAGE}"))?;
                let by_language = self.inapplicable.entry(name.to_owned()).or_default();
                for (_, language) in numbers.iter().zip(&languages).filter(|(n, _)| n.is_some_and(f64::is_nan)) {
                    *by_language.entry(language.unwrap_or_default().to_owned()).or_default() += 1;
                }
            }
        }
        Ok(())
    }
}

/// The steps whose signals count what they changed.
const CHANGING: [Step; 3] = [Step::Repair, Step::Redact, Step::Repeated];

impl Report {
    /// Sums up.
    ///
    /// Adds to `notices` which steps dropped more than a tenth of what they read, and most of which source.
    pub fn new(
        config: &Config,
        steps: &[Step],
        totals: Totals,
        tokenizer: &Tokenizer,
        written: &[(Split, ShardTotals)],
        notices: &mut Vec<String>,
    ) -> Self {
        let kept = totals.by_step.get(&0).copied().unwrap_or_default();
        let numbered = || (1_u16..).zip(steps.iter());
        let dropped = |number: u16| totals.by_step.get(&number).copied().unwrap_or_default();
        let all = totals
            .by_step
            .values()
            .fold((0, 0), |(documents, bytes), amount| (documents + amount.documents, bytes + amount.bytes));
        let mut funnel = vec![Remaining { step: "collected", documents: totals.documents_in, bytes: totals.bytes_in }];
        let (mut documents, mut bytes) = all;
        for (number, step) in numbered() {
            notices.extend(large_loss(*step, dropped(number).documents, documents, &totals));
            documents -= dropped(number).documents;
            bytes -= dropped(number).bytes;
            funnel.push(Remaining { step: step.name(), documents, bytes });
        }
        notices
            .extend(steps.iter().filter_map(|step| rule(config, *step)).flat_map(|rule| inapplicable(&rule, &totals)));
        let splits = written.iter().map(|(split, written)| {
            let mut amounts = json!({
                "documents": written.documents,
                "bytes": written.text_bytes,
                "tokens": written.tokens,
                "learned_tokens": written.learned_tokens,
                "shards": written.shards,
            });
            if tokenizer.unknown_token().is_some() {
                amounts["unknown_tokens"] = written.unknown_tokens.into();
            }
            (split.name().to_owned(), amounts)
        });
        let (tokens, text_bytes) = written.iter().fold((0, 0), |sum, (_, w)| (sum.0 + w.tokens, sum.1 + w.text_bytes));
        let unknown = written.iter().map(|(_, written)| written.unknown_tokens).sum();
        Self {
            documents_in: totals.documents_in,
            bytes_in: totals.bytes_in,
            documents_out: kept.documents,
            bytes_out: kept.bytes,
            tokens,
            unknown_tokens: tokenizer.unknown_token().map(|_| unknown),
            bytes_per_token: text_bytes as f64 / tokens as f64,
            invalid_utf8: totals.invalid_utf8,
            funnel,
            dropped: numbered().map(|(number, step)| (step.name(), dropped(number))).collect(),
            failed: totals.failed,
            changes: totals.changes,
            notices: notices.clone(),
            splits: splits.collect(),
            licences: totals.licences,
            sources: totals.sources,
            tokenizer: TokenizerReport {
                vocab_size: tokenizer.vocab_size(),
                digest: tokenizer.digest(),
                file: given_tokenizer(config),
            },
        }
    }

    /// Writes the report.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        Ok(file::write_atomically(path, format!("{:#}\n", json!(self)).as_bytes())?)
    }

    /// Returns what the manifest keeps of it.
    pub fn outcome(&self) -> Outcome {
        let mut counts = Map::new();
        let mut count = |key: String, value: Value| counts.insert(key, value);
        count("documents_in".to_owned(), self.documents_in.into());
        count("bytes_in".to_owned(), self.bytes_in.into());
        count("documents_out".to_owned(), self.documents_out.into());
        count("bytes_out".to_owned(), self.bytes_out.into());
        for (step, amount) in &self.dropped {
            count(format!("dropped_{step}"), amount.documents.into());
        }
        count("documents_invalid_utf8".to_owned(), self.invalid_utf8.into());
        for (split, amounts) in &self.splits {
            count(format!("documents_{split}"), amounts["documents"].clone());
            count(format!("tokens_{split}"), amounts["tokens"].clone());
        }
        count("tokens".to_owned(), self.tokens.into());
        if let Some(unknown) = self.unknown_tokens {
            count("unknown_tokens".to_owned(), unknown.into());
        }
        count("bytes_per_token".to_owned(), self.bytes_per_token.into());
        count("vocab_size".to_owned(), self.tokenizer.vocab_size.into());
        if !self.notices.is_empty() {
            count(artifact::NOTICES.to_owned(), self.notices.clone().into());
        }
        let unknown = self.unknown_tokens.filter(|unknown| *unknown > 0);
        let unknown = unknown.map(|unknown| format!(", {} of them unknown", short(unknown))).unwrap_or_default();
        let headline = format!("{} tokens, {:.2} bytes/token{unknown}", short(self.tokens), self.bytes_per_token);
        Outcome { counts, headline, ..Outcome::default() }
    }
}

/// Returns a sentence about a step that dropped more than a tenth of the documents it read: by which criteria, and
/// which sources nothing is left of.
fn large_loss(step: Step, dropped: u64, read: u64, totals: &Totals) -> Option<String> {
    if dropped * artifact::NOTICED_FRACTION <= read {
        return None;
    }
    let prefix = format!("{}.", step.name());
    let mut criteria: Vec<(u64, &str)> =
        totals.failed.iter().filter_map(|(name, count)| Some((*count, name.strip_prefix(&prefix)?))).collect();
    criteria.sort_unstable_by_key(|(count, _)| std::cmp::Reverse(*count));
    let criteria: Vec<String> = criteria.iter().take(3).map(|(count, name)| format!("{name} {count}")).collect();
    let why = if criteria.is_empty() { String::new() } else { format!(" ({})", criteria.join(", ")) };
    Some(format!("{} dropped {dropped} of {read} documents{why}", step.name()))
}

/// Returns a sentence about each criterion of a rule that does not apply to the language of some documents.
fn inapplicable(rule: &Rule, totals: &Totals) -> Vec<String> {
    let sentence = |Inapplicable { signal, keys, why }: Inapplicable| {
        let languages = totals.inapplicable.get(&format!("{}.{signal}", rule.name()))?;
        let verb = match keys.len() {
            0 => return None,
            1 => "does",
            _ => "do",
        };
        let mut languages: Vec<(&String, &u64)> = languages.iter().collect();
        languages.sort_by_key(|(_, documents)| std::cmp::Reverse(**documents));
        let documents: u64 = languages.iter().map(|(_, documents)| **documents).sum();
        let named: Vec<String> = languages.iter().map(|(name, documents)| format!("{name} {documents}")).collect();
        Some(format!(
            "{}.{} {verb} not apply to the language of {documents} documents ({}): {why}",
            rule.name(),
            keys.join(" and "),
            named.join(", ")
        ))
    };
    rule.inapplicable().into_iter().filter_map(sentence).collect()
}

/// Returns a count as people say it: "8.1 M".
pub(crate) fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.0} k", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.1} G", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        let check = |count, expected| assert_eq!(short(count), expected);
        check(0, "0");
        check(9_999, "9999");
        check(12_345, "12 k");
        check(8_123_456, "8.1 M");
        check(3_000_000_000, "3.0 G");
    }
}
