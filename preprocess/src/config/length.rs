//! The table `[preprocess.length]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The table `[preprocess.length]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LengthConfig {
    /// Documents shorter than this are dropped; bytes. Default 64.
    pub min_bytes: u64,
    /// Documents longer than this are dropped or cut; bytes. Default 262144 (256 KiB): longer files in a source tree
    /// are usually generated.
    pub max_bytes: u64,
    /// What to do with longer documents: `"drop"`, or `"cut"` them at line ends into pieces of at most `max_bytes`,
    /// each a separate document, for example if one file contains a whole book. A conversation is never cut. Default
    /// `"drop"`.
    pub long: LongDocuments,
}

/// What to do with a document longer than `max_bytes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LongDocuments {
    /// It is dropped.
    #[default]
    Drop,
    /// It is cut into pieces at line ends.
    Cut,
}

impl Default for LengthConfig {
    fn default() -> Self {
        Self { min_bytes: 64, max_bytes: 256 << 10, long: LongDocuments::default() }
    }
}

impl LengthConfig {
    /// Returns the key by which a document of this length is dropped, if it is.
    pub(crate) fn failed(&self, bytes: u64) -> Option<&'static str> {
        match bytes {
            _ if bytes < self.min_bytes => Some("min_bytes"),
            _ if bytes > self.max_bytes => Some("max_bytes"),
            _ => None,
        }
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        let fail = |key: &str, problem: String| Err(Error::config(key, problem));
        if self.min_bytes == 0 {
            let problem = "is 0; an empty document has no tokens, so the minimum is 1".to_owned();
            return fail("preprocess.length.min_bytes", problem);
        }
        if self.max_bytes < self.min_bytes {
            let problem = format!("is {}, less than preprocess.length.min_bytes = {}", self.max_bytes, self.min_bytes);
            return fail("preprocess.length.max_bytes", problem);
        }
        Ok(())
    }
}
