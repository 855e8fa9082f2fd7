//! `data`: inspecting datasets and filtering decisions.

mod add;
mod card;
pub mod corpus;
mod dropped;
mod lock;
mod ls;
mod peek;
mod stats;
mod tokens;
mod what_if;

use crate::cli::data::DataCommand;

/// Runs the command.
pub fn run(command: &DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::Ls => ls::run(),
        DataCommand::Add(arguments) => add::run(arguments),
        DataCommand::Lock(arguments) => lock::run(arguments),
        DataCommand::Card(arguments) => card::run(arguments),
        DataCommand::Peek(arguments) if arguments.tokens => tokens::run(arguments),
        DataCommand::Peek(arguments) => peek::run(arguments),
        DataCommand::Stats(arguments) => stats::run(arguments),
        DataCommand::WhatIf(arguments) => what_if::run(arguments),
        DataCommand::Dropped(arguments) => dropped::run(arguments),
    }
}
