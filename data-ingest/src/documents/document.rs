//! Documents of the corpus.

use std::sync::Arc;

use artifact::Digest;
use artifact::digest::Hasher;
use media::{Info, Kind};

use crate::documents::chat::Conversation;

/// Stands for a picture or sound in the text of a document that has any: the object replacement character.
pub(crate) const PLACE: char = '\u{fffc}';

/// The bytes of a picture or sound, as they were found.
pub(crate) type MediaBytes = Arc<Vec<u8>>;

/// A picture or sound that could be decoded.
#[derive(Debug, PartialEq)]
pub(crate) struct Medium {
    /// The digest of its bytes.
    pub sha256: Digest,
    /// Its kind.
    pub kind: Kind,
    /// Its size.
    pub info: Info,
    /// Its bytes.
    pub bytes: MediaBytes,
}

/// The content of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// Text.
    Text(String),
    /// Bytes that are not UTF-8; preprocess repairs or rejects them.
    Raw(Vec<u8>),
    /// A conversation.
    Chat(Conversation),
}

impl Content {
    /// Returns the bytes as text if they are UTF-8, else as bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|e| Self::Raw(e.into_bytes()), Self::Text)
    }

    /// Returns the digest and the length of the bytes; of a conversation, of its compact JSON.
    pub fn measure(&self) -> (Digest, u64) {
        let measure = |bytes: &[u8]| (Digest::of(bytes), bytes.len() as u64);
        match self {
            Self::Text(text) => measure(text.as_bytes()),
            Self::Raw(bytes) => measure(bytes),
            Self::Chat(chat) => measure(chat.compact_json().as_bytes()),
        }
    }
}

/// A document.
#[derive(Debug, PartialEq)]
pub(crate) struct Document {
    /// Its name in the corpus: `<source>/<path>`, and `#<number>` if its file holds several; or `<source>/<id>`.
    pub id: String,
    /// The path of its file inside the source; of a page in a web archive, `!` and its address behind it.
    pub path: String,
    /// Its content.
    pub content: Content,
    /// What stands at each [`PLACE`] of its text.
    pub media: Vec<Arc<Medium>>,
    /// The digest of its bytes, or of those and its media.
    pub sha256: Digest,
    /// The length of its bytes.
    pub bytes: u64,
    /// Its own licence, if a column has one.
    pub licence: Option<String>,
    /// Its own source, if a column has one.
    pub source: Option<String>,
}

/// Returns the digest of a document with media: of its text, and behind it one line for each digest.
pub(crate) fn digest_with_media(text: &[u8], media: &[Arc<Medium>]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(text);
    for medium in media {
        hasher.update(format!("\n{}", medium.sha256).as_bytes());
    }
    hasher.finish()
}
