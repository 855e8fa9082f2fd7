//! The dataset card: the contents, sources and licences of a corpus as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use artifact::file;
use serde::Deserialize;
use serde_json::Value;

use crate::documents::counts::Totals;
use crate::inventory::ListedSource;
use crate::{Error, Inventory};

/// The part of `sources.json` that the card shows.
#[derive(Debug, Deserialize)]
struct Corpus {
    sources: Vec<Collected>,
}

/// One source of a corpus.
#[derive(Debug, Deserialize)]
struct Collected {
    name: String,
    documents: u64,
    bytes: u64,
    licences: BTreeMap<String, Totals>,
    #[serde(default)]
    media: Vec<CollectedMedia>,
}

/// The pictures or sounds of one kind and licence.
#[derive(Debug, Deserialize)]
struct CollectedMedia {
    kind: String,
    licence: String,
    items: u64,
    bytes: u64,
}

/// Writes the card of a collected corpus.
///
/// `corpus` is the folder that the stage wrote; `tokens` has the number of tokens per licence, if the
/// corpus has been tokenized. The card depends only on these, so equal datasets have equal cards.
///
/// # Errors
/// Returns an error if `sources.json` of the corpus cannot be read, or on I/O errors.
pub fn write(
    path: &Path,
    inventory: &Inventory,
    corpus: &Path,
    tokens: Option<&BTreeMap<String, u64>>,
) -> Result<(), Error> {
    let sources = corpus.join("sources.json");
    let failed = |e| artifact::Error::io("read", &sources, e);
    let text = fs::read(&sources).map_err(failed)?;
    let corpus: Corpus = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
    Ok(file::write_atomically(path, render(inventory, &corpus, tokens).as_bytes())?)
}

fn render(inventory: &Inventory, corpus: &Corpus, tokens: Option<&BTreeMap<String, u64>>) -> String {
    let mut card = format!("# {}\n", cell(inventory.title.as_deref().unwrap_or("Dataset")));
    // Writing to a string cannot fail.
    let mut line = |text: &str| {
        let _ = writeln!(card, "{text}");
    };
    if let Some(description) = &inventory.description {
        line(&format!("\n{}", description.trim()));
    }
    line("\n## Licences\n");
    line("| licence | documents | bytes | tokens |\n|---|---:|---:|---:|");
    let collected: BTreeMap<&str, &Collected> = corpus.sources.iter().map(|one| (one.name.as_str(), one)).collect();
    let mut totals: BTreeMap<&str, Totals> = BTreeMap::new();
    for (licence, own) in corpus.sources.iter().flat_map(|source| &source.licences) {
        let share = totals.entry(licence).or_default();
        share.documents += own.documents;
        share.bytes += own.bytes;
    }
    let tokens_of = |licence: &str| {
        let tokens = tokens.and_then(|tokens| tokens.get(licence));
        tokens.map_or_else(|| "–".to_owned(), u64::to_string)
    };
    for (licence, Totals { documents, bytes }) in &totals {
        line(&format!("| {} | {documents} | {bytes} | {} |", cell(licence), tokens_of(licence)));
    }
    if corpus.sources.iter().any(|source| !source.media.is_empty()) {
        line("\n## Pictures and sounds\n");
        line("| source | kind | licence | items | bytes |\n|---|---|---|---:|---:|");
        for (source, media) in
            corpus.sources.iter().flat_map(|source| source.media.iter().map(move |one| (source, one)))
        {
            let CollectedMedia { kind, licence, items, bytes } = media;
            line(&format!("| {} | {kind} | {} | {items} | {bytes} |", cell(&source.name), cell(licence)));
        }
    }
    if totals.contains_key("unknown") {
        line("\nDocuments of unknown licence may not be free to use; set the key `licence` of their source.");
    }
    line("\n## Sources\n");
    line("| source | from | licence | files | documents | bytes | SHA-256 |\n|---|---|---|---:|---:|---:|---|");
    for source in &inventory.sources {
        let (documents, bytes) = collected.get(source.name.as_str()).map_or((0, 0), |one| (one.documents, one.bytes));
        let ListedSource { name, licence, files, content, .. } = source;
        let (files, from) = (files.len(), from(&source.origin));
        line(&format!(
            "| {} | {} | {} | {files} | {documents} | {bytes} | `{content}` |",
            cell(name),
            cell(&from),
            cell(licence)
        ));
    }
    line(
        "\nThe digest of a source is that of its one downloaded file, or of the lines that `sha256sum` prints for its \
         files.",
    );
    card
}

/// Returns where a source comes from, in words.
fn from(origin: &Value) -> String {
    let text = |key: &str| origin.get(key).and_then(Value::as_str);
    let commit = text("commit").map_or_else(String::new, |commit| format!(" at commit {commit}"));
    match (text("kind"), text("url"), text("hub"), text("git"), text("crate"), text("version")) {
        (_, Some(url), ..) => url.to_owned(),
        (_, _, Some(hub), ..) => format!("Hugging Face Hub, {hub}{commit}"),
        (_, _, _, Some(git), ..) => format!("git, {git}{commit}"),
        (_, _, _, _, Some(name), Some(version)) => format!("crate {name} {version}"),
        _ => format!("files, {}", text("path").unwrap_or_default()),
    }
}

/// Returns text that stays inside a table cell.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}
