//! Stage collect: raw data becomes a corpus.
//!
//! In: files, folders, globs, HTTP addresses and unpacked crates, named in `[collect]` or in a `dataset.toml`. Out:
//! `documents-*.parquet`, one row a document with its source, licence and digest, and `sources.json`, which tells where
//! each source came from. Collecting has two steps: [`inventory`] finds and hashes everything without writing, so that
//! the plan can tell which source changed; [`run`] reads it all and writes.
//!
//! This crate is the only one that fetches data from the network. It never changes a document: text that is not UTF-8
//! goes through as bytes, and duplicates stay; both are preprocess's to judge.

mod archive;
mod batch;
mod chat;
mod collect;
mod columns;
mod config;
mod crates;
mod delimited;
mod document;
mod download;
mod environment;
mod error;
mod format;
mod html;
mod http_message;
mod inventory;
mod json;
mod mapping;
mod read;
mod refusal;
mod select;
mod shard;
mod tally;
mod template;
mod unpack;
mod warc;
mod watch;

pub use chat::Chat;
pub use collect::run;
pub use config::{Config, Source};
pub use error::Error;
pub use format::Format;
pub use html::Html;
pub use inventory::{Inventory, SourceSummary, inventory};
pub use tally::BadRecordLimit;

/// The stage's name: its table in the configuration, its folder in the store.
pub const NAME: &str = "collect";

/// Raised when the output would change for the same sources.
pub const VERSION: u32 = 2;
