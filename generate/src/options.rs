//! The settings of one completion.

use inference::{InvalidSetting, Sampling};

/// How to complete a prompt, and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionOptions {
    /// The maximum number of tokens to generate. Default: 128.
    pub max_tokens: usize,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// The text ends before the first of these strings. Default: none.
    pub stop: Vec<String>,
    /// Treats the prompt as a user message and answers it after the chat template, instead of continuing it.
    /// Default: false.
    pub chat: bool,
}

impl Default for CompletionOptions {
    fn default() -> Self {
        Self { max_tokens: 128, sampling: Sampling::default(), stop: Vec::new(), chat: false }
    }
}

impl CompletionOptions {
    /// Returns the same options with another seed.
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { sampling: Sampling { seed, ..self.sampling }, ..self.clone() }
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first field out of range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        self.sampling.validate()?;
        if self.stop.iter().any(String::is_empty) {
            return Err(InvalidSetting {
                name: "stop",
                expected: "strings that are not empty",
                found: "\"\"".to_owned(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let empty_stop = CompletionOptions { stop: vec![String::new()], ..CompletionOptions::default() };
        assert_eq!(empty_stop.validate().unwrap_err().to_string(), "stop must be strings that are not empty, not \"\"");
        let sampling = Sampling { top_p: 0.0, ..Sampling::default() };
        let top_p = CompletionOptions { sampling, ..CompletionOptions::default() };
        assert_eq!(top_p.validate().unwrap_err().name, "top_p");
        CompletionOptions::default().validate().unwrap();
    }
}
