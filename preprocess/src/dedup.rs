//! Duplicates: equal documents, nearly equal ones, and lines that many documents repeat.
//!
//! Each comes in two halves. A map sees one document at a time, in any order and on any machine, and notes a few bytes of
//! it in a file of its shard. A global step reads these files on one machine and says what to drop. Documents are numbered
//! by the caller: within a shard from 0, and over all shards by [`Shard::first`].
//!
//! What is kept depends on the documents and their *ranks* alone: a rank is a number that the caller gives to each
//! document, the smaller the rather kept; where two are equal the document's number decides. Neither shard boundaries nor
//! threads nor the memory granted change a result. A document without a rank takes no part: it has been dropped already.

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

/// Where a map left the records of some documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The folder that the map's writer was given.
    pub folder: PathBuf,
    /// The number of its first document.
    pub first: u32,
    /// How many documents it has.
    pub documents: u32,
}

/// A document to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duplicate {
    /// Its number.
    pub document: u32,
    /// The number of the one that is kept in its place.
    pub of: u32,
}
