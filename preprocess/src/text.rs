//! Text: words, lines and paragraphs of a document, and character classes.

pub mod characters;
mod chunks;
mod word;
pub mod words;
