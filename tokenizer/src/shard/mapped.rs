//! A file mapped into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

/// Maps the file at `path`, which must not be changed while the map exists.
///
/// # Errors
/// On I/O errors.
pub(super) fn map(path: &Path) -> Result<Mmap, artifact::Error> {
    let failed = |e| artifact::Error::io("map", path, e);
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the file belongs to a sealed artifact, which this program never writes again; a rerun of
    // the stage replaces it by a new file. Every value in it is checked when the shard is opened and read as plain
    // bytes afterwards, and a store has one user at a time (`Store::lock`).
    unsafe { Mmap::map(&file) }.map_err(failed)
}
