//! Reading evaluation sets.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Config, Index};
use crate::Error;

/// Reads the evaluation sets and returns the index of their sequences. In a JSON Lines file every string is a text; any
/// other file is one text.
///
/// # Errors
/// Returns an error if a file cannot be read, or a line of a `.jsonl` file is not JSON.
pub(crate) fn evaluation_sets(config: &Config, base: &Path) -> Result<Index, Error> {
    let mut texts = Vec::new();
    for set in &config.sets {
        let path = base.join(set);
        let name = set.display().to_string();
        let text = fs::read_to_string(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        // Without a byte-order mark, which would be part of the first text.
        let text = text.trim_start_matches('\u{feff}').to_owned();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            texts.push((name, text));
            continue;
        }
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let value: Value = serde_json::from_str(line).map_err(|e| Error::EvaluationSet {
                path: path.clone(),
                problem: format!("line {number} is not JSON: {e}"),
            })?;
            let mut strings = Vec::new();
            collect_strings(&value, &mut strings);
            texts.extend(strings.into_iter().map(|text| (name.clone(), text)));
        }
    }
    Index::build(config, texts.into_iter().map(Ok))
}

fn collect_strings(value: &Value, strings: &mut Vec<String>) {
    match value {
        Value::String(text) => strings.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect_strings(value, strings)),
        Value::Object(map) => map.values().for_each(|value| collect_strings(value, strings)),
        _ => {}
    }
}
