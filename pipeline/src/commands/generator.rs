//! What `generate` and `chat` have in common: the model, its settings, and how its texts are printed.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use generate::{
    Completion, CompletionOptions, Constraint, FinishReason, Generator, Grammar, GrammarLimits, Prompt, SamplingChoice,
    Session,
};

use crate::cli::StoreArgs;
use crate::cli::generation::{DraftArgs, GrammarArgs, SamplingArgs};
use crate::ui::console::printable;
use crate::ui::markdown::Markdown;

use super::{print_now, print_out};

/// How many tokens a draft model proposes at once by default. Heuristic, not measured: because about as many are right
/// in a row where a draft model is worth its time.
const DRAFT_TOKENS: usize = 4;

/// Opens a model with the drafts of the arguments, else of the configuration.
pub fn open(
    folder: &Path,
    device: &str,
    configured: &generate::Config,
    given: &DraftArgs,
    store: &StoreArgs,
) -> anyhow::Result<Generator> {
    let draft_model = given.draft_model.as_ref().or(configured.draft_model.as_ref());
    let draft_model = draft_model.map(|name| super::model(name, store).context("cannot use the draft model"));
    let draft_folder = draft_model.transpose()?.map(|model| model.folder);
    let draft_model = draft_folder.as_ref().map(super::Folder::path);
    let default = match (draft_model, configured.draft_tokens) {
        (Some(_), 0) => DRAFT_TOKENS,
        (_, tokens) => tokens,
    };
    let draft_tokens = given.draft_tokens.unwrap_or(default);
    let generator = Generator::open_with_cache(folder, device, |model| configured.cache(model))?;
    Ok(generator.with_drafts(draft_tokens, draft_model, device)?)
}

/// Returns the run's configuration with the settings of the arguments.
pub fn configured(config: generate::Config, given: &SamplingArgs, chat: bool) -> generate::Config {
    let sampling = SamplingChoice {
        temperature: given.temperature,
        top_k: given.top_k,
        top_p: given.top_p,
        min_p: given.min_p,
        typical_p: given.typical_p,
        repetition_penalty: given.repetition_penalty,
        frequency_penalty: given.frequency_penalty,
        presence_penalty: given.presence_penalty,
    };
    let sampling = sampling.or(config.sampling());
    generate::Config {
        max_tokens: given.max_tokens.unwrap_or(config.max_tokens),
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        typical_p: sampling.typical_p,
        repetition_penalty: sampling.repetition_penalty,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        guidance_scale: given.guidance_scale.or(config.guidance_scale),
        negative_prompt: given.negative_prompt.clone().or(config.negative_prompt),
        logit_bias: if given.logit_bias.is_empty() {
            config.logit_bias
        } else {
            given.logit_bias.iter().map(|(token, bias)| (token.to_string(), *bias)).collect()
        },
        stop: if given.stop.is_empty() { config.stop } else { given.stop.clone() },
        stop_token_ids: if given.stop_token.is_empty() { config.stop_token_ids } else { given.stop_token.clone() },
        truncate_prompt_tokens: given.truncate_prompt_tokens.or(config.truncate_prompt_tokens),
        chat: chat || given.system.is_some() || config.chat,
        system: given.system.clone().or(config.system),
        ..config
    }
}

/// Returns what the texts must obey, if the arguments name it.
pub fn constraint(generator: &Generator, given: &GrammarArgs) -> anyhow::Result<Option<Box<dyn Constraint>>> {
    let (flag, grammar) = match given {
        GrammarArgs { json_schema: Some(path), .. } => {
            let text = std::fs::read(path).with_context(|| format!("cannot read the schema in {}", path.display()))?;
            let schema = serde_json::from_slice(generate::unmarked(&text).as_ref());
            let schema = schema.with_context(|| format!("the schema in {} is not JSON", path.display()))?;
            ("--json-schema", Grammar::JsonSchema(schema))
        }
        GrammarArgs { regex: Some(regex), .. } => ("--regex", Grammar::Regex(regex.clone())),
        GrammarArgs { grammar: Some(path), .. } => {
            let text = std::fs::read(path).with_context(|| format!("cannot read the grammar in {}", path.display()))?;
            let text = String::from_utf8(generate::unmarked(&text).into_owned());
            ("--grammar", Grammar::Lark(text.with_context(|| format!("{} is not UTF-8", path.display()))?))
        }
        GrammarArgs { json_schema: None, regex: None, grammar: None } => return Ok(None),
    };
    let constraint = generator.constraint(&grammar, &GrammarLimits::default());
    constraint.map(Some).with_context(|| format!("{flag} cannot be used"))
}

/// Names the settings that are the model's, on a terminal.
pub fn show_sampling(of_model: SamplingChoice) {
    if !of_model.is_empty() && std::io::stderr().is_terminal() {
        eprintln!("[the model's generation_config.json: {of_model}]");
    }
}

/// Prints texts while they are generated.
pub struct Printer {
    /// Whether standard output is a terminal, to which no control characters of the model are written.
    pub terminal: bool,
    /// Whether answers are styled as Markdown.
    pub markdown: bool,
}

impl Printer {
    /// Completes a prompt until `is_stopped`; with `show`, prints the text as it comes.
    pub fn complete(
        &self,
        session: &mut Session<'_>,
        prompt: &Prompt,
        options: &CompletionOptions,
        show: bool,
        is_stopped: &dyn Fn() -> bool,
    ) -> anyhow::Result<Completion> {
        let mut closed = None;
        let mut markdown = Markdown::default();
        let completion = session.generate(prompt, options, &mut |text| {
            let text = if self.terminal { printable(text) } else { text.to_owned() };
            let text = if self.markdown { markdown.push(&text) } else { text };
            if show && let Err(error) = print_now(&text) {
                closed = Some(error);
            }
            if closed.is_some() || is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = closed {
            return Err(error.into());
        }
        if show {
            print_out!("{}", markdown.finish())?;
        }
        if completion.finish_reason != FinishReason::Cancelled && std::io::stderr().is_terminal() {
            eprintln!("[{}]", speed(&completion));
        }
        Ok(completion)
    }
}

fn speed(completion: &Completion) -> String {
    format!(
        "{} tokens, first after {:.0} ms, then {:.1} tokens/s",
        completion.completion_tokens,
        completion.first_token_seconds * 1000.0,
        completion.tokens_per_second()
    )
}
