//! Lines and paragraphs that many documents repeat: menus, notices, signatures.
//!
//! Published pipelines do this in two ways. `CCNet` (Wenzek et al., 2020) hashes each line of each document and removes all
//! lines whose hash occurs twice, the first occurrence too. Dolma (Soldaini et al., 2024) keeps the occurrence that its
//! Bloom filter sees first and removes those after it. By default this is Dolma's rule without the chance in it: the
//! occurrence kept is that in the document of smallest rank, nothing is taken for a repetition by mistake (but for hashes
//! of 64 bits), and repetitions inside one document, which the rules on quality judge, stay.

mod removal;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shard;
use super::records::{self, Reader};
use crate::Error;

pub use removal::{Hashes, Removal, Scratch, hashes};

/// What counts as repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Lines are removed where they repeat. Default true.
    pub lines: bool,
    /// Paragraphs of two lines or more, which a blank line ends, are removed where they repeat: these may consist of lines
    /// that are too short to be looked at. Default true.
    pub paragraphs: bool,
    /// Lines and paragraphs with fewer letters and numbers are left alone; characters, a number counting as one, in the
    /// form that is compared. Default 30, the length up to which `FineWeb` calls a line short: what is shorter repeats by
    /// nature, as headings and items of lists do.
    pub min_characters: u32,
    /// What stands in more documents than this is repeated. Default 1, as in `CCNet` and Dolma.
    pub max_documents: u32,
    /// One document, that of smallest rank, keeps what is repeated, as in Dolma; else none does, as in `CCNet`. Default
    /// true.
    pub keep_first: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { lines: true, paragraphs: true, min_characters: 30, max_documents: 1, keep_first: true }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// When one makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        if !self.lines && !self.paragraphs {
            return Err(Error::config(
                "preprocess.repeated.lines",
                "and `paragraphs` are both false: nothing would be removed",
            ));
        }
        if self.min_characters == 0 {
            return Err(Error::config("preprocess.repeated.min_characters", "must be at least 1"));
        }
        if self.max_documents == 0 {
            return Err(Error::config("preprocess.repeated.max_documents", "must be at least 1"));
        }
        Ok(())
    }
}

/// Writes the hashes of a shard's documents.
#[derive(Debug)]
pub struct Writer {
    records: records::Writer,
}

impl Writer {
    /// Creates the file in `folder`, which is there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        Ok(Self { records: records::Writer::create(folder.join(FILE))? })
    }

    /// Adds what [`hashes`] returned for the document with this number within the shard.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn push(&mut self, document: u32, hashes: &Hashes) -> Result<(), Error> {
        hashes.iter().try_for_each(|hash| self.records.push(hash, document))
    }

    /// Finishes the file, which has no final name before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<(), Error> {
        self.records.finish()
    }
}

const FILE: &str = "lines";

fn file(shard: &Shard) -> PathBuf {
    shard.folder.join(FILE)
}

/// The lines and paragraphs that are repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeats {
    /// Their hashes, in ascending order.
    hashes: Vec<u64>,
    /// Of each, the document that keeps it.
    first: Vec<u32>,
}

impl Repeats {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Returns the document of smallest rank that has the line or paragraph of this hash, where it is repeated.
    fn first(&self, hash: u64) -> Option<u32> {
        self.hashes.binary_search(&hash).ok().map(|at| self.first[at])
    }
}

/// Returns what is repeated in all documents together.
///
/// `rank` gives a document's rank, or none where it takes no part. Records in memory take at most about `memory_bytes`,
/// the result 12 bytes for each hash that is repeated on top: at most 12 for every `max_documents` + 1 records.
///
/// # Errors
/// When the disk refuses or a file of records is damaged.
pub fn find(
    config: &Config,
    shards: &[Shard],
    rank: &(impl Fn(u32) -> Option<u32> + Sync),
    memory_bytes: u64,
) -> Result<Repeats, Error> {
    let mut repeats = Repeats { hashes: Vec::new(), first: Vec::new() };
    let reader = Reader::open(shards, file)?;
    for range in reader.ranges(memory_bytes) {
        let mut records = reader.read(&range)?;
        records.retain(|record| rank(record.document).is_some());
        for equal in records.chunk_by(|a, b| a.key == b.key) {
            let first = equal.iter().map(|record| record.document).min_by_key(|document| (rank(*document), *document));
            // A document has each of its hashes once.
            if let Some(first) = first.filter(|_| equal.len() > config.max_documents as usize) {
                repeats.hashes.push(equal[0].key);
                repeats.first.push(first);
            }
        }
    }
    Ok(repeats)
}
