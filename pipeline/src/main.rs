//! The binary: command line, configuration, plan, run, progress.
//!
//! [`cli`] parses the command line and [`commands`] has a file per command; [`config`] loads the configuration; [`run`]
//! plans, runs and records stages; [`sweep`] searches configurations; [`judge`] asks people; [`ui`] is what the
//! terminal shows; [`platform`] is the process and its machine. The stages are other crates, and only `run/stage.rs`
//! calls them.

mod cli;
mod commands;
mod config;
mod judge;
mod platform;
mod run;
mod sweep;
mod ui;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::config::ConfigError;
use crate::platform::interrupt::Interrupted;
use crate::platform::{allocator, environment, interrupt};

// A quarter less time per training step on burn-flex, measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    environment::quiet_drivers();
    allocator::for_inference();
    let command = Cli::parse().command;
    if !matches!(
        command,
        Command::Evaluate(_) | Command::Generate(_) | Command::Chat(_) | Command::Judge(_) | Command::Serve(_)
    ) {
        allocator::for_training();
    }
    let result = match command {
        Command::Run(arguments) => match &arguments.shard {
            Some(shard) => commands::shard::run(&arguments, shard),
            None => commands::run::run(&arguments),
        },
        Command::Plan(arguments) => commands::plan::run(&arguments),
        Command::Runs(arguments) => commands::runs::run(&arguments),
        Command::Show(arguments) => commands::runs::show::run(&arguments),
        Command::Watch(arguments) => commands::watch::run(&arguments),
        Command::Ui(arguments) => commands::ui::run(&arguments),
        Command::Diff(arguments) => commands::runs::diff::run(&arguments),
        Command::Judge(arguments) => commands::judge::run(&arguments),
        Command::Sweep(arguments) => commands::sweep::run(&arguments),
        Command::Tag(arguments) => commands::runs::tag::run(&arguments),
        Command::Rm(arguments) => commands::runs::rm::run(&arguments),
        Command::Gc(arguments) => commands::runs::gc::run(&arguments),
        Command::ExportRun(arguments) => commands::runs::archive::export(&arguments),
        Command::ImportRun(arguments) => commands::runs::archive::import(&arguments),
        Command::Verify(arguments) => commands::verify::run(&arguments),
        Command::Reproduce(arguments) => commands::runs::reproduce::run(&arguments),
        Command::Evaluate(arguments) => commands::evaluate::run(&arguments),
        Command::Generate(arguments) => commands::generate::run(&arguments),
        Command::Chat(arguments) => commands::chat::run(&arguments),
        Command::Serve(arguments) => commands::serve::run(&arguments),
        Command::Data(command) => commands::data::run(&command),
        Command::Trace(arguments) => commands::trace::run(&arguments),
        Command::Import(arguments) => commands::import::run(&arguments),
        Command::Export(arguments) => commands::export::run(&arguments),
        Command::Init(arguments) => commands::init::run(&arguments),
        Command::Schema(arguments) => commands::schema::run(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // With a closed stderr there is nowhere to print it.
            let _ = std::io::stderr().write_all(text(&error).as_bytes());
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Returns the error and its causes, one per line.
fn text(error: &anyhow::Error) -> String {
    let prefix = if error.is::<Interrupted>() { "" } else { "error: " };
    let mut lines = vec![format!("{prefix}{error}")];
    lines.extend(error.chain().skip(1).map(|cause| format!("  caused by: {cause}")));
    lines.join("\n") + "\n"
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || matches!(
                cause.downcast_ref(),
                Some(model::Error::UnknownDevice { .. } | model::Error::DeviceFeature { .. })
            )
    });
    match () {
        () if error.is::<Interrupted>() => interrupt::EXIT_CODE,
        () if usage => 2,
        () => 1,
    }
}

/// Returns true if the reader of our output has closed the pipe (`pipeline show | head`), which is not an error. A
/// broken pipe inside a stage has the stage's own error around it.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
