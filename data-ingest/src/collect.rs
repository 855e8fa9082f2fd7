//! The stage: reads every source of the inventory, file by file, and writes the corpus.

use std::path::Path;

use artifact::format::grouped;
use artifact::{Context, Outcome, Unsealed, file};
use serde_json::{Value, json};

use crate::corpus_writer::Writer;
use crate::documents::batch::{Batch, Found};
use crate::documents::counts::SourceCounts;
use crate::documents::mapping::Mapping;
use crate::documents::rejection::Skip;
use crate::formats::format::{Format, Kind};
use crate::formats::html::Html;
use crate::formats::reader::Job;
use crate::inventory::{HashedFile, ListedSource};
use crate::sources::select::broken_in_words;
use crate::{Config, Error, Inventory};

/// The version of the layout of `sources.json`.
const SCHEMA_VERSION: u32 = 2;

/// Downloads what is missing, reads every file, and writes `documents-*.parquet` and `sources.json`.
///
/// The output depends only on the content of the sources and their configuration: sources are read in the order of
/// their names, files of their paths, rows in file order.
///
/// # Errors
/// Returns an error if a download fails, a table lacks a column, a source has more bad records than allowed, a file
/// unpacks to more than allowed or changed since it was listed, no document is found, on I/O errors, or on
/// interruption.
pub fn run(config: &Config, inventory: &Inventory, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    out.clear()?;
    inventory.fetch_missing(config, context)?;
    let total = inventory.sources.iter().map(ListedSource::bytes).sum();
    context.progress.begin("reading", total, "bytes");
    let has_media = inventory.sources.iter().any(|source| !source.columns.media.is_empty());
    let writer = Writer::new(out.folder(), has_media);
    let mut collector = Collector { config, writer, context, done_bytes: 0 };
    let mut source_counts = Vec::with_capacity(inventory.sources.len());
    for source in &inventory.sources {
        source_counts.push(collector.source(source, out.folder())?);
    }
    let shards = collector.writer.finish()?;
    let all = source_counts.iter().fold(SourceCounts::default(), SourceCounts::plus);
    let files: u64 = inventory.sources.iter().map(|source| source.files.len() as u64).sum();
    if all.documents == 0 {
        return Err(Error::Empty { files, skipped: all.in_words() });
    }
    let described: Vec<Value> =
        inventory.sources.iter().zip(&source_counts).map(|(source, t)| describe(source, t)).collect();
    let text = format!("{:#}\n", json!({ "schema_version": SCHEMA_VERSION, "sources": described }));
    file::write_atomically(&out.path("sources.json"), text.as_bytes())?;
    let notices: Vec<String> = inventory
        .sources
        .iter()
        .zip(&source_counts)
        .filter_map(|(source, counts)| large_loss(&source.name, counts))
        .collect();
    let not_selected: u64 = inventory.sources.iter().map(|source| source.not_selected).sum();
    let decoded = all.decoded();
    let Value::Object(mut counts) = json!({
        "documents": all.documents,
        "bytes": all.bytes,
        "sources": inventory.sources.len(),
        "files": files,
        "shards": shards,
        "not_utf8": all.not_utf8,
        "decoded_files": decoded.decoded,
        "files_with_replaced_characters": decoded.replaced,
        "files_of_unknown_encoding": decoded.kept,
        "records_with_replaced_characters": all.replaced_records,
        "skipped": all.skipped,
        "not_selected": not_selected + all.not_selected,
        "bad_records": all.bad_records(),
    }) else {
        unreachable!("json! of braces is an object")
    };
    let pictures = all.media_totals(media::Kind::is_picture);
    let sounds = all.media_totals(|kind| !kind.is_picture());
    let mut headline = format!("{} documents, {:.1} MB", grouped(all.documents), all.bytes as f64 / 1e6);
    for (what, totals) in [("pictures", pictures), ("sounds", sounds)] {
        if totals.items > 0 {
            counts.insert(what.to_owned(), totals.items.into());
            counts.insert(format!("{what}_bytes"), totals.bytes.into());
            let (items, megabytes) = (grouped(totals.items), totals.bytes as f64 / 1e6);
            headline = format!("{headline}; {items} {what}, {megabytes:.1} MB");
        }
    }
    if !notices.is_empty() {
        counts.insert(artifact::NOTICES.to_owned(), notices.into());
    }
    Ok(Outcome { counts, headline, ..Outcome::default() })
}

struct Collector<'a> {
    config: &'a Config,
    writer: Writer,
    context: &'a Context,
    done_bytes: u64,
}

impl Collector<'_> {
    fn source(&mut self, source: &ListedSource, spill: &Path) -> Result<SourceCounts, Error> {
        let Self { config, writer, context, done_bytes } = self;
        let mut counts = SourceCounts::default();
        counts.skip(Skip::TooLarge, source.too_large);
        counts.skip(Skip::RepeatedLink, source.repeated_links);
        counts.skip(Skip::BrokenLink, source.broken_links.len() as u64);
        let limit = config.max_bad_records;
        let mapping = Mapping::new(&source.columns, source.max_file_bytes)
            .map_err(|message| Error::value(&format!("source {}: template", source.name), &message))?;
        let mut sink = |found: Found| {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            match found {
                Found::Document(document) => {
                    counts.document(&document, &source.licence);
                    let licence = document.licence.clone();
                    let stored = writer.push(document, source)?;
                    for medium in &stored {
                        counts.medium(medium, licence.as_deref().unwrap_or(&source.licence));
                    }
                    Ok(())
                }
                Found::Rejected(rejection) => counts.reject(rejection, &source.name, limit),
                Found::Encoding(encoding) => {
                    counts.encoding(encoding);
                    Ok(())
                }
                Found::Rows(file, place) => {
                    counts.rows(&file, place);
                    Ok(())
                }
                Found::TableAsText(file) => {
                    counts.table_as_text(&file);
                    Ok(())
                }
                Found::Replaced => {
                    counts.replaced_records += 1;
                    Ok(())
                }
                Found::Page => {
                    counts.pages += 1;
                    Ok(())
                }
            }
        };
        let mut batch = Batch::new(source, &mapping, &mut sink);
        let job = Job::new(source, &mapping, config.max_unpacked_bytes, spill, context);
        job.captions(&mut batch)?;
        for file in &source.files {
            job.file(file, *done_bytes, &mut batch)?;
            *done_bytes += file.bytes;
            context.progress.position(*done_bytes);
        }
        job.count_unused_captions(&mut batch)?;
        batch.flush()?;
        counts.check(&source.name, limit)?;
        check_keys(source, &counts)?;
        let say = |words: &str| context.progress.line(&format!("source {}: {words}", source.name));
        counts.row_places_in_words().iter().for_each(|words| say(words));
        let words = [
            broken_in_words(&source.broken_links),
            if source.is_format_set { None } else { counts.tables_as_text_in_words() },
            counts.encodings_in_words(),
            counts.replaced_in_words(),
            counts.bad_in_words(),
        ];
        words.into_iter().flatten().for_each(|words| say(&words));
        Ok(counts)
    }
}

/// Returns a sentence about a source of which more than a tenth of the files and records gave no document: how many for
/// which reason.
fn large_loss(source: &str, counts: &SourceCounts) -> Option<String> {
    let mut reasons: Vec<(u64, &str)> =
        counts.skipped.iter().chain(&counts.bad).map(|(reason, count)| (*count, *reason)).collect();
    let lost: u64 = reasons.iter().map(|(count, _)| count).sum();
    let read = lost + counts.documents;
    reasons.sort_unstable_by_key(|(count, _)| std::cmp::Reverse(*count));
    let reasons: Vec<String> = reasons.iter().take(3).map(|(count, reason)| format!("{reason} {count}")).collect();
    let is_large = lost * artifact::NOTICED_FRACTION > read;
    is_large.then(|| format!("source {source}: {lost} of {read} files and records left out ({})", reasons.join(", ")))
}

/// Returns an error if a configured key had nothing to act on.
fn check_keys(source: &ListedSource, counts: &SourceCounts) -> Result<(), Error> {
    let wrong = |key: &str, message: &str| Err(Error::value(&format!("source {}: {key}", source.name), message));
    let has_documents = counts.documents > 0;
    if let (true, 0, [key, ..], false) = (has_documents, counts.row_files, &source.keys_of_rows[..], source.is_media) {
        let message = format!(
            "needs rows, and none of its files has rows: each is one document; remove `{key}`, select other files, or \
             set `format`"
        );
        return wrong(key, &message);
    }
    let is_json = |file: &HashedFile| matches!(file.kind, Kind::File(Format::Json) | Kind::Archive(_));
    if has_documents && source.columns.json_path.is_some() && !source.files.iter().any(is_json) {
        return wrong("json_path", "none of its files is JSON; remove it, or set `format = \"json\"`");
    }
    let is_pages = |file: &HashedFile| matches!(file.kind, Kind::File(Format::Warc) | Kind::Archive(_));
    if has_documents && source.html != Html::Main && counts.pages == 0 && !source.files.iter().any(is_pages) {
        return wrong("html", "none of its files is a web page; remove it, or set `format = \"html\"`");
    }
    let is_table = |file: &HashedFile| matches!(file.kind, Kind::File(Format::Parquet | Format::Arrow));
    if has_documents && source.encoding.is_some() && source.files.iter().all(is_table) {
        return wrong("encoding", "all of its files are Parquet or Arrow, where text is always UTF-8; remove it");
    }
    Ok(())
}

fn describe(source: &ListedSource, counts: &SourceCounts) -> Value {
    let mut described = json!({
        "name": source.name,
        "origin": source.origin,
        "licence": source.licence,
        "licences": counts.licences,
        "sha256": source.content,
        "files": source.files.len(),
        "documents": counts.documents,
        "bytes": counts.bytes,
        "not_utf8": counts.not_utf8,
        "encodings": counts.encodings,
        "records_with_replaced_characters": counts.replaced_records,
        "rows_at": counts.row_places_as_json(),
        "skipped": counts.skipped,
        "broken_links": source.broken_links,
        "bad_records": counts.bad_as_json(),
    });
    if !counts.media.is_empty() {
        described["media"] = counts.media_as_json();
    }
    described
}
