//! Overrides from the command line: `--set train.learning_rate=3e-4`.

use std::path::Path;

use toml_edit::{DocumentMut, Item, Table, Value};

use super::{Config, ConfigError, explain};

/// Applies `overrides` to the configuration written in `text`, checking each as a line of the file is checked; returns the
/// file with the overrides in it, too.
pub fn apply(
    config: Config,
    path: &Path,
    text: &str,
    overrides: &[String],
) -> Result<(Config, DocumentMut), ConfigError> {
    let mut config = config;
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| ConfigError::NotUnderstood {
        place: explain::place(path, text, e.span()),
        message: e.message().to_owned(),
    })?;
    for assignment in overrides {
        let wrong = |message: String| ConfigError::NotUnderstood { place: format!("--set {assignment}"), message };
        let (key, value) = assignment.split_once('=').ok_or_else(|| wrong("expected key=value".to_owned()))?;
        let mut first_error = None;
        let mut accepted = false;
        for value in readings(value.trim()) {
            let mut changed = document.clone();
            assign(&mut changed, key.trim(), value).map_err(wrong)?;
            let text = changed.to_string();
            match toml::from_str(&text) {
                Ok(parsed) => {
                    (config, document, accepted) = (parsed, changed, true);
                    break;
                }
                Err(error) => {
                    first_error.get_or_insert_with(|| explain::message(&text, &error));
                }
            }
        }
        if let (false, Some(message)) = (accepted, first_error) {
            return Err(wrong(message));
        }
    }
    Ok((config, document))
}

/// Returns what `text` may mean, likeliest first: a TOML value, or the text itself, since a shell takes the quotes away.
fn readings(text: &str) -> Vec<Value> {
    let typed: Option<Value> = text.parse().ok();
    typed.into_iter().chain([Value::from(text)]).collect()
}

fn assign(document: &mut DocumentMut, key: &str, value: Value) -> Result<(), String> {
    let mut parts: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = parts.pop().unwrap_or_default();
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for (depth, part) in parts.iter().enumerate() {
        let mut implicit = Table::new();
        implicit.set_implicit(true);
        table = table
            .entry(part)
            .or_insert(Item::Table(implicit))
            .as_table_like_mut()
            .ok_or_else(|| format!("`{}` is no table", parts[..=depth].join(".")))?;
    }
    table.insert(last, Item::Value(value));
    Ok(())
}
