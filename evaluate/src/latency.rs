//! Serving latency of the bundle: the time to the first token, and from one token to the next.
//!
//! Measured as the server computes, through its scheduler, but without HTTP. It holds times, so it is no part of
//! `report.json`, which equal runs have in common.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use artifact::Context;
use generate::{Generator, Sampling};
use inference::{Event, Request, Scheduler, Settings};
use serde::Serialize;
use tokenizer::shard::Split;

use crate::Error;

/// Requests at the same time.
const CONCURRENT: [usize; 2] = [1, 8];

/// Tokens of a prompt, if the model's context has twice as many.
const PROMPT_TOKENS: usize = 128;

/// Tokens of an answer, if the model's context has room for them.
const ANSWER_TOKENS: usize = 32;

/// Requests for each number at the same time, at most.
const REQUESTS: usize = 8;

/// No further requests begin after this time.
const TIME: Duration = Duration::from_secs(2);

/// The latencies of requests of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Requests at the same time.
    concurrent: usize,
    /// Answered requests.
    requests: usize,
    prompt_tokens: usize,
    answer_tokens: usize,
    /// From the request to its first token.
    first_token_seconds: Quantiles,
    /// From a token to the next one of the same request.
    inter_token_seconds: Quantiles,
    /// Tokens of all requests together.
    tokens_per_second: f64,
}

/// The middle and the end of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    median: f64,
    /// 95 % are at most this.
    p95: f64,
}

/// Measures requests whose prompts are the beginnings of test documents.
///
/// # Errors
/// Returns an error if the model fails; [`Error::Interrupted`] if cancelled.
pub(crate) fn measure(generator: &Generator, test: &Split, context: &Context) -> Result<Vec<Latency>, Error> {
    context.progress.begin("measuring latency", CONCURRENT.len() as u64, "loads");
    let context_length = generator.config().context_length;
    let (prompt, answer) = (PROMPT_TOKENS.min(context_length / 2).max(1), ANSWER_TOKENS.min(context_length / 2).max(1));
    let mut tokens = vec![0; test.len()];
    test.copy(0, &mut tokens);
    let prompts: Vec<Vec<u32>> = tokens.chunks_exact(prompt).take(REQUESTS).map(<[u32]>::to_vec).collect();
    let mut latencies = Vec::new();
    for (done, concurrent) in CONCURRENT.into_iter().enumerate() {
        latencies.extend(of_load(generator, &prompts, answer, concurrent, context)?);
        context.progress.position(done as u64 + 1);
    }
    Ok(latencies)
}

/// Answers prompts, some at the same time; none if there are too few of them.
fn of_load(
    generator: &Generator,
    prompts: &[Vec<u32>],
    answer_tokens: usize,
    concurrent: usize,
    context: &Context,
) -> Result<Option<Latency>, Error> {
    let (mut first, mut between, mut requests, mut tokens) = (Vec::new(), Vec::new(), 0, 0);
    let started = Instant::now();
    for prompts in prompts.chunks_exact(concurrent) {
        if started.elapsed() > TIME {
            break;
        }
        let settings = Settings {
            max_sequences: concurrent,
            reuse_prefixes: false,
            vocab_size: Some(generator.tokenizer().vocab_size()),
            ..Settings::default()
        };
        let mut model = generator.model();
        let mut scheduler = Scheduler::new(&mut **model, settings)?;
        let mut last = HashMap::new();
        for prompt in prompts {
            let request = Request { sampling: Sampling::greedy(), ..Request::new(prompt.clone(), answer_tokens) };
            last.insert(scheduler.submit(request)?, (Instant::now(), 0));
        }
        while !scheduler.is_idle() {
            if context.cancel.is_requested() {
                return Err(Error::Interrupted);
            }
            for event in scheduler.step()? {
                match event {
                    Event::Token { request, .. } => {
                        let Some((before, count)) = last.get_mut(&request) else { continue };
                        let seconds = before.elapsed().as_secs_f64();
                        if *count == 0 { &mut first } else { &mut between }.push(seconds);
                        (*before, *count) = (Instant::now(), *count + 1);
                        tokens += 1;
                    }
                    Event::Failed { error, .. } => return Err(error.into()),
                    Event::Finished { .. } | Event::Embedding { .. } | Event::Attention { .. } => {}
                }
            }
        }
        requests += concurrent;
    }
    let tokens_per_second = f64::from(tokens) / started.elapsed().as_secs_f64();
    let quantiles = Quantiles::of(&mut first).zip(Quantiles::of(&mut between));
    Ok(quantiles.map(|(first_token_seconds, inter_token_seconds)| Latency {
        concurrent,
        requests,
        prompt_tokens: prompts[0].len(),
        answer_tokens,
        first_token_seconds,
        inter_token_seconds,
        tokens_per_second,
    }))
}

impl Quantiles {
    fn of(seconds: &mut [f64]) -> Option<Self> {
        seconds.sort_unstable_by(f64::total_cmp);
        let at = |fraction: f64| seconds.get((fraction * seconds.len().saturating_sub(1) as f64).round() as usize);
        Some(Self { median: *at(0.5)?, p95: *at(0.95)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_in_their_order() {
        let mut seconds: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!(Quantiles::of(&mut seconds), Some(Quantiles { median: 50.0, p95: 95.0 }));
        assert_eq!(Quantiles::of(&mut [3.0]), Some(Quantiles { median: 3.0, p95: 3.0 }));
        assert_eq!(Quantiles::of(&mut []), None);
    }
}
