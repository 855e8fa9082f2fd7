//! `data`: looking at datasets, and at what became of documents.

mod corpus;
mod dropped;
mod peek;
mod stats;
mod what_if;

use crate::cli::DataCommand;

/// Runs the command.
pub fn run(command: &DataCommand) -> anyhow::Result<()> {
    match command {
        DataCommand::Peek(arguments) => peek::run(arguments),
        DataCommand::Stats(arguments) => stats::run(arguments),
        DataCommand::WhatIf(arguments) => what_if::run(arguments),
        DataCommand::Dropped(arguments) => dropped::run(arguments),
    }
}
