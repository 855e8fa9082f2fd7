//! Samples of the model, and their measures.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use artifact::Context;
use generate::{CompletionOptions, FinishReason, Generator, Sampling};
use rayon::prelude::*;
use serde::Serialize;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;

use crate::config::Language;
use crate::diversity::Diversity;
use crate::syntax::{self, SyntaxCheck, Verdict};
use crate::{Config, Error};

/// Tokens of a held-out document that serve as a prompt if the configuration has none.
const OPENING_TOKENS: usize = 16;

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Sample {
    pub(crate) prompt: String,
    /// The generated text.
    pub(crate) text: String,
    pub(crate) seed: u64,
    pub(crate) completion_tokens: usize,
    /// Whether the model ended the text; otherwise the token limit did.
    pub(crate) ended: bool,
    /// Whether prompt and text parse as they stand; none without a language.
    pub(crate) parses_uncut: Option<bool>,
    /// The verdict by the rules for truncated samples in `syntax.rs`; none without a language.
    pub(crate) verdict: Option<Verdict>,
    /// Bytes of `text` that parse by these rules; all if none do.
    pub(crate) kept_bytes: usize,
}

/// The samples and their measures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Samples {
    /// Diversity of the samples.
    pub(crate) diversity: Diversity,
    /// Diversity of held-out documents cut to the same number of tokens, for comparison.
    pub(crate) held_out_diversity: Diversity,
    /// Samples with a verdict; those truncated before any code have none.
    pub(crate) checked: usize,
    /// The fraction of them that parses; none without a language.
    pub(crate) parses_fraction: Option<f64>,
    /// The fraction of them that parses as it stands, with truncation counted as an error.
    pub(crate) parses_uncut_fraction: Option<f64>,
    /// `parses_fraction` of the held-out documents, including those in other languages.
    pub(crate) held_out_parses_fraction: Option<f64>,
    pub(crate) items: Vec<Sample>,
}

/// Draws samples from the model in `folder` and measures them.
///
/// # Errors
/// Returns an error if the model cannot be loaded or its logits are not finite; [`Error::Interrupted`] if cancelled.
pub(crate) fn draw(config: &Config, folder: &Path, test: &Split, context: &Context) -> Result<Samples, Error> {
    let generator = Generator::open(folder, &context.device)?;
    let tokenizer = generator.tokenizer();
    let references = references(config, tokenizer, test)?;
    let prompts: Vec<String> = match config.prompts.as_slice() {
        [] => references.iter().map(|reference| reference.opening.clone()).collect(),
        prompts => prompts.to_vec(),
    };
    let total = if prompts.is_empty() { 0 } else { config.samples };
    context.progress.begin("sampling", (total * config.sample_tokens) as u64, "tokens");
    let done = AtomicU64::new(0);
    // One sample is too little work for all cores. Each has its own seed, so the order does not matter.
    let mut items: Vec<Sample> = (0..total)
        .into_par_iter()
        .map(|index| draw_one(config, &generator, &prompts[index % prompts.len()], index, &done, context))
        .collect::<Result<_, Error>>()?;
    let checks = check_samples(config.language, &mut items);
    let held_out: Vec<(String, bool)> =
        references.iter().map(|r| (format!("{}{}", r.opening, r.following), r.whole)).collect();
    let held_out_checks = syntax::check_all(config.language, &held_out);

    let texts: Vec<&str> = items.iter().map(|sample| sample.text.as_str()).collect();
    let references: Vec<&str> = references.iter().map(|reference| reference.following.as_str()).collect();
    Ok(Samples {
        diversity: Diversity::of(&texts),
        held_out_diversity: Diversity::of(&references),
        checked: with_verdict(&checks).count(),
        parses_fraction: fraction(&checks, |check| check.verdict == Verdict::Parses),
        parses_uncut_fraction: fraction(&checks, |check| check.parses_uncut),
        held_out_parses_fraction: fraction(&held_out_checks, |check| check.verdict == Verdict::Parses),
        items,
    })
}

/// The beginning of a held-out document: a prompt, and the text to compare with a sample of the same length.
struct Reference {
    opening: String,
    following: String,
    /// Whether this is the whole document.
    whole: bool,
}

/// Returns as many documents as there are samples, from the start of the split; short ones are skipped.
fn references(config: &Config, tokenizer: &Tokenizer, test: &Split) -> Result<Vec<Reference>, Error> {
    let mut references = Vec::new();
    for index in 0..test.n_documents() {
        if references.len() == config.samples {
            break;
        }
        let document = test.document(index);
        if document.len() < 2 * OPENING_TOKENS {
            continue;
        }
        let (opening, following) = document.split_at(OPENING_TOKENS);
        let following = &following[..following.len().min(config.sample_tokens)];
        references.push(Reference {
            opening: tokenizer.decode(opening)?,
            following: tokenizer.decode(following)?,
            whole: OPENING_TOKENS + following.len() == document.len(),
        });
    }
    Ok(references)
}

fn draw_one(
    config: &Config,
    generator: &Generator,
    prompt: &str,
    index: usize,
    done: &AtomicU64,
    context: &Context,
) -> Result<Sample, Error> {
    let seed = context.seed.wrapping_add(index as u64);
    let sampling = Sampling { temperature: config.temperature, top_p: config.top_p, seed, ..Sampling::default() };
    let options = CompletionOptions {
        max_tokens: config.sample_tokens,
        sampling,
        // A model of a short context sees what it can of an opening.
        truncate_prompt_tokens: Some(generator.config().context_length),
        ..CompletionOptions::default()
    };
    let tokens = generator.tokenizer().encode(prompt)?;
    let completion = generator.complete(&tokens, &options, &mut |_| {
        // A token takes about a millisecond: updating the progress bar each time would be wasteful.
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(16) {
            context.progress.position(done);
        }
        if context.cancel.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if completion.finish_reason == FinishReason::Cancelled {
        return Err(Error::Interrupted);
    }
    Ok(Sample {
        prompt: prompt.to_owned(),
        kept_bytes: completion.text.len(),
        text: completion.text,
        seed,
        completion_tokens: completion.completion_tokens,
        ended: completion.finish_reason == FinishReason::Stop,
        parses_uncut: None,
        verdict: None,
    })
}

/// Checks the samples' syntax, and notes the verdict in each.
fn check_samples(language: Language, items: &mut [Sample]) -> Vec<SyntaxCheck> {
    let texts: Vec<(String, bool)> =
        items.iter().map(|sample| (format!("{}{}", sample.prompt, sample.text), sample.ended)).collect();
    let checks = syntax::check_all(language, &texts);
    for (sample, check) in items.iter_mut().zip(&checks) {
        sample.parses_uncut = Some(check.parses_uncut);
        sample.verdict = Some(check.verdict);
        sample.kept_bytes = check.kept_bytes.saturating_sub(sample.prompt.len());
    }
    checks
}

fn with_verdict(checks: &[SyntaxCheck]) -> impl Iterator<Item = &SyntaxCheck> {
    checks.iter().filter(|check| check.verdict != Verdict::OnlyComments)
}

fn fraction(checks: &[SyntaxCheck], holds: impl Fn(&SyntaxCheck) -> bool) -> Option<f64> {
    let all = with_verdict(checks).count();
    let holding = with_verdict(checks).filter(|check| holds(check)).count();
    (all > 0).then(|| holding as f64 / all as f64)
}
