//! The `[evaluate]` table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What is measured, and on how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The most tokens of the test split, and of the validation split, that are scored, from the split's start; the
    /// compressors get the same text. 0 for all. Default 49152.
    pub max_tokens: u64,
    /// How many samples are drawn. 0 for none. Default 16.
    pub samples: usize,
    /// The most tokens a sample has after its prompt, at most 16384. Default 128.
    pub sample_tokens: usize,
    /// What samples begin with, taken in turn; where there are none, the openings of held-out documents. Default none.
    pub prompts: Vec<String>,
    /// What logits are divided by when sampling; 0 always takes the likeliest token. Default 0.8.
    pub temperature: f32,
    /// Only the smallest set of likeliest tokens whose probabilities reach this can be drawn; 1 for all. Default 0.95.
    pub top_p: f32,
    /// The language that samples are parsed as: `"rust"` or `"none"`. Default `"none"`.
    pub language: Language,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_tokens: 49_152,
            samples: 16,
            sample_tokens: 128,
            prompts: Vec::new(),
            temperature: 0.8,
            top_p: 0.95,
            language: Language::None,
        }
    }
}

/// A language that can be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, with `syn`.
    Rust,
    /// Any other, or prose: nothing is parsed.
    None,
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Config`] with the key of the first value that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |key, reason: &str, found: String| {
            Err(Error::Config { key, reason: format!("must be {reason}, and is {found}") })
        };
        if self.max_tokens == 1 {
            return wrong(
                "evaluate.max_tokens",
                "at least 2, to predict one from another, or 0 for all",
                "1".to_owned(),
            );
        }
        if self.samples > 0 && !(1..=16_384).contains(&self.sample_tokens) {
            return wrong("evaluate.sample_tokens", "from 1 to 16384", self.sample_tokens.to_string());
        }
        if let Some(i) = self.prompts.iter().position(String::is_empty) {
            return wrong(
                "evaluate.prompts",
                "a list of texts that are not empty",
                format!("empty at place {}", i + 1),
            );
        }
        if let Some(prompt) = self.prompts.iter().find(|prompt| prompt.len() > 16_384) {
            return wrong(
                "evaluate.prompts",
                "a list of texts of at most 16384 bytes",
                format!("{} long", prompt.len()),
            );
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("evaluate.temperature", "a number from 0 up", self.temperature.to_string());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("evaluate.top_p", "a number above 0 and at most 1", self.top_p.to_string());
        }
        Ok(())
    }

    /// Returns the configuration as JSON, less what cannot change the output.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |change: fn(&mut Config), expected: Option<&str>| {
            let mut config = Config::default();
            change(&mut config);
            match (config.validate(), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(text)) => assert_eq!(error.to_string(), text),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        };
        check(|_| (), None);
        check(|c| c.max_tokens = 0, None);
        check(
            |c| c.max_tokens = 1,
            Some("evaluate.max_tokens must be at least 2, to predict one from another, or 0 for all, and is 1"),
        );
        check(|c| c.sample_tokens = 0, Some("evaluate.sample_tokens must be from 1 to 16384, and is 0"));
        check(
            |c| {
                c.samples = 0;
                c.sample_tokens = 0;
            },
            None,
        );
        check(
            |c| c.prompts = vec!["fn".to_owned(), String::new()],
            Some("evaluate.prompts must be a list of texts that are not empty, and is empty at place 2"),
        );
        check(|c| c.temperature = f32::NAN, Some("evaluate.temperature must be a number from 0 up, and is NaN"));
        check(|c| c.top_p = 0.0, Some("evaluate.top_p must be a number above 0 and at most 1, and is 0"));
    }
}
