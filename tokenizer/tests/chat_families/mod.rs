//! The templates of `fixtures/chat_templates.py`, and what transformers makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Returns the folder of the fixtures.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates")
}

/// Reads a JSON file of the fixtures.
pub fn read(name: &str) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

/// Returns the names of the templates.
pub fn families() -> Vec<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "jinja"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    names
}

/// Without the marks that most published templates do not have, and with the same white space.
pub fn plain(source: &str) -> String {
    let source = source.replace("endgeneration", "endif");
    ["%}", "-%}", "+%}"].iter().fold(source, |source, end| {
        source
            .replace(&format!("{{% generation {end}"), &format!("{{% if true {end}"))
            .replace(&format!("{{%- generation {end}"), &format!("{{%- if true {end}"))
    })
}
