//! The `[train.dpo]` table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The settings of Direct Preference Optimization.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DpoConfig {
    /// β: how strongly the model is kept close to the reference, the model that training starts from. Smaller values
    /// let it move further away. Default 0.1.
    pub beta: f64,
    /// The assumed probability that a pair is labelled the wrong way round, below 0.5 (A note on DPO with noisy
    /// preferences and relationship to IPO, 2023). Default 0.
    pub label_smoothing: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.0 }
    }
}

impl DpoConfig {
    /// Checks the range of each value.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |key: &str, reason| Err(Error::Config { key: format!("train.dpo.{key}"), reason });
        if !(self.beta > 0.0 && self.beta <= 100.0) {
            return invalid("beta", format!("{} is not between 0 and 100", self.beta));
        }
        if !(0.0..0.5).contains(&self.label_smoothing) {
            return invalid("label_smoothing", format!("{} is not between 0 and 0.5", self.label_smoothing));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_named() {
        let check =
            |config: DpoConfig, expected: &str| assert_eq!(config.validate().unwrap_err().to_string(), expected);
        DpoConfig::default().validate().unwrap();
        check(DpoConfig { beta: 0.0, ..DpoConfig::default() }, "train.dpo.beta: 0 is not between 0 and 100");
        let half = DpoConfig { label_smoothing: 0.5, ..DpoConfig::default() };
        check(half, "train.dpo.label_smoothing: 0.5 is not between 0 and 0.5");
    }
}
