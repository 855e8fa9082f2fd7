//! What the model writes by itself.

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
use crate::rust_syntax::{self, Parse, Verdict};
use crate::{Config, Error};

/// Tokens that a held-out document opens with, where the configuration has no prompts.
const OPENING_TOKENS: usize = 16;

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Sample {
    pub(crate) prompt: String,
    /// What the model wrote after it.
    pub(crate) text: String,
    pub(crate) seed: u64,
    pub(crate) completion_tokens: usize,
    /// Whether the model ended it, and not the token limit.
    pub(crate) ended: bool,
    /// Whether prompt and text parse as they stand; none where nothing is parsed.
    pub(crate) parses_whole: Option<bool>,
    /// What they are once what the token limit cut off is set aside (the rules are in `rust_syntax.rs`).
    pub(crate) verdict: Option<Verdict>,
    /// Bytes of `text` that were parsed then; all of it where nothing parses.
    pub(crate) kept_bytes: usize,
}

/// Samples and what they say together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Samples {
    /// How varied the samples are.
    pub(crate) diversity: Diversity,
    /// How varied held-out documents are, cut to the same number of tokens: what to compare with.
    pub(crate) held_out_diversity: Diversity,
    /// Samples that could be judged; those that were cut off within the first comment could not.
    pub(crate) judged: usize,
    /// The share of them that parses; none where nothing is parsed.
    pub(crate) parses_share: Option<f64>,
    /// The share of them that parses as it stands, truncation held against it.
    pub(crate) parses_whole_share: Option<f64>,
    /// The same as `parses_share` of the held-out documents, those among them that are not in the language included.
    pub(crate) held_out_parses_share: Option<f64>,
    pub(crate) items: Vec<Sample>,
}

/// Draws samples from the model in `folder` and measures them.
///
/// # Errors
/// When the model cannot be loaded or computes something that is no number; [`Error::Interrupted`].
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
    // One sample is too little work for all cores. Each has its own seed, so their order changes nothing.
    let mut items: Vec<Sample> = (0..total)
        .into_par_iter()
        .map(|index| draw_one(config, &generator, &prompts[index % prompts.len()], index, &done, context))
        .collect::<Result<_, Error>>()?;
    let parses = parse_samples(config.language, &mut items)?;
    let held_out: Vec<(String, bool)> =
        references.iter().map(|r| (format!("{}{}", r.opening, r.following), r.whole)).collect();
    let held_out_parses = parse(config.language, &held_out)?;

    let texts: Vec<&str> = items.iter().map(|sample| sample.text.as_str()).collect();
    let references: Vec<&str> = references.iter().map(|reference| reference.following.as_str()).collect();
    Ok(Samples {
        diversity: Diversity::of(&texts),
        held_out_diversity: Diversity::of(&references),
        judged: judged(&parses).count(),
        parses_share: share(&parses, |parse| parse.verdict == Verdict::Parses),
        parses_whole_share: share(&parses, |parse| parse.whole),
        held_out_parses_share: share(&held_out_parses, |parse| parse.verdict == Verdict::Parses),
        items,
    })
}

/// The opening of a held-out document, and what a sample of the same length would be compared with.
struct Reference {
    opening: String,
    following: String,
    /// Whether that is the whole document.
    whole: bool,
}

/// Takes as many documents as there are samples, from the split's first; short ones are passed over.
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
    let options = CompletionOptions { max_tokens: config.sample_tokens, sampling, ..CompletionOptions::default() };
    let completion = generator.generate(prompt, &options, &mut |_| {
        // A token takes a millisecond; nobody reads a bar that fast.
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
        parses_whole: None,
        verdict: None,
    })
}

/// Parses the samples, and notes in each what came of it.
fn parse_samples(language: Language, items: &mut [Sample]) -> Result<Vec<Parse>, Error> {
    let texts: Vec<(String, bool)> =
        items.iter().map(|sample| (format!("{}{}", sample.prompt, sample.text), sample.ended)).collect();
    let parses = parse(language, &texts)?;
    for (sample, parse) in items.iter_mut().zip(&parses) {
        sample.parses_whole = Some(parse.whole);
        sample.verdict = Some(parse.verdict);
        sample.kept_bytes = parse.kept_bytes.saturating_sub(sample.prompt.len());
    }
    Ok(parses)
}

fn parse(language: Language, texts: &[(String, bool)]) -> Result<Vec<Parse>, Error> {
    match language {
        Language::None => Ok(Vec::new()),
        Language::Rust => {
            rust_syntax::parse_all(texts).map_err(|source| Error::Io { operation: "parse the samples", source })
        }
    }
}

fn judged(parses: &[Parse]) -> impl Iterator<Item = &Parse> {
    parses.iter().filter(|parse| parse.verdict != Verdict::OnlyComments)
}

fn share(parses: &[Parse], holds: impl Fn(&Parse) -> bool) -> Option<f64> {
    let all = judged(parses).count();
    let holding = judged(parses).filter(|parse| holds(parse)).count();
    (all > 0).then(|| holding as f64 / all as f64)
}
