//! Validation of Parquet files by others: what they claim, before crate `parquet` allocates it.
//!
//! In: a file, its metadata and the pages of a column. Out: an error that says which claim cannot be true. A reader
//! calls [`inspect`] before it reads the footer, [`validate`] for each column of a row group, and decodes [`Pages`].
//!
//! Modules in reading order: `footer` (encryption, depth), `page_header` (sizes and counts), `pages` (lengths within a
//! page), `thrift` (the protocol of headers). This crate must not depend on what the rows are for.

mod footer;
mod page_header;
mod pages;
mod thrift;

pub use footer::{Encryption, inspect};
pub use page_header::validate;
pub use pages::{IoErrorSlot, OneGroup, Pages};

use std::io;

/// Bytes that a page may unpack to, whatever its size. Heuristic, as for compressed files.
pub const HARMLESS_BYTES: u64 = 64 << 20;

/// How many times its size a page may unpack to beyond that.
const MAX_RATIO: u64 = 1000;

fn wrong(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}
