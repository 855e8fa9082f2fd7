//! Where the bundle is weak on the test split.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::comparison::DocumentLine;
use crate::held_out::breakdown::{Breakdown, Bucket};
use crate::held_out::calibration::Calibration;
use crate::held_out::{DocumentScore, Excerpt, Metrics};
use crate::intervals::Interval;
use crate::provenance::Origin;

/// The metrics of the bundle on parts of the test split.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Details {
    /// By source, the hardest first; empty if sources are not known.
    pub(crate) by_source: Vec<SourceMetrics>,
    /// By the number of tokens of the same document that the model saw before: 0, 1, 2 to 3, 4 to 7, ….
    pub(crate) by_context: Vec<Bucket>,
    /// By how often the token occurs in the beginning of the train split: 0, 1 to 9, 10 to 99, ….
    pub(crate) by_training_frequency: Vec<Bucket>,
    pub(crate) calibration: Calibration,
}

/// The metrics on the documents of one source.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct SourceMetrics {
    pub(crate) source: String,
    pub(crate) documents: u64,
    pub(crate) tokens: u64,
    /// UTF-8 bytes of scored text.
    pub(crate) bytes: u64,
    pub(crate) bits_per_byte: f64,
    /// The 95 % bootstrap interval of `bits_per_byte`; null for a single document.
    pub(crate) interval: Option<Interval>,
}

impl Details {
    /// Returns the details of the scores of an excerpt's documents.
    pub(crate) fn of(
        excerpt: &Excerpt,
        scores: &[DocumentScore],
        breakdown: &Breakdown<'_>,
        origins: &[Option<Origin>],
    ) -> Self {
        let mut groups: BTreeMap<&str, Vec<DocumentScore>> = BTreeMap::new();
        for (document, score) in excerpt.documents.iter().zip(scores).filter(|(_, score)| score.bytes > 0) {
            if let Some(origin) = &origins[document.index] {
                groups.entry(&origin.source).or_default().push(*score);
            }
        }
        let mut by_source: Vec<SourceMetrics> =
            groups.into_iter().map(|(source, scores)| SourceMetrics::of(source, &scores)).collect();
        by_source.sort_by(|a, b| b.bits_per_byte.total_cmp(&a.bits_per_byte));
        Self {
            by_source,
            by_context: breakdown.by_context(),
            by_training_frequency: breakdown.by_frequency(),
            calibration: breakdown.calibration(),
        }
    }
}

impl SourceMetrics {
    fn of(source: &str, scores: &[DocumentScore]) -> Self {
        let metrics = Metrics::of(scores);
        Self {
            source: source.to_owned(),
            documents: metrics.documents,
            tokens: metrics.tokens,
            bytes: scores.iter().map(|score| score.bytes).sum(),
            bits_per_byte: metrics.bits_per_byte,
            interval: metrics.intervals.map(|intervals| intervals.bits_per_byte),
        }
    }
}

/// Returns a line for each document of an excerpt, with the scores of the checkpoint and of the bundle.
pub(crate) fn lines(
    excerpt: &Excerpt,
    [checkpoint, bundle]: [&[DocumentScore]; 2],
    origins: &[Option<Origin>],
) -> Vec<DocumentLine> {
    let scores = checkpoint.iter().zip(bundle);
    let line = |(document, (checkpoint, bundle)): (&crate::held_out::Document, (&DocumentScore, &DocumentScore))| {
        DocumentLine {
            sha256: document.digest,
            source: origins[document.index].as_ref().map(|origin| origin.source.clone()),
            bytes: document.bytes,
            tokens: bundle.tokens,
            checkpoint_bits: checkpoint.bits(),
            bundle_bits: bundle.bits(),
        }
    };
    excerpt.documents.iter().zip(scores).map(line).collect()
}
