//! `generate`: completes prompts in the terminal, or answers in a conversation.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context as _;
use artifact::file;
use generate::{
    Completion, CompletionOptions, Constraint, FinishReason, Generator, Grammar, GrammarLimits, Prompt, SamplingChoice,
};

use crate::cli::{DraftArgs, GenerateArgs, GrammarArgs, SamplingArgs, StoreArgs};
use crate::platform::interrupt::{self, Interrupted};
use crate::ui::console::printable;

use super::{print_now, print_out};

/// How many tokens a draft model proposes at once by default. Heuristic, not measured: because about as many are right
/// in a row where a draft model is worth its time.
const DRAFT_TOKENS: usize = 4;

/// Runs the command.
pub fn run(arguments: &GenerateArgs) -> anyhow::Result<()> {
    super::log_to(&crate::ui::console::Console::new(), "");
    let model = super::model(&arguments.model, &arguments.store)?;
    let config = model.config.unwrap_or_default();
    let configured = configured(config.generate, &arguments.sampling, arguments.chat);
    let is_conversation =
        arguments.prompt.is_none() && arguments.prompts.is_none() && configured.chat && std::io::stdin().is_terminal();
    let prompts = if is_conversation { Vec::new() } else { prompts(arguments, &configured)? };
    let device = arguments.device.as_deref().unwrap_or(&config.device);
    let generator = open(model.folder.path(), device, &configured, &arguments.drafts, &arguments.store)?;
    drop(model.folder);
    let declared = generator.declared_sampling();
    let constraint = constraint(&generator, &arguments.grammar)?;
    let options = configured.options(declared, arguments.sampling.seed.unwrap_or(config.seed));
    let options = CompletionOptions { constraint, ..options };
    show_sampling(declared.without(configured.sampling()));
    if is_conversation {
        return super::chat::converse(&generator, options, configured.system.as_deref());
    }
    let cancel = interrupt::listen(|| {})?;
    let printer = Printer { terminal: std::io::stdout().is_terminal() };
    let mut lines = Vec::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let options = options.with_seed(options.sampling.seed.wrapping_add(i as u64));
        let show = arguments.out.is_none();
        if show {
            // A completion follows its prompt; an answer is printed alone, or below its question if there are several.
            let text = prompt.last_text();
            let before = match (prompt, prompts.len()) {
                (Prompt::Chat(_), 1) => String::new(),
                (Prompt::Chat(_), _) => format!("> {text}\n"),
                (Prompt::Text(_), _) => text,
            };
            print_now(&format!("{}{before}", if i > 0 { "\n" } else { "" }))?;
        }
        let completion = printer.complete(&generator, prompt, &options, show, &|| cancel.is_requested())?;
        if cancel.is_requested() {
            return Err(Interrupted::default().into());
        }
        serde_json::to_writer(&mut lines, &sample(prompt, &completion, options.sampling.seed)?)?;
        lines.push(b'\n');
    }
    if let Some(path) = &arguments.out {
        file::write_atomically(path, &lines)?;
        print_out!("{} samples in {}", prompts.len(), path.display())?;
    }
    Ok(())
}

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
    let generator = Generator::open_with_cache(folder, device, |_| configured.cache())?;
    Ok(generator.with_drafts(draft_tokens, draft_model, device)?)
}

/// Prints texts while they are generated.
pub struct Printer {
    /// Whether standard output is a terminal, to which no control characters are written.
    pub terminal: bool,
}

impl Printer {
    /// Completes a prompt until `is_stopped`; with `show`, prints the text as it comes.
    pub fn complete(
        &self,
        generator: &Generator,
        prompt: &Prompt,
        options: &CompletionOptions,
        show: bool,
        is_stopped: &dyn Fn() -> bool,
    ) -> anyhow::Result<Completion> {
        let mut closed = None;
        let completion = generator.generate(prompt, options, &mut |text| {
            if show && let Err(error) = print_now(&if self.terminal { printable(text) } else { text.to_owned() }) {
                closed = Some(error);
            }
            if closed.is_some() || is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = closed {
            return Err(error.into());
        }
        if show {
            print_out!("")?;
        }
        if completion.finish_reason != FinishReason::Cancelled && std::io::stderr().is_terminal() {
            eprintln!("[{}]", speed(&completion));
        }
        Ok(completion)
    }
}

/// Returns the prompts of the arguments or of standard input.
fn prompts(arguments: &GenerateArgs, configured: &generate::Config) -> anyhow::Result<Vec<Prompt>> {
    if let Some(prompt) = &arguments.prompt {
        return Ok(vec![configured.prompt(prompt.clone())]);
    }
    if let Some(path) = &arguments.prompts {
        let prompts = generate::read_prompts(path, &|text| configured.prompt(text))?;
        anyhow::ensure!(!prompts.is_empty(), "{} has no prompt: write one per line", path.display());
        return Ok(prompts);
    }
    anyhow::ensure!(
        !std::io::stdin().is_terminal(),
        "there is no prompt: give one as an argument, with --prompts, or on standard input"
    );
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read the prompt from standard input")?;
    let text = String::from_utf8(generate::unmarked(&bytes).into_owned()).context("the prompt is not UTF-8")?;
    // The line end that a shell's `echo` adds is not part of the prompt.
    Ok(vec![configured.prompt(text.strip_suffix('\n').unwrap_or(&text).to_owned())])
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

fn speed(completion: &Completion) -> String {
    format!(
        "{} tokens, first after {:.0} ms, then {:.1} tokens/s",
        completion.completion_tokens,
        completion.first_token_seconds * 1000.0,
        completion.tokens_per_second()
    )
}

/// Returns a line in the format of the stage's `samples.jsonl`.
fn sample(prompt: &Prompt, completion: &Completion, seed: u64) -> anyhow::Result<serde_json::Value> {
    let mut line = serde_json::to_value(prompt)?;
    let rest = serde_json::json!({
        "text": completion.text,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "finish_reason": completion.finish_reason.name(),
        "seed": seed,
    });
    if let (Some(line), serde_json::Value::Object(rest)) = (line.as_object_mut(), rest) {
        line.extend(rest);
    }
    Ok(line)
}
