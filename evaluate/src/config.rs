//! The table `[evaluate]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tasks::TaskOptions;
use crate::{Error, Gates, risk};

/// The table `[evaluate]`: how much text to score, which samples to draw, and which tasks to ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The maximum number of tokens to score of the test split and of the validation split, from the split's start; the
    /// compressors get the same text. 0 for all. Default: 49152.
    pub max_tokens: u64,
    /// The number of samples to draw; 0 for none. Default: 16.
    pub samples: usize,
    /// The maximum number of tokens per sample after its prompt, at most 16384. Default: 128.
    pub sample_tokens: usize,
    /// The prompts of the samples, used in turn; without any, the first 16 tokens of held-out documents. Default: none.
    pub prompts: Vec<String>,
    /// Sampling temperature: divides the logits; 0 always picks the most likely token. Default: 0.8.
    pub temperature: f32,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this; 1 for all.
    /// Default: 0.95.
    pub top_p: f32,
    /// The language that samples are parsed as, to count those that parse: `rust`, `python`, `javascript`, `c`, `go` or
    /// `none`. Default: `none`.
    pub language: Language,
    /// The tasks to ask of the bundle: `english`, `chinese`, `code` and `python_functions`, which come with this
    /// program, and `.toml` files and `.yaml` files of lm-evaluation-harness, relative to `pipeline.toml`. Default:
    /// none.
    pub tasks: Vec<String>,
    /// The number of examples before a question of a task; a task that has 0 keeps it. Default: each task's own, else
    /// 0.
    pub num_fewshot: Option<usize>,
    /// The maximum number of items of a task, from its first; 0 for all. Default: 0.
    pub task_limit: usize,
    /// Whether tasks may run code that the model writes, as `python_functions` does: without network, and with limits
    /// on time, memory, processes and files. Only on Linux. Default: false.
    pub allow_code_execution: bool,
    /// The tokens of the train split, from its start, on which an n-gram model is trained as a baseline; 0 for none.
    /// Default: 4194304.
    pub n_gram_tokens: u64,
    /// A model that predicts the same held-out text and the samples, as a comparison: a folder in Hugging Face layout,
    /// a GGUF file, a run, an imported model, or a model of the Hub. It may have another tokenizer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_model: Option<String>,
    /// What may go wrong with the model: memorised text, stereotypes, toxic words.
    pub risk: risk::Config,
    /// What the metrics must be for the run to succeed.
    pub gates: Gates,
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
            tasks: Vec::new(),
            num_fewshot: None,
            task_limit: 0,
            allow_code_execution: false,
            n_gram_tokens: 1 << 22,
            reference_model: None,
            risk: risk::Config::default(),
            gates: Gates::default(),
        }
    }
}

/// A programming language whose syntax can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Any other language, or prose: no syntax check.
    None,
    /// Rust.
    Rust,
    /// Python.
    Python,
    /// JavaScript.
    JavaScript,
    /// C.
    C,
    /// Go.
    Go,
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |key, expected: &str, found: String| {
            Err(Error::Config { key, reason: format!("must be {expected}, not {found}") })
        };
        if self.max_tokens == 1 {
            return invalid(
                "evaluate.max_tokens",
                "at least 2, since the first token is only context, or 0 for all",
                "1".to_owned(),
            );
        }
        if self.samples > 0 && !(1..=16_384).contains(&self.sample_tokens) {
            return invalid("evaluate.sample_tokens", "from 1 to 16384", self.sample_tokens.to_string());
        }
        if let Some(i) = self.prompts.iter().position(String::is_empty) {
            return invalid(
                "evaluate.prompts",
                "a list of texts that are not empty",
                format!("an empty one at index {i}"),
            );
        }
        if let Some(prompt) = self.prompts.iter().find(|prompt| prompt.len() > 16_384) {
            return invalid(
                "evaluate.prompts",
                "a list of texts of at most 16384 bytes",
                format!("one of {}", prompt.len()),
            );
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return invalid("evaluate.temperature", "a number from 0 up", self.temperature.to_string());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return invalid("evaluate.top_p", "a number above 0 and at most 1", self.top_p.to_string());
        }
        if let Some(task) = self.tasks.iter().enumerate().find(|(i, task)| self.tasks[..*i].contains(task)) {
            return invalid("evaluate.tasks", "a list of different tasks", format!("{:?} twice", task.1));
        }
        let without_effect = [
            ("evaluate.num_fewshot", self.num_fewshot.is_some()),
            ("evaluate.task_limit", self.task_limit > 0),
            ("evaluate.allow_code_execution", self.allow_code_execution),
            ("evaluate.gates.tasks", !self.gates.tasks.is_empty()),
        ];
        if let Some((key, _)) = without_effect.into_iter().find(|(_, is_given)| self.tasks.is_empty() && *is_given) {
            return invalid(key, "left out without evaluate.tasks", "given".to_owned());
        }
        if self.reference_model.as_deref() == Some("") {
            return invalid("evaluate.reference_model", "a model or left out", "empty".to_owned());
        }
        self.risk.validate()
    }

    /// Returns what changes all tasks.
    pub(crate) fn task_options(&self) -> TaskOptions {
        TaskOptions {
            num_fewshot: self.num_fewshot,
            limit: self.task_limit,
            allow_code_execution: self.allow_code_execution,
        }
    }

    /// Returns the configuration as JSON for the fingerprint.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        // The run to compare with counts by the digest of its report.
        let gates = Gates { regression_vs: None, ..self.gates.clone() };
        serde_json::json!(Self { gates, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_named() {
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
            Some("evaluate.max_tokens must be at least 2, since the first token is only context, or 0 for all, not 1"),
        );
        check(|c| c.sample_tokens = 0, Some("evaluate.sample_tokens must be from 1 to 16384, not 0"));
        check(
            |c| {
                c.samples = 0;
                c.sample_tokens = 0;
            },
            None,
        );
        check(
            |c| c.prompts = vec!["fn".to_owned(), String::new()],
            Some("evaluate.prompts must be a list of texts that are not empty, not an empty one at index 1"),
        );
        check(|c| c.temperature = f32::NAN, Some("evaluate.temperature must be a number from 0 up, not NaN"));
        check(
            |c| c.risk.memorisation_passages = 20_000,
            Some("evaluate.risk.memorisation_passages must be from 0 to 10000, not 20000"),
        );
        check(
            |c| c.tasks = vec!["code".to_owned(), "code".to_owned()],
            Some("evaluate.tasks must be a list of different tasks, not \"code\" twice"),
        );
        check(|c| c.task_limit = 5, Some("evaluate.task_limit must be left out without evaluate.tasks, not given"));
        check(
            |c| c.allow_code_execution = true,
            Some("evaluate.allow_code_execution must be left out without evaluate.tasks, not given"),
        );
        check(|c| c.top_p = 0.0, Some("evaluate.top_p must be a number above 0 and at most 1, not 0"));
    }
}
