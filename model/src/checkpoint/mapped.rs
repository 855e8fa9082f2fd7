//! Memory-mapped files of weights.
#![allow(unsafe_code, reason = "memory-mapping a file is unsafe")]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::Error;

/// Maps the file at `path`.
///
/// # Errors
/// Returns an error if it cannot be opened or mapped.
pub(crate) fn map(path: &Path) -> Result<Mmap, Error> {
    let failed = |source| Error::Io { operation: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the map is only read as plain bytes, of which every pattern is a valid number, and exists while a model
    // is loaded. This program replaces weights by renaming a new file over them and never writes into one. If another
    // program truncates a file while it is read, the process ends, as with any reader of memory-mapped weights.
    unsafe { Mmap::map(&file) }.map_err(failed)
}

/// Releases the memory of a part of a map; its pages are read again from the file if they are needed.
pub(crate) fn release(map: &Mmap, part: &[u8]) {
    #[cfg(unix)]
    if let Some(offset) = part.as_ptr().addr().checked_sub(map.as_ptr().addr()) {
        // Advice: without it the pages are only kept longer.
        // SAFETY: the map is of a file and is never written to, so that its pages have the same bytes when they are
        // read again.
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len()) };
    }
    #[cfg(not(unix))]
    let _ = (map, part);
}
