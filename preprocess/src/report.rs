//! `report.json`: the totals, and how many documents each step left.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::{Digest, Outcome, file};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;
use tokenizer::shard::Written;

use crate::corpus::{Collection, Entry};
use crate::selection::{Fate, Reason, Split};
use crate::{Config, Error, InvalidUtf8, LongDocuments};

/// What `report.json` holds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    documents_in: u64,
    bytes_in: u64,
    /// Documents and clean bytes kept.
    documents_out: u64,
    bytes_out: u64,
    tokens: u64,
    bytes_per_token: f64,
    /// Documents that were not UTF-8, and what was done with them.
    invalid_utf8: InvalidUtf8Report,
    /// What each step left, from everything collected to what was kept.
    funnel: Vec<Remaining>,
    /// What was dropped, by reason.
    dropped: BTreeMap<&'static str, Amount>,
    /// What was kept, by split.
    splits: Map<String, Value>,
    /// What was kept, by licence and by source.
    licences: BTreeMap<String, Amount>,
    sources: BTreeMap<String, Amount>,
    tokenizer: TokenizerReport,
}

#[derive(Debug, Serialize)]
struct InvalidUtf8Report {
    documents: u64,
    action: InvalidUtf8,
}

#[derive(Debug, Serialize)]
struct Remaining {
    step: &'static str,
    documents: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
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

impl Amount {
    fn add(&mut self, entry: &Entry) {
        self.documents += 1;
        self.bytes += entry.bytes;
        self.tokens += entry.tokens;
    }

    fn of<'e>(entries: impl Iterator<Item = &'e Entry>) -> Self {
        let mut amount = Self::default();
        entries.for_each(|entry| amount.add(entry));
        amount
    }
}

impl Report {
    /// Counts what happened to `collection`.
    pub(crate) fn new(
        config: &Config,
        collection: &Collection,
        tokenizer: &Tokenizer,
        written: &[(Split, Written)],
    ) -> Self {
        let kept = || collection.entries.iter().filter(|entry| matches!(entry.fate, Fate::Kept(_)));
        let mut licences: BTreeMap<String, Amount> = BTreeMap::new();
        let mut sources: BTreeMap<String, Amount> = BTreeMap::new();
        for entry in kept() {
            let document = collection.document(entry);
            licences.entry(document.licence.clone()).or_default().add(entry);
            sources.entry(document.source.clone()).or_default().add(entry);
        }
        let dropped = |reason| collection.entries.iter().filter(move |entry| entry.fate == Fate::Dropped(reason));
        let out = Amount::of(kept());
        let splits = written.iter().map(|(split, written)| {
            let amounts = json!({
                "documents": written.documents,
                "bytes": written.text_bytes,
                "tokens": written.tokens,
                "shards": written.shards,
            });
            (split.name().to_owned(), amounts)
        });
        Self {
            documents_in: collection.documents.len() as u64,
            bytes_in: collection.documents.iter().map(|document| document.bytes).sum(),
            documents_out: out.documents,
            bytes_out: out.bytes,
            tokens: out.tokens,
            bytes_per_token: out.bytes as f64 / out.tokens as f64,
            invalid_utf8: InvalidUtf8Report {
                documents: collection.documents.iter().filter(|document| document.invalid_utf8).count() as u64,
                action: config.invalid_utf8,
            },
            funnel: funnel(config, collection),
            dropped: Reason::ALL.into_iter().map(|reason| (reason.name(), Amount::of(dropped(reason)))).collect(),
            splits: splits.collect(),
            licences,
            sources,
            tokenizer: TokenizerReport {
                vocab_size: tokenizer.vocab_size(),
                digest: tokenizer.digest(),
                file: config.tokenizer.file.as_ref().map(|file| file.display().to_string()),
            },
        }
    }

    /// Writes the report.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        Ok(file::write_atomically(path, format!("{:#}\n", json!(self)).as_bytes())?)
    }

    /// Returns what the manifest keeps of it.
    pub(crate) fn outcome(&self) -> Outcome {
        let mut counts = Map::new();
        let mut count = |key: String, value: Value| counts.insert(key, value);
        count("documents_in".to_owned(), self.documents_in.into());
        count("bytes_in".to_owned(), self.bytes_in.into());
        count("documents_out".to_owned(), self.documents_out.into());
        count("bytes_out".to_owned(), self.bytes_out.into());
        for reason in Reason::ALL {
            count(format!("dropped_{}", reason.name()), self.dropped[reason.name()].documents.into());
        }
        count("documents_invalid_utf8".to_owned(), self.invalid_utf8.documents.into());
        for (split, amounts) in &self.splits {
            count(format!("documents_{split}"), amounts["documents"].clone());
            count(format!("tokens_{split}"), amounts["tokens"].clone());
        }
        count("tokens".to_owned(), self.tokens.into());
        count("bytes_per_token".to_owned(), self.bytes_per_token.into());
        count("vocab_size".to_owned(), self.tokenizer.vocab_size.into());
        let headline = format!("{} tokens, {:.2} bytes/token", short(self.tokens), self.bytes_per_token);
        Outcome { counts, headline, ..Outcome::default() }
    }
}

fn funnel(config: &Config, collection: &Collection) -> Vec<Remaining> {
    let mut steps = vec![Remaining {
        step: "collected",
        documents: collection.documents.len() as u64,
        bytes: collection.documents.iter().map(|document| document.bytes).sum(),
    }];
    if config.long_documents == LongDocuments::Cut {
        let Amount { documents, bytes, .. } = Amount::of(collection.entries.iter());
        steps.push(Remaining { step: "cut", documents, bytes });
    }
    let names = ["valid UTF-8", "long enough", "short enough", "unique"];
    for (step, reason) in names.into_iter().zip(Reason::ALL) {
        let passed = |entry: &&Entry| !matches!(entry.fate, Fate::Dropped(at) if at <= reason);
        let Amount { documents, bytes, .. } = Amount::of(collection.entries.iter().filter(passed));
        steps.push(Remaining { step, documents, bytes });
    }
    steps
}

/// Returns a count as people say it: "8.1 M".
fn short(count: u64) -> String {
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
