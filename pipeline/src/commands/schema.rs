//! `schema`: the JSON schema of the configuration, or its reference.

use crate::cli::SchemaArgs;
use crate::config::reference;

use super::print_now;

/// Runs the command.
pub fn run(arguments: &SchemaArgs) -> anyhow::Result<()> {
    let text = if arguments.markdown { reference::markdown() } else { format!("{:#}\n", reference::schema()) };
    Ok(print_now(&text)?)
}
