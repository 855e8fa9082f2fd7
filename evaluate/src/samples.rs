//! Samples of the model, and their measures.

pub(crate) mod diversity;
pub(crate) mod language_kept;
pub(crate) mod overlap;
pub(crate) mod syntax;

use artifact::Context;
use generate::{CompletionOptions, FinishReason, Generator, Sampling};
use schemars::JsonSchema;
use serde::Serialize;
use tokenizer::Tokenizer;
use tokenizer::shard::Split;
use trace::Index;

use crate::batch;
use crate::config::Language;
use crate::provenance::{self, Traced};
use crate::risk::PersonalData;
use crate::samples::diversity::Diversity;
use crate::samples::syntax::{SyntaxCheck, Verdict};
use crate::{Config, Error};

/// Tokens of a held-out document that serve as a prompt if the configuration has none.
const OPENING_TOKENS: usize = 16;

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
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
    /// The passages of `text` that occur in the training data word for word; none without an index.
    pub(crate) traced: Option<Vec<Traced>>,
}

/// The samples and their measures.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
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
    /// The fraction of samples in the language of their prompt; none if no prompt's language is certain.
    pub(crate) language_kept_fraction: Option<f64>,
    /// The mean number of tokens of a sample.
    pub(crate) mean_tokens: f64,
    /// The fraction of samples that the model ended.
    pub(crate) ended_fraction: f64,
    pub(crate) items: Vec<Sample>,
    /// The held-out texts that samples are compared with.
    #[serde(skip)]
    pub(crate) held_out: Vec<HeldOutText>,
}

/// The beginning of a held-out document: a prompt, and the text to compare with a sample of the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldOutText {
    pub(crate) opening: String,
    pub(crate) following: String,
    /// Whether this is the whole document.
    whole: bool,
}

impl Samples {
    /// Hides personal data in the samples, which changes no place in them.
    pub(crate) fn hide(&mut self, personal_data: &PersonalData) {
        for sample in &mut self.items {
            personal_data.hide(&mut [&mut sample.prompt, &mut sample.text]);
        }
    }
}

/// Draws samples from the model and measures them.
///
/// # Errors
/// Returns an error if the model's logits are not finite; [`Error::Interrupted`] if cancelled.
pub(crate) fn draw(
    config: &Config,
    generator: &Generator,
    test: &Split,
    index: Option<&Index>,
    context: &Context,
) -> Result<Samples, Error> {
    let held_out = held_out_texts(config, generator.tokenizer(), test)?;
    let prompts: Vec<String> = match config.prompts.as_slice() {
        [] => held_out.iter().map(|text| text.opening.clone()).collect(),
        prompts => prompts.to_vec(),
    };
    let total = if prompts.is_empty() { 0 } else { config.samples };
    let prompts: Vec<&str> = (0..total).map(|index| prompts[index % prompts.len()].as_str()).collect();
    let mut items = complete(config, generator, &prompts, context)?;
    for sample in &mut items {
        sample.traced = index.map(|index| provenance::passages(index, &sample.text)).transpose()?;
    }
    let checks = check_samples(config.language, &mut items);
    let whole: Vec<(String, bool)> =
        held_out.iter().map(|text| (format!("{}{}", text.opening, text.following), text.whole)).collect();
    let held_out_checks = syntax::check_all(config.language, &whole);

    let texts: Vec<&str> = items.iter().map(|sample| sample.text.as_str()).collect();
    let references: Vec<&str> = held_out.iter().map(|text| text.following.as_str()).collect();
    let mean = |sum: usize| sum as f64 / items.len().max(1) as f64;
    Ok(Samples {
        diversity: Diversity::of(&texts),
        held_out_diversity: Diversity::of(&references),
        checked: with_verdict(&checks).count(),
        parses_fraction: fraction(&checks, |check| check.verdict == Verdict::Parses),
        parses_uncut_fraction: fraction(&checks, |check| check.parses_uncut),
        held_out_parses_fraction: fraction(&held_out_checks, |check| check.verdict == Verdict::Parses),
        // Source code is in no natural language.
        language_kept_fraction: match config.language {
            Language::None => {
                language_kept::fraction(items.iter().map(|item| (item.prompt.as_str(), item.text.as_str())))
            }
            _ => None,
        },
        mean_tokens: mean(items.iter().map(|item| item.completion_tokens).sum()),
        ended_fraction: mean(items.iter().filter(|item| item.ended).count()),
        items,
        held_out,
    })
}

/// Returns as many documents as there are samples, from the start of the split; short ones are skipped.
fn held_out_texts(config: &Config, tokenizer: &Tokenizer, test: &Split) -> Result<Vec<HeldOutText>, Error> {
    let mut texts = Vec::new();
    for index in 0..test.n_documents() {
        if texts.len() == config.samples {
            break;
        }
        let document = test.document(index);
        if document.len() < 2 * OPENING_TOKENS {
            continue;
        }
        let (opening, following) = document.split_at(OPENING_TOKENS);
        let following = &following[..following.len().min(config.sample_tokens)];
        texts.push(HeldOutText {
            opening: tokenizer.decode(opening)?,
            following: tokenizer.decode(following)?,
            whole: OPENING_TOKENS + following.len() == document.len(),
        });
    }
    Ok(texts)
}

/// Completes one sample for each prompt; each has its own seed.
fn complete(config: &Config, generator: &Generator, prompts: &[&str], context: &Context) -> Result<Vec<Sample>, Error> {
    let seed = |index: usize| context.seed.wrapping_add(index as u64);
    let mut encoded = Vec::with_capacity(prompts.len());
    let mut requests = Vec::with_capacity(prompts.len());
    for (index, prompt) in prompts.iter().enumerate() {
        let sampling =
            Sampling { temperature: config.temperature, top_p: config.top_p, seed: seed(index), ..Sampling::default() };
        let options = CompletionOptions { max_tokens: config.sample_tokens, sampling, ..CompletionOptions::default() };
        let tokens = generator.tokenizer().encode(prompt)?;
        // A model of a short context sees what it can of an opening.
        let tokens = generator.fit(&tokens, Some(generator.config().context_length))?.to_vec();
        requests.push(generator.request(&tokens, &options));
        encoded.push(tokens);
    }
    let completed = batch::complete(generator, requests, "sampling", context)?;
    let sample = |(index, completed): (usize, batch::Completed)| {
        let text = batch::text(generator, &encoded[index], &completed.tokens)?;
        Ok(Sample {
            prompt: prompts[index].to_owned(),
            kept_bytes: text.len(),
            text,
            seed: seed(index),
            completion_tokens: completed.tokens.len(),
            ended: completed.reason == FinishReason::Stop,
            parses_uncut: None,
            verdict: None,
            traced: None,
        })
    };
    completed.into_iter().enumerate().map(sample).collect()
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
