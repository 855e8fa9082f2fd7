//! The stage itself: every source of the inventory, file by file, into the corpus.

use std::collections::BTreeMap;
use std::sync::Arc;

use artifact::{Context, Outcome, Unsealed, file};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::format::Format;
use crate::inventory::{HashedFile, ListedSource};
use crate::read::{self, Content, Document, Skip};
use crate::shard::Writer;
use crate::{Config, Error, Inventory, fetch};

/// Text files that are read at the same time have so many bytes together (or are one file). A guess.
const BATCH_BYTES: u64 = 8 << 20;

/// The version of the layout of `sources.json`.
const SCHEMA_VERSION: u32 = 1;

/// Collects: downloads what is missing, reads every file, writes `documents-*.parquet` and `sources.json`.
///
/// The bytes written depend on the content of the sources and on what is said about them, and on nothing else: sources
/// are taken by name, files by path, rows as they come.
///
/// # Errors
/// When a download fails, a file cannot be read as what it claims to be or is no longer what was listed, no document is
/// found, the disk refuses, or the stage is asked to stop.
pub fn run(config: &Config, inventory: &Inventory, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    out.clear()?;
    fetch::missing(inventory, config, context, Environment::of_process())?;
    let total = inventory.sources.iter().map(ListedSource::bytes).sum();
    context.progress.begin("reading", total, "bytes");
    let mut collector = Collector { writer: Writer::new(out.folder()), context, done_bytes: 0 };
    let mut tallies = Vec::with_capacity(inventory.sources.len());
    for source in &inventory.sources {
        tallies.push(collector.source(source)?);
    }
    let shards = collector.writer.finish()?;
    let all = tallies.iter().fold(Tally::default(), Tally::plus);
    let files: u64 = inventory.sources.iter().map(|source| source.files.len() as u64).sum();
    if all.documents == 0 {
        return Err(Error::Empty { files, skipped: all.in_words() });
    }
    let described: Vec<Value> = inventory.sources.iter().zip(&tallies).map(|(source, t)| describe(source, t)).collect();
    let text = format!("{:#}\n", json!({ "schema_version": SCHEMA_VERSION, "sources": described }));
    file::write_atomically(&out.path("sources.json"), text.as_bytes())?;
    let not_selected: u64 = inventory.sources.iter().map(|source| source.not_selected).sum();
    let Value::Object(counts) = json!({
        "documents": all.documents,
        "bytes": all.bytes,
        "sources": inventory.sources.len(),
        "files": files,
        "shards": shards,
        "not_utf8": all.not_utf8,
        "skipped": all.skipped,
        "not_selected": not_selected,
    }) else {
        unreachable!("json! of braces is an object")
    };
    let headline = format!("{} documents, {:.1} MB", grouped(all.documents), all.bytes as f64 / 1e6);
    Ok(Outcome { counts, headline, ..Outcome::default() })
}

/// What a source gave.
#[derive(Debug, Default, Clone)]
struct Tally {
    documents: u64,
    bytes: u64,
    not_utf8: u64,
    skipped: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn plus(mut self, other: &Self) -> Self {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.not_utf8 += other.not_utf8;
        for (reason, count) in &other.skipped {
            *self.skipped.entry(reason).or_default() += count;
        }
        self
    }

    fn skip(&mut self, reason: Skip, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason.name()).or_default() += count;
        }
    }

    fn in_words(&self) -> String {
        let words: Vec<String> = self.skipped.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if words.is_empty() { "none was skipped".to_owned() } else { format!("skipped: {}", words.join(", ")) }
    }
}

struct Collector<'a> {
    writer: Writer,
    context: &'a Context,
    done_bytes: u64,
}

impl Collector<'_> {
    fn source(&mut self, source: &ListedSource) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        tally.skip(Skip::TooLarge, source.too_large);
        let name: Arc<str> = source.name.as_str().into();
        let licence: Arc<str> = source.licence.as_str().into();
        let mut rest = &source.files[..];
        while let Some(first) = rest.first() {
            let (batch, after) = rest.split_at(batch_length(rest));
            rest = after;
            let context = self.context;
            let writer = &mut self.writer;
            let mut take = |read: Result<Document, Skip>| {
                if context.cancel.is_requested() {
                    return Err(Error::Interrupted);
                }
                match read {
                    Ok(document) => {
                        tally.documents += 1;
                        tally.bytes += document.content.as_bytes().len() as u64;
                        tally.not_utf8 += u64::from(matches!(document.content, Content::Raw(_)));
                        writer.push(document, &name, &licence)
                    }
                    Err(reason) => {
                        tally.skip(reason, 1);
                        Ok(())
                    }
                }
            };
            if first.format == Format::Text {
                let texts: Vec<_> = batch.par_iter().map(|file| read::text(source, file)).collect();
                texts.into_iter().try_for_each(|text| take(text?))?;
            } else {
                read::table(source, first, &mut take)?;
            }
            self.done_bytes += batch.iter().map(|file| file.bytes).sum::<u64>();
            self.context.progress.position(self.done_bytes);
        }
        Ok(tally)
    }
}

/// Returns how many files from the front are read together: text files up to [`BATCH_BYTES`], or one file.
fn batch_length(files: &[HashedFile]) -> usize {
    let mut bytes = 0;
    let fits = |file: &&HashedFile| {
        bytes += file.bytes;
        file.format == Format::Text && bytes <= BATCH_BYTES
    };
    files.iter().take_while(fits).count().max(1)
}

fn describe(source: &ListedSource, tally: &Tally) -> Value {
    json!({
        "name": source.name,
        "origin": source.origin,
        "licence": source.licence,
        "sha256": source.content,
        "files": source.files.len(),
        "documents": tally.documents,
        "bytes": tally.bytes,
        "not_utf8": tally.not_utf8,
        "skipped": tally.skipped,
    })
}

/// Returns a number with a comma between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
    }
}
