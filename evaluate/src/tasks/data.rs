//! The items of tasks: rows of JSON Lines, JSON and Parquet files.

mod parquet;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use artifact::Digest;
use serde_json::Value;

use super::builtin;
use super::definition::{Definition, problem};
use super::template::Item;
use crate::Error;

/// The name of the split of `data`.
const ITEMS: &str = "test";

/// The name of the split of `fewshot_data`.
const EXAMPLES: &str = "fewshot";

/// A dataset of the Hub that a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubDataset {
    /// `owner/name`.
    pub path: String,
    /// The name of its configuration, if the task gives one.
    pub name: Option<String>,
    /// The splits that are needed.
    pub splits: Vec<String>,
}

/// A file of a split: its name, by which its format is known, and its place on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Its name.
    pub name: PathBuf,
    /// Its place.
    pub place: PathBuf,
}

/// Returns the files of each split of a dataset, or why there are none.
pub type FindDataset<'a> = dyn Fn(&HubDataset) -> Result<BTreeMap<String, Vec<DataFile>>, Error> + 'a;

/// The splits of a task's data.
#[derive(Debug, Default)]
pub(super) struct Splits {
    items: BTreeMap<String, Vec<Item>>,
    /// The digest of each split's files.
    pub(super) digests: BTreeMap<String, Digest>,
}

impl Splits {
    /// Reads the data of a definition, whose paths are relative to its file: the items and, if there are to be
    /// examples, those. Names the splits of `data` and `fewshot_data` in the definition.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is not one of items, or there is none.
    pub(super) fn read(
        path: &Path,
        definition: &mut Definition,
        has_examples: bool,
        find: &FindDataset<'_>,
    ) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut splits = Self::default();
        let mut add = |split: &str, file: &Path| splits.add(split, file, &folder.join(file));
        if let Some(file) = &definition.data {
            if definition.dataset_path.is_some() {
                return Err(problem(path, "it has both `data` and `dataset_path`".to_owned()));
            }
            add(ITEMS, file)?;
            definition.test_split = Some(ITEMS.to_owned());
            let examples = if let Some(file) = &definition.fewshot_data {
                add(EXAMPLES, file)?;
                EXAMPLES
            } else {
                ITEMS
            };
            definition.fewshot_split.get_or_insert(examples.to_owned());
            return Ok(splits);
        }
        let Some(loader) = &definition.dataset_path else {
            return Err(problem(path, "it names no data: add `data = \"items.jsonl\"`".to_owned()));
        };
        let files = definition.dataset_kwargs.as_ref().and_then(|options| options.data_files.as_ref());
        match (loader.as_str(), files) {
            ("json" | "parquet", Some(files)) => {
                if let Some(name) = &definition.dataset_name {
                    return Err(problem(path, format!("`dataset_name` = {name:?} has no effect on local files")));
                }
                for (split, files) in files.by_split() {
                    for file in files {
                        add(&split, &file)?;
                    }
                }
            }
            ("json" | "parquet" | "csv" | "text", _) => {
                let text = format!(
                    "`dataset_path` = {loader:?} needs `dataset_kwargs: {{data_files: {{test: FILE}}}}`: a .jsonl, \
                     .json or .parquet file"
                );
                return Err(problem(path, text));
            }
            (_, Some(_)) => return Err(problem(path, "`data_files` of a dataset is not supported".to_owned())),
            (id, None) => {
                let needed = [definition.item_split(), definition.example_split().filter(|_| has_examples)];
                let mut needed: Vec<String> = needed.into_iter().flatten().cloned().collect();
                needed.dedup();
                let dataset = HubDataset { path: id.to_owned(), name: definition.dataset_name.clone(), splits: needed };
                for (split, files) in find(&dataset)? {
                    for DataFile { name, place } in files {
                        splits.add(&split, &name, &place)?;
                    }
                }
            }
        }
        Ok(splits)
    }

    fn add(&mut self, split: &str, name: &Path, place: &Path) -> Result<(), Error> {
        let failed = |source| artifact::Error::io("read the items of a task", place, source);
        let (rows, digest) = if name.extension().is_some_and(|extension| extension == "parquet") {
            let rows = parquet::rows(File::open(place).map_err(failed)?).map_err(|text| problem(place, text))?;
            (rows, Digest::of_file(place)?.0)
        } else {
            let bytes = match builtin::data(place) {
                Some(text) => text.as_bytes().to_vec(),
                None => fs::read(place).map_err(failed)?,
            };
            (json_rows(name, &bytes)?, Digest::of(&bytes))
        };
        let before = self.digests.get(split).map(|before| [*before.as_bytes(), *digest.as_bytes()].concat());
        self.digests.insert(split.to_owned(), before.map_or(digest, |both| Digest::of(&both)));
        let items = self.items.entry(split.to_owned()).or_default();
        items.extend(rows);
        complete(items);
        Ok(())
    }

    /// Returns the items of a split.
    ///
    /// # Errors
    /// Returns the problem if there is none with this name.
    pub(super) fn get(&self, split: &str) -> Result<&[Item], String> {
        let names = || self.items.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let items = self.items.get(split).ok_or_else(|| format!("it has no split `{split}`, only {}", names()))?;
        if items.is_empty() { Err(format!("its split `{split}` has no items")) } else { Ok(items) }
    }
}

/// Returns the objects in the lines of a file, or in a list.
fn json_rows(path: &Path, bytes: &[u8]) -> Result<Vec<Item>, Error> {
    let wrong = |at: usize, text: String| problem(path, format!("line {at}: {text}"));
    let extension = path.extension().and_then(|extension| extension.to_str());
    let values: Vec<(usize, Value)> = match extension {
        Some("jsonl" | "ndjson" | "json") => {
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            if first == Some(&b'[') {
                let all: Vec<Value> = serde_json::from_slice(bytes).map_err(|e| wrong(e.line(), e.to_string()))?;
                all.into_iter().enumerate().collect()
            } else {
                let lines = bytes.split(|byte| *byte == b'\n').enumerate();
                let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
                lines
                    .map(|(i, line)| {
                        let value = serde_json::from_slice(line).map_err(|e| wrong(i + 1, e.to_string()))?;
                        Ok((i, value))
                    })
                    .collect::<Result<_, Error>>()?
            }
        }
        _ => return Err(problem(path, "it is neither a .jsonl, .json nor .parquet file".to_owned())),
    };
    let object = |(i, value): (usize, Value)| match value {
        Value::Object(item) => Ok(item),
        other => Err(wrong(i + 1, format!("{other} is not an object"))),
    };
    values.into_iter().map(object).collect()
}

/// Gives each item the columns of all.
fn complete(items: &mut [Item]) {
    let columns = columns(items);
    for item in items.iter_mut().filter(|item| item.len() < columns.len()) {
        for column in &columns {
            item.entry(column).or_insert(Value::Null);
        }
    }
}

/// Returns the names of all columns, in the order in which they occur.
pub(super) fn columns(items: &[Item]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for item in items {
        for name in item.keys() {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_objects_with_the_same_columns() {
        let check = |name: &str, text: &str, expected: &str| {
            let found = json_rows(Path::new(name), text.as_bytes()).map(|mut rows| {
                complete(&mut rows);
                serde_json::to_string(&rows).unwrap()
            });
            let found = found.unwrap_or_else(|error| error.to_string());
            assert_eq!(found, expected);
        };
        check("a.jsonl", "{\"x\": 1}\n\n{\"y\": 2}\r\n", r#"[{"x":1,"y":null},{"y":2,"x":null}]"#);
        check("a.json", " [{\"x\": 1}, {\"x\": 2}]", r#"[{"x":1},{"x":2}]"#);
        check("a.jsonl", "\u{feff}{\"x\": 1}", r#"[{"x":1}]"#);
        check("a.jsonl", "{\"x\": 1}\n2\n", "the task a.jsonl cannot be used: line 2: 2 is not an object");
        check("a.csv", "", "the task a.csv cannot be used: it is neither a .jsonl, .json nor .parquet file");
        check(
            "a.jsonl",
            "{\"x\": 1}\n{\"x\"",
            "the task a.jsonl cannot be used: line 2: EOF while parsing an object at line 1 column 4",
        );
    }
}
