//! Random numbers for identifiers and missing seeds.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns a random number, from the keys of the standard library's hash tables; not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
