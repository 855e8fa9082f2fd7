//! The templates of `fixtures/chat_templates.py`, and what transformers makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizer::BUILTIN;

/// Returns the folder of the fixtures.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat_templates")
}

/// Reads a JSON file of the fixtures.
pub fn read(name: &str) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

/// Returns the names and sources of the templates: those of the fixtures, and the built-in ones.
pub fn families() -> Vec<(String, String)> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let written = files.filter(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    let written = written.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    let builtin = BUILTIN.iter().map(|builtin| (format!("builtin_{}", builtin.name), builtin.source.to_owned()));
    let mut families: Vec<(String, String)> = written.chain(builtin).collect();
    families.sort_unstable();
    families
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
