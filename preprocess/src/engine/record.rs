//! A document during the steps.

use std::borrow::Cow;

use artifact::Digest;
use tokenizer::{Conversation, Message};

/// A document, or a piece of one, with its signals so far.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Its metadata in the corpus.
    pub document: Document,
    /// Its number among all documents, assigned after the first pass.
    pub number: u32,
    /// The number of the piece if the document was cut, else 0.
    pub piece: u32,
    /// Its current content.
    pub body: Body,
    /// The step that dropped it, counted from 1 in the list of steps; 0 if none has.
    pub dropped_by: u16,
    /// The signals of this pass, one value for each column of its steps.
    pub signals: Vec<Signal>,
}

/// A document's metadata in the corpus.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document {
    pub id: String,
    pub source: String,
    pub path: String,
    pub licence: String,
    /// Its length before the first step.
    pub bytes: u64,
    /// Whether its bytes were not valid UTF-8.
    pub invalid_utf8: bool,
}

/// The content of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// Text.
    Text(String),
    /// A conversation.
    Chat(Conversation),
}

/// A value in a column of the signals.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Signal {
    /// No value.
    None,
    /// A number.
    Number(f64),
    /// A text: a language, or the criterion that dropped the document.
    Text(Cow<'static, str>),
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Number,
    Text,
}

impl Body {
    /// Returns the whole text, for steps that only read it: for a conversation, all messages in order.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Chat(chat) => Cow::Owned(chat.messages.iter().map(Message::text).collect::<Vec<_>>().join("\n\n")),
        }
    }

    /// Replaces every text for which `change` returns a new one.
    pub fn rewrite(&mut self, mut change: impl FnMut(&str) -> Option<String>) {
        let mut rewrite = |text: &mut String| {
            if let Some(changed) = change(text) {
                *text = changed;
            }
        };
        match self {
            Self::Text(text) => rewrite(text),
            Self::Chat(chat) => chat.messages.iter_mut().for_each(|message| message.for_each_text(&mut rewrite)),
        }
    }

    /// Returns the length of the text, in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Chat(chat) => chat.messages.iter().map(|message| message.text().len() as u64).sum(),
        }
    }

    /// Returns the bytes that are stored in a spool and hashed: the text, or the conversation as compact JSON.
    pub fn to_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
            Self::Chat(chat) => Cow::Owned(serde_json::to_vec(chat).unwrap_or_default()),
        }
    }

    /// Parses the bytes of [`Body::to_bytes`]; returns `None` if they are invalid.
    pub fn from_bytes(bytes: Vec<u8>, is_chat: bool) -> Option<Self> {
        if is_chat {
            return serde_json::from_slice(&bytes).ok().map(Self::Chat);
        }
        String::from_utf8(bytes).ok().map(Self::Text)
    }

    /// Returns the digest of the content, on which the split and the order depend.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}
