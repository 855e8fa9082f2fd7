//! `data peek --tokens`: pages through the tokens of a run as text, by what counts towards the loss.

use anyhow::bail;
use artifact::format::grouped;
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use tokenizer::shard::{MaskedDocument, Split};

use super::corpus::dataset_folder;
use crate::cli::data::PeekArgs;
use crate::commands::print_out;
use crate::run::names;
use crate::run::record::Run;
use crate::run::stage::Stage;
use crate::ui::masked_text::Marks;

/// Tokens of a document that a page shows without `--full`.
const SHOWN_TOKENS: usize = 400;

/// Runs the command.
pub fn run(arguments: &PeekArgs) -> anyhow::Result<()> {
    let artifact = find(arguments)?.artifact(Stage::Preprocess)?;
    let name = arguments.split.name();
    let split = Split::open(&artifact, name)?;
    let tokenizer = Tokenizer::from_file(&artifact.verified("tokenizer.json")?)?;
    let (page, total) = (arguments.page.max(1), split.n_examples());
    let skip = (page - 1).saturating_mul(arguments.count);
    let end = skip.saturating_add(arguments.count).min(total);
    let what = if split.n_pairs().is_some() { "pair" } else { "document" };
    if skip >= end {
        bail!("page {page} is past the end: {name} has {} {what}s", grouped(total as u64));
    }
    let marks = Marks::of_stdout();
    let max_tokens = if arguments.full { usize::MAX } else { SHOWN_TOKENS };
    for index in skip..end {
        for document in split.example(index, &tokenizer, max_tokens)? {
            if arguments.json {
                print_out!("{}", object(name, &split, &document))?;
                continue;
            }
            let answer = document.answer.map(|answer| format!(", {}", answer.name())).unwrap_or_default();
            let counts = counts(document.tokens, document.learned_tokens);
            print_out!("{name} {what} {} of {}{answer}: {counts}", grouped(index as u64 + 1), grouped(total as u64))?;
            for line in marks.lines(&document) {
                print_out!("  | {line}")?;
            }
            print_out!("")?;
        }
    }
    if arguments.json {
        return Ok(());
    }
    print_out!("{}", marks.legend())?;
    if split.n_pairs().is_some() {
        print_out!("Of a pair, the chosen answer is to become more likely than the rejected one.")?;
    }
    let counts = counts(split.len(), split.learned_tokens());
    print_out!(
        "{} to {} of {}; {name} has {counts}",
        grouped(skip as u64 + 1),
        grouped(end as u64),
        grouped(total as u64)
    )?;
    if end < total {
        print_out!("next: --page {}", page + 1)?;
    }
    Ok(())
}

/// Returns the run that the arguments name.
fn find(arguments: &PeekArgs) -> anyhow::Result<Run> {
    let name = &arguments.corpus.name;
    match names::find_with(&crate::commands::layout(&arguments.corpus.store)?, name, Stage::Preprocess) {
        Err(_) if dataset_folder(name).is_some() => {
            bail!("`{name}` is a dataset, which has no tokens: name a run that preprocessed it (`pipeline runs`)")
        }
        found => found,
    }
}

fn counts(tokens: usize, learned: usize) -> String {
    let percent = 100.0 * learned as f64 / tokens.max(1) as f64;
    format!("{} tokens, {} learned ({percent:.1} %)", grouped(tokens as u64), grouped(learned as u64))
}

/// Returns a document with the ids of its tokens.
fn object(name: &str, split: &Split, document: &MaskedDocument) -> Value {
    let ids = split.document(document.index);
    let mut object = json!(document);
    object["split"] = name.into();
    for (segment, shown) in document.segments.iter().zip(object["segments"].as_array_mut().into_iter().flatten()) {
        shown["ids"] = json!(&ids[segment.range.clone()]);
    }
    object
}
