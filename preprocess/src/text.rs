//! Text: the words of a document.

pub mod words;
