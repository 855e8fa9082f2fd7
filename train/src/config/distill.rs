//! The `[train.distill]` table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The settings of distillation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// The teacher: a model with the same tokenizer, named as `train.init` names one. It must be given.
    pub teacher: String,
    /// The temperature of both distributions, which are softmax(logits / temperature): above 1 the student learns more
    /// about what the teacher finds unlikely. Default 2, in the range that worked best for small students (Distilling
    /// the Knowledge in a Neural Network, 2015).
    pub temperature: f64,
    /// The weight of the divergence from the teacher, from 0 to 1; the cross-entropy of the text has the rest. The
    /// divergence is multiplied by temperature², so that neither depends on the temperature. Default 0.5.
    pub weight: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self { teacher: String::new(), temperature: 2.0, weight: 0.5 }
    }
}

impl DistillConfig {
    /// Checks the range of each value.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |key: &str, reason| Err(Error::Config { key: format!("train.distill.{key}"), reason });
        if self.teacher.trim().is_empty() {
            return invalid("teacher", "is missing; name a run, a folder or a model of the Hub".to_owned());
        }
        if !(0.1..=100.0).contains(&self.temperature) {
            return invalid("temperature", format!("{} is not between 0.1 and 100", self.temperature));
        }
        if !(self.weight > 0.0 && self.weight <= 1.0) {
            return invalid("weight", format!("{} is not above 0 and at most 1", self.weight));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, DpoConfig};

    fn distill() -> DistillConfig {
        DistillConfig { teacher: "large".to_owned(), ..DistillConfig::default() }
    }

    #[test]
    fn invalid_values_are_named() {
        let check = |config: DistillConfig, expected: &str| {
            let config = Config { distill: Some(config), ..Config::default() };
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        distill().validate().unwrap();
        let missing = "train.distill.teacher: is missing; name a run, a folder or a model of the Hub";
        check(DistillConfig::default(), missing);
        let cold = "train.distill.temperature: 0 is not between 0.1 and 100";
        check(DistillConfig { temperature: 0.0, ..distill() }, cold);
        let weightless = "train.distill.weight: 0 is not above 0 and at most 1";
        check(DistillConfig { weight: 0.0, ..distill() }, weightless);
    }

    #[test]
    fn what_excludes_distillation_is_named() {
        let check = |config: Config, expected: &str| {
            let config = Config { distill: Some(distill()), ..config };
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        };
        let preferences = Config { dpo: Some(DpoConfig::default()), ..Config::default() };
        check(preferences, "train.distill: has no effect with train.dpo, whose loss has no teacher");
        let budget = Config { budget: Some("10m".to_owned()), ..Config::default() };
        check(budget, "train.budget: does not know the time of train.distill's teacher; give train.steps");
    }
}
