//! `generate`: completes prompts in the terminal.

use std::io::{IsTerminal, Read};
use std::ops::ControlFlow;

use anyhow::Context as _;
use artifact::file;
use generate::{Completion, CompletionOptions, Generator, Sampling};

use crate::cli::{GenerateArgs, SamplingArgs};
use crate::platform::interrupt::{self, Interrupted};
use crate::ui::console::printable;

use super::{print_now, print_out};

/// Runs the command.
pub fn run(arguments: &GenerateArgs) -> anyhow::Result<()> {
    super::log_to(&crate::ui::console::Console::new(), "");
    let model = super::model(&arguments.model, &arguments.store)?;
    let prompts = prompts(arguments)?;
    let config = model.config.unwrap_or_default();
    let options = options(config.generate.options(config.seed), &arguments.sampling);
    let generator = Generator::open(&model.folder, arguments.device.as_deref().unwrap_or(&config.device))?;
    let cancel = interrupt::listen(|| ())?;
    let terminal = std::io::stdout().is_terminal();
    let mut lines = Vec::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let options = options.with_seed(options.sampling.seed.wrapping_add(i as u64));
        let show = arguments.out.is_none();
        if show {
            // A completion follows its prompt; an answer is printed alone, or below its question if there are several.
            let before = match (options.chat, prompts.len()) {
                (true, 1) => String::new(),
                (true, _) => format!("> {prompt}\n"),
                (false, _) => prompt.clone(),
            };
            print_now(&format!("{}{before}", if i > 0 { "\n" } else { "" }))?;
        }
        let mut closed = None;
        let completion = generator.generate(prompt, &options, &mut |text| {
            if show && let Err(error) = print_now(&if terminal { printable(text) } else { text.to_owned() }) {
                closed = Some(error);
            }
            let stop = closed.is_some() || cancel.is_requested();
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = closed {
            return Err(error.into());
        }
        if show {
            print_out!("")?;
        }
        if cancel.is_requested() {
            return Err(Interrupted::default().into());
        }
        if std::io::stderr().is_terminal() {
            eprintln!("[{}]", speed(&completion));
        }
        serde_json::to_writer(&mut lines, &sample(prompt, &completion, options.sampling.seed))?;
        lines.push(b'\n');
    }
    if let Some(path) = &arguments.out {
        file::write_atomically(path, &lines)?;
        print_out!("{} samples in {}", prompts.len(), path.display())?;
    }
    Ok(())
}

fn prompts(arguments: &GenerateArgs) -> anyhow::Result<Vec<String>> {
    if let Some(prompt) = &arguments.prompt {
        return Ok(vec![prompt.clone()]);
    }
    if let Some(path) = &arguments.prompts {
        let prompts = generate::read_prompts(path)?;
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
    Ok(vec![text.strip_suffix('\n').unwrap_or(&text).to_owned()])
}

fn options(configured: CompletionOptions, given: &SamplingArgs) -> CompletionOptions {
    let sampling = configured.sampling;
    CompletionOptions {
        max_tokens: given.max_tokens.unwrap_or(configured.max_tokens),
        sampling: Sampling {
            temperature: given.temperature.unwrap_or(sampling.temperature),
            top_k: given.top_k.unwrap_or(sampling.top_k),
            top_p: given.top_p.unwrap_or(sampling.top_p),
            repetition_penalty: given.repetition_penalty.unwrap_or(sampling.repetition_penalty),
            seed: given.seed.unwrap_or(sampling.seed),
        },
        stop: if given.stop.is_empty() { configured.stop } else { given.stop.clone() },
        chat: given.chat || configured.chat,
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
fn sample(prompt: &str, completion: &Completion, seed: u64) -> serde_json::Value {
    serde_json::json!({
        "prompt": prompt,
        "text": completion.text,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "finish_reason": completion.finish_reason.name(),
        "seed": seed,
    })
}
