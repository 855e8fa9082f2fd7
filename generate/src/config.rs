//! The table `[generate]`.

use std::collections::BTreeMap;

use inference::{CacheOptions, EngineOptions, Guidance, InvalidSetting, Sampling};
use model::{KvCacheDtype, ModelConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{CompletionOptions, Error, Prompt, SamplingChoice};

/// The table `[generate]`: which prompts to complete, and how.
// The fields of `CompletionOptions` are repeated: `#[serde(flatten)]` would lose the position of a wrong value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The prompts; an empty one starts a new document. Default: one empty prompt, none if there is a `prompts_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<String>>,
    /// A file with more prompts, relative to the folder of the configuration: `.jsonl` with a `prompt` in each line's
    /// object, or with `messages` (and `tools`) of a conversation to answer; any other file with one prompt per line
    /// (empty lines are skipped). Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts_file: Option<String>,
    /// Samples per prompt, each with its own seed. Default: 2.
    pub samples_per_prompt: usize,
    /// The maximum number of tokens per sample. Default: 128.
    pub max_tokens: usize,
    /// Divides the logits: below 1 sharpens the distribution, 0 always picks the most likely token. Default: what the
    /// model's `generation_config.json` declares with `do_sample` (0 where that is false), else 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Samples only from this many of the most likely tokens; 0 for all. Default: the model's if it declares
    /// `do_sample`, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    /// Samples only from the smallest set of most likely tokens whose probabilities sum to at least this; 1 for all.
    /// Default: the model's if it declares `do_sample`, else 0.95.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Samples only from tokens whose probability is at least this fraction of the most likely one's; 0 for all.
    /// Default: the model's if it declares `do_sample`, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Repetition penalty of tokens in the prompt or the text so far (CTRL, Keskar et al. 2019); 1 disables it.
    /// Default: the model's, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
    /// The number type of keys and values in the KV cache: `f32`, `f16`, or `int8` with a scale for each token and
    /// head, about a quarter of the size of `f32`. Only the CPU has others than `f32`. Default: `f32`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache_dtype: Option<KvCacheDtype>,
    /// Samples only from the smallest set of tokens whose information is closest to the expected one and whose
    /// probabilities sum to at least this (Locally Typical Sampling, 2022); 1 for all. Default: the model's if it
    /// declares `do_sample`, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f32>,
    /// Subtracted from the logit of a token for each time that the sample has it, as in OpenAI's API. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Subtracted from the logit of every token that the sample has, as in OpenAI's API. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Classifier-free guidance (Stay on topic with Classifier-Free Guidance, 2023), which computes two sequences and
    /// caches both: above 1 a sample follows its prompt more closely, 1 is no guidance, and 0 follows the
    /// `negative_prompt` alone. At most 100. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f32>,
    /// What the samples are guided away from; only with `guidance_scale`. Of a conversation it stands in place of all
    /// but the system prompt, as the user's message. Default: the last token of the prompt, as in transformers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Numbers added to the logits of tokens, by the id of the token: `{ 13 = -100 }` all but excludes token 13.
    /// Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub logit_bias: BTreeMap<String, f32>,
    /// A sample ends before the first of these strings. Default: none.
    pub stop: Vec<String>,
    /// A sample ends before the first of these tokens, besides those that the model declares. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_token_ids: Vec<u32>,
    /// Keeps only this many of the last tokens of each prompt. Default: none, and a prompt that is longer than the
    /// model's context is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate_prompt_tokens: Option<usize>,
    /// The maximum number of tokens that speculative decoding proposes at once, from earlier text or by the
    /// `draft_model`; 0 for none. It makes texts that are easy to predict faster, and never changes them. Default: 0.
    pub draft_tokens: usize,
    /// A smaller model with the same tokenizer that proposes the tokens: a folder in Hugging Face layout, relative to
    /// the folder of the configuration; outside of a run also the name of a run or of an imported model. Default: none,
    /// and tokens come from earlier text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<String>,
    /// Treats the prompts as user messages and answers them after the model's chat template, instead of continuing
    /// them. Default: false.
    pub chat: bool,
    /// The system prompt before each user message; only with `chat`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        let CompletionOptions { max_tokens, stop, .. } = CompletionOptions::default();
        Self {
            prompts: None,
            prompts_file: None,
            samples_per_prompt: 2,
            max_tokens,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: None,
            kv_cache_dtype: None,
            typical_p: None,
            frequency_penalty: None,
            presence_penalty: None,
            guidance_scale: None,
            negative_prompt: None,
            logit_bias: BTreeMap::new(),
            stop,
            stop_token_ids: Vec::new(),
            truncate_prompt_tokens: None,
            draft_tokens: 0,
            draft_model: None,
            chat: false,
            system: None,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    /// Returns an error that names the first invalid key.
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
        if self.draft_model.is_some() {
            positive("draft_tokens", self.draft_tokens)?;
        }
        if self.system.is_some() && !self.chat {
            return Err(Error::SystemWithoutChat);
        }
        if let Some(key) = self.logit_bias.keys().find(|key| key.parse::<u32>().is_err()) {
            let (key, found) = ("logit_bias", format!("`{key}`"));
            return Err(Error::Config { key, expected: "numbers by the id of a token", found });
        }
        let guidance = self.guidance()?;
        let options = CompletionOptions { guidance, ..self.options(SamplingChoice::default(), 0) };
        let invalid = |InvalidSetting { name: key, expected, found }| Error::Config { key, expected, found };
        options.validate().map_err(invalid)
    }

    /// Returns the configuration as JSON for the fingerprint. It holds the name of the prompts file; the digest of its
    /// content is in [`inputs`](crate::inputs). Drafts change no text, and are not in it.
    pub fn fingerprint_value(&self) -> serde_json::Value {
        json!({
            "prompts": self.inline_prompts(),
            "prompts_file": self.prompts_file,
            "samples_per_prompt": self.samples_per_prompt,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "kv_cache_dtype": self.kv_cache_dtype,
            "typical_p": self.typical_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
            "logit_bias": self.logit_bias,
            "stop": self.stop,
            "stop_token_ids": self.stop_token_ids,
            "truncate_prompt_tokens": self.truncate_prompt_tokens,
            "chat": self.chat,
            "system": self.system,
        })
    }

    /// Returns the KV cache of a model, for one text at a time: two sequences if it is guided.
    pub fn cache(&self, model: &ModelConfig) -> CacheOptions {
        let sequence = model.context_length.next_multiple_of(EngineOptions::default().block_tokens);
        CacheOptions { tokens: self.guidance_scale.map(|_| 2 * sequence), dtype: self.kv_cache_dtype }
    }

    /// Returns the guidance, without the negative prompt.
    ///
    /// # Errors
    /// [`Error::NegativePromptWithoutGuidance`] if there is only that.
    pub(crate) fn guidance(&self) -> Result<Option<Guidance>, Error> {
        match (self.guidance_scale, &self.negative_prompt) {
            (None, Some(_)) => Err(Error::NegativePromptWithoutGuidance),
            (scale, _) => Ok(scale.map(|scale| Guidance { scale, negative_prompt: None })),
        }
    }

    /// Returns the sampling settings that are configured.
    pub fn sampling(&self) -> SamplingChoice {
        SamplingChoice {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            repetition_penalty: self.repetition_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
        }
    }

    /// Returns the options of a completion with `seed`, of a model that declares `declared`. They are without guidance,
    /// which depends on the prompt: [`Generator::guidance`](crate::Generator::guidance).
    pub fn options(&self, declared: SamplingChoice, seed: u64) -> CompletionOptions {
        CompletionOptions {
            max_tokens: self.max_tokens,
            sampling: self.sampling().or(declared).or_sampling(Sampling { seed, ..Sampling::default() }),
            logit_bias: self.logit_bias.iter().filter_map(|(id, bias)| Some((id.parse().ok()?, *bias))).collect(),
            stop: self.stop.clone(),
            stop_token_ids: self.stop_token_ids.clone(),
            truncate_prompt_tokens: self.truncate_prompt_tokens,
            guidance: None,
            constraint: None,
            logprobs: None,
        }
    }

    /// Returns the prompt of a text: with `chat`, as a user's message.
    pub fn prompt(&self, text: String) -> Prompt {
        if self.chat { Prompt::chat(self.system.as_deref(), &text) } else { Prompt::Text(text) }
    }

    /// Returns the prompts that do not come from a file.
    pub fn inline_prompts(&self) -> Vec<String> {
        match (&self.prompts, &self.prompts_file) {
            (Some(prompts), _) => prompts.clone(),
            (None, Some(_)) => Vec::new(),
            (None, None) => vec![String::new()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_values_are_named() {
        let default = Config::default;
        let cases = [
            (Config { samples_per_prompt: 0, ..default() }, "generate.samples_per_prompt must be at least 1, not 0"),
            (Config { max_tokens: 0, ..default() }, "generate.max_tokens must be at least 1, not 0"),
            (Config { top_p: Some(2.0), ..default() }, "generate.top_p must be a number above 0 and at most 1, not 2"),
            (
                Config { logit_bias: [("fn".to_owned(), 1.0)].into(), ..default() },
                "generate.logit_bias must be numbers by the id of a token, not `fn`",
            ),
            (
                Config { system: Some("Be brief.".to_owned()), ..default() },
                "generate.system is only for user messages: set generate.chat = true, or remove it",
            ),
            (
                Config { guidance_scale: Some(101.0), ..default() },
                "generate.guidance_scale must be a number from 0 to 100, not 101",
            ),
            (
                Config { negative_prompt: Some(String::new()), ..default() },
                "generate.negative_prompt is only for guided texts: set generate.guidance_scale, or remove it",
            ),
            (
                Config { prompts: Some(Vec::new()), ..default() },
                "there are no prompts: set generate.prompts, or a generate.prompts_file that is not empty",
            ),
        ];
        for (config, expected) in cases {
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
        default().validate().unwrap();
    }

    #[test]
    fn prompts_file_replaces_the_default_prompt() {
        let default = Config::default;
        let file = || Some("prompts.txt".to_owned());
        assert_eq!(default().inline_prompts(), [""]);
        assert!(Config { prompts_file: file(), ..default() }.inline_prompts().is_empty());
        let both = Config { prompts_file: file(), prompts: Some(vec!["a".to_owned()]), ..default() };
        assert_eq!(both.inline_prompts(), ["a"]);
    }
}
