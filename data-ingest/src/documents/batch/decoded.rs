//! Pictures and sounds of a document, decoded once to see that they can be.

use std::sync::Arc;

use artifact::Digest;
use media::{Decoder, Error};

use crate::documents::document::{MediaBytes, Medium};
use crate::documents::rejection::Reason;

/// Returns what stands at each place of a document, or why one of them cannot be used; `known` is decoded already.
pub(super) fn media(
    found: &[MediaBytes],
    known: Option<&Arc<Medium>>,
    decoder: &Decoder,
) -> Result<Vec<Arc<Medium>>, (Reason, String)> {
    let mut media: Vec<Arc<Medium>> = Vec::with_capacity(found.len());
    for bytes in found {
        // One that stands at several places is decoded once.
        let decoded = known.into_iter().chain(&media).find(|medium| Arc::ptr_eq(&medium.bytes, bytes)).cloned();
        media.push(decoded.map_or_else(|| medium(bytes, decoder), Ok)?);
    }
    Ok(media)
}

/// Decodes a picture or sound.
pub(super) fn medium(bytes: &MediaBytes, decoder: &Decoder) -> Result<Arc<Medium>, (Reason, String)> {
    let (kind, info) = decoder.probe(bytes).map_err(|error| (reason(&error), error.to_string()))?;
    Ok(Arc::new(Medium { sha256: Digest::of(bytes), kind, info, bytes: Arc::clone(bytes) }))
}

fn reason(error: &Error) -> Reason {
    match error {
        Error::TooLarge { .. } => Reason::TooLarge,
        Error::Hostile { .. } => Reason::Hostile,
        Error::Unsupported { .. } => Reason::Unsupported,
        Error::Damaged { .. } => Reason::Corrupt,
        _ => Reason::Malformed,
    }
}
