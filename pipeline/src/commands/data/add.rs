//! `data add`: inspects an address and writes a `dataset.toml` for it.

use std::fs;
use std::path::Path;

use anyhow::bail;
use artifact::{Sealed, file};
use data_ingest::{Chat, ChatColumns, Source, dataset};

use super::corpus::{DATASETS, of_dataset, watched};
use crate::cli::data::AddArgs;
use crate::commands::print_out;

/// Names of text columns in published datasets, the most likely first, if there is no column `text`.
const TEXT_COLUMNS: [&str; 12] = [
    "content",
    "body",
    "document",
    "article",
    "story",
    "code",
    "markdown",
    "review",
    "sentence",
    "passage",
    "completion",
    "output",
];

/// Runs the command.
pub fn run(arguments: &AddArgs) -> anyhow::Result<()> {
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => name_of(&arguments.address),
    };
    let named = |c: char| c.is_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(named) {
        bail!("\"{name}\" cannot name a dataset: use letters, digits, `.`, `_` and `-` (--name NAME)");
    }
    let folder = Path::new(DATASETS).join(&name);
    let path = folder.join("dataset.toml");
    if path.exists() {
        bail!("{} exists; edit it, or choose another name (--name NAME)", path.display());
    }
    let mut source = dataset::source_of(&arguments.address, &folder)?;
    source.licence.clone_from(&arguments.licence);
    // The path is relative to the dataset, which is not a readable name.
    source.name = source.path.is_some().then(|| name.clone());
    let (console, cancel) = watched()?;
    let attempt = |source: &Source| {
        file::create_folder(&folder)?;
        file::write_atomically(&path, dataset::text(&name, std::slice::from_ref(source))?.as_bytes())?;
        Ok(of_dataset(&folder, arguments.offline, &console, &cancel)?.0)
    };
    let corpus = match look(&source, &attempt) {
        Ok(corpus) => corpus,
        Err(error) => {
            remove(&path, &folder);
            return Err(error.context(format!("{} cannot be collected", arguments.address)));
        }
    };
    print_out!("wrote {}: {}", path.display(), corpus.manifest().headline)?;
    print_out!("\n{}", fs::read_to_string(&path)?.trim_end())?;
    if arguments.licence.is_none() {
        print_out!("\nIf you know the licence of its text, add it: licence = \"MIT\"")?;
    }
    print_out!("\nbrowse it      pipeline data peek {name}")?;
    print_out!("statistics     pipeline data stats {name}")?;
    print_out!("train on it    dataset = \"{}\" in [collect] of pipeline.toml", folder.display())?;
    Ok(())
}

/// Collects a source; if a table has no column `text`, its other columns are tried.
fn look(source: &Source, attempt: &dyn Fn(&Source) -> anyhow::Result<Sealed>) -> anyhow::Result<Sealed> {
    attempt(source).or_else(|error| match with_columns(source, &format!("{error:#}")) {
        Some(other) => attempt(&other),
        None => Err(error),
    })
}

/// Returns the source with the likely meaning of its columns, which the error about a missing one lists.
fn with_columns(source: &Source, complaint: &str) -> Option<Source> {
    let columns: Vec<&str> = complaint.split('`').skip(1).step_by(2).collect();
    let has = |name: &str| columns.contains(&name);
    let source = source.clone();
    if has("chosen") && has("rejected") {
        let prompt = ["question", "instruction"].into_iter().find(|name| has(name) && !has("prompt"));
        let columns = ChatColumns { prompt: prompt.map(str::to_owned), ..ChatColumns::default() };
        let chat_columns = prompt.is_some().then_some(columns);
        return Some(Source { chat: Some(Chat::Preference), chat_columns, ..source });
    }
    if has("messages") {
        return Some(Source { chat: Some(Chat::Messages), ..source });
    }
    if has("conversations") {
        return Some(Source { chat: Some(Chat::Sharegpt), ..source });
    }
    if has("instruction") && has("output") {
        return Some(Source { chat: Some(Chat::Alpaca), ..source });
    }
    // Dolly's and OpenAI's older format.
    for (instruction, input, output) in [("instruction", "context", "response"), ("prompt", "", "completion")] {
        if has(instruction) && has(output) {
            let named = |name: &str| has(name).then(|| name.to_owned());
            let columns = ChatColumns {
                instruction: named(instruction),
                input: named(input),
                output: named(output),
                ..ChatColumns::default()
            };
            return Some(Source { chat: Some(Chat::Alpaca), chat_columns: Some(columns), ..source });
        }
    }
    if has("question") && has("answer") {
        let template = "{{ question }}\n\n{{ answer }}".to_owned();
        return Some(Source { template: Some(template), ..source });
    }
    let text = TEXT_COLUMNS.into_iter().find(|name| has(name))?;
    Some(Source { text_column: Some(text.to_owned()), ..source })
}

/// Returns the last part of an address without its extensions.
fn name_of(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default().trim_end_matches(['/', '*', '.']);
    let last = address.rsplit(['/', '\\', ':']).find(|part| !part.is_empty()).unwrap_or_default();
    let last = last.split('@').next().unwrap_or_default();
    let stem = last.split('.').find(|part| !part.is_empty()).unwrap_or(last);
    stem.chars().map(|c| if c.is_alphanumeric() || "_-".contains(c) { c } else { '-' }).collect()
}

/// Removes what was written for an address that cannot be collected.
fn remove(path: &Path, folder: &Path) {
    // If something cannot be removed, the next `data add` finds it and says so.
    let _ = fs::remove_file(path);
    let _ = fs::remove_file(path.with_extension("lock"));
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_are_named_after_their_address() {
        let check = |address: &str, expected: &str| assert_eq!(name_of(address), expected, "{address}");
        check("datasets/roneneldan/TinyStories", "TinyStories");
        check("https://example.org/a/reviews.csv.gz?x=1", "reviews");
        check("git+https://example.org/code.git@v1", "code");
        check("s3://bucket/some/prefix/*", "prefix");
        check("/data/my notes/", "my-notes");
        check("~/notes", "notes");
    }

    #[test]
    fn columns_are_guessed_from_the_header() {
        let check = |complaint: &str, expected: &str| {
            let found = with_columns(&Source::default(), complaint).map_or_else(String::new, |source| {
                let columns = source.chat_columns.map_or_else(String::new, |columns| {
                    let names = [columns.prompt, columns.instruction, columns.input, columns.output];
                    format!(" {}", names.map(Option::unwrap_or_default).join("/"))
                });
                format!("{:?} {:?} {:?}{columns}", source.text_column, source.chat, source.template.is_some())
            });
            assert_eq!(found, expected, "{complaint}");
        };
        check("no column `text`; it has `id`, `body`", "Some(\"body\") None false");
        check("no column `text`; it has `messages`", "None Some(Messages) false");
        check("no column `text`; it has `instruction`, `input`, `output`", "None Some(Alpaca) false");
        check("no column `text`; it has `question`, `answer`", "None None true");
        check("no column `text`; it has `prompt`, `chosen`, `rejected`", "None Some(Preference) false");
        check("no column `text`; it has `question`, `chosen`, `rejected`", "None Some(Preference) false question///");
        check("no column `text`; it has `prompt`, `completion`", "None Some(Alpaca) false /prompt//completion");
        check(
            "no column `text`; it has `instruction`, `context`, `response`",
            "None Some(Alpaca) false /instruction/context/response",
        );
        check("no column `text`; it has `a`", "");
    }
}
