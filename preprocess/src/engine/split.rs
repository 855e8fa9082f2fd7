//! The split of a document, which depends on its content alone.

use crate::Config;
use crate::engine::spool::Entry;

/// A split of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    pub(crate) const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Returns the name in file names, counts and signals.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// Returns the split of a document's content. The digest's first 64 bits serve as a uniform draw from 0 to 1: below
    /// the fraction of test it is test, then validation, then train. A document therefore never changes its split when
    /// others are added or removed.
    pub(crate) fn of(entry: &Entry, config: &Config) -> Self {
        let draw = entry.draw() as f64 / (u64::MAX as f64 + 1.0);
        if draw < config.test {
            Self::Test
        } else if draw < config.test + config.validation {
            Self::Validation
        } else {
            Self::Train
        }
    }

    /// Returns how far the draw of a document is from the range of this split, from 0 to 1.
    pub(crate) fn distance(self, entry: &Entry, config: &Config) -> f64 {
        let draw = entry.draw() as f64 / (u64::MAX as f64 + 1.0);
        let (test, held_out) = (config.test, config.test + config.validation);
        let (low, high) = match self {
            Self::Test => (0.0, test),
            Self::Validation => (test, held_out),
            Self::Train => (held_out, 1.0),
        };
        (low - draw).max(draw - high).max(0.0)
    }

    /// Returns the configured fraction of the documents in this split.
    pub(crate) fn fraction(self, config: &Config) -> f64 {
        match self {
            Self::Train => 1.0 - config.validation - config.test,
            Self::Validation => config.validation,
            Self::Test => config.test,
        }
    }
}
