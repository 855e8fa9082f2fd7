//! The table `[generate]`.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Error, Sampling};

/// What the samples begin with when nothing else is asked for: a model of Rust code can go on from each.
const DEFAULT_PROMPTS: [&str; 5] = ["fn main() {", "/// Returns", "impl<T>", "pub struct", "use std::"];

/// The table `[generate]`: which prompts to continue, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The prompts; an empty one starts a new document. Default: five beginnings of Rust where there is no
    /// `prompts_file`, else none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<String>>,
    /// A file with more prompts, from the folder of the configuration: `.jsonl` with a `prompt` in each line's object,
    /// anything else with one prompt a line (empty lines are passed over). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts_file: Option<String>,
    /// How often each prompt is continued, each time with another seed. Default: 2.
    pub samples_per_prompt: usize,
    /// The most tokens to write for one sample. Default: 128.
    pub max_tokens: usize,
    /// What logits are divided by: below 1 the likely tokens become likelier, 0 always takes the likeliest. Default: 0.8.
    pub temperature: f32,
    /// Only this many of the likeliest tokens can be drawn; 0 for all. Default: 0.
    pub top_k: usize,
    /// Only the smallest set of likeliest tokens whose probabilities reach this can be drawn; 1 for all. Default: 0.95.
    pub top_p: f32,
    /// How much tokens that were already read or written are held back (CTRL, Keskar et al. 2019); 1 not at all.
    /// Default: 1.
    pub repetition_penalty: f32,
    /// A sample ends before the first of these strings. Default: none.
    pub stop: Vec<String>,
    /// Whether the prompts are what a user says, to be answered as the chat template has it, instead of beginnings of texts.
    /// Default: false.
    pub chat: bool,
}

impl Default for Config {
    fn default() -> Self {
        let Sampling { max_tokens, temperature, top_k, top_p, repetition_penalty, stop, .. } = Sampling::default();
        Self {
            prompts: None,
            prompts_file: None,
            samples_per_prompt: 2,
            max_tokens,
            temperature,
            top_k,
            top_p,
            repetition_penalty,
            stop,
            chat: false,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Names the first key that cannot be used.
    pub fn validate(&self) -> Result<(), Error> {
        let positive = |key, value: usize| match value {
            0 => Err(Error::Config { key, expected: "at least 1", found: "0".to_owned() }),
            _ => Ok(()),
        };
        positive("samples_per_prompt", self.samples_per_prompt)?;
        positive("max_tokens", self.max_tokens)?;
        if self.inline_prompts().is_empty() && self.prompts_file.is_none() {
            return Err(Error::NoPrompts);
        }
        self.sampling(0).validate().map_err(|wrong| Error::Config {
            key: wrong.name,
            expected: wrong.expected,
            found: wrong.found,
        })
    }

    /// Returns the configuration as JSON for the fingerprint. The prompts file is there by name only; what it holds is
    /// in [`inputs`](crate::inputs).
    pub fn fingerprint_value(&self) -> serde_json::Value {
        json!({
            "prompts": self.inline_prompts(),
            "prompts_file": self.prompts_file,
            "samples_per_prompt": self.samples_per_prompt,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "repetition_penalty": self.repetition_penalty,
            "stop": self.stop,
            "chat": self.chat,
        })
    }

    /// Returns the sampling settings with a seed.
    pub fn sampling(&self, seed: u64) -> Sampling {
        Sampling {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed,
            stop: self.stop.clone(),
            chat: self.chat,
        }
    }

    /// Returns the prompts that do not come from a file.
    pub fn inline_prompts(&self) -> Vec<String> {
        match (&self.prompts, &self.prompts_file) {
            (Some(prompts), _) => prompts.clone(),
            (None, Some(_)) => Vec::new(),
            (None, None) => DEFAULT_PROMPTS.map(str::to_owned).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        let default = Config::default;
        let cases = [
            (Config { samples_per_prompt: 0, ..default() }, "generate.samples_per_prompt must be at least 1, not 0"),
            (Config { max_tokens: 0, ..default() }, "generate.max_tokens must be at least 1, not 0"),
            (Config { top_p: 2.0, ..default() }, "generate.top_p must be a number above 0 and at most 1, not 2"),
            (
                Config { prompts: Some(Vec::new()), ..default() },
                "there are no prompts: give generate.prompts, or a generate.prompts_file that is not empty",
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
        default().validate().unwrap();
    }

    #[test]
    fn a_prompts_file_takes_the_place_of_the_default_prompts() {
        let default = Config::default;
        let file = || Some("prompts.txt".to_owned());
        assert_eq!(default().inline_prompts().len(), 5);
        assert!(Config { prompts_file: file(), ..default() }.inline_prompts().is_empty());
        let both = Config { prompts_file: file(), prompts: Some(vec!["a".to_owned()]), ..default() };
        assert_eq!(both.inline_prompts(), ["a"]);
    }
}
