//! Stage collect: raw data becomes a corpus.
//!
//! In: files, folders, globs, unpacked crates, HTTP addresses, repositories of the Hugging Face Hub, git repositories
//! and buckets of object stores, named in `[collect]` or in a `dataset.toml`. Out: `documents-*.parquet`, one row per
//! document with its source, licence and digest, and `sources.json`, which records where each source came from.
//!
//! Collecting has four steps. [`resolve()`] reads the dataset and its lock. [`lock()`] fetches remote sources that are
//! not in the lock yet, and adds their files to `dataset.lock`; with a complete lock it does nothing. [`inventory()`]
//! finds and hashes everything without writing and without the network, so that the plan can name the changed source.
//! [`run`] fetches the files that the cache lacks, checks them against the lock, reads all files and writes the corpus.
//!
//! Crate `fetch` does everything that needs the network. This crate never changes a document: text that is not UTF-8
//! stays bytes, and duplicates stay; preprocess decides about both. Members of archives, rows of tables, conversations
//! and the main text of web pages become documents here. Records that cannot become one are counted, and bad ones
//! quoted; memory does not grow with the size of a file.

mod collect;
mod config;
mod corpus_writer;
pub mod dataset;
mod documents;
mod error;
mod formats;
mod inventory;
mod lock;
mod resolve;
mod sources;

pub use collect::run;
pub use config::{BadRecordLimit, Config, Source};
pub use documents::chat::{Chat, ChatColumns};
pub use error::Error;
pub use fetch::LockChange;
pub use formats::format::Format;
pub use formats::html::Html;
pub use inventory::{Inventory, SourceSummary, inventory};
pub use lock::{lock, update_lock};
pub use resolve::{Resolved, resolve};

/// The stage's name: its table in the configuration, its folder in the store.
pub const NAME: &str = "collect";

/// Raised when the output would change for the same sources.
pub const VERSION: u32 = 6;
