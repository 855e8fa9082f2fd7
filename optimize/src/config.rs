//! The `[optimize]` table.

use model::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What the bundle looks like, and how far it may be from the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The dtype of the weights: `"bf16"`, `"f16"` or `"f32"`. Default `"bf16"`: half the bytes, and the range of f32.
    pub dtype: Dtype,
    /// The largest difference allowed between two logits of the same token, in nats. Default 0.5.
    pub max_logit_difference: f64,
    /// The largest difference allowed between the two mean validation losses, in nats a token. Default 0.02.
    pub max_loss_difference: f64,
    /// Validation tokens to compare on; fewer where the split has fewer. Default 8192.
    pub parity_tokens: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { dtype: Dtype::Bf16, max_logit_difference: 0.5, max_loss_difference: 0.02, parity_tokens: 8192 }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Config`] with the key of the first value that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        let limits = [
            ("optimize.max_logit_difference", self.max_logit_difference),
            ("optimize.max_loss_difference", self.max_loss_difference),
        ];
        for (key, limit) in limits {
            if !(limit.is_finite() && limit >= 0.0) {
                let reason = format!("must be a number of nats, 0 or more, and is {limit}");
                return Err(Error::Config { key, reason });
            }
        }
        if self.parity_tokens == 0 {
            let reason = "must be at least 1: a bundle that nothing was compared with is not checked".to_owned();
            return Err(Error::Config { key: "optimize.parity_tokens", reason });
        }
        Ok(())
    }

    /// Returns the configuration as JSON, less what cannot change the output.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}
