//! Where a document goes, by its content alone.

use crate::Config;
use crate::engine::spool::Entry;

/// A part of the documents.
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

    /// Returns the split of a content. The digest's first 64 bits are as good as a uniform draw from 0 to 1: below the
    /// test share it is test, then validation, then train, so a document never moves when others come or go.
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

    /// Returns the share of the documents that the split shall have.
    pub(crate) fn share(self, config: &Config) -> f64 {
        match self {
            Self::Train => 1.0 - config.validation - config.test,
            Self::Validation => config.validation,
            Self::Test => config.test,
        }
    }
}
