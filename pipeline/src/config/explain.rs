//! Turns the parser's errors into the file's line, the dotted key and the nearest right name.

use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use toml_edit::{Document, Item, TableLike};

use super::{Config, tidy};

/// Returns `pipeline.toml:12`, or the file alone where the parser names no place.
pub fn place(path: &Path, text: &str, span: Option<Range<usize>>) -> String {
    let file = tidy(path).display().to_string();
    match span {
        Some(span) => format!("{file}:{}", line_at(text, span.start)),
        None => file,
    }
}

/// Returns what is wrong in words of the configuration's own.
pub fn message(text: &str, error: &toml::de::Error) -> String {
    let raw = error.message().lines().collect::<Vec<_>>().join(", ");
    let key = error.span().and_then(|span| key_at(text, &span));
    if let Some(rest) = raw.strip_prefix("unknown field ") {
        return unknown_key(key.as_deref(), rest);
    }
    let subject = key.map_or_else(|| "a value".to_owned(), |key| format!("`{key}`"));
    if let Some(rest) = raw.strip_prefix("unknown variant ") {
        return unknown_value(&subject, rest);
    }
    for prefix in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = raw.strip_prefix(prefix).and_then(|rest| rest.split_once(", expected ")) {
            return format!("{subject} is {}; expected {}", plain_value(found), plain_type(expected));
        }
    }
    if let Some(field) = raw.strip_prefix("missing field ") {
        return format!("{subject} lacks the key {field}");
    }
    raw
}

/// Returns the place of the value that `complaint` is about: the override or the line whose key it names.
pub fn place_of_value(path: &Path, text: &str, overrides: &[String], complaint: &str) -> String {
    for assignment in overrides.iter().rev() {
        let key = assignment.split('=').next().unwrap_or_default().trim();
        if names(complaint, key) {
            return format!("--set {assignment}");
        }
    }
    let longest = keys(text).into_iter().filter(|key| names(complaint, &key.name)).max_by_key(|key| key.name.len());
    place(path, text, longest.map(|key| key.at))
}

/// Tells whether `text` holds `key` as a word of its own.
fn names(text: &str, key: &str) -> bool {
    let part_of_a_key = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    !key.is_empty()
        && text.match_indices(key).any(|(at, _)| {
            !text[..at].ends_with(part_of_a_key)
                && !text[at + key.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
}

/// Returns serde's words for a value in ours: ``integer `5` `` is the number 5.
fn plain_value(found: &str) -> String {
    match found.split_once(' ') {
        Some(("string", text)) => format!("the string {text}"),
        Some(("integer" | "floating", number)) => {
            format!("the number {}", number.trim_start_matches("point ").trim_matches('`'))
        }
        Some(("boolean", value)) => value.trim_matches('`').to_owned(),
        _ if found == "map" => "a table".to_owned(),
        _ if found == "sequence" => "a list".to_owned(),
        _ => found.to_owned(),
    }
}

/// Returns serde's name of a type in words.
fn plain_type(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    }
}

fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn unknown_key(key: Option<&str>, rest: &str) -> String {
    let names = quoted(rest);
    let Some((unknown, known)) = names.split_first() else { return format!("unknown key {rest}") };
    let key = key.filter(|key| key.ends_with(unknown)).unwrap_or(unknown);
    let table = key.strip_suffix(unknown).unwrap_or_default();
    if let Some(near) = nearest(unknown, known) {
        return format!("unknown key `{key}`; did you mean `{table}{near}`?");
    }
    let everywhere = known_keys();
    if let Some(elsewhere) = everywhere.iter().find(|known| known.rsplit('.').next() == Some(unknown)) {
        return format!("unknown key `{key}`; did you mean `{elsewhere}`?");
    }
    let owner =
        if table.is_empty() { "the top level".to_owned() } else { format!("[{}]", table.trim_end_matches('.')) };
    format!("unknown key `{key}`; {owner} has {}", known.join(", "))
}

fn unknown_value(subject: &str, rest: &str) -> String {
    let names = quoted(rest);
    let Some((unknown, known)) = names.split_first() else { return format!("{subject} has an unknown value {rest}") };
    match nearest(unknown, known) {
        Some(near) => format!("{subject} is \"{unknown}\"; did you mean \"{near}\"?"),
        None => format!("{subject} is \"{unknown}\"; expected one of {}", known.join(", ")),
    }
}

/// Returns the name among `known` that `unknown` is likely a slip of.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    // A third of the letters wrong, and at least one: chosen by trying common slips.
    let allowed = (unknown.chars().count() / 3).max(1);
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), *name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// Returns every key that the default configuration writes, dotted.
fn known_keys() -> Vec<String> {
    fn walk(prefix: &str, value: &Value, keys: &mut Vec<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let key = format!("{prefix}{name}");
            walk(&format!("{key}."), value, keys);
            keys.push(key);
        }
    }
    let mut keys = Vec::new();
    walk("", &serde_json::to_value(Config::default()).unwrap_or_default(), &mut keys);
    keys
}

/// One key of a document.
struct Key {
    name: String,
    at: Range<usize>,
    value: Range<usize>,
}

fn keys(text: &str) -> Vec<Key> {
    let mut found = Vec::new();
    if let Ok(document) = Document::parse(text) {
        walk("", document.as_table(), &mut found);
    }
    found
}

fn walk(prefix: &str, table: &dyn TableLike, found: &mut Vec<Key>) {
    for (name, item) in table.iter() {
        let dotted = format!("{prefix}{name}");
        let at = table.key(name).and_then(toml_edit::Key::span).unwrap_or(0..0);
        found.push(Key { name: dotted.clone(), at, value: item.span().unwrap_or(0..0) });
        if let Some(table) = item.as_table_like() {
            walk(&format!("{dotted}."), table, found);
        }
        if let Item::ArrayOfTables(tables) = item {
            tables.iter().for_each(|table| walk(&format!("{dotted}."), table, found));
        }
    }
}

/// Returns the dotted key whose name or value is at `span`.
fn key_at(text: &str, span: &Range<usize>) -> Option<String> {
    let holds = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end && !outer.is_empty();
    keys(text)
        .into_iter()
        .filter(|key| holds(&key.at) || holds(&key.value))
        .min_by_key(|key| if holds(&key.at) { key.at.len() } else { key.value.len() })
        .map(|key| key.name)
}

fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}
