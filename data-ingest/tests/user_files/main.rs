//! Files as users have them: in any encoding, behind links, with brackets in their names, in every shape of JSON, with
//! columns of any name.

mod columns;
#[path = "../corpus/mod.rs"]
mod corpus;
mod encodings;
mod json;
mod links;
mod names;
#[path = "../packed/mod.rs"]
mod packed;

use std::path::Path;
use std::sync::{Arc, Mutex};

use artifact::{Event, Progress};
use corpus::{chain, collect_into, context, one, rows, write};
use data_ingest::{Config, Source};

/// What collecting gives.
struct Collected {
    /// Documents as `id: text`, line breaks as `|`; or the error.
    documents: Vec<String>,
    /// The lines on the terminal.
    lines: Vec<String>,
    /// The only source in `sources.json`.
    source: serde_json::Value,
}

fn collected_in(base: &Path, config: &Config) -> Collected {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut context = context(base);
    let kept = Arc::clone(&lines);
    context.progress = Progress::new(move |event| {
        if let Event::Line(line) = event {
            kept.lock().unwrap().push(line.to_owned());
        }
    });
    let out = tempfile::tempdir().unwrap();
    let result = collect_into(config, &context, out.path());
    let lines = lines.lock().unwrap().clone();
    if let Err(error) = result {
        let documents = vec![chain(&error).replace(&base.display().to_string(), "<base>")];
        return Collected { documents, lines, source: serde_json::Value::Null };
    }
    let document = |row: corpus::Row| {
        let content = match (row.text, row.messages) {
            (Some(text), _) => text.replace('\n', "|"),
            (None, Some(messages)) => format!("{messages:?}"),
            (None, None) => format!("{:?}", row.raw.unwrap_or_default()),
        };
        format!("{}: {content}", row.id)
    };
    let sources = std::fs::read_to_string(out.path().join("sources.json")).unwrap();
    let mut sources: serde_json::Value = serde_json::from_str(&sources).unwrap();
    let source = sources["sources"][0].take();
    Collected { documents: rows(out.path()).into_iter().map(document).collect(), lines, source }
}

fn collected(files: &[(&str, &[u8])], config: &Config) -> Collected {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), files);
    collected_in(base.path(), config)
}

/// Checks the documents, or the error, of a source named `s` of one file.
fn check(name: &str, bytes: &[u8], source: Source, expected: &[&str]) {
    let source = Source { path: Some(name.to_owned()), name: Some("s".to_owned()), ..source };
    assert_eq!(collected(&[(name, bytes)], &one(source)).documents, expected, "{}", String::from_utf8_lossy(bytes));
}

#[expect(clippy::unnecessary_wraps, reason = "the keys of a source are options")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
