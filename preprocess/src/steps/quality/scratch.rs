//! Buffers of the rules.

use super::counts::Counts;
use super::ngrams::Ngrams;
use crate::text::words::Buffers;

/// Buffers of the rules, reused from one text to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) counts: Counts,
    pub(super) line: Buffers,
    pub(super) ngrams: Ngrams,
}
