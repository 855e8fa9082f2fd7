//! The documents of a corpus, by page.

use artifact::Sealed;

use super::media;
use crate::Error;
use crate::engine::corpus;
use crate::engine::record::Body;

/// A document of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub id: String,
    /// The source it came from.
    pub source: String,
    /// Its licence.
    pub licence: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its text; for a conversation, one line `role: content` per message. Pictures and sounds in it are described.
    pub text: String,
}

/// Returns up to `count` documents after the first `skip`, and the number of all documents.
///
/// # Errors
/// Returns an error if the corpus cannot be read.
pub fn documents(corpus: &Sealed, skip: usize, count: usize) -> Result<(Vec<Document>, usize), Error> {
    let mut page = Vec::new();
    let mut digests = Vec::new();
    let mut total = 0;
    for name in corpus::files(corpus) {
        let reader = corpus::Reader::open(corpus, &name)?;
        for (first, rows) in reader.row_groups() {
            let from = skip.saturating_sub(total).min(rows);
            if page.len() < count && from < rows {
                let wanted = (count - page.len()).min(rows - from);
                page.extend(reader.rows((first + from, wanted))?.into_iter().map(Document::of));
                digests.extend(media::digests(reader.file(), (first + from, wanted))?);
            }
            total += rows;
        }
    }
    let described = media::described(corpus, &digests)?;
    for (document, digests) in page.iter_mut().zip(&digests).filter(|(_, digests)| !digests.is_empty()) {
        document.text = media::in_words(&document.text, digests, &described);
    }
    Ok((page, total))
}

impl Document {
    fn of(row: corpus::Row) -> Self {
        let text = match row.content {
            corpus::Content::Body(Body::Text(text)) => text,
            corpus::Content::Body(Body::Chat(chat)) => {
                let lines: Vec<String> = chat.messages.iter().map(|m| format!("{}: {}", m.role, m.text())).collect();
                lines.join("\n")
            }
            corpus::Content::Raw(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        let corpus_document = row.document;
        Self {
            id: corpus_document.id,
            source: corpus_document.source,
            licence: corpus_document.licence,
            bytes: corpus_document.bytes,
            text,
        }
    }
}
