//! `trace`: the passages of a text that occur in a run's training data.

use std::io::{IsTerminal, Read};

use anyhow::Context as _;
use artifact::format::grouped;
use trace::{Index, Occurrence, Options, Passage};

use crate::cli::trace::TraceArgs;
use crate::run::names;
use crate::run::stage::Stage;
use crate::ui::console::printable;

use super::print_out;

/// The most characters that are printed before and after a passage: heuristic, so that a place takes a line.
const CONTEXT_CHARACTERS: usize = 40;

/// Runs the command.
pub fn run(arguments: &TraceArgs) -> anyhow::Result<()> {
    let run = names::find_with(&super::layout(&arguments.store)?, &arguments.run, Stage::Index)?;
    let index = Index::open(&run.artifact(Stage::Index)?)?;
    let text = match &arguments.text {
        Some(text) => text.clone(),
        None => standard_input()?,
    };
    let default = Options::default();
    let options = Options {
        min_tokens: arguments.min_tokens.map_or(default.min_tokens, std::num::NonZeroUsize::get),
        max_passages: arguments.passages.unwrap_or(default.max_passages),
        max_occurrences: arguments.count.unwrap_or(default.max_occurrences),
        ..default
    };
    let passages = index.trace(&text, &options)?;
    if arguments.json {
        let found = serde_json::json!({
            "run": run.record.name,
            "tokens": index.tokens(),
            "documents": index.n_documents(),
            "passages": passages,
        });
        return Ok(print_out!("{found:#}")?);
    }
    let of = format!("{} tokens in {} documents", grouped(index.tokens()), grouped(index.n_documents() as u64));
    let least = options.min_tokens;
    match passages.len() {
        0 => print_out!(
            "no passage of at least {least} tokens occurs in the training data of {} ({of})",
            run.record.name
        )?,
        n => print_out!(
            "{n} {} in the training data of {} ({of}):",
            if n == 1 { "passage occurs" } else { "passages occur" },
            run.record.name
        )?,
    }
    passages.iter().try_for_each(print)
}

fn standard_input() -> anyhow::Result<String> {
    anyhow::ensure!(!std::io::stdin().is_terminal(), "there is no text: give one as an argument, or on standard input");
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read the text from standard input")?;
    String::from_utf8(bytes).context("the text is not UTF-8")
}

fn print(passage: &Passage) -> anyhow::Result<()> {
    let Passage { characters, tokens, count, text, occurrences, .. } = passage;
    let times = if *count == 1 { "once".to_owned() } else { format!("{} times", grouped(*count)) };
    let unit = if *tokens == 1 { "token" } else { "tokens" };
    print_out!("\n{times}, {tokens} {unit}, characters {} to {}", characters.start, characters.end)?;
    for line in text.trim_matches('\n').lines() {
        print_out!("  | {}", printable(line))?;
    }
    occurrences.iter().try_for_each(|occurrence| Ok(print_out!("{}", place(occurrence))?))
}

/// Returns two lines: the document, and the text around the passage.
fn place(occurrence: &Occurrence) -> String {
    let Occurrence { document, before, after, .. } = occurrence;
    let piece = if document.piece == 0 { String::new() } else { format!(", piece {}", document.piece) };
    let id = format!("{}{piece}", document.id);
    let named = [&*id, &*document.source, &*document.licence];
    let named: Vec<&str> = named.into_iter().filter(|name| !name.is_empty()).collect();
    let characters: Vec<char> = one_line(before).chars().collect();
    let before: String = characters[characters.len().saturating_sub(CONTEXT_CHARACTERS)..].iter().collect();
    let after: String = one_line(after).chars().take(CONTEXT_CHARACTERS).collect();
    format!("  {}\n      {before}[…]{after}", printable(&named.join(" · ")))
}

/// Returns a text in one line.
fn one_line(text: &str) -> String {
    printable(&text.replace(['\n', '\r', '\t'], " "))
}
