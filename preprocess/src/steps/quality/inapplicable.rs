//! Criteria that cannot hold for a language.

use super::threshold::Threshold;

/// A signal that some languages have not, and the keys that then do not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inapplicable {
    /// The signal, which is NaN there.
    pub signal: &'static str,
    /// The keys that are in effect otherwise.
    pub keys: Vec<&'static str>,
    /// What the language, "it", has not.
    pub why: &'static str,
}

/// A reason.
pub(super) const NO_SPACES: &str = "it does not separate words by spaces";
/// A reason.
pub(super) const NO_SENTENCE_MARKS: &str = "it has no marks that end sentences";

impl Inapplicable {
    /// Returns the signal with those of `keys` that have a limit.
    pub(super) fn new(signal: &'static str, keys: &[(&'static str, Threshold)], why: &'static str) -> Self {
        let keys = keys.iter().filter(|(_, threshold)| threshold.limit().is_some());
        Self { signal, keys: keys.map(|(key, _)| *key).collect(), why }
    }

    /// Returns the signal with a key, if that is in effect.
    pub(super) fn switch(signal: &'static str, key: &'static str, is_on: bool, why: &'static str) -> Self {
        Self { signal, keys: is_on.then_some(key).into_iter().collect(), why }
    }
}
