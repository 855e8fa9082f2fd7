//! Where text came from: the sources of documents, and the passages of a text that occur in the training data.

use std::ops::Range;

use artifact::Sealed;
use schemars::JsonSchema;
use serde::Serialize;
use trace::{Document, Index};

use crate::Error;

/// The fewest tokens of a passage that is traced. Heuristic: shorter ones are mostly idioms.
pub(crate) const MIN_TRACED_TOKENS: usize = 16;

/// The passages of a text that are traced.
const MAX_TRACED: usize = 4;

/// Where a document came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Origin {
    /// The source's name.
    pub(crate) source: String,
    /// The path in it.
    pub(crate) path: String,
    /// The licence.
    pub(crate) licence: String,
}

/// A passage of a text that occurs in the training data word for word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Traced {
    /// Its bytes in the text.
    pub(crate) bytes: Range<usize>,
    pub(crate) tokens: usize,
    /// How often it occurs there.
    pub(crate) count: u64,
    /// Where one of the documents came from.
    pub(crate) origin: Option<Origin>,
}

/// Opens the index of the training data; none if that was too large for one.
///
/// # Errors
/// Returns an error if the index differs from its manifest or is invalid.
pub(crate) fn open(index: &Sealed) -> Result<Option<Index>, Error> {
    match Index::open(index) {
        Err(trace::Error::NotBuilt { .. }) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Returns the origins of the first `count` documents of a split; none of tokens that do not say it.
///
/// # Errors
/// Returns an error if what the tokens record of their documents differs from the manifest or does not match the split.
pub(crate) fn origins(tokens: &Sealed, split: &str, count: usize) -> Result<Vec<Option<Origin>>, Error> {
    Ok(trace::documents(tokens, split, 0..count)?.into_iter().map(Origin::of).collect())
}

/// Returns the longest and rarest passages of a text that occur in the training data, in the order of the text and
/// without overlaps.
///
/// # Errors
/// Returns an error if the text cannot be encoded or the index is invalid.
pub(crate) fn passages(index: &Index, text: &str) -> Result<Vec<Traced>, Error> {
    let options = trace::Options {
        min_tokens: MIN_TRACED_TOKENS,
        max_passages: MAX_TRACED,
        max_occurrences: 1,
        context_tokens: 0,
    };
    let mut traced: Vec<Traced> = Vec::new();
    for passage in index.trace(text, &options)? {
        let overlaps = |other: &Traced| other.bytes.start < passage.bytes.end && passage.bytes.start < other.bytes.end;
        if !traced.iter().any(overlaps) {
            let origin = passage.occurrences.into_iter().next().and_then(|place| Origin::of(place.document));
            traced.push(Traced { bytes: passage.bytes, tokens: passage.tokens, count: passage.count, origin });
        }
    }
    traced.sort_by_key(|passage| passage.bytes.start);
    Ok(traced)
}

impl Origin {
    /// Returns the origin of a document, if its source is known.
    fn of(document: Document) -> Option<Self> {
        let Document { source, path, licence, .. } = document;
        (!source.is_empty()).then_some(Self { source, path, licence })
    }
}
