//! `chat`: a conversation with a model in the terminal.

use std::fs;
use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use artifact::file;
use generate::{CompletionOptions, Generator, Message, Prompt, Session};
use serde_json::json;

use crate::cli::generation::{ChatArgs, GenerationArgs};
use crate::platform::interrupt;
use crate::ui::masked_text::Marks;

use super::generator::{Printer, configured, constraint, open, show_sampling};
use super::{print_now, print_out};

/// What `/help` prints.
const HELP: &str = "\
/system TEXT   set the system prompt; without TEXT, remove it
/regenerate    answer the last message again
/reset         forget the conversation, but not the system prompt
/save FILE     write the conversation to a file, as `generate --prompts` reads it
/load FILE     continue a saved conversation
/quit          end, as does Ctrl-D; Ctrl-C stops an answer
A message that begins with a slash: //…";

/// Runs the command.
pub fn run(arguments: &ChatArgs) -> anyhow::Result<()> {
    super::log_to(&crate::ui::console::Console::new(), "");
    let GenerationArgs { sampling, grammar, drafts, device, store } = &arguments.generation;
    let model = super::model(&arguments.model, store)?;
    let config = model.config.unwrap_or_default();
    let configured = configured(config.generate, sampling, true);
    let device = device.as_deref().unwrap_or(&config.device);
    let generator = open(model.folder.path(), device, &configured, drafts, store)?;
    let declared = generator.declared_sampling();
    show_sampling(declared.without(configured.sampling()));
    let options = configured.options(declared, sampling.seed.unwrap_or(config.seed));
    let options = CompletionOptions { constraint: constraint(&generator, grammar)?, ..options };
    converse(&generator, options, &configured)
}

/// Answers line after line, each with the conversation so far, until the end of the input.
///
/// # Errors
/// Returns an error if the model has no chat template, standard input cannot be read, or the first answer fails.
pub fn converse(
    generator: &Generator,
    options: CompletionOptions,
    configured: &generate::Config,
) -> anyhow::Result<()> {
    // Names what is missing before the first message.
    generator.tokenizer().chat_template(false)?;
    let state = Arc::new(Signals::default());
    let signals = Arc::clone(&state);
    interrupt::on_signal(move || signals.receive())?;
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        eprintln!("One message per line; /help lists the commands, Ctrl-D ends the conversation.");
    }
    let markdown = Marks::of_stdout() == Marks::Colours;
    let printer = Printer { terminal: std::io::stdout().is_terminal(), markdown };
    generator.session(|session| {
        let mut chat = Chat { session, printer, signals: &state, options, configured, messages: Vec::new() };
        chat.set_system(configured.system.as_deref().unwrap_or_default());
        chat.follow_lines(is_terminal)
    })
}

/// What Ctrl-C does: it stops the answer that is being written. While a message is read, it only says how to end; the
/// second one in a row ends the program.
#[derive(Default)]
struct Signals {
    is_reading: AtomicBool,
    is_requested: AtomicBool,
}

impl Signals {
    fn receive(&self) {
        let is_second = self.is_requested.swap(true, Ordering::Relaxed);
        if is_second {
            std::process::exit(i32::from(interrupt::EXIT_CODE));
        }
        if self.is_reading.load(Ordering::Relaxed) {
            eprintln!("\nCtrl-D or /quit ends the conversation, and so does Ctrl-C again.");
        }
    }
}

struct Chat<'a, 'g> {
    session: &'a mut Session<'g>,
    printer: Printer,
    signals: &'a Signals,
    /// Each answer has the next seed.
    options: CompletionOptions,
    /// What texts are guided by.
    configured: &'a generate::Config,
    messages: Vec<Message>,
}

impl Chat<'_, '_> {
    /// Follows the lines of standard input to its end.
    fn follow_lines(&mut self, is_terminal: bool) -> anyhow::Result<()> {
        let mut lines = std::io::stdin().lock().lines();
        loop {
            if is_terminal {
                print_now("> ")?;
            }
            self.signals.is_requested.store(false, Ordering::Relaxed);
            self.signals.is_reading.store(true, Ordering::Relaxed);
            let line = lines.next();
            self.signals.is_reading.store(false, Ordering::Relaxed);
            let Some(line) = line else { break };
            let line = line.context("cannot read the message from standard input")?;
            match self.follow(line.trim_end()) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return Ok(()),
                // On a terminal the conversation goes on: the message may be shortened, or the file named correctly.
                Err(error) if is_terminal => eprintln!("{error:#}"),
                Err(error) => return Err(error),
            }
        }
        if is_terminal {
            print_out!("")?;
        }
        Ok(())
    }

    /// Follows a command or answers a message.
    fn follow(&mut self, line: &str) -> anyhow::Result<ControlFlow<()>> {
        self.signals.is_requested.store(false, Ordering::Relaxed);
        let Some(command) = line.strip_prefix('/').filter(|rest| !rest.starts_with('/')) else {
            let text = if line.starts_with("//") { &line[1..] } else { line };
            if !text.trim().is_empty() {
                let mut messages = self.messages.clone();
                messages.push(Message::new("user", text));
                self.answer(messages)?;
            }
            return Ok(ControlFlow::Continue(()));
        };
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        let argument = argument.trim();
        match name {
            "system" => self.set_system(argument),
            "reset" => self.messages.retain(|message| message.role == "system"),
            "regenerate" => {
                let mut messages = self.messages.clone();
                messages.pop_if(|message| message.role == "assistant");
                let is_answerable = messages.last().is_some_and(|message| message.role == "user");
                anyhow::ensure!(is_answerable, "there is no message to answer again");
                self.answer(messages)?;
            }
            "save" => {
                anyhow::ensure!(!argument.is_empty(), "name a file: /save FILE");
                let line = format!("{}\n", json!({"messages": self.messages}));
                file::write_atomically(Path::new(argument), line.as_bytes())?;
                eprintln!("{} messages in {argument}", self.messages.len());
            }
            "load" => {
                anyhow::ensure!(!argument.is_empty(), "name a file: /load FILE");
                self.messages = load(Path::new(argument))?;
                eprintln!("{} messages from {argument}", self.messages.len());
            }
            "help" | "?" => eprintln!("{HELP}"),
            "quit" | "exit" | "bye" => return Ok(ControlFlow::Break(())),
            _ => anyhow::bail!("there is no command /{name}; /help lists them"),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Replaces the system prompt; an empty one removes it.
    fn set_system(&mut self, text: &str) {
        self.messages.retain(|message| message.role != "system");
        if !text.is_empty() {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// Answers the last of the messages, and keeps them with the answer, also if it is stopped. If they cannot be
    /// answered, the conversation is as before.
    fn answer(&mut self, mut messages: Vec<Message>) -> anyhow::Result<()> {
        let prompt = Prompt::Chat(messages.clone().into());
        self.options.guidance = self.session.generator().guidance(self.configured, &prompt)?;
        let is_stopped = || self.signals.is_requested.load(Ordering::Relaxed);
        let completion = self.printer.complete(self.session, &prompt, &self.options, true, &is_stopped)?;
        self.options = self.options.with_seed(self.options.sampling.seed.wrapping_add(1));
        messages.push(Message::new("assistant", &completion.text));
        self.messages = messages;
        Ok(())
    }
}

/// Reads the messages of a saved conversation.
fn load(path: &Path) -> anyhow::Result<Vec<Message>> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let saved: serde_json::Value = serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a conversation: it is not JSON", path.display()))?;
    serde_json::from_value(saved["messages"].clone())
        .with_context(|| format!("{} is not a conversation: it has no valid `messages`", path.display()))
}
