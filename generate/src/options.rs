//! The settings of one completion.

use inference::{Constraint, Guidance, InvalidSetting, Sampling};
use serde::Serialize;
use tokenizer::SamplingDefaults;

/// How to generate a text, and when to stop.
#[derive(Debug, Clone)]
pub struct CompletionOptions {
    /// The maximum number of tokens to generate. Default: 128.
    pub max_tokens: usize,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Classifier-free guidance, from [`Generator::guidance`](crate::Generator::guidance). Default: none.
    pub guidance: Option<Guidance>,
    /// Numbers added to the logits of tokens before constraints, penalties and filters. Default: none.
    pub logit_bias: Vec<(u32, f32)>,
    /// The text ends before the first of these strings. Default: none.
    pub stop: Vec<String>,
    /// The text ends before the first of these tokens, besides those of the model. Default: none.
    pub stop_token_ids: Vec<u32>,
    /// Keeps only this many of the last tokens of the prompt. Default: none, and a prompt that is longer than the
    /// model's context is an error.
    pub truncate_prompt_tokens: Option<usize>,
    /// What the text must obey, from [`Generator::constraint`](crate::Generator::constraint). Default: none.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Reports the log probability of each token, and of so many of the most likely tokens in its place. Default: none.
    pub logprobs: Option<usize>,
}

impl Default for CompletionOptions {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            sampling: Sampling::default(),
            guidance: None,
            logit_bias: Vec::new(),
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            truncate_prompt_tokens: None,
            constraint: None,
            logprobs: None,
        }
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
        let invalid = |name, expected, found: String| Err(InvalidSetting { name, expected, found });
        self.sampling.validate()?;
        if let Some(guidance) = &self.guidance {
            guidance.validate()?;
        }
        if self.stop.iter().any(String::is_empty) {
            return invalid("stop", "strings that are not empty", "\"\"".to_owned());
        }
        if let Some((_, bias)) = self.logit_bias.iter().find(|(_, bias)| !bias.is_finite()) {
            return invalid("logit_bias", "finite numbers", bias.to_string());
        }
        if self.truncate_prompt_tokens == Some(0) {
            return invalid("truncate_prompt_tokens", "at least 1", "0".to_owned());
        }
        Ok(())
    }

    /// Checks that the tokens that the options name are below the size of the vocabulary.
    ///
    /// # Errors
    /// Returns an error that names the field with one that is not.
    pub fn check_tokens(&self, vocab_size: usize) -> Result<(), InvalidSetting> {
        let biased = self.logit_bias.iter().map(|(token, _)| ("logit_bias", token));
        let named = self.stop_token_ids.iter().map(|token| ("stop_token_ids", token)).chain(biased);
        match { named }.find(|(_, token)| **token as usize >= vocab_size) {
            Some((name, token)) => {
                Err(InvalidSetting { name, expected: "ids of tokens in the vocabulary", found: token.to_string() })
            }
            None => Ok(()),
        }
    }
}

/// Sampling settings of which some are left to the model or to this program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SamplingChoice {
    /// As in [`Sampling`].
    pub temperature: Option<f32>,
    /// As in [`Sampling`].
    pub top_k: Option<usize>,
    /// As in [`Sampling`].
    pub top_p: Option<f32>,
    /// As in [`Sampling`].
    pub min_p: Option<f32>,
    /// As in [`Sampling`].
    pub typical_p: Option<f32>,
    /// As in [`Sampling`].
    pub repetition_penalty: Option<f32>,
    /// As in [`Sampling`].
    pub frequency_penalty: Option<f32>,
    /// As in [`Sampling`].
    pub presence_penalty: Option<f32>,
}

impl SamplingChoice {
    /// Returns what a model's `generation_config.json` means to transformers: with `do_sample`, its settings and
    /// transformers' defaults of the others; with `"do_sample": false`, the most likely token; without the key, none of
    /// the settings that only sampling has.
    pub fn declared(by: &SamplingDefaults) -> Self {
        let SamplingDefaults { do_sample, temperature, top_k, top_p, min_p, typical_p, repetition_penalty } = *by;
        let number = |value: Option<f64>, otherwise: f32| Some(value.map_or(otherwise, |value| value as f32));
        let open = Self { repetition_penalty: repetition_penalty.map(|value| value as f32), ..Self::default() };
        match do_sample {
            Some(true) => Self {
                temperature: number(temperature, 1.0),
                top_k: Some(top_k.unwrap_or(TRANSFORMERS_TOP_K)),
                top_p: number(top_p, 1.0),
                min_p: number(min_p, 0.0),
                typical_p: typical_p.map(|value| value as f32),
                ..open
            },
            Some(false) => Self { temperature: Some(0.0), ..open },
            None => open,
        }
    }

    /// Returns these settings, and those of `other` where these leave one open.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            typical_p: self.typical_p.or(other.typical_p),
            repetition_penalty: self.repetition_penalty.or(other.repetition_penalty),
            frequency_penalty: self.frequency_penalty.or(other.frequency_penalty),
            presence_penalty: self.presence_penalty.or(other.presence_penalty),
        }
    }

    /// Returns these settings, without those that `other` chooses.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            temperature: self.temperature.filter(|_| other.temperature.is_none()),
            top_k: self.top_k.filter(|_| other.top_k.is_none()),
            top_p: self.top_p.filter(|_| other.top_p.is_none()),
            min_p: self.min_p.filter(|_| other.min_p.is_none()),
            typical_p: self.typical_p.filter(|_| other.typical_p.is_none()),
            repetition_penalty: self.repetition_penalty.filter(|_| other.repetition_penalty.is_none()),
            frequency_penalty: self.frequency_penalty.filter(|_| other.frequency_penalty.is_none()),
            presence_penalty: self.presence_penalty.filter(|_| other.presence_penalty.is_none()),
        }
    }

    /// Returns these settings, and those of `other` where these leave one open; the seed is that of `other`.
    pub fn or_sampling(self, other: Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(other.temperature),
            top_k: self.top_k.unwrap_or(other.top_k),
            top_p: self.top_p.unwrap_or(other.top_p),
            min_p: self.min_p.unwrap_or(other.min_p),
            typical_p: self.typical_p.unwrap_or(other.typical_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(other.repetition_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(other.frequency_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(other.presence_penalty),
            seed: other.seed,
        }
    }

    /// Returns true if no setting is chosen.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl std::fmt::Display for SamplingChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = [
            ("temperature", self.temperature.map(|value| value.to_string())),
            ("top_k", self.top_k.map(|value| value.to_string())),
            ("top_p", self.top_p.map(|value| value.to_string())),
            ("min_p", self.min_p.map(|value| value.to_string())),
            ("typical_p", self.typical_p.map(|value| value.to_string())),
            ("repetition_penalty", self.repetition_penalty.map(|value| value.to_string())),
            ("frequency_penalty", self.frequency_penalty.map(|value| value.to_string())),
            ("presence_penalty", self.presence_penalty.map(|value| value.to_string())),
        ];
        let chosen = settings.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        f.write_str(&chosen.collect::<Vec<_>>().join(", "))
    }
}

/// `top_k` of transformers where a model samples and does not set it.
const TRANSFORMERS_TOP_K: usize = 50;

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
        let options = CompletionOptions { truncate_prompt_tokens: Some(0), ..CompletionOptions::default() };
        assert_eq!(options.validate().unwrap_err().to_string(), "truncate_prompt_tokens must be at least 1, not 0");
        let options = CompletionOptions { logit_bias: vec![(9, 1.0)], ..CompletionOptions::default() };
        let outside = options.check_tokens(9).unwrap_err().to_string();
        assert_eq!(outside, "logit_bias must be ids of tokens in the vocabulary, not 9");
        options.check_tokens(10).unwrap();
        let guidance = Some(Guidance { scale: -0.5, negative_prompt: None });
        let options = CompletionOptions { guidance, ..CompletionOptions::default() };
        let below = "guidance_scale must be a number from 0 to 100, not -0.5";
        assert_eq!(options.validate().unwrap_err().to_string(), below);
        CompletionOptions::default().validate().unwrap();
    }

    #[test]
    fn a_model_declares_what_transformers_uses() {
        let check = |declared: SamplingDefaults, expected: &str| {
            assert_eq!(SamplingChoice::declared(&declared).to_string(), expected);
        };
        let none = SamplingDefaults::default;
        check(none(), "");
        check(SamplingDefaults { temperature: Some(0.6), top_p: Some(0.9), ..none() }, "");
        check(SamplingDefaults { repetition_penalty: Some(1.5), ..none() }, "repetition_penalty 1.5");
        let sampled = SamplingDefaults { do_sample: Some(true), temperature: Some(0.5), top_p: Some(0.75), ..none() };
        check(sampled, "temperature 0.5, top_k 50, top_p 0.75, min_p 0");
        check(SamplingDefaults { top_k: Some(20), ..sampled }, "temperature 0.5, top_k 20, top_p 0.75, min_p 0");
        check(SamplingDefaults { do_sample: Some(false), ..sampled }, "temperature 0");
    }

    #[test]
    fn the_user_comes_before_the_model_and_the_model_before_this_program() {
        let user = SamplingChoice { top_k: Some(3), ..SamplingChoice::default() };
        let model = SamplingChoice { top_k: Some(20), temperature: Some(0.5), ..SamplingChoice::default() };
        let found = user.or(model).or_sampling(Sampling { seed: 4, ..Sampling::default() });
        assert_eq!(found, Sampling { top_k: 3, temperature: 0.5, seed: 4, ..Sampling::default() });
        assert!(SamplingChoice::default().is_empty() && !user.is_empty());
    }
}
