//! `tag`: gives a run a name that moves.

use crate::cli::experiments::TagArgs;
use crate::commands::print_out;
use crate::run::names;

/// Runs the command.
pub fn run(arguments: &TagArgs) -> anyhow::Result<()> {
    let layout = crate::commands::layout(&arguments.store)?;
    let run = names::find(&layout, &arguments.run)?;
    // A run given by its folder may be in another store.
    let layout = run.layout();
    let (name, tag) = (&run.record.name, &arguments.tag);
    if arguments.remove {
        names::untag(&layout, &run, tag)?;
        return Ok(print_out!("run {name} no longer has the tag {tag}")?);
    }
    match names::tag(&layout, &run, tag)? {
        Some(before) => print_out!("tag {tag} is run {name} now; it was run {before}")?,
        None => print_out!("tag {tag} is run {name}")?,
    }
    Ok(())
}
