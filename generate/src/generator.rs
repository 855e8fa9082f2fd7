//! From a prompt to a completion, one text at a time.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use inference::{CacheOptions, Decoder, FinishReason, ForwardPass, StopTokens};
use model::{ModelConfig, Transformer};
use serde_json::{Map, Value};
use tokenizer::{Content, Conversation, RenderOptions, Tokenizer};

use crate::{CompletionOptions, Error, Prompt, SamplingChoice, TextStream};

/// A model with its tokenizer.
pub struct Generator {
    config: ModelConfig,
    /// Callers take turns.
    model: Mutex<Box<dyn ForwardPass + Send>>,
    tokenizer: Tokenizer,
}

/// A finished text.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The generated text, without the prompt and the stop string.
    pub text: String,
    /// Tokens of the whole prompt, including any that the context window cut off; an empty prompt counts as one.
    pub prompt_tokens: usize,
    /// Sampled tokens, including those of a stop string and the stop token.
    pub completion_tokens: usize,
    /// Why the text ended.
    pub finish_reason: FinishReason,
    /// Seconds from the call to the first token.
    pub first_token_seconds: f64,
    /// Seconds from the call to the end.
    pub seconds: f64,
}

impl Completion {
    /// Returns the decoding speed: tokens per second after the first token, whose time includes the prefill.
    pub fn tokens_per_second(&self) -> f64 {
        let seconds = self.seconds - self.first_token_seconds;
        if self.completion_tokens > 1 && seconds > 0.0 { (self.completion_tokens - 1) as f64 / seconds } else { 0.0 }
    }
}

impl Generator {
    /// Loads the model and the tokenizer in `folder` onto the device with that name, for one text at a time.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be loaded, or they do not match.
    pub fn open(folder: &Path, device: &str) -> Result<Self, Error> {
        Self::open_with_cache(folder, device, |config| config.context_length)
    }

    /// As [`Generator::open`], with the KV cache that `cache` returns for the model.
    ///
    /// # Errors
    /// As [`Generator::open`].
    pub fn open_with_cache<C: Into<CacheOptions>>(
        folder: &Path,
        device: &str,
        cache: impl FnOnce(&ModelConfig) -> C,
    ) -> Result<Self, Error> {
        let device = model::device::resolve(device)?;
        let (tokenizer, config) = (Tokenizer::from_folder(folder)?, model::checkpoint::load_config(folder)?);
        check_vocabulary(&config, &tokenizer)?;
        let model = inference::load(folder, &device, cache(&config))?;
        Ok(Self { config, model: Mutex::new(model), tokenizer })
    }

    /// Returns a generator for a loaded model.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if the tokenizer has tokens that the model does not know.
    pub fn new(model: Transformer, tokenizer: Tokenizer) -> Result<Self, Error> {
        check_vocabulary(model.config(), &tokenizer)?;
        let config = model.config().clone();
        Ok(Self { config, model: Mutex::new(inference::of_model(model)?), tokenizer })
    }

    /// Returns the model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the model, for the caller alone as long as it holds it.
    pub fn model(&self) -> MutexGuard<'_, Box<dyn ForwardPass + Send>> {
        // Nothing of an earlier text is used, so a panic during it does no harm.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tokens that end a text: those of the model and of the tokenizer.
    pub fn stop_tokens(&self) -> StopTokens {
        StopTokens::of(&self.config, self.tokenizer.stop_tokens().into_iter().map(Some))
    }

    /// Returns the text of what follows `prompt`, up to the first of the stop strings, none of which may be empty.
    ///
    /// # Errors
    /// Returns an error if a token is not in the vocabulary.
    pub fn text_stream(&self, prompt: &[u32], stop: &[String]) -> Result<TextStream<'_>, Error> {
        Ok(TextStream::new(self.tokenizer.decode_stream_after(prompt)?, stop))
    }

    /// Returns the tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Returns true if the model has a chat template, valid or not.
    pub fn has_chat_template(&self) -> bool {
        !matches!(self.tokenizer.chat_template(false), Err(tokenizer::Error::NoChatTemplate))
    }

    /// Returns the sampling settings that the model's `generation_config.json` declares.
    pub fn declared_sampling(&self) -> SamplingChoice {
        SamplingChoice::declared(&self.tokenizer.interface().sampling)
    }

    /// Returns the tokens of a prompt. An empty text is begin-of-text, else end-of-text, as a new document in training.
    ///
    /// # Errors
    /// Returns an error if a conversation cannot be rendered, as the model has no chat template or its template refuses
    /// it, or the text is empty and there is no token to start from.
    pub fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>, Error> {
        let mut tokens = match prompt {
            Prompt::Text(text) => self.tokenizer.encode_prompt(text)?,
            Prompt::Chat(conversation) => self.encode_chat(conversation, &Map::new())?,
        };
        if tokens.is_empty() {
            tokens.push(self.tokenizer.start_of_text().ok_or(Error::EmptyPrompt)?);
        }
        Ok(tokens)
    }

    /// Returns the tokens of a conversation and of the beginning of its answer. `variables` are given to the template,
    /// such as `enable_thinking`. A message of several parts is one text where the template reads only texts.
    ///
    /// # Errors
    /// Returns an error if the model has no chat template, or its template refuses the conversation.
    pub fn encode_chat(&self, conversation: &Conversation, variables: &Map<String, Value>) -> Result<Vec<u32>, Error> {
        let options = RenderOptions { variables: variables.clone(), ..RenderOptions::now() };
        let template = self.tokenizer.chat_template(conversation.tools.is_some())?;
        if reads_parts(template.source()) {
            return Ok(self.tokenizer.encode_chat_prompt(conversation, &options)?);
        }
        let mut conversation = conversation.clone();
        for message in &mut conversation.messages {
            if let Some(Content::Parts(parts)) = &message.content {
                let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
                message.content = Some(Content::Text(texts.join("\n")));
            }
        }
        Ok(self.tokenizer.encode_chat_prompt(&conversation, &options)?)
    }

    /// Continues a text or answers a conversation: [`Generator::encode`], then [`Generator::complete`].
    ///
    /// # Errors
    /// As both.
    pub fn generate(
        &self,
        prompt: &Prompt,
        options: &CompletionOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        self.complete(&self.encode(prompt)?, options, on_text)
    }

    /// Continues the tokens of a prompt.
    ///
    /// `on_text` is called once per token with the text that is final by then: whole characters that cannot be the
    /// start of a stop string, often none. It cancels by returning [`ControlFlow::Break`]. The pieces concatenated are
    /// the completion's text.
    ///
    /// A text may grow longer than the model's context; see [`Decoder`].
    ///
    /// # Errors
    /// Returns an error if an option is out of range, there is no token, the device fails, or the logits are not
    /// finite.
    pub fn complete(
        &self,
        prompt: &[u32],
        options: &CompletionOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Completion, Error> {
        options.validate()?;
        let start = Instant::now();
        let mut completion = Completion {
            text: String::new(),
            prompt_tokens: prompt.len(),
            completion_tokens: 0,
            finish_reason: FinishReason::Length,
            first_token_seconds: 0.0,
            seconds: 0.0,
        };
        let mut model = self.model();
        let mut decoder = Decoder::new(&mut **model, prompt, &options.sampling, options.max_tokens)?
            .with_stop_tokens(&self.stop_tokens())
            .with_vocab_size(self.tokenizer.vocab_size());
        let mut stream = self.text_stream(prompt, &options.stop)?;
        while let Some(token) = decoder.next_token()? {
            completion.completion_tokens += 1;
            if completion.completion_tokens == 1 {
                completion.first_token_seconds = start.elapsed().as_secs_f64();
            }
            let text = if decoder.is_stopped() { String::new() } else { stream.push(token)? };
            completion.text += &text;
            if decoder.is_stopped() || stream.is_stopped() {
                completion.finish_reason = FinishReason::Stop;
            }
            if on_text(&text).is_break() {
                completion.finish_reason = FinishReason::Cancelled;
            }
            if completion.finish_reason != FinishReason::Length {
                break;
            }
        }
        if completion.finish_reason != FinishReason::Cancelled && !stream.is_stopped() {
            let (rest, has_stopped) = stream.finish();
            if has_stopped {
                completion.finish_reason = FinishReason::Stop;
            }
            if !rest.is_empty() {
                completion.text += &rest;
                // The text is complete: there is nothing left to cancel.
                let _ = on_text(&rest);
            }
        }
        completion.seconds = start.elapsed().as_secs_f64();
        Ok(completion)
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Returns an error if the tokenizer has tokens that the model does not know, or none.
fn check_vocabulary(config: &ModelConfig, tokenizer: &Tokenizer) -> Result<(), Error> {
    let (of_model, of_tokenizer) = (config.vocab_size, tokenizer.vocab_size());
    if of_tokenizer > of_model || of_tokenizer == 0 {
        return Err(Error::Vocabulary { tokenizer: of_tokenizer, model: of_model });
    }
    Ok(())
}

/// Returns true if a template distinguishes texts from parts, or loops over the content. Heuristic: these are the
/// notations of published templates, which vLLM looks for too.
fn reads_parts(template: &str) -> bool {
    let notations = ["content is string", "content is iterable", "content is sequence", "content is not string"];
    let loops = ["in content", "in message.content", "in message['content']", "in message[\"content\"]"];
    let tests = ["content'] is string", "content\"] is string", "content'] is not string", "content\"] is not string"];
    [&notations[..], &loops, &tests].concat().iter().any(|notation| template.contains(notation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_that_read_parts_are_told_from_others() {
        for template in [
            "{% if message.content is string %}",
            "{% for part in message['content'] %}",
            "{% if message['content'] is not string %}",
            "{%- for item in content -%}",
        ] {
            assert!(reads_parts(template), "{template}");
        }
        assert!(!reads_parts(tokenizer::CHAT_TEMPLATE));
        assert!(!reads_parts("{% for message in messages %}{{ message.content | trim }}{% endfor %}"));
    }

    #[test]
    fn generator_can_be_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Generator>();
    }
}
