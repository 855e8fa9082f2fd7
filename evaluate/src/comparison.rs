//! The difference to the model of an earlier run, and whether chance explains it.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};

use artifact::{Digest, Sealed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::intervals::{self, Interval};
use crate::tasks::TaskComparison;

/// The file of a report with a line for each document of the test split.
pub(crate) const DOCUMENTS: &str = "documents.jsonl";

/// The report of an earlier run to compare with.
#[derive(Debug, Clone, Copy)]
pub struct Baseline<'a> {
    /// The run's name.
    pub run: &'a str,
    /// Its report.
    pub report: &'a Sealed,
}

/// A line of [`DOCUMENTS`]: the scored part of a document, and what it costs each model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DocumentLine {
    /// The digest of the scored text.
    pub(crate) sha256: Digest,
    /// The document's source, if it is known.
    pub(crate) source: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) tokens: u64,
    /// The sum of the tokens' losses by the checkpoint, in bits.
    pub(crate) checkpoint_bits: f64,
    /// The sum of the tokens' losses by the bundle, in bits.
    pub(crate) bundle_bits: f64,
}

/// The difference in bits per byte between the bundles of this run and of an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Comparison {
    /// The earlier run.
    pub(crate) run: String,
    /// The digest of its report.
    #[schemars(with = "String")]
    pub(crate) report: Digest,
    /// The documents that both were scored on.
    pub(crate) documents: u64,
    /// Whether the difference is over these documents alone; otherwise, too few are the same, and each run is measured
    /// on its own.
    pub(crate) is_paired: bool,
    /// Bits per byte of the earlier run.
    pub(crate) before: f64,
    /// Bits per byte of this run.
    pub(crate) now: f64,
    /// `now - before`: below 0, this run is better.
    pub(crate) difference: f64,
    /// Its 95 % bootstrap interval; null for fewer than two documents.
    pub(crate) interval: Option<Interval>,
    /// Whether the whole interval is above 0, or this run's figure is not finite.
    pub(crate) is_worse: bool,
    /// The tasks that both runs were asked.
    pub(crate) tasks: Vec<TaskComparison>,
}

/// How the models of two reports differ on the documents of the test split that both were scored on.
#[derive(Debug, Clone, PartialEq)]
pub struct PairedDifferences {
    /// The number of these documents.
    pub documents: u64,
    /// The differences of figures, by their names among the counts of a report.
    pub figures: Vec<(&'static str, Difference)>,
}

/// A difference with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The value of the second report less that of the first.
    pub difference: f64,
    /// Its 95 % bootstrap interval over the documents.
    pub interval: Interval,
}

/// The figures that the documents of a report give.
const PAIRED: [&str; 4] = [
    "bundle_test_bits_per_byte",
    "bundle_test_loss_nats",
    "checkpoint_test_bits_per_byte",
    "checkpoint_test_loss_nats",
];

impl PairedDifferences {
    /// Compares the second report with the first; none if fewer than half of the second's documents are in both, or a
    /// report is of a version without documents.
    ///
    /// # Errors
    /// Returns an error if the documents of a report cannot be read.
    pub fn of(first: &Baseline<'_>, second: &Baseline<'_>) -> Result<Option<Self>, Error> {
        if [first, second].iter().any(|baseline| !crate::is_comparable(baseline.report)) {
            return Ok(None);
        }
        Ok(Self::between(&read(first)?, &read(second)?))
    }

    fn between(before: &[DocumentLine], now: &[DocumentLine]) -> Option<Self> {
        let rows: Vec<[f64; 7]> = in_both(before, now)
            .map(|(a, b)| {
                let tokens = [a.tokens as f64, b.tokens as f64];
                [
                    a.bundle_bits,
                    b.bundle_bits,
                    a.checkpoint_bits,
                    b.checkpoint_bits,
                    b.bytes as f64,
                    tokens[0],
                    tokens[1],
                ]
            })
            .collect();
        let differences = |[bundle_a, bundle_b, checkpoint_a, checkpoint_b, bytes, tokens_a, tokens_b]: &[f64; 7]| {
            let of = |a: &f64, b: &f64| [(b - a) / bytes, (b / tokens_b - a / tokens_a) * std::f64::consts::LN_2];
            let ([a, b], [c, d]) = (of(bundle_a, bundle_b), of(checkpoint_a, checkpoint_b));
            [a, b, c, d]
        };
        if !is_paired(rows.len(), now.len()) {
            return None;
        }
        let values = differences(&sums(&rows)).into_iter().zip(intervals::of_sums(&rows, differences)?);
        let values = values.map(|(difference, interval)| Difference { difference, interval });
        Some(Self { documents: rows.len() as u64, figures: PAIRED.into_iter().zip(values).collect() })
    }
}

/// Returns the documents of `now` that are also in `before`, in their order.
fn in_both<'a>(
    before: &'a [DocumentLine],
    now: &'a [DocumentLine],
) -> impl Iterator<Item = (&'a DocumentLine, &'a DocumentLine)> {
    let earlier: HashMap<Digest, &DocumentLine> = before.iter().map(|line| (line.sha256, line)).collect();
    now.iter().filter_map(move |line| Some((*earlier.get(&line.sha256)?, line)))
}

/// Returns true if enough documents are in both: half of them, since a run with more data, or with another tokenizer,
/// is cut off at other documents.
fn is_paired(common: usize, all: usize) -> bool {
    2 * common >= all.max(2)
}

impl Comparison {
    /// Compares the documents of this run with those of `baseline`.
    ///
    /// # Errors
    /// Returns an error if that report has no [`DOCUMENTS`] or they cannot be read.
    pub(crate) fn with(baseline: &Baseline<'_>, documents: &[DocumentLine]) -> Result<Self, Error> {
        let before = read(baseline)?;
        let mut comparison = Self::of(&before, documents);
        baseline.run.clone_into(&mut comparison.run);
        comparison.report = baseline.report.digest();
        Ok(comparison)
    }

    fn of(before: &[DocumentLine], now: &[DocumentLine]) -> Self {
        let common: Vec<[f64; 3]> = in_both(before, now)
            .map(|(before, line)| [before.bundle_bits, line.bundle_bits, line.bytes as f64])
            .collect();
        let is_paired = is_paired(common.len(), now.len());
        let (before, now, interval) = if is_paired {
            let difference = |[before, now, bytes]: &[f64; 3]| [(now - before) / bytes];
            let [before, now, bytes] = sums(&common);
            let interval = intervals::of_sums(&common, difference).map(|[interval]| interval);
            (before / bytes, now / bytes, interval)
        } else {
            let own = |lines: &[DocumentLine]| -> Vec<[f64; 2]> {
                lines.iter().map(|line| [line.bundle_bits, line.bytes as f64]).collect()
            };
            let (before, now) = (own(before), own(now));
            let ratio = |[bits, bytes]: &[f64; 2]| bits / bytes;
            (ratio(&sums(&before)), ratio(&sums(&now)), intervals::of_difference([&now[..], &before[..]], ratio))
        };
        Self {
            run: String::new(),
            report: Digest::of(b""),
            documents: common.len() as u64,
            is_paired,
            before,
            now,
            difference: now - before,
            interval,
            is_worse: !now.is_finite() || interval.is_some_and(|interval| interval.low > 0.0),
            tasks: Vec::new(),
        }
    }
}

fn sums<const N: usize>(rows: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|column| rows.iter().map(|row| row[column]).sum())
}

fn read(baseline: &Baseline<'_>) -> Result<Vec<DocumentLine>, Error> {
    if baseline.report.files(DOCUMENTS).is_empty() {
        return Err(Error::Baseline { run: baseline.run.to_owned() });
    }
    let path = baseline.report.verified(DOCUMENTS)?;
    let failed = |source| Error::from(artifact::Error::io("read", &path, source));
    let lines = BufReader::new(fs::File::open(&path).map_err(failed)?).lines();
    lines
        .map(|line| {
            serde_json::from_str(&line.map_err(failed)?).map_err(|source| Error::Json { path: path.clone(), source })
        })
        .collect()
}

/// Returns the text of [`DOCUMENTS`].
pub(crate) fn to_lines(documents: &[DocumentLine]) -> Result<String, serde_json::Error> {
    documents.iter().map(|line| Ok(serde_json::to_string(line)? + "\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns documents `numbers` of 100 bytes that need `bits(number)`.
    fn lines(numbers: std::ops::Range<u64>, bits: impl Fn(u64) -> f64) -> Vec<DocumentLine> {
        numbers
            .map(|number| DocumentLine {
                sha256: Digest::of(&number.to_le_bytes()),
                source: None,
                bytes: 100,
                tokens: 30,
                checkpoint_bits: 0.0,
                bundle_bits: bits(number),
            })
            .collect()
    }

    /// Returns the bits of a document: some are much harder than others.
    fn bits(number: u64) -> f64 {
        100.0 + (number % 7) as f64 * 30.0
    }

    #[test]
    fn a_small_difference_of_the_same_documents_is_no_chance() {
        let before = lines(0..60, bits);
        let check = |change: f64, is_worse: bool| {
            let found = Comparison::of(&before, &lines(0..60, |number| bits(number) + change + (number % 2) as f64));
            assert!(found.is_paired && found.documents == 60);
            assert!((found.difference - (change + 0.5) / 100.0).abs() < 1e-12, "{found:?}");
            assert_eq!(found.is_worse, is_worse, "{found:?}");
        };
        check(1.0, true);
        check(-0.5, false);
        check(-2.0, false);
    }

    #[test]
    fn other_documents_are_compared_as_two_samples() {
        let before = lines(0..60, bits);
        let check = |change: f64, is_worse: bool| {
            let found = Comparison::of(&before, &lines(100..160, |number| bits(number) + change));
            assert!(!found.is_paired && found.documents == 0);
            assert_eq!(found.is_worse, is_worse, "{found:?}");
        };
        // What is no chance for the same documents is for others.
        check(1.5, false);
        check(60.0, true);
    }

    #[test]
    fn a_model_without_finite_losses_is_worse() {
        for loss in [f64::NAN, f64::INFINITY] {
            for numbers in [0..60, 100..160] {
                let found = Comparison::of(&lines(0..60, bits), &lines(numbers, |_| loss));
                assert!(found.is_worse, "{found:?}");
            }
        }
    }

    #[test]
    fn paired_differences_are_those_of_the_verdict() {
        let (before, now) = (lines(0..60, bits), lines(10..70, |number| bits(number) + (number % 3) as f64));
        let (paired, verdict) = (PairedDifferences::between(&before, &now).unwrap(), Comparison::of(&before, &now));
        assert_eq!((paired.documents, verdict.documents), (50, 50));
        let (name, found) = paired.figures[0];
        assert_eq!((name, Some(found.interval)), ("bundle_test_bits_per_byte", verdict.interval));
        assert!((found.difference - verdict.difference).abs() < 1e-12);
        let (name, nats) = paired.figures[1];
        assert_eq!(name, "bundle_test_loss_nats");
        let expected = found.difference * 100.0 / 30.0 * std::f64::consts::LN_2;
        assert!((nats.difference - expected).abs() < 1e-12, "{nats:?}");
        assert!(paired.figures[2].1.difference.abs() < 1e-12);
        assert_eq!(PairedDifferences::between(&before, &lines(40..100, bits)), None, "too few in common");
        assert_eq!(PairedDifferences::between(&before[..1], &before[..1]), None);
    }

    #[test]
    fn one_document_decides_nothing() {
        let found = Comparison::of(&lines(0..1, bits), &lines(0..1, |number| bits(number) + 50.0));
        assert_eq!((found.interval, found.is_worse), (None, false));
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        let lines = lines(0..3, bits);
        let text = to_lines(&lines).unwrap();
        let back: Vec<DocumentLine> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, lines);
    }
}
