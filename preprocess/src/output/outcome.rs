//! The outcome of a document: kept in a split, or dropped by a step.

use crate::Config;
use crate::engine::documents::Documents;
use crate::engine::split::Split;
use crate::engine::spool::Entry;

/// The outcome of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DocumentOutcome {
    /// The step that dropped it, from 1; 0 if it was kept.
    pub dropped_by: u16,
    pub split: Option<Split>,
    pub text_bytes: u64,
    /// Its number of tokens, end of text included, whether it was kept or not.
    pub tokens: u64,
    /// The number of the document that was kept in its place.
    pub duplicate_of: Option<u32>,
}

impl DocumentOutcome {
    /// Returns the outcome of document `at` of `file`, which has `tokens` tokens.
    pub fn of(config: &Config, documents: &Documents, file: usize, at: usize, entry: &Entry, tokens: u64) -> Self {
        Self {
            dropped_by: documents.dropped_by(file, at),
            split: documents.split(config, file, at, entry),
            text_bytes: entry.text_bytes,
            tokens,
            duplicate_of: documents.duplicate_of(documents.number(file, at)),
        }
    }
}
