//! Errors.

use std::fmt::Display;

use crate::Kind;

/// Why bytes are not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are of no known kind.
    #[error("neither a picture (PNG, JPEG, WebP, GIF, SVG) nor a sound (WAV, FLAC, MP3, OGG Vorbis)")]
    Unknown,
    /// The bytes are of the other kind.
    #[error("{kind} is not a {wanted}")]
    WrongKind {
        /// What they are.
        kind: Kind,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The bytes are damaged or truncated.
    #[error("{kind} is damaged: {message}")]
    Damaged {
        /// What they begin as.
        kind: Kind,
        /// What is wrong.
        message: String,
    },
    /// Decoding would exceed the limits.
    #[error("{kind} is too large: {what}")]
    TooLarge {
        /// What they are.
        kind: Kind,
        /// Its size and the limit.
        what: String,
    },
    /// An SVG that loads, runs or multiplies something.
    #[error("{kind} is refused: {what}")]
    Hostile {
        /// What they are.
        kind: Kind,
        /// What is in it.
        what: String,
    },
    /// A part that is not decoded, so that the result would lack it.
    #[error("{kind} has {what}")]
    Unsupported {
        /// What they are.
        kind: Kind,
        /// The part, and what to do.
        what: &'static str,
    },
}

impl Error {
    /// Returns the error of damaged bytes, in one line.
    pub(crate) fn damaged(kind: Kind, message: impl Display) -> Self {
        Self::Damaged { kind, message: message.to_string().replace('\n', " ") }
    }
}
