//! Counts per source: documents, skipped files, bad records.

use std::collections::BTreeMap;

use media::Kind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::config::BadRecordLimit;
use crate::documents::document::{Content, Document, Medium};
use crate::documents::rejection::{BadRecord, Rejection, Skip};
use crate::formats::encoding::{Fate, FileEncoding};

/// The name of an encoding that loses nothing and needs no mention.
const MARKED_UTF_8: &str = "UTF-8 with a byte-order mark";
/// Bad records of a source that are quoted in `sources.json`.
const QUOTED: usize = 20;
/// Bad records that are quoted in the error of a source with too many.
const QUOTED_IN_ERROR: usize = 3;
/// Licences of a source that are counted separately; further ones are counted as "other".
const TOLD_APART: usize = 256;
/// Records after which a fraction is first checked; before, bad ones may merely come first.
const LOOKED_AT: u64 = 1000;

/// Documents and their bytes together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// The number of documents.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Pictures or sounds and their bytes together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MediaTotals {
    /// Their number.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Files of one encoding, by what became of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct EncodingCounts {
    /// Files that were decoded, some of them with replaced characters.
    pub decoded: u64,
    /// Files in which characters were replaced.
    pub replaced: u64,
    /// Files whose bytes are kept, since their encoding is not known.
    pub kept: u64,
}

impl EncodingCounts {
    fn add(&mut self, other: Self) {
        self.decoded += other.decoded;
        self.replaced += other.replaced;
        self.kept += other.kept;
    }
}

/// The counts of a source.
#[derive(Debug, Default, Clone)]
pub(crate) struct SourceCounts {
    /// Documents.
    pub documents: u64,
    /// Their total bytes.
    pub bytes: u64,
    /// Those that are not UTF-8.
    pub not_utf8: u64,
    /// Documents and their bytes, by licence.
    pub licences: BTreeMap<String, Totals>,
    /// Skipped files and records, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Members of archives that were not selected.
    pub not_selected: u64,
    /// Bad records, by reason.
    pub bad: BTreeMap<&'static str, u64>,
    /// The first bad records.
    pub examples: Vec<BadRecord>,
    /// Files that are not plain UTF-8, by encoding.
    pub encodings: BTreeMap<&'static str, EncodingCounts>,
    /// Records in which halves of surrogate pairs were replaced.
    pub replaced_records: u64,
    /// Files of rows.
    pub row_files: u64,
    /// Files whose rows are in a place that is not obvious, by that place, and the first of them.
    pub row_places: BTreeMap<String, (u64, String)>,
    /// Files of JSON that are documents although they begin as tables do, and the first of them.
    pub tables_as_text: Option<(u64, String)>,
    /// Web pages.
    pub pages: u64,
    /// Pictures and sounds that no earlier document has, by kind and licence.
    pub media: BTreeMap<(Kind, String), MediaTotals>,
}

impl SourceCounts {
    /// Counts a document, under `licence` unless it has its own.
    pub fn document(&mut self, document: &Document, licence: &str) {
        self.documents += 1;
        let licence = self.told_apart(document.licence.as_deref().unwrap_or(licence));
        let share = self.licences.entry(licence.to_owned()).or_default();
        share.documents += 1;
        share.bytes += document.bytes;
        self.bytes += document.bytes;
        self.not_utf8 += u64::from(matches!(document.content, Content::Raw(_)));
    }

    /// Returns the licence under which a document is counted.
    fn told_apart<'l>(&self, licence: &'l str) -> &'l str {
        // A column that does not hold licences must not fill the memory.
        if self.licences.len() < TOLD_APART || self.licences.contains_key(licence) { licence } else { "other" }
    }

    /// Counts a picture or sound that is stored, under the licence of its document.
    pub fn medium(&mut self, medium: &Medium, licence: &str) {
        let licence = self.told_apart(licence).to_owned();
        let totals = self.media.entry((medium.kind, licence)).or_default();
        totals.items += 1;
        totals.bytes += medium.bytes.len() as u64;
    }

    /// Returns the sum over some kinds of media.
    pub fn media_totals(&self, is_wanted: impl Fn(Kind) -> bool) -> MediaTotals {
        let wanted = self.media.iter().filter(|((kind, _), _)| is_wanted(*kind));
        wanted.fold(MediaTotals::default(), |sum, (_, totals)| MediaTotals {
            items: sum.items + totals.items,
            bytes: sum.bytes + totals.bytes,
        })
    }

    /// Returns the media as in `sources.json`.
    pub fn media_as_json(&self) -> Value {
        let row = |((kind, licence), totals): (&(Kind, String), &MediaTotals)| {
            let MediaTotals { items, bytes } = totals;
            json!({ "kind": kind.name(), "licence": licence, "items": items, "bytes": bytes })
        };
        self.media.iter().map(row).collect()
    }

    /// Counts a file that is not plain UTF-8.
    pub fn encoding(&mut self, encoding: FileEncoding) {
        let (decoded, replaced, kept) = match encoding.fate {
            Fate::Decoded => (1, 0, 0),
            Fate::Replaced => (1, 1, 0),
            Fate::Kept => (0, 0, 1),
        };
        self.encodings.entry(encoding.name).or_default().add(EncodingCounts { decoded, replaced, kept });
    }

    /// Counts a file of rows, and where they are in it if that is not obvious.
    pub fn rows(&mut self, file: &str, place: Option<String>) {
        self.row_files += 1;
        if let Some(place) = place {
            self.row_places.entry(place).or_insert_with(|| (0, file.to_owned())).0 += 1;
        }
    }

    /// Counts a rejection; returns an error once there are more bad records than allowed.
    pub fn reject(&mut self, rejection: Rejection, name: &str, limit: BadRecordLimit) -> Result<(), Error> {
        match rejection {
            Rejection::NotSelected => self.not_selected += 1,
            Rejection::Skipped(skip) => self.skip(skip, 1),
            Rejection::Bad(bad) => {
                *self.bad.entry(bad.reason.name()).or_default() += 1;
                if self.examples.len() < QUOTED {
                    self.examples.push(bad);
                }
                let is_telling = matches!(limit, BadRecordLimit::Count(_)) || self.records() >= LOOKED_AT;
                if is_telling && !limit.allows(self.bad_records(), self.records()) {
                    return Err(self.too_many(name, limit));
                }
            }
        }
        Ok(())
    }

    /// Returns an error if the source as a whole has more bad records than allowed, or only bad ones.
    pub fn check(&self, name: &str, limit: BadRecordLimit) -> Result<(), Error> {
        let (bad, records) = (self.bad_records(), self.records());
        let is_all_bad = bad > 0 && bad == records;
        if limit.allows(bad, records) && !is_all_bad { Ok(()) } else { Err(self.too_many(name, limit)) }
    }

    fn too_many(&self, name: &str, limit: BadRecordLimit) -> Error {
        let quoted: Vec<String> = self.examples.iter().take(QUOTED_IN_ERROR).map(ToString::to_string).collect();
        let (bad, records) = (self.bad_records(), self.records());
        Error::BadRecords { name: name.to_owned(), bad, records, limit, examples: quoted.join("; ") }
    }

    /// Counts a skipped file or record.
    pub fn skip(&mut self, reason: Skip, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason.name()).or_default() += count;
        }
    }

    /// Returns the number of bad records.
    pub fn bad_records(&self) -> u64 {
        self.bad.values().sum()
    }

    fn records(&self) -> u64 {
        self.documents + self.skipped.values().sum::<u64>() + self.bad_records()
    }

    /// Returns the sum of two counts, without examples.
    pub fn plus(mut self, other: &Self) -> Self {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.not_utf8 += other.not_utf8;
        self.not_selected += other.not_selected;
        self.replaced_records += other.replaced_records;
        for (key, totals) in &other.media {
            let sum = self.media.entry(key.clone()).or_default();
            sum.items += totals.items;
            sum.bytes += totals.bytes;
        }
        for (name, counts) in &other.encodings {
            self.encodings.entry(name).or_default().add(*counts);
        }
        for (own, others) in [(&mut self.skipped, &other.skipped), (&mut self.bad, &other.bad)] {
            for (reason, count) in others {
                *own.entry(reason).or_default() += count;
            }
        }
        self
    }

    /// Describes the skipped files and records.
    pub fn in_words(&self) -> String {
        if self.skipped.is_empty() {
            return "nothing was skipped".to_owned();
        }
        format!("skipped: {}", counts(&self.skipped))
    }

    /// Returns the sum over all encodings but UTF-8 with a mark.
    pub fn decoded(&self) -> EncodingCounts {
        let mut all = EncodingCounts::default();
        self.encodings.iter().filter(|(name, _)| **name != MARKED_UTF_8).for_each(|(_, counts)| all.add(*counts));
        all
    }

    /// Describes the files that are not UTF-8, or not text; none if there are none.
    pub fn encodings_in_words(&self) -> Option<String> {
        let mut parts = Vec::new();
        for (name, counts) in self.encodings.iter().filter(|(name, _)| **name != MARKED_UTF_8) {
            let files = |count: u64| format!("{count} {}", if count == 1 { "file" } else { "files" });
            let EncodingCounts { decoded, replaced, kept } = *counts;
            if decoded > 0 {
                let some = format!(" ({replaced} with sequences that it does not have, replaced by U+FFFD)");
                parts.push(format!("{} decoded from {name}{}", files(decoded), if replaced > 0 { &some } else { "" }));
            }
            if kept > 0 {
                let later = "whose other bytes preprocess replaces by U+FFFD";
                let (what, advice) = match *name {
                    "unknown" => ("of an unknown encoding", "; if you know it, set the source's `encoding`"),
                    _ => ("of damaged UTF-8", ""),
                };
                parts.push(format!("{} {what}, {later}{advice}", files(kept)));
            }
        }
        let binary = self.skipped.get(Skip::Binary.name()).copied().unwrap_or(0);
        if binary > 0 {
            parts.push(format!("{binary} left out as binary"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Describes the records with replaced characters; none if there are none.
    pub fn replaced_in_words(&self) -> Option<String> {
        let count = self.replaced_records;
        let what = "half a surrogate pair (`\\ud83d`), replaced by U+FFFD";
        (count > 0).then(|| format!("{count} {} with {what}", if count == 1 { "record" } else { "records" }))
    }

    /// Counts a file of JSON that is a document although it begins as a table does.
    pub fn table_as_text(&mut self, file: &str) {
        self.tables_as_text.get_or_insert_with(|| (0, file.to_owned())).0 += 1;
    }

    /// Describes the tables that are read as text; none if there are none.
    pub fn tables_as_text_in_words(&self) -> Option<String> {
        let (count, first) = self.tables_as_text.as_ref()?;
        let what = if *count == 1 { "is one document, as text" } else { "are one document each, as text" };
        let more = if *count == 1 { String::new() } else { format!(" and {} more", count - 1) };
        Some(format!("{first}{more} {what}; `format = \"json\"` or `text_column` makes rows of its objects"))
    }

    /// Describes where rows were found, one line for each place.
    pub fn row_places_in_words(&self) -> Vec<String> {
        let line = |(place, (files, first)): (&String, &(u64, String))| {
            let more = if *files > 1 { format!(" and {} more", files - 1) } else { String::new() };
            format!("rows of {first}{more}: {place}")
        };
        self.row_places.iter().map(line).collect()
    }

    /// Returns the number of files whose rows are in each place that is not obvious.
    pub fn row_places_as_json(&self) -> Value {
        self.row_places.iter().map(|(place, (files, _))| (place.clone(), Value::from(*files))).collect()
    }

    /// Describes the number and kinds of bad records and quotes the first; none if there are none.
    pub fn bad_in_words(&self) -> Option<String> {
        let first = self.examples.first()?;
        Some(format!("{} bad records left out ({}); the first: {first}", self.bad_records(), counts(&self.bad)))
    }

    /// Returns the bad records as in `sources.json`.
    pub fn bad_as_json(&self) -> Value {
        let example = |bad: &BadRecord| {
            let (at, reason) = (bad.at.to_string(), bad.reason.name());
            json!({ "file": bad.file, "at": at.trim_start(), "reason": reason, "message": bad.message })
        };
        let examples: Vec<Value> = self.examples.iter().map(example).collect();
        json!({ "count": self.bad_records(), "reasons": self.bad, "examples": examples })
    }
}

fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    let words: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::rejection::{At, Reason};

    fn check(limit: BadRecordLimit, (good, bad, good_after): (u64, u64, u64), expected: Result<(), u64>) {
        let mut counts = SourceCounts { documents: good, ..SourceCounts::default() };
        let record = || {
            let (file, at, message) = ("a.jsonl".to_owned(), At::Line(1), "wrong".to_owned());
            Rejection::Bad(BadRecord { file, at, reason: Reason::Malformed, message })
        };
        let mut run = || {
            for _ in 0..bad {
                counts.reject(record(), "s", limit)?;
            }
            counts.documents += good_after;
            counts.check("s", limit)
        };
        let found = run().map_err(|error| match error {
            Error::BadRecords { bad, .. } => bad,
            other => panic!("{other}"),
        });
        assert_eq!(found, expected, "{limit:?} of {good} + {bad} + {good_after}");
        assert!(counts.examples.len() <= QUOTED);
    }

    #[test]
    fn too_many_bad_records_stop_the_run() {
        let (none, two, percent) = (BadRecordLimit::Count(0), BadRecordLimit::Count(2), BadRecordLimit::Fraction(0.01));
        check(none, (5, 0, 0), Ok(()));
        check(none, (5, 3, 5), Err(1));
        check(two, (5, 2, 5), Ok(()));
        check(two, (5, 9, 5), Err(3));
        check(two, (0, 2, 0), Err(2));
        check(percent, (1, 10, 0), Ok(()));
        check(percent, (1, 11, 0), Err(11));
        check(percent, (0, 1, 0), Err(1));
        check(percent, (0, 11, 2000), Ok(()));
        check(percent, (0, 500, 100_000), Ok(()));
        check(percent, (0, 5000, 1_000_000), Err(1000));
        check(percent, (10_000, 300, 0), Err(102));
        check(BadRecordLimit::Fraction(1.0), (0, 5000, 1), Ok(()));
        check(BadRecordLimit::Fraction(1.0), (0, 5000, 0), Err(5000));
    }

    #[test]
    fn a_limit_is_a_count_or_a_fraction() {
        let parse = |text: &str| {
            let table: Result<BTreeMap<String, BadRecordLimit>, _> = toml::from_str(&format!("x = {text}"));
            table.map(|table| table["x"].to_string()).map_err(|e| e.message().to_owned())
        };
        let wrong = |what: &str| {
            Err(format!("invalid {what}, expected a number of records (100) or a fraction of them (0.01)"))
        };
        assert_eq!(parse("0"), Ok("0".to_owned()));
        assert_eq!(parse("100"), Ok("100".to_owned()));
        assert_eq!(parse("0.05"), Ok("0.05".to_owned()));
        assert_eq!(parse("1.0"), Ok("1.0".to_owned()));
        assert_eq!(parse("-1"), wrong("value: integer `-1`"));
        assert_eq!(parse("1.5"), wrong("value: floating point `1.5`"));
        assert_eq!(parse("\"many\""), wrong("type: string \"many\""));
    }
}
