//! `data dropped`: pages through dropped documents, with the reason and the measured value.

use anyhow::bail;
use artifact::format::grouped;
use preprocess::inspect::{self, Dropped};

use crate::cli::data::DroppedArgs;
use crate::commands::print_out;
use crate::run::names;
use crate::run::stage::Stage;

/// Characters of a text that a page shows.
const SHOWN_CHARACTERS: usize = 400;

/// Runs the command.
pub fn run(arguments: &DroppedArgs) -> anyhow::Result<()> {
    let run = names::find_with(&crate::commands::layout(&arguments.store)?, &arguments.run, Stage::Preprocess)?;
    let (tokens, corpus) = (run.artifact(Stage::Preprocess)?, run.artifact(Stage::Collect)?);
    let skip = (arguments.page.max(1) - 1) * arguments.count;
    let by = arguments.by.as_deref().map(step).transpose()?;
    let (documents, total) = inspect::dropped(&tokens, &corpus, by, skip, arguments.count)?;
    let what = by.map_or("any step".to_owned(), |step| step.name().to_owned());
    if total == 0 {
        print_out!("No document was dropped by {what}.")?;
        return Ok(());
    }
    for document in &documents {
        print_out!("{}\n", text(document, arguments.full))?;
    }
    if documents.is_empty() {
        bail!("page {} is past the end: {total} documents were dropped by {what}", arguments.page);
    }
    print_out!("{} to {} of {total} dropped by {what}", skip + 1, skip + documents.len())?;
    if skip + documents.len() < total {
        print_out!("next: --page {}", arguments.page.max(1) + 1)?;
    }
    Ok(())
}

/// Returns the step of this name.
pub fn step(name: &str) -> anyhow::Result<preprocess::Step> {
    let all = || preprocess::Step::ALL.into_iter().chain([preprocess::Step::ChatTemplate]);
    let known: Vec<&str> = all().map(preprocess::Step::name).collect();
    match all().find(|step| step.name() == name) {
        Some(step) => Ok(step),
        None => match settings::suggest(name, known.iter().copied()) {
            Some(near) => bail!("there is no step `{name}`; did you mean `{near}`?"),
            None => bail!("there is no step `{name}`; the steps are {}", known.join(", ")),
        },
    }
}

fn text(document: &Dropped, full: bool) -> String {
    let criterion = document.criterion.as_ref().map(|criterion| format!(": {criterion}")).unwrap_or_default();
    let mut lines = vec![
        document.name.clone(),
        format!("  dropped by {}{criterion} ({} tokens)", document.reason, grouped(document.tokens)),
    ];
    if let Some(of) = &document.duplicate_of {
        lines.push(format!("  kept instead: {of}"));
    }
    if !document.figures.is_empty() {
        let figures: Vec<String> =
            document.figures.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        lines.push(format!("  {}", figures.join(", ")));
    }
    lines.extend(document.texts.iter().map(|(name, text)| format!("  {name}: {}", printable(text))));
    let shown: String =
        if full { document.text.clone() } else { document.text.chars().take(SHOWN_CHARACTERS).collect() };
    lines.extend(shown.lines().map(|line| format!("  | {}", printable(line))));
    if shown.len() < document.text.len() {
        lines.push(format!("  … {} bytes in all", grouped(document.text.len() as u64)));
    }
    lines.join("\n")
}

/// Returns a number with at most three decimals.
fn short(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.3}") }
}

/// Returns a line without control characters, which cannot control the terminal.
pub fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
