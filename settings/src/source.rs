//! A settings file with its overrides.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use crate::keys::{keys, line_at, mentions};
use crate::renamed::rename;
use crate::{Error, suggest};

/// A settings file with the overrides of its keys (`key=value`, later ones win).
#[derive(Debug, Clone)]
pub struct ConfigSource {
    path: PathBuf,
    text: String,
    overrides: Vec<String>,
}

/// The result of parsing a [`ConfigSource`].
#[derive(Debug, Clone)]
pub struct Parsed<T> {
    /// The value.
    pub value: T,
    /// The document with overrides applied and old keys renamed: which keys are given.
    pub document: DocumentMut,
    /// A line for each old key that was used, which names the new one.
    pub notices: Vec<String>,
}

/// Why a document cannot be deserialized.
struct ValueError {
    /// The byte in the text of the document.
    offset: Option<usize>,
    message: String,
}

impl ConfigSource {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Returns an error if there is no such file, or on I/O errors.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
            _ => Error::Read { path: path.to_owned(), source },
        })?;
        Ok(Self { overrides: overrides.to_vec(), ..Self::new(path, &text) })
    }

    /// Returns the source of `text`, which was read from `path`, without overrides.
    pub fn new(path: &Path, text: &str) -> Self {
        // A byte order mark is invisible in every editor, and TOML does not allow it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        Self { path: path.to_owned(), text, overrides: Vec::new() }
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Parses the file and applies the overrides.
    ///
    /// `known` are the dotted paths of all keys, for suggestions; `renamed` are pairs of an old and a new path.
    ///
    /// # Errors
    /// Returns an error that names the line, or the override, if the text is not TOML, a key is unknown or given under
    /// both names, or a value has the wrong type.
    pub fn parse<T: DeserializeOwned>(
        &self,
        known: &[String],
        renamed: &[(String, String)],
    ) -> Result<Parsed<T>, Error> {
        let mut notices = Vec::new();
        let mut document: DocumentMut = self.text.parse().map_err(|error: toml_edit::TomlError| {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            self.at_offset(error.span().map(|span| span.start), message)
        })?;
        let mut was_renamed = false;
        for (old, new) in renamed {
            if rename(&mut document, old, new).map_err(|message| self.error_at(old, message))? {
                was_renamed = true;
                notices.push(format!("{}: `{old}` was renamed to `{new}`; rename it", self.place(old)));
            }
        }
        let mut value = deserialize(&document, known).map_err(|error| {
            // A renamed key may have moved the lines after it.
            self.at_offset(error.offset.filter(|_| !was_renamed), error.message)
        })?;
        for assignment in &self.overrides {
            let wrong = |message: String| Error::At { place: format!("--set {assignment}"), message };
            let (key, text) = assignment.split_once('=').ok_or_else(|| wrong("expected key=value".to_owned()))?;
            let key = key.trim();
            let new_key = renamed.iter().find(|(old, _)| old == key).map(|(_, new)| new.as_str());
            if let Some(new) = new_key {
                notices.push(format!("--set {key}: `{key}` was renamed to `{new}`; use that"));
            }
            let mut messages = Vec::new();
            let accepted = readings(text.trim()).into_iter().find_map(|reading| {
                let mut changed = document.clone();
                let result = match assign(&mut changed, new_key.unwrap_or(key), reading) {
                    Ok(()) => deserialize(&changed, known).map_err(|error| error.message),
                    Err(message) => Err(message),
                };
                result.map_err(|message| messages.push(message)).ok().map(|value| (value, changed))
            });
            match accepted {
                Some(accepted) => (value, document) = accepted,
                None => return Err(wrong(messages.swap_remove(0))),
            }
        }
        Ok(Parsed { value, document, notices })
    }

    /// Returns an error at `key`: at the override that gives it, else at its line, else at the file.
    pub fn error_at(&self, key: &str, message: impl Into<String>) -> Error {
        Error::At { place: self.place(key), message: message.into() }
    }

    /// Returns the place of the most specific key that `text` mentions: an override, else a line, else the file.
    pub fn place(&self, text: &str) -> String {
        let named = |assignment: &&String| mentions(text, assignment.split('=').next().unwrap_or_default().trim());
        if let Some(assignment) = self.overrides.iter().rev().find(named) {
            return format!("--set {assignment}");
        }
        let mentioned = keys(&self.text).into_iter().filter(|key| mentions(text, &key.path));
        let offset = mentioned.max_by_key(|key| key.path.len()).map(|key| key.span.start);
        self.place_at(offset)
    }

    /// Returns where each key was given: at a line of the file, or in an override. Keys of arrays of tables have the
    /// array's path.
    pub fn origins(&self) -> BTreeMap<String, String> {
        let lines = keys(&self.text).into_iter().map(|key| (key.path, self.place_at(Some(key.span.start))));
        let overrides = self.overrides.iter().filter_map(|assignment| assignment.split_once('='));
        lines.chain(overrides.map(|(key, _)| (key.trim().to_owned(), "--set".to_owned()))).collect()
    }

    fn at_offset(&self, offset: Option<usize>, message: String) -> Error {
        Error::At { place: self.place_at(offset), message }
    }

    fn place_at(&self, offset: Option<usize>) -> String {
        let tidy: PathBuf = self.path.components().filter(|part| *part != Component::CurDir).collect();
        match offset {
            Some(offset) => format!("{}:{}", tidy.display(), line_at(&self.text, offset)),
            None => tidy.display().to_string(),
        }
    }
}

fn deserialize<T: DeserializeOwned>(document: &DocumentMut, known: &[String]) -> Result<T, ValueError> {
    let text = document.to_string();
    let deserializer = toml::Deserializer::parse(&text).map_err(|error| ValueError {
        offset: error.span().map(|span| span.start),
        message: error.message().to_owned(),
    })?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let span = error.span();
        // An error about a key, and not about its value, is about an unknown key.
        let unknown = keys(&text).into_iter().find(|key| Some(&key.span) == span.as_ref());
        let message = match unknown {
            Some(key) => unknown_key(&key.path, known),
            None if path == "." => in_words(error.message()),
            None => format!("`{path}`: {}", in_words(error.message())),
        };
        ValueError { offset: span.map(|span| span.start), message }
    })
}

/// Returns a message of serde with the type that it expects in words.
fn in_words(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "u8" => "an integer from 0 to 255",
        "u16" => "an integer from 0 to 65535",
        "u32" => "an integer from 0 to 4294967295",
        "u64" | "usize" => "an integer of at least 0",
        "a nonzero u32" => "an integer from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "an integer of at least 1",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        other => other,
    };
    format!("{found}, expected {expected}")
}

fn unknown_key(path: &str, known: &[String]) -> String {
    let (table, name) = path.rsplit_once('.').map_or(("", path), |(table, name)| (table, name));
    let split = |known: &'_ str| {
        known.rsplit_once('.').map_or((String::new(), known.to_owned()), |(t, n)| (t.into(), n.into()))
    };
    let siblings: Vec<String> =
        known.iter().map(|known| split(known)).filter(|(parent, _)| parent == table).map(|(_, name)| name).collect();
    let elsewhere = || known.iter().find(|known| known.rsplit('.').next() == Some(name)).cloned();
    let prefix = if table.is_empty() { String::new() } else { format!("{table}.") };
    let meant =
        suggest(name, siblings.iter().map(String::as_str)).map(|near| format!("{prefix}{near}")).or_else(elsewhere);
    let owner = if table.is_empty() { "the top level".to_owned() } else { format!("[{table}]") };
    match meant {
        Some(meant) => format!("unknown key `{path}`; did you mean `{meant}`?"),
        None if siblings.is_empty() => format!("unknown key `{path}`"),
        None => format!("unknown key `{path}`; {owner} has {}", siblings.join(", ")),
    }
}

/// Returns what `text` may mean, the most likely first: a TOML value, or the text itself, since a shell removes quotes.
fn readings(text: &str) -> Vec<Value> {
    let typed: Option<Value> = text.parse().ok();
    typed.into_iter().chain([Value::from(text)]).collect()
}

fn assign(document: &mut DocumentMut, key: &str, value: Value) -> Result<(), String> {
    let mut parts: Vec<&str> = key.split('.').map(str::trim).collect();
    let last = parts.pop().unwrap_or_default();
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for (depth, part) in parts.iter().enumerate() {
        let mut implicit = Table::new();
        implicit.set_implicit(true);
        table = table
            .entry(part)
            .or_insert(Item::Table(implicit))
            .as_table_like_mut()
            .ok_or_else(|| format!("`{}` is not a table", parts[..=depth].join(".")))?;
    }
    table.insert(last, Item::Value(value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Example {
        seed: u64,
        train: Train,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Train {
        decay_fraction: f64,
        steps: u64,
    }

    fn check(text: &str, overrides: &[&str], expected: &str) {
        let source = ConfigSource {
            path: PathBuf::from("./a.toml"),
            text: text.to_owned(),
            overrides: overrides.iter().map(ToString::to_string).collect(),
        };
        let known = ["seed", "train", "train.decay_fraction", "train.steps"].map(str::to_owned);
        let renamed = [("train.decay_share".to_owned(), "train.decay_fraction".to_owned())];
        let found = match source.parse::<Example>(&known, &renamed) {
            Ok(Parsed { value: Example { seed, train }, notices, .. }) => {
                let mut lines = vec![format!("{seed} {} {}", train.decay_fraction, train.steps)];
                lines.extend(notices);
                lines.join("\n")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text} {overrides:?}");
    }

    #[test]
    fn values_and_overrides_are_read() {
        check("", &[], "0 0 0");
        check("seed = 7\n[train]\nsteps = 2", &[], "7 0 2");
        check("seed = 7", &["seed=8", "train.steps=3"], "8 0 3");
    }

    #[test]
    fn unknown_keys_have_a_line_and_a_suggestion() {
        check("\nsede = 7", &[], "a.toml:2: unknown key `sede`; did you mean `seed`?");
        check("[train]\nstep = 7", &[], "a.toml:2: unknown key `train.step`; did you mean `train.steps`?");
        check("[train]\nseed = 7", &[], "a.toml:2: unknown key `train.seed`; did you mean `seed`?");
        check("[train]\nx = 7", &[], "a.toml:2: unknown key `train.x`; [train] has decay_fraction, steps");
        check("", &["sede=8"], "--set sede=8: unknown key `sede`; did you mean `seed`?");
    }

    #[test]
    fn origins_are_lines_and_overrides() {
        let source = ConfigSource {
            path: PathBuf::from("./a.toml"),
            text: "seed = 7\n\n[train]\nsteps = 2\n[[list]]\nx = 1\n".to_owned(),
            overrides: vec!["train.decay_fraction = 0.5".to_owned(), "seed=8".to_owned()],
        };
        let origins = source.origins();
        let check = |key: &str, expected: Option<&str>| assert_eq!(origins.get(key).map(String::as_str), expected);
        check("seed", Some("--set"));
        check("train.steps", Some("a.toml:4"));
        check("train.decay_fraction", Some("--set"));
        check("list.x", Some("a.toml:6"));
        check("train.other", None);
    }

    #[test]
    fn wrong_values_have_a_line() {
        check("seed = \"x\"", &[], "a.toml:1: `seed`: invalid type: string \"x\", expected an integer of at least 0");
        check(
            "[train]\nsteps = -1",
            &[],
            "a.toml:2: `train.steps`: invalid value: integer `-1`, expected an integer of at least 0",
        );
        check("seed = 1\nseed = 2", &[], "a.toml:2: duplicate key");
        check("seed = 1", &["seed.x=1"], "--set seed.x=1: `seed` is not a table");
        check("", &["seed"], "--set seed: expected key=value");
        check("", &["seed=x"], "--set seed=x: `seed`: invalid type: string \"x\", expected an integer of at least 0");
    }

    #[test]
    fn old_names_are_accepted_with_a_notice() {
        let notice = "a.toml:2: `train.decay_share` was renamed to `train.decay_fraction`; rename it";
        check("[train]\ndecay_share = 0.5", &[], &format!("0 0.5 0\n{notice}"));
        let notice = "--set train.decay_share: `train.decay_share` was renamed to `train.decay_fraction`; use that";
        check("", &["train.decay_share=0.5"], &format!("0 0.5 0\n{notice}"));
        check(
            "[train]\ndecay_share = 0.5\ndecay_fraction = 0.5",
            &[],
            "a.toml:2: `train.decay_share` is the old name of `train.decay_fraction`, and both are given; remove \
             `train.decay_share`",
        );
    }
}
