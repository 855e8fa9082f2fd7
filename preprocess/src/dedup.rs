//! Duplicates: equal documents, nearly equal ones, and lines that many documents repeat.
//!
//! Each has two phases. A map sees one document at a time, in any order and on any machine, and records a few bytes per
//! document in a file of its shard. A global step reads these files on one machine and decides what to drop. The caller
//! numbers documents: within a shard from 0, and over all shards by [`Shard::first`].
//!
//! What is kept depends only on the documents and their *ranks*, numbers given by the caller: the lowest rank wins, and
//! of equal ranks the lowest document number. Shard boundaries, threads and the memory limit do not change a result. A
//! document without a rank is ignored: it has been dropped already.

mod cache;
pub mod exact;
pub mod minhash;
pub mod near;
mod records;
pub mod repeated;
pub mod shingles;
#[cfg(test)]
mod tests;
mod union_find;
mod words;

use std::path::PathBuf;

/// The records of a map over some documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The folder of the map's writer.
    pub folder: PathBuf,
    /// The number of its first document.
    pub first: u32,
    /// The number of its documents.
    pub documents: u32,
}

/// A document to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// Its number.
    pub document: u32,
    /// The number of the document that is kept instead.
    pub of: u32,
}
