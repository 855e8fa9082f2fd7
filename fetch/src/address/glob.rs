//! Globs over paths inside a source.

use globset::{Error, GlobBuilder, GlobSet, GlobSetBuilder};

/// Compiles globs in which `*` stops at `/`, and in which the name of a folder matches everything inside it.
///
/// # Errors
/// Returns an error for an invalid pattern.
pub fn glob_set(patterns: &[String]) -> Result<GlobSet, Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        for pattern in [pattern.clone(), format!("{pattern}/**")] {
            set.add(GlobBuilder::new(&pattern).literal_separator(true).build()?);
        }
    }
    set.build()
}
