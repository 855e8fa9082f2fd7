//! Stage `generate`: prompts in, `samples.jsonl` out.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use artifact::format::grouped;
use artifact::{Context, Digest, Outcome, Sealed, Unsealed, file};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{CompletionOptions, Config, Error, FinishReason, Generator, Prompt, SamplingChoice, prompts};

/// The stage's name.
pub const NAME: &str = "generate";
/// Raised when the same inputs would give different samples.
pub const VERSION: u32 = 4;

const SAMPLES: &str = "samples.jsonl";
/// Characters of a sample shown as progress. Heuristic, not measured: because it should fit on a line of a terminal.
const PREVIEW_CHARACTERS: usize = 90;

/// One line of `samples.jsonl`. It holds no times, so that a rerun writes the same file.
#[derive(Debug, Serialize)]
struct Sample<'a> {
    #[serde(flatten)]
    prompt: &'a Prompt,
    text: &'a str,
    prompt_tokens: usize,
    completion_tokens: usize,
    finish_reason: FinishReason,
    seed: u64,
}

/// Returns the digests of the stage's inputs besides the bundle: the prompts file, if there is one.
///
/// # Errors
/// Returns an error if that file cannot be read.
pub fn inputs(config: &Config, context: &Context) -> Result<BTreeMap<String, Digest>, Error> {
    let Some(path) = prompts::file(config, &context.base) else { return Ok(BTreeMap::new()) };
    let (digest, _) = Digest::of_file(&path)?;
    Ok(BTreeMap::from([("prompts file".to_owned(), digest)]))
}

/// Completes every prompt with the model in `bundle` and writes `samples.jsonl`. Sample `i`, counted from 0 over all
/// samples, has the seed `context.seed + i`.
///
/// # Errors
/// Returns an error if the bundle differs from its manifest or a prompt cannot be read, and on I/O errors.
pub fn run(config: &Config, bundle: &Sealed, out: &Unsealed, context: &Context) -> Result<Outcome, Error> {
    config.validate()?;
    out.clear()?;
    let prompts = prompts::read(config, &context.base)?;
    model::hub_layout::verify(bundle)?;
    let draft_model = config.draft_model.as_ref().map(|folder| context.base.join(folder));
    let generator = Generator::open_with_cache(bundle.folder(), &context.device, |model| config.cache(model))?;
    let generator = generator.with_drafts(config.draft_tokens, draft_model.as_deref(), &context.device)?;
    let declared = generator.declared_sampling();
    report_sampling(declared, config, context);
    let n_samples = prompts.len() * config.samples_per_prompt;
    let mut lines = Vec::new();
    let (mut prompt_tokens, mut completion_tokens) = (0, 0);
    context.progress.begin("samples", n_samples as u64, "samples");
    let numbered = (0..n_samples).zip(prompts.iter().flat_map(|p| std::iter::repeat_n(p, config.samples_per_prompt)));
    for (i, prompt) in numbered {
        let guidance = generator.guidance(config, prompt)?;
        let options = config.options(declared, context.seed.wrapping_add(i as u64));
        let options = CompletionOptions { guidance, ..options };
        let completion = generator.generate(prompt, &options, &mut |_| {
            if context.cancel.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if context.cancel.is_requested() {
            return Err(Error::Interrupted);
        }
        prompt_tokens += completion.prompt_tokens;
        completion_tokens += completion.completion_tokens;
        let sample = Sample {
            prompt,
            text: &completion.text,
            prompt_tokens: completion.prompt_tokens,
            completion_tokens: completion.completion_tokens,
            finish_reason: completion.finish_reason,
            seed: options.sampling.seed,
        };
        serde_json::to_writer(&mut lines, &sample)?;
        lines.push(b'\n');
        if i % config.samples_per_prompt == 0 {
            context.progress.line(&preview(&prompt.last_text(), &completion.text));
        }
        context.progress.figures(&format!("{:.0} tokens/s", completion.tokens_per_second()));
        context.progress.position(i as u64 + 1);
    }
    file::write_atomically(&out.path(SAMPLES), &lines)?;
    let counts = [
        ("prompts", prompts.len()),
        ("samples", n_samples),
        ("prompt_tokens", prompt_tokens),
        ("completion_tokens", completion_tokens),
    ];
    Ok(Outcome {
        counts: counts.map(|(name, count)| (name.to_owned(), Value::from(count))).into_iter().collect::<Map<_, _>>(),
        headline: format!("{} samples, {} tokens", grouped(n_samples as u64), grouped(completion_tokens as u64)),
        device: model::device::describe(&context.device)?,
        ..Outcome::default()
    })
}

/// Names the settings that are the model's and not the configuration's, if there are any.
fn report_sampling(declared: SamplingChoice, config: &Config, context: &Context) {
    let of_model = declared.without(config.sampling());
    if !of_model.is_empty() {
        context.progress.line(&format!("sampling of the model's generation_config.json: {of_model}"));
    }
}

/// Returns the beginning of a sample on one line.
fn preview(prompt: &str, text: &str) -> String {
    let printable = |text: &str| text.chars().filter(|c| !c.is_control() || c.is_whitespace()).collect::<String>();
    let whole: String = printable(&format!("{prompt}{text}")).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut characters = whole.chars();
    let shown: String = characters.by_ref().take(PREVIEW_CHARACTERS).collect();
    if characters.next().is_some() { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_one_short_line() {
        assert_eq!(preview("fn main() {", "\n    let x = 1;\n}"), "fn main() { let x = 1; }");
        assert_eq!(preview("a\u{1b}[1m", "b\u{7}"), "a[1mb");
        assert_eq!(preview("", &"é".repeat(91)), format!("{}…", "é".repeat(90)));
    }
}
