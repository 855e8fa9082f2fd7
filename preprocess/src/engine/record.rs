//! A document on its way through the steps.

use std::borrow::Cow;

use artifact::Digest;
use tokenizer::Message;

/// A document, or a piece of one, with what is known of it so far.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// What the corpus says of it.
    pub document: Document,
    /// Its number among all documents, once a first pass has numbered them.
    pub number: u32,
    /// The piece's number where the document is cut, else 0.
    pub piece: u32,
    /// What it says now.
    pub body: Body,
    /// The step that dropped it, counted from 1 in the list of steps; 0 while nothing has.
    pub dropped_by: u16,
    /// What the steps of this pass measured, one value for each of their columns.
    pub signals: Vec<Signal>,
}

/// A document as the corpus has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    pub id: String,
    pub source: String,
    pub path: String,
    pub licence: String,
    /// Its length before the first step.
    pub bytes: u64,
    /// Whether its bytes were not UTF-8.
    pub invalid_utf8: bool,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// Text.
    Text(String),
    /// A conversation.
    Chat(Vec<Message>),
}

/// A value in a column of the signals.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Signal {
    /// Nothing was measured.
    None,
    /// A figure.
    Number(f64),
    /// A word: a language, the criterion that dropped the document.
    Text(Cow<'static, str>),
}

/// Whether a column holds figures or words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Number,
    Text,
}

impl Body {
    /// Returns all that is said, for steps that read: the messages of a conversation one after the other.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Chat(messages) => {
                Cow::Owned(messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n\n"))
            }
        }
    }

    /// Changes every text in it.
    pub fn rewrite(&mut self, mut change: impl FnMut(&str) -> Option<String>) {
        let mut rewrite = |text: &mut String| {
            if let Some(changed) = change(text) {
                *text = changed;
            }
        };
        match self {
            Self::Text(text) => rewrite(text),
            Self::Chat(messages) => messages.iter_mut().for_each(|message| rewrite(&mut message.content)),
        }
    }

    /// Returns the length of all that is said, in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Chat(messages) => messages.iter().map(|message| message.content.len() as u64).sum(),
        }
    }

    /// Returns the bytes that a spool keeps, and that the digest is of: the text, or the messages as compact JSON.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            Self::Chat(messages) => Cow::Owned(serde_json::to_vec(messages).unwrap_or_default()),
        }
    }

    /// Returns what [`Body::to_bytes`] wrote; none where the bytes are not that.
    pub fn from_bytes(bytes: Vec<u8>, is_chat: bool) -> Option<Self> {
        if is_chat {
            return serde_json::from_slice(&bytes).ok().map(Self::Chat);
        }
        String::from_utf8(bytes).ok().map(Self::Text)
    }

    /// Returns the digest of the content, which decides everything that depends on no other document.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
