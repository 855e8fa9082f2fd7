//! The layout of a pass's folder: one subfolder for each file of the corpus.

use std::path::{Path, PathBuf};

/// The file with the signals of one file of the corpus.
pub(crate) const SIGNALS: &str = "signals.parquet";

/// Returns the subfolder of a file of the corpus below a pass's folder `root`.
pub(crate) fn folder(root: &Path, file: usize) -> PathBuf {
    root.join(format!("{file:05}"))
}
