//! `generate`: completes prompts in the terminal, or answers in a conversation.

use std::io::{IsTerminal, Read};

use anyhow::Context as _;
use artifact::file;
use generate::{Completion, CompletionOptions, Generator, Prompt, Session};

use crate::cli::generation::{GenerateArgs, GenerationArgs};
use crate::platform::interrupt::{self, Interrupted};

use super::generator::{Printer, configured, constraint, open, show_sampling};
use super::{print_now, print_out};

/// Runs the command.
pub fn run(arguments: &GenerateArgs) -> anyhow::Result<()> {
    super::log_to(&crate::ui::console::Console::new(), "");
    let GenerationArgs { sampling, grammar, drafts, device, store } = &arguments.generation;
    let model = super::model(&arguments.model, store)?;
    let config = model.config.unwrap_or_default();
    let configured = configured(config.generate, sampling, arguments.chat);
    let is_conversation =
        arguments.prompt.is_none() && arguments.prompts.is_none() && configured.chat && std::io::stdin().is_terminal();
    let prompts = if is_conversation { Vec::new() } else { prompts(arguments, &configured)? };
    let device = device.as_deref().unwrap_or(&config.device);
    let generator = open(model.folder.path(), device, &configured, drafts, store)?;
    drop(model.folder);
    let declared = generator.declared_sampling();
    let constraint = constraint(&generator, grammar)?;
    let options = configured.options(declared, sampling.seed.unwrap_or(config.seed));
    let options = CompletionOptions { constraint, logprobs: arguments.logprobs, ..options };
    show_sampling(declared.without(configured.sampling()));
    if is_conversation {
        return super::chat::converse(&generator, options, &configured);
    }
    let lines =
        generator.session(|session| complete(session, &prompts, &options, &configured, arguments.out.is_none()))?;
    if let Some(path) = &arguments.out {
        file::write_atomically(path, &lines)?;
        print_out!("{} samples in {}", prompts.len(), path.display())?;
    }
    Ok(())
}

/// Completes the prompts, and returns a line for each; with `show`, prints the texts as they come.
fn complete(
    session: &mut Session<'_>,
    prompts: &[Prompt],
    options: &CompletionOptions,
    configured: &generate::Config,
    show: bool,
) -> anyhow::Result<Vec<u8>> {
    let cancel = interrupt::listen(|| {})?;
    let printer = Printer { terminal: std::io::stdout().is_terminal(), markdown: false };
    let mut lines = Vec::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let guidance = session.generator().guidance(configured, prompt)?;
        let options = options.with_seed(options.sampling.seed.wrapping_add(i as u64));
        let options = CompletionOptions { guidance, ..options };
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
        let completion = printer.complete(session, prompt, &options, show, &|| cancel.is_requested())?;
        if cancel.is_requested() {
            return Err(Interrupted::default().into());
        }
        let mut line = sample(prompt, &completion, options.sampling.seed)?;
        if options.logprobs.is_some() {
            line["logprobs"] = logprobs(&completion, session.generator());
        }
        serde_json::to_writer(&mut lines, &line)?;
        lines.push(b'\n');
    }
    Ok(lines)
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

/// Returns the ids of the tokens of a completion and their log probabilities, as OpenAI's API shows those of chats.
fn logprobs(completion: &Completion, generator: &Generator) -> serde_json::Value {
    let token = |id: u32, logprob: f32| {
        let bytes = generator.tokenizer().shown_bytes(id);
        serde_json::json!({"id": id, "token": String::from_utf8_lossy(&bytes), "logprob": logprob})
    };
    let scored = completion.logprobs.iter().map(|(id, logprobs)| {
        let mut scored = token(*id, logprobs.logprob);
        scored["top_logprobs"] = logprobs.top.iter().map(|(id, logprob)| token(*id, *logprob)).collect();
        scored
    });
    scored.collect()
}
