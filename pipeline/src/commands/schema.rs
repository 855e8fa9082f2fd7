//! `schema`: the JSON schemas of the configuration and of the report, or the configuration's reference.

use crate::cli::SchemaArgs;
use crate::config::reference;

use super::print_now;

/// Runs the command.
pub fn run(arguments: &SchemaArgs) -> anyhow::Result<()> {
    let text = match arguments {
        SchemaArgs { report: true, .. } => format!("{:#}\n", evaluate::report_schema()),
        SchemaArgs { markdown: true, .. } => reference::markdown(),
        SchemaArgs { .. } => format!("{:#}\n", reference::schema()),
    };
    Ok(print_now(&text)?)
}
