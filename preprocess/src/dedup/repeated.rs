//! Lines and paragraphs that many documents repeat: menus, notices, signatures.
//!
//! Published pipelines do this in two ways. `CCNet` (Wenzek et al., 2020) hashes each line of each document and removes
//! all lines whose hash occurs twice, the first occurrence too. Dolma (Soldaini et al., 2024) keeps the occurrence that
//! its Bloom filter sees first and removes those after it. By default this is Dolma's rule without its randomness: the
//! occurrence in the document of lowest rank is kept, there are no false positives (except for collisions of 64-bit
//! hashes), and repetitions inside one document, which the quality rules evaluate, stay.

mod removal;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shard;
use super::records::{self, Reader};
use crate::Error;

pub use removal::{Hashes, Removal, Scratch, hashes};

/// Parameters of the step `repeated`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether repeated lines are removed. Default true.
    pub lines: bool,
    /// Whether repeated paragraphs of two or more lines are removed, which may consist of lines that are too short on
    /// their own. Default true.
    pub paragraphs: bool,
    /// The minimum length of lines and paragraphs, in letters and numbers of the compared form, where a number counts
    /// as one. Default 30, up to which `FineWeb` calls a line short: shorter ones, such as headings and list items,
    /// repeat naturally.
    pub min_characters: u32,
    /// Lines and paragraphs in more documents than this are repeated. Default 1, as in `CCNet` and Dolma.
    pub max_documents: u32,
    /// Whether the document of lowest rank keeps its occurrence, as in Dolma; otherwise none does, as in `CCNet`.
    /// Default true.
    pub keep_first: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { lines: true, paragraphs: true, min_characters: 30, max_documents: 1, keep_first: true }
    }
}

impl Config {
    /// Validates every value.
    ///
    /// # Errors
    /// Returns an error that names the first invalid one.
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
    /// Creates the file in `folder`, which must exist.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn create(folder: &Path) -> Result<Self, Error> {
        Ok(Self { records: records::Writer::create(folder.join(FILE))? })
    }

    /// Adds what [`hashes`] returned for the document with this number within the shard.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn push(&mut self, document: u32, hashes: &Hashes) -> Result<(), Error> {
        hashes.iter().try_for_each(|hash| self.records.push(hash, document))
    }

    /// Finishes the file, which then gets its final name.
    ///
    /// # Errors
    /// On I/O errors.
    pub fn finish(self) -> Result<(), Error> {
        self.records.finish()
    }
}

const FILE: &str = "lines";

fn file(shard: &Shard) -> PathBuf {
    shard.folder.join(FILE)
}

/// The repeated lines and paragraphs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeats {
    /// Their hashes, in ascending order.
    hashes: Vec<u64>,
    /// The document that keeps each.
    first: Vec<u32>,
}

impl Repeats {
    /// Returns their number.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Returns the document of lowest rank with the line or paragraph of this hash, if it is repeated.
    fn first(&self, hash: u64) -> Option<u32> {
        self.hashes.binary_search(&hash).ok().map(|at| self.first[at])
    }
}

/// Returns the lines and paragraphs that are repeated across all documents.
///
/// `rank` gives a document's rank, or none if it is ignored. Records in memory take at most about `memory_bytes`,
/// and the result 12 bytes per repeated hash: at most 12 for every `max_documents` + 1 records.
///
/// # Errors
/// Returns an error if a file of records is damaged, and on I/O errors.
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
