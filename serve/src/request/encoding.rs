//! From a valid request to the work of the model: prompts as tokens, and a grammar compiled for them.

use generate::{CompletionOptions, Generator, GrammarLimits, Guidance, negative_conversation};

use super::{Input, ValidRequest};
use crate::Config;
use crate::answer::{Kind, Shape};
use crate::api_error::{ApiError, TRUNCATE};
use crate::error::causes;
use crate::parameters::Truncation;
use crate::prompt::Prompt;
use crate::structured_output;
use crate::work::{Scoring, Work};

impl ValidRequest {
    /// Encodes the prompts, and returns the work to do and the shape of its answer.
    ///
    /// # Errors
    /// Returns an error if a conversation cannot be rendered, a prompt cannot be encoded or is too long, a token is not
    /// in the vocabulary, or a grammar cannot be compiled.
    pub(crate) fn encode(&self, generator: &Generator, config: &Config) -> Result<(Work, Shape), ApiError> {
        let settings = &self.settings;
        let (mut prompts, mut echoed) = (Vec::with_capacity(self.inputs.len()), Vec::new());
        for input in &self.inputs {
            let tokens = input.tokens(input.name(), generator)?;
            let kept = settings.truncation.map_or(usize::MAX, |truncation| truncation.tokens(generator));
            let kept = &tokens[tokens.len() - kept.min(tokens.len())..];
            check_length(input.name(), kept.len(), generator, config)?;
            if self.echo {
                echoed.push(input.echo(generator, kept, kept.len() < tokens.len())?);
            }
            prompts.push(kept.to_vec());
        }
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let rest = generator.config().context_length.saturating_sub(longest).max(1);
        let constraint = settings.grammar.as_ref().map(|(name, grammar)| {
            let limits = GrammarLimits { max_bytes: config.max_grammar_bytes, max_depth: config.max_schema_depth };
            generator.constraint(grammar, &limits).map_err(|error| structured_output::not_compiled(name, &error))
        });
        let options = CompletionOptions {
            max_tokens: self.max_tokens.unwrap_or(rest.min(config.max_tokens)),
            sampling: settings.sampling,
            guidance: self.guidance(generator, config)?,
            logit_bias: settings.logit_bias.clone(),
            stop: settings.stop.clone(),
            stop_token_ids: settings.stop_token_ids.clone(),
            truncate_prompt_tokens: None,
            constraint: constraint.transpose()?,
            // Texts are scored by the worker.
            logprobs: None,
        };
        options.check_tokens(generator.tokenizer().vocab_size()).map_err(|error| ApiError::setting(&error))?;
        let kind = match &self.inputs[0] {
            Input::Chat(..) => Kind::Messages { tools: self.tools.clone() },
            Input::Prompt(_) => Kind::Texts { echoed: self.echo.then_some(echoed) },
        };
        let shape = Shape {
            kind,
            n: settings.n,
            best_of: self.best_of,
            has_logprobs: self.logprobs.is_some(),
            prompt_token_ids: settings.token_ids.then(|| prompts.clone()),
        };
        let scoring = Scoring {
            alternatives: self.logprobs,
            prompts: self.echo && self.logprobs.is_some(),
            ranks: self.best_of > settings.n,
            ids: settings.token_ids,
        };
        let shown_tokens = self.tools.as_ref().map_or_else(Vec::new, |tools| tools.notation.marks());
        let operation = if matches!(shape.kind, Kind::Messages { .. }) { "chat" } else { "text_completion" };
        let work = Work {
            prompts,
            operation,
            n: self.best_of,
            options,
            scoring,
            shown_tokens,
            embeds: false,
            attention_layer: None,
        };
        Ok((work, shape))
    }

    /// Encodes the negative prompt of the guidance, if there is some. It is of the kind of the prompts.
    fn guidance(&self, generator: &Generator, config: &Config) -> Result<Option<Guidance>, ApiError> {
        let Some((scale, text)) = &self.settings.guidance else { return Ok(None) };
        let negative_prompt = text.as_ref().map(|text| {
            let name = "negative_prompt";
            let tokens = self.inputs[0].negative(text).tokens(name, generator)?;
            check_length(name, tokens.len(), generator, config).map_err(|mut error| {
                // It is never truncated.
                error.detail.message = error.detail.message.replace(TRUNCATE, "");
                error
            })?;
            Ok(tokens)
        });
        Ok(Some(Guidance { scale: *scale, negative_prompt: negative_prompt.transpose()? }))
    }
}

impl Truncation {
    fn tokens(self, generator: &Generator) -> usize {
        match self {
            Self::Context => generator.config().context_length,
            Self::Tokens(tokens) => tokens,
        }
    }
}

impl Input {
    /// Returns the name of the parameter that it is given in.
    fn name(&self) -> &'static str {
        if matches!(self, Self::Chat(..)) { "messages" } else { "prompt" }
    }

    /// Returns the input of the same kind that guidance leads away from.
    fn negative(&self, text: &str) -> Self {
        match self {
            Self::Prompt(_) => Self::Prompt(Prompt::Text(text.to_owned())),
            Self::Chat(conversation, variables) => {
                Self::Chat(negative_conversation(conversation, text), variables.clone())
            }
        }
    }

    /// Returns the tokens; `name` is the parameter that errors name.
    fn tokens(&self, name: &str, generator: &Generator) -> Result<Vec<u32>, ApiError> {
        match self {
            Self::Prompt(prompt) => prompt.tokens(name, generator),
            Self::Chat(conversation, variables) => {
                generator.encode_chat(conversation, variables).map_err(|error| match error {
                    generate::Error::Tokenizer(tokenizer::Error::NoChatTemplate) => ApiError::no_chat_template(),
                    error => {
                        let message = format!("`{name}` cannot be rendered: {}.", causes(&error));
                        ApiError::parameter(name, "invalid_value", message)
                    }
                })
            }
        }
    }

    /// Returns the text that `echo` repeats: that of the prompt, as far as it is kept.
    fn echo(&self, generator: &Generator, kept: &[u32], is_cut: bool) -> Result<String, ApiError> {
        match self {
            Self::Prompt(Prompt::Text(text)) if !is_cut => Ok(text.clone()),
            Self::Prompt(_) => {
                let text = generator.tokenizer().decode(kept);
                text.map_err(|error| ApiError::parameter("prompt", "invalid_value", format!("{error}.")))
            }
            Self::Chat(..) => Ok(String::new()),
        }
    }
}

/// Checks the length of a prompt, in tokens.
fn check_length(name: &str, tokens: usize, generator: &Generator, config: &Config) -> Result<(), ApiError> {
    let context_length = generator.config().context_length;
    let limit = config.max_prompt_tokens.map_or(context_length, |limit| limit.min(context_length));
    if tokens == 0 {
        let message = format!("`{name}` has no tokens; a chat template that writes nothing for it cannot be used.");
        return Err(ApiError::parameter(name, "invalid_value", message));
    }
    if tokens > limit { Err(ApiError::context_length_exceeded(name, tokens, limit)) } else { Ok(()) }
}
