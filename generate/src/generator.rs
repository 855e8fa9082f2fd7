//! A model with its tokenizer: what a completion is made with.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use inference::{
    Adapter, AdapterBase, CacheOptions, Constraint, FinishReason, ForwardPass, Guidance, Logprobs, Request, StopTokens,
};
use model::{ModelConfig, Transformer};
use serde_json::{Map, Value};
use tokenizer::{Content, Conversation, RenderOptions, Tokenizer};

use crate::grammar::{Compiler, Grammar, GrammarLimits};
use crate::{CompletionOptions, Config, Error, Prompt, SamplingChoice, TextStream};

/// A model with its tokenizer.
pub struct Generator {
    config: ModelConfig,
    /// Callers take turns.
    model: Mutex<Box<dyn ForwardPass + Send>>,
    /// What loads adapters; none for a model that is not in files.
    adapter_base: Option<AdapterBase>,
    tokenizer: Tokenizer,
    /// How many tokens speculative decoding proposes at once; 0 for none.
    draft_tokens: usize,
    /// The smaller model that proposes them; none to look them up.
    draft_model: Option<Mutex<Box<dyn ForwardPass + Send>>>,
    /// Made when the first grammar is compiled.
    compiler: OnceLock<Result<Compiler, String>>,
}

/// A finished text.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The generated text, without the prompt and the stop string.
    pub text: String,
    /// Tokens of the prompt that were read; an empty prompt counts as one.
    pub prompt_tokens: usize,
    /// Sampled tokens, including those of a stop string and the stop token.
    pub completion_tokens: usize,
    /// Why the text ended.
    pub finish_reason: FinishReason,
    /// The sampled tokens and their log probabilities, before all settings of sampling, if the options ask for them.
    pub logprobs: Vec<(u32, Logprobs)>,
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
        let (model, adapter_base) = inference::load_base(folder, &device, cache(&config))?;
        Ok(Self { adapter_base: Some(adapter_base), ..Self::of(config, model, tokenizer) })
    }

    /// Returns a generator for a loaded model.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] if the tokenizer has tokens that the model does not know.
    pub fn new(model: Transformer, tokenizer: Tokenizer) -> Result<Self, Error> {
        check_vocabulary(model.config(), &tokenizer)?;
        let config = model.config().clone();
        Ok(Self::of(config, inference::of_model(model)?, tokenizer))
    }

    fn of(config: ModelConfig, model: Box<dyn ForwardPass + Send>, tokenizer: Tokenizer) -> Self {
        let (draft_tokens, draft_model, compiler) = (0, None, OnceLock::new());
        Self { config, model: Mutex::new(model), adapter_base: None, tokenizer, draft_tokens, draft_model, compiler }
    }

    /// Lets speculative decoding propose up to `draft_tokens` tokens at once: those that followed the same tokens
    /// earlier in the text, or, if there is a folder, those of the smaller model in it. Texts stay the same.
    ///
    /// # Errors
    /// Returns an error if that model cannot be loaded or has other tokens.
    pub fn with_drafts(mut self, draft_tokens: usize, folder: Option<&Path>, device: &str) -> Result<Self, Error> {
        self.draft_tokens = draft_tokens;
        if let Some(folder) = folder {
            let device = model::device::resolve(device)?;
            let (tokenizer, config) = (Tokenizer::from_folder(folder)?, model::checkpoint::load_config(folder)?);
            check_vocabulary(&config, &tokenizer)?;
            let mut ids = 0..self.tokenizer.vocab_size().max(tokenizer.vocab_size()) as u32;
            if !ids.all(|id| self.tokenizer.shown_bytes(id) == tokenizer.shown_bytes(id)) {
                return Err(Error::DraftVocabulary { folder: folder.to_owned() });
            }
            let model = self.model();
            let cache_tokens = model.block_tokens() * model.block_count();
            drop(model);
            self.draft_model = Some(Mutex::new(inference::load(folder, &device, Some(cache_tokens))?));
        }
        Ok(self)
    }

    /// Loads an adapter of the model, a folder in PEFT's layout, for requests that are to use it beside the model's own
    /// weights.
    ///
    /// # Errors
    /// Returns an error if the adapter is damaged, not supported or one of another model, or if this model is not in
    /// files.
    pub fn load_adapter(&self, folder: &Path) -> Result<Arc<Adapter>, Error> {
        let base = self.adapter_base.as_ref().ok_or(Error::NoAdapters)?;
        Ok(Arc::new(base.load(folder)?))
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

    /// Returns the model that writes drafts, if there is one, for the caller alone as long as it holds it.
    pub fn draft_model(&self) -> Option<MutexGuard<'_, Box<dyn ForwardPass + Send>>> {
        self.draft_model.as_ref().map(|model| model.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns how many tokens speculative decoding proposes at once; 0 for none.
    pub fn draft_tokens(&self) -> usize {
        self.draft_tokens
    }

    /// Returns the tokens that end a text: those of the model and of the tokenizer.
    pub fn stop_tokens(&self) -> StopTokens {
        StopTokens::of(&self.config, self.tokenizer.stop_tokens().into_iter().map(Some))
    }

    /// Returns the text of what follows `prompt`, up to the first of the stop strings, none of which may be empty.
    /// Special tokens have no text, but those in `shown` have their names.
    ///
    /// # Errors
    /// Returns an error if a token is not in the vocabulary.
    pub fn text_stream(&self, prompt: &[u32], stop: &[String], shown: &[&str]) -> Result<TextStream<'_>, Error> {
        let special = |name: &&str| {
            let id = self.tokenizer.id(name)?;
            self.tokenizer.bytes_of(id).is_none_or(|bytes| bytes.is_empty()).then(|| (id, (*name).to_owned()))
        };
        let shown = shown.iter().filter_map(special).collect();
        Ok(TextStream::new(self.tokenizer.decode_stream_after(prompt)?, stop, shown))
    }

    /// Returns the constraint that lets a text obey a grammar.
    ///
    /// # Errors
    /// Returns an error if the grammar is beyond the limits, is not valid or cannot be applied to the tokens of this
    /// model.
    pub fn constraint(&self, grammar: &Grammar, limits: &GrammarLimits) -> Result<Box<dyn Constraint>, Error> {
        grammar.check(limits)?;
        let compiler = self.compiler.get_or_init(|| Compiler::new(&self.tokenizer, self.stop_tokens().ids()));
        match compiler {
            Ok(compiler) => compiler.compile(grammar, &self.tokenizer),
            Err(reason) => Err(Error::Grammar { reason: reason.clone() }),
        }
    }

    /// Returns the end of a prompt if `truncate_prompt_tokens` asks for it, else the whole prompt.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] if that is longer than the model's context.
    pub fn fit<'p>(&self, prompt: &'p [u32], truncate_prompt_tokens: Option<usize>) -> Result<&'p [u32], Error> {
        let kept = truncate_prompt_tokens.unwrap_or(usize::MAX).min(prompt.len());
        let prompt = &prompt[prompt.len() - kept..];
        let (tokens, context_length) = (prompt.len(), self.config.context_length);
        if tokens > context_length { Err(Error::PromptTooLong { tokens, context_length }) } else { Ok(prompt) }
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

    /// Returns the guidance that a configuration has for a prompt, if it has some.
    ///
    /// # Errors
    /// Returns an error if there is a negative prompt without a scale, or it cannot be encoded.
    pub fn guidance(&self, config: &Config, prompt: &Prompt) -> Result<Option<Guidance>, Error> {
        let Some(guidance) = config.guidance()? else { return Ok(None) };
        let negative_prompt = config.negative_prompt.as_ref().map(|text| self.encode(&prompt.negative(text)));
        Ok(Some(Guidance { negative_prompt: negative_prompt.transpose()?, ..guidance }))
    }

    /// Returns the request of one sample to a scheduler; stop strings are the caller's.
    pub fn request(&self, prompt: &[u32], options: &CompletionOptions) -> Request {
        Request {
            sampling: options.sampling,
            guidance: options.guidance.clone(),
            logit_bias: options.logit_bias.clone(),
            constraint: options.constraint.clone(),
            stop_tokens: self.stop_tokens().with(&options.stop_token_ids),
            wants_logits: options.logprobs.is_some(),
            ..Request::new(prompt.to_vec(), options.max_tokens)
        }
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
