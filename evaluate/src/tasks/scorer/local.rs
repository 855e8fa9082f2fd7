//! A model on this machine, through crate `inference`.
//!
//! Texts become tokens as in the Hugging Face backend of lm-evaluation-harness.

use std::collections::BTreeMap;
use std::path::Path;

use generate::{CompletionOptions, FinishReason, Generator, Sampling};
use inference::continuations::{self, Continuation, Likelihood};
use inference::{Event, RequestId, Scheduler, Settings};
use serde::Serialize;

use super::{Scorer, TaskRequest, TaskResponse, TaskSampling};
use crate::Error;

/// The number of texts that are generated at the same time.
const MAX_SEQUENCES: usize = 16;

/// A model on this machine.
#[derive(Debug)]
pub struct LocalModel {
    generator: Generator,
}

/// The loss of a model on a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TextLoss {
    /// Mean cross-entropy per token, in nats.
    pub loss_nats: f64,
    /// exp of the loss.
    pub perplexity: f64,
    /// Sum of the tokens' losses in bits, per byte of text.
    pub bits_per_byte: f64,
    /// Scored tokens: all of the text.
    pub tokens: u64,
    /// UTF-8 bytes of the text.
    pub bytes: u64,
}

/// How well a model predicts a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TextScore {
    /// The sum of the tokens' cross-entropies, in nats.
    pub(crate) loss_nats: f64,
    pub(crate) tokens: u64,
}

impl LocalModel {
    /// Loads the model and the tokenizer in a folder onto the device with that name.
    ///
    /// # Errors
    /// Returns an error if one of them cannot be loaded, or they do not match.
    pub fn open(folder: &Path, device: &str) -> Result<Self, Error> {
        let cache = |config: &model::ModelConfig| continuations::cache_tokens(config.context_length);
        Ok(Self::new(Generator::open_with_cache(folder, device, cache)?))
    }

    /// Returns a model whose cache holds at least [`continuations::cache_tokens`].
    pub(crate) fn new(generator: Generator) -> Self {
        Self { generator }
    }

    /// Returns the loss on a text, each of whose tokens is predicted from at least half the model's context, or all
    /// tokens before it.
    ///
    /// # Errors
    /// Returns an error if the text is empty, or the model fails.
    pub fn text_loss(&self, text: &str) -> Result<TextLoss, Error> {
        let scores = self.scores(&[("", text)], &mut |_| true)?;
        let (sum, tokens) = scores.iter().fold((0.0, 0), |sum, score| (sum.0 + score.loss_nats, sum.1 + score.tokens));
        let loss_nats = sum / tokens as f64;
        let bits_per_byte = sum / std::f64::consts::LN_2 / text.len() as f64;
        Ok(TextLoss { loss_nats, perplexity: loss_nats.exp(), bits_per_byte, tokens, bytes: text.len() as u64 })
    }

    /// Returns the scores of texts, each after a context that may be empty. Each token of a text is predicted from at
    /// least half the model's context, or all tokens before it. `on_progress` gets the bytes of the texts that are
    /// done, and cancels by returning false.
    ///
    /// # Errors
    /// Returns an error if a text is empty, the model fails, or on cancellation.
    pub(crate) fn scores(
        &self,
        texts: &[(&str, &str)],
        on_progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Vec<TextScore>, Error> {
        let stride = self.generator.config().context_length.div_ceil(2);
        let mut scores = Vec::with_capacity(texts.len());
        let (mut windows, mut text_of, mut bytes_of) = (Vec::new(), Vec::new(), Vec::new());
        for (context, text) in texts {
            let pair = self.encode_pair(context, text)?;
            if pair.tokens.is_empty() {
                return Err(Error::Request { problem: "the text is empty".to_owned() });
            }
            let pieces = pair.tokens.len().div_ceil(stride);
            let all = [&pair.context[..], &pair.tokens].concat();
            for at in (pair.context.len()..all.len()).step_by(stride) {
                let (context, tokens) = (&all[at.saturating_sub(stride)..at], &all[at..(at + stride).min(all.len())]);
                windows.push(Continuation { context: context.to_vec(), tokens: tokens.to_vec() });
                text_of.push(scores.len());
                bytes_of.push(text.len() as f64 / pieces as f64);
            }
            scores.push(TextScore { loss_nats: 0.0, tokens: pair.tokens.len() as u64 });
        }
        let mut losses = vec![0.0; windows.len()];
        let mut done = 0.0;
        continuations::score(&mut **self.generator.model(), &windows, |i, score| {
            losses[i] = -score.log_likelihood;
            done += bytes_of[i];
            on_progress(done as u64)
        })?;
        // In the order of the texts, whatever the order in which they were scored.
        text_of.iter().zip(losses).for_each(|(text, loss)| scores[*text].loss_nats += loss);
        Ok(scores)
    }

    /// Returns the token that stands for an empty context: begin-of-text, else end-of-text.
    fn prefix_token(&self) -> Option<u32> {
        let tokenizer = self.generator.tokenizer();
        tokenizer.interface().bos.as_ref().map(|token| token.id).or_else(|| tokenizer.end_of_text())
    }

    /// Returns the name of [`LocalModel::prefix_token`].
    fn prefix_name(&self) -> Option<&str> {
        let tokenizer = self.generator.tokenizer();
        let bos = tokenizer.interface().bos.as_ref().map(|token| token.content.as_str());
        bos.or_else(|| tokenizer.end_of_text_name())
    }

    /// Returns the tokens of a text, with those that are placed before it unless the text itself begins with one.
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let tokenizer = self.generator.tokenizer();
        let tokens = tokenizer.encode_prompt(text)?;
        if self.prefix_name().is_some_and(|name| text.starts_with(name)) { Ok(self.bare(tokens)) } else { Ok(tokens) }
    }

    /// Removes the tokens that are placed before and after every text.
    fn bare(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        let tokenizer = self.generator.tokenizer();
        tokens.truncate(tokens.len() - tokenizer.suffix_tokens().len());
        tokens.drain(..tokenizer.prefix_tokens().len());
        tokens
    }

    /// Divides the tokens of context and continuation: spaces at the end of the context go to the continuation, and the
    /// context has as many tokens of both as it has alone.
    fn encode_pair(&self, context: &str, continuation: &str) -> Result<Continuation, Error> {
        let trimmed = context.trim_end();
        let moved = [&context[trimmed.len()..], continuation].concat();
        if trimmed.is_empty() {
            let mut tokens = self.bare(self.generator.tokenizer().encode_prompt(&moved)?);
            let prefix = self.prefix_token().ok_or(generate::Error::EmptyPrompt)?;
            if tokens.first() == Some(&prefix) && tokens.len() > 1 {
                tokens.remove(0);
            }
            return Ok(Continuation { context: vec![prefix], tokens });
        }
        let mut whole = self.encode(&[trimmed, &moved].concat())?;
        let tokens = whole.split_off(self.encode(trimmed)?.len().min(whole.len()));
        Ok(Continuation { context: whole, tokens })
    }

    fn score(
        &self,
        requests: &[(usize, &str, &str)],
        on_response: &mut dyn FnMut(usize, TaskResponse) -> bool,
    ) -> Result<(), Error> {
        let encode = |(_, context, continuation): &(usize, &str, &str)| {
            let pair = self.encode_pair(context, continuation)?;
            if pair.tokens.is_empty() {
                let problem = format!("the answer {continuation:?} has no tokens after its context");
                return Err(Error::Request { problem });
            }
            Ok(pair)
        };
        let pairs: Vec<Continuation> = requests.iter().map(encode).collect::<Result<_, Error>>()?;
        let on_scored = |i: usize, Likelihood { log_likelihood, is_greedy }| {
            on_response(requests[i].0, TaskResponse::Likelihood { log_likelihood, is_greedy })
        };
        Ok(continuations::score(&mut **self.generator.model(), &pairs, on_scored)?)
    }

    fn generate(
        &self,
        requests: &[Prompt<'_>],
        on_response: &mut dyn FnMut(usize, TaskResponse) -> bool,
    ) -> Result<(), Error> {
        let tokenizer = self.generator.tokenizer();
        let context_length = self.generator.config().context_length;
        let mut model = self.generator.model();
        let settings =
            Settings { max_sequences: MAX_SEQUENCES, vocab_size: Some(tokenizer.vocab_size()), ..Settings::default() };
        let mut scheduler = Scheduler::new(&mut **model, settings)?;
        let mut texts: BTreeMap<RequestId, Text<'_>> = BTreeMap::new();
        for &Prompt { index, context, until, max_tokens, sampling } in requests {
            let mut prompt = self.encode(context)?;
            if prompt.is_empty() {
                prompt.push(self.prefix_token().ok_or(generate::Error::EmptyPrompt)?);
            }
            if max_tokens >= context_length {
                let problem =
                    format!("it generates {max_tokens} tokens, but the model's context has only {context_length}");
                return Err(Error::Request { problem });
            }
            let kept = prompt.len().min(context_length - max_tokens);
            let sampling = match sampling {
                Some(TaskSampling { temperature, top_p, seed }) => {
                    Sampling { temperature, top_p, seed, ..Sampling::unfiltered() }
                }
                None => Sampling::greedy(),
            };
            let options = CompletionOptions { max_tokens, sampling, ..CompletionOptions::default() };
            let request = self.generator.request(&prompt[prompt.len() - kept..], &options);
            texts.insert(scheduler.submit(request)?, Text { index, until, tokens: Vec::new() });
        }
        let stop_tokens = self.generator.stop_tokens();
        while !scheduler.is_idle() {
            for event in scheduler.step()? {
                let (request, is_finished) = match event {
                    Event::Token { request, token, .. } => {
                        let Some(text) = texts.get_mut(&request) else { continue };
                        if stop_tokens.contains(token) {
                            continue;
                        }
                        text.tokens.push(token);
                        let is_stopped = cut(&tokenizer.decode(&text.tokens)?, text.until).1;
                        if is_stopped {
                            scheduler.stop(request, 0);
                        }
                        (request, is_stopped)
                    }
                    Event::Finished { request, reason, .. } => (request, reason != FinishReason::Cancelled),
                    Event::Failed { error, .. } => return Err(error.into()),
                    Event::Embedding { .. } | Event::Attention { .. } => continue,
                };
                if !is_finished {
                    continue;
                }
                let Some(text) = texts.remove(&request) else { continue };
                let written = cut(&tokenizer.decode(&text.tokens)?, text.until).0.to_owned();
                if !on_response(text.index, TaskResponse::Text { text: written }) {
                    return Err(Error::Interrupted);
                }
            }
        }
        Ok(())
    }
}

/// A text that is to be continued.
struct Prompt<'a> {
    index: usize,
    context: &'a str,
    until: &'a [String],
    max_tokens: usize,
    sampling: Option<TaskSampling>,
}

/// A text that is being generated.
struct Text<'a> {
    index: usize,
    until: &'a [String],
    tokens: Vec<u32>,
}

/// Returns the text before the first of the stop strings, and whether there is one.
pub(super) fn cut<'t>(text: &'t str, until: &[String]) -> (&'t str, bool) {
    let end = until.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min();
    (&text[..end.unwrap_or(text.len())], end.is_some())
}

impl Scorer for LocalModel {
    fn answer(
        &mut self,
        requests: &[TaskRequest],
        on_response: &mut dyn FnMut(usize, TaskResponse) -> bool,
    ) -> Result<(), Error> {
        let (mut pairs, mut prompts) = (Vec::new(), Vec::new());
        for (index, request) in requests.iter().enumerate() {
            match request {
                TaskRequest::Likelihood { context, continuation } => pairs.push((index, &**context, &**continuation)),
                TaskRequest::Generate { context, until, max_tokens, sampling } => {
                    prompts.push(Prompt { index, context, until, max_tokens: *max_tokens, sampling: *sampling });
                }
            }
        }
        self.score(&pairs, on_response)?;
        if prompts.is_empty() { Ok(()) } else { self.generate(&prompts, on_response) }
    }
}
