//! The table `[index]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The most tokens of a block: libsais counts them in 31 bits.
const MAX_BLOCK_TOKENS: u64 = 1 << 30;

/// The table `[index]`: the index of the training data, which finds where a text occurs in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The most tokens of training data that are indexed: with more, no text can be traced. The index has 6 bytes for
    /// each token, 8 if the vocabulary has more than 65535. 0 for no index. Default: 100000000.
    pub max_tokens: u64,
    /// The tokens that are indexed at a time; a longer document is a block by itself. Building needs about 7 bytes of
    /// memory for each, 9 with the larger vocabulary. Default: 33554432.
    pub block_tokens: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_tokens: 100_000_000, block_tokens: 1 << 25 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        if (1..=MAX_BLOCK_TOKENS).contains(&self.block_tokens) {
            return Ok(());
        }
        let reason = format!("must be from 1 to {MAX_BLOCK_TOKENS}, not {}", self.block_tokens);
        Err(Error::Config { key: "index.block_tokens", reason })
    }

    /// Returns the configuration as JSON for the fingerprint.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_named() {
        let check = |block_tokens: u64, expected: Option<&str>| {
            let found = Config { block_tokens, ..Config::default() }.validate();
            assert_eq!(found.err().map(|error| error.to_string()).as_deref(), expected);
        };
        check(1 << 25, None);
        check(MAX_BLOCK_TOKENS, None);
        check(0, Some("index.block_tokens must be from 1 to 1073741824, not 0"));
        check(1 << 31, Some("index.block_tokens must be from 1 to 1073741824, not 2147483648"));
    }
}
