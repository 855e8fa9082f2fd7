//! Stage index: where a text occurs in the training data.
//!
//! In: the tokens of the train split. Out: a suffix array over them in blocks, memory-mapped when it is used. For any
//! text, [`Index::trace`] returns the maximal passages that occur verbatim in the training data, how often, and in
//! which documents, of which source and under which licence: the idea of infini-gram (Liu et al., 2024), and of
//! `OLMoTrace` (Liu et al., 2025), whose ranking of passages it has.
//!
//! A document belongs to one block, and each block has a suffix array of its own, as in infini-gram: a query asks all
//! of them. So building needs the memory of one block, an interrupted stage continues with the next one, and nothing
//! is merged. The arrays are built by libsais, in linear time also where documents are copies of each other.
//!
//! Modules in reading order: `config`, `stage` (what is built), `documents` (whose tokens they are), `tensor_file` and
//! `block` (a file of the index: written, mapped, searched), `index` (spans of tokens), `passage` (of a text).
//!
//! This crate must not depend on models or the network.

mod config;
mod error;

mod stage;

mod documents;

mod block;
mod tensor_file;

mod index;
mod passage;

pub use config::Config;
pub use documents::{Document, documents};
pub use error::Error;
pub use index::{Index, TokenSpan};
pub use passage::{Occurrence, Options, Passage};
pub use stage::{NAME, VERSION, run};
