//! The `[optimize]` table.

use model::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The configuration of stage optimize: the form of the bundle, and the limits of its distance from the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The dtype of the weights: `"bf16"`, `"f16"` or `"f32"`. Default `"bf16"`: half the bytes, with the range of f32.
    pub dtype: Dtype,
    /// The maximum difference between two logits of the same token, in nats. Default 0.5.
    pub max_logit_difference: f64,
    /// The maximum difference between the two mean validation losses, in nats per token. Default 0.02.
    pub max_loss_difference: f64,
    /// The number of validation tokens to compare on, if the split has as many. Default 8192.
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
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        let limits = [
            ("optimize.max_logit_difference", self.max_logit_difference),
            ("optimize.max_loss_difference", self.max_loss_difference),
        ];
        for (key, limit) in limits {
            if !(limit.is_finite() && limit >= 0.0) {
                let reason = format!("must be a number of nats from 0 up, not {limit}");
                return Err(Error::Config { key, reason });
            }
        }
        if self.parity_tokens == 0 {
            let reason = "must be at least 1: without a comparison, a bundle is not checked".to_owned();
            return Err(Error::Config { key: "optimize.parity_tokens", reason });
        }
        Ok(())
    }

    /// Returns the part of the configuration that decides the output: all of it.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}
