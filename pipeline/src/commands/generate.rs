//! `generate`: completes prompts in the terminal, or answers in a conversation.

use std::io::{BufRead, IsTerminal, Read};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use artifact::{Cancel, file};
use generate::{Completion, CompletionOptions, Generator, Message, Prompt, SamplingChoice};

use crate::cli::{GenerateArgs, SamplingArgs};
use crate::platform::interrupt::{self, Interrupted};
use crate::ui::console::printable;

use super::{print_now, print_out};

/// Runs the command.
pub fn run(arguments: &GenerateArgs) -> anyhow::Result<()> {
    super::log_to(&crate::ui::console::Console::new(), "");
    let model = super::model(&arguments.model, &arguments.store)?;
    let config = model.config.unwrap_or_default();
    let configured = configured(config.generate, &arguments.sampling);
    let is_conversation =
        arguments.prompt.is_none() && arguments.prompts.is_none() && configured.chat && std::io::stdin().is_terminal();
    let prompts = if is_conversation { Vec::new() } else { prompts(arguments, &configured)? };
    let device = arguments.device.as_deref().unwrap_or(&config.device);
    let generator = Generator::open_with_cache(model.folder.path(), device, |_| configured.cache())?;
    drop(model.folder);
    let declared = generator.declared_sampling();
    let options = configured.options(declared, arguments.sampling.seed.unwrap_or(config.seed));
    show_sampling(declared.without(configured.sampling()));
    let reading = Arc::new(AtomicBool::new(false));
    let is_reading = Arc::clone(&reading);
    // A read from the terminal does not notice that it should end.
    let cancel = interrupt::listen(move || {
        if is_reading.load(Ordering::Relaxed) {
            std::process::exit(i32::from(interrupt::EXIT_CODE));
        }
    })?;
    let printer = Printer { cancel, terminal: std::io::stdout().is_terminal() };
    if is_conversation {
        return converse(&generator, &options, configured.system.as_deref(), &printer, &reading);
    }
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
        let completion = printer.complete(&generator, prompt, &options, show)?;
        serde_json::to_writer(&mut lines, &sample(prompt, &completion, options.sampling.seed)?)?;
        lines.push(b'\n');
    }
    if let Some(path) = &arguments.out {
        file::write_atomically(path, &lines)?;
        print_out!("{} samples in {}", prompts.len(), path.display())?;
    }
    Ok(())
}

/// Prints texts while they are generated.
struct Printer {
    cancel: Cancel,
    terminal: bool,
}

impl Printer {
    /// Completes a prompt; with `show`, prints the text as it comes.
    fn complete(
        &self,
        generator: &Generator,
        prompt: &Prompt,
        options: &CompletionOptions,
        show: bool,
    ) -> anyhow::Result<Completion> {
        let mut closed = None;
        let completion = generator.generate(prompt, options, &mut |text| {
            if show && let Err(error) = print_now(&if self.terminal { printable(text) } else { text.to_owned() }) {
                closed = Some(error);
            }
            let stop = closed.is_some() || self.cancel.is_requested();
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = closed {
            return Err(error.into());
        }
        if show {
            print_out!("")?;
        }
        if self.cancel.is_requested() {
            return Err(Interrupted::default().into());
        }
        if std::io::stderr().is_terminal() {
            eprintln!("[{}]", speed(&completion));
        }
        Ok(completion)
    }
}

/// Answers line after line, each with the conversation so far, until the end of the input. `reading` is true while it
/// waits for a line.
fn converse(
    generator: &Generator,
    options: &CompletionOptions,
    system: Option<&str>,
    printer: &Printer,
    reading: &AtomicBool,
) -> anyhow::Result<()> {
    eprintln!("One message per line; Ctrl-D ends the conversation.");
    let mut messages: Vec<_> = system.map(|text| Message::new("system", text)).into_iter().collect();
    let mut lines = std::io::stdin().lock().lines();
    for turn in 0.. {
        print_now("> ")?;
        reading.store(true, Ordering::Relaxed);
        let line = lines.next();
        reading.store(false, Ordering::Relaxed);
        let Some(line) = line else { break };
        let line = line.context("cannot read the message from standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        messages.push(Message::new("user", &line));
        let options = options.with_seed(options.sampling.seed.wrapping_add(turn));
        let answer = printer.complete(generator, &Prompt::Chat(messages.clone().into()), &options, true)?;
        messages.push(Message::new("assistant", &answer.text));
    }
    print_out!("")?;
    Ok(())
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
fn configured(config: generate::Config, given: &SamplingArgs) -> generate::Config {
    let sampling = SamplingChoice {
        temperature: given.temperature,
        top_k: given.top_k,
        top_p: given.top_p,
        min_p: given.min_p,
        repetition_penalty: given.repetition_penalty,
    };
    let sampling = sampling.or(config.sampling());
    generate::Config {
        max_tokens: given.max_tokens.unwrap_or(config.max_tokens),
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        stop: if given.stop.is_empty() { config.stop } else { given.stop.clone() },
        chat: given.chat || given.system.is_some() || config.chat,
        system: given.system.clone().or(config.system),
        ..config
    }
}

/// Names the settings that are the model's, on a terminal.
fn show_sampling(of_model: SamplingChoice) {
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
