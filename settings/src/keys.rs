//! Where the keys of a TOML document are.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike};

/// A key of a document.
#[derive(Debug)]
pub(crate) struct Key {
    /// The dotted path. Tables of an array of tables all have the array's path.
    pub path: String,
    /// The bytes of the key itself.
    pub span: Range<usize>,
}

/// Returns every key of the document; none if it is not TOML.
pub(crate) fn keys(text: &str) -> Vec<Key> {
    let mut found = Vec::new();
    if let Ok(document) = Document::parse(text) {
        walk("", document.as_table(), &mut found);
    }
    found
}

fn walk(prefix: &str, table: &dyn TableLike, found: &mut Vec<Key>) {
    for (name, item) in table.iter() {
        let path = format!("{prefix}{name}");
        let span = table.key(name).and_then(toml_edit::Key::span).unwrap_or(0..0);
        found.push(Key { path: path.clone(), span });
        if let Some(table) = item.as_table_like() {
            walk(&format!("{path}."), table, found);
        }
        if let Item::ArrayOfTables(tables) = item {
            tables.iter().for_each(|table| walk(&format!("{path}."), table, found));
        }
    }
}

/// Returns the number of the line that holds the byte at `offset`, from 1.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}

/// Returns true if `text` mentions `key` as a word of its own.
pub(crate) fn mentions(text: &str, key: &str) -> bool {
    let is_part_of_key = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    !key.is_empty()
        && text.match_indices(key).any(|(at, _)| {
            !text[..at].ends_with(is_part_of_key)
                && !text[at + key.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
}
