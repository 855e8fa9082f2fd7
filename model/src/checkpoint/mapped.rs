//! A file of weights mapped into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::Error;

/// Maps the file at `path`.
///
/// # Errors
/// When it cannot be opened or mapped.
pub(super) fn map(path: &Path) -> Result<Mmap, Error> {
    let failed = |source| Error::Io { operation: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the map is only ever read as plain bytes, in which every pattern is a number, and lives while a model is
    // loaded. This program replaces weights by renaming a new file over them, never writes into one; whoever cuts a
    // file short from outside while it is read ends the process, as with any other reader of mapped weights.
    unsafe { Mmap::map(&file) }.map_err(failed)
}
