//! Many completions at once through one scheduler: the weights are read once for all of them.

use std::collections::HashMap;

use artifact::Context;
use generate::{FinishReason, Generator};
use inference::{Event, Request, Scheduler, Settings};
use model::ModelConfig;

use crate::Error;

/// Sequences that run at the same time.
const SEQUENCES: usize = 32;

/// Tokens of the KV cache that are enough for whatever the model's context is. Heuristic: the sequences of this stage
/// have some hundred tokens.
const CACHE_TOKENS: usize = 8192;

/// A completed prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Completed {
    /// The tokens, the stop token included.
    pub(crate) tokens: Vec<u32>,
    pub(crate) reason: FinishReason,
}

/// Returns the size of the KV cache for completing a batch.
pub(crate) fn cache_tokens(config: &ModelConfig) -> usize {
    let context = config.context_length;
    (SEQUENCES * context).min(context.max(CACHE_TOKENS))
}

/// Completes prompts, and returns the completions in their order. Each depends on its own request only.
///
/// # Errors
/// Returns an error if a request is invalid, the device fails, or the logits are not finite; [`Error::Interrupted`] if
/// cancelled.
pub(crate) fn complete(
    generator: &Generator,
    requests: Vec<Request>,
    what: &str,
    context: &Context,
) -> Result<Vec<Completed>, Error> {
    let total: usize = requests.iter().map(|request| request.max_tokens).sum();
    context.progress.begin(what, total as u64, "tokens");
    let settings = Settings {
        max_sequences: SEQUENCES,
        reuse_prefixes: false,
        vocab_size: Some(generator.tokenizer().vocab_size()),
        ..Settings::default()
    };
    let mut model = generator.model();
    let mut scheduler = Scheduler::new(&mut **model, settings)?;
    let mut completed = vec![Completed { tokens: Vec::new(), reason: FinishReason::Length }; requests.len()];
    let mut places = HashMap::new();
    for (place, request) in requests.into_iter().enumerate() {
        places.insert(scheduler.submit(request)?, place);
    }
    let mut done = 0;
    while !scheduler.is_idle() {
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        for event in scheduler.step()? {
            match event {
                Event::Token { request, token, .. } => {
                    completed[places[&request]].tokens.push(token);
                    done += 1;
                }
                Event::Finished { request, reason, .. } => completed[places[&request]].reason = reason,
                Event::Failed { error, .. } => return Err(error.into()),
                Event::Embedding { .. } | Event::Attention { .. } => {}
            }
        }
        context.progress.position(done);
    }
    Ok(completed)
}

/// Returns the text of the tokens that follow `prompt`, without special and stop tokens.
///
/// # Errors
/// Returns an error if a token is not in the vocabulary.
pub(crate) fn text(generator: &Generator, prompt: &[u32], tokens: &[u32]) -> Result<String, Error> {
    let (mut stream, stop_tokens) = (generator.text_stream(prompt, &[], &[])?, generator.stop_tokens());
    let mut text = String::new();
    for token in tokens.iter().filter(|token| !stop_tokens.contains(**token)) {
        text += &stream.push(*token)?;
    }
    Ok(text + &stream.finish().0)
}
