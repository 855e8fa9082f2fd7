//! Deciding, by content alone, which documents stay and where they go.

use artifact::Digest;

use crate::corpus::{Collection, Entry};
use crate::{Config, Error};

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nobody has looked yet.
    Undecided,
    /// It is left out.
    Dropped(Reason),
    /// It belongs to a split.
    Kept(Split),
}

/// Why a document is left out, in the order in which the reasons are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    InvalidUtf8,
    TooShort,
    TooLong,
    Duplicate,
}

/// A part of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Train,
    Validation,
    Test,
}

impl Reason {
    pub(crate) const ALL: [Self; 4] = [Self::InvalidUtf8, Self::TooShort, Self::TooLong, Self::Duplicate];

    /// Returns the name in counts and signals.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::Duplicate => "duplicate",
        }
    }

    /// Returns what to change for the documents to stay.
    fn advice(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "set preprocess.invalid_utf8 = \"repair\"",
            Self::TooShort => "lower preprocess.min_bytes",
            Self::TooLong => "raise preprocess.max_bytes, or set preprocess.long_documents = \"cut\"",
            Self::Duplicate => "collect other documents",
        }
    }
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
    fn of(digest: Digest, config: &Config) -> Self {
        let draw = first_bits(digest) as f64 / (u64::MAX as f64 + 1.0);
        if draw < config.test {
            Self::Test
        } else if draw < config.test + config.validation {
            Self::Validation
        } else {
            Self::Train
        }
    }
}

fn first_bits(digest: Digest) -> u64 {
    u64::from_str_radix(&digest.to_string()[..16], 16).unwrap_or_default()
}

impl Collection {
    /// Returns the entries of a split in the order of their digests: a shuffle that depends on nothing else.
    pub(crate) fn order(&self, split: Split) -> Vec<usize> {
        let mut order: Vec<usize> =
            (0..self.entries.len()).filter(|i| self.entries[*i].fate == Fate::Kept(split)).collect();
        order.sort_unstable_by_key(|i| self.entries[*i].digest);
        order
    }
}

/// Drops all but one of equal texts and gives every other a split.
pub(crate) fn divide(config: &Config, collection: &mut Collection) -> Result<(), Error> {
    let mut order: Vec<usize> = (0..collection.entries.len()).collect();
    // Of equal texts the one with the first source and id stays, wherever in the corpus it lies.
    order.sort_by_cached_key(|i| {
        let entry = &collection.entries[*i];
        let document = collection.document(entry);
        (entry.digest, document.source.clone(), document.id.clone(), entry.piece)
    });
    let mut last = None;
    for i in order {
        let entry = &mut collection.entries[i];
        if entry.fate != Fate::Undecided {
            continue;
        }
        if last == Some(entry.digest) {
            entry.fate = Fate::Dropped(Reason::Duplicate);
            entry.text = String::new();
        } else {
            entry.fate = Fate::Kept(Split::of(entry.digest, config));
            last = Some(entry.digest);
        }
    }
    check(config, collection)
}

fn check(config: &Config, collection: &Collection) -> Result<(), Error> {
    let count = |wanted: fn(&Entry) -> bool| collection.entries.iter().filter(|entry| wanted(entry)).count();
    let kept = count(|entry| matches!(entry.fate, Fate::Kept(_)));
    if kept == 0 {
        let dropped = |reason| collection.entries.iter().filter(|e| e.fate == Fate::Dropped(reason)).count();
        let reasons = Reason::ALL.into_iter().filter(|reason| dropped(*reason) > 0);
        let reasons: Vec<String> =
            reasons.map(|reason| format!("{} {} ({})", dropped(reason), reason.name(), reason.advice())).collect();
        return Err(Error::NothingLeft { documents: collection.documents.len(), dropped: reasons.join(", ") });
    }
    let shares = [
        (Split::Train, 1.0 - config.validation - config.test),
        (Split::Validation, config.validation),
        (Split::Test, config.test),
    ];
    for (split, share) in shares {
        if collection.entries.iter().all(|entry| entry.fate != Fate::Kept(split)) {
            let advice = match split {
                Split::Train => "or lower preprocess.validation and preprocess.test".to_owned(),
                held_out => format!(
                    "raise preprocess.{}, or let preprocess.long_documents = \"cut\" with a smaller \
                     preprocess.max_bytes make more documents of long ones",
                    held_out.name()
                ),
            };
            return Err(Error::EmptySplit { split: split.name(), share, documents: kept, advice });
        }
    }
    Ok(())
}
