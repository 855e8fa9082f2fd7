//! Applications of the web page: TOML files with a system prompt, a form, a template, sampling settings and examples.
//!
//! Those in `serve/applications` are part of the program; a folder of the configuration adds others, or replaces those
//! of the same file name. The page fills in the templates: a model sees nothing of them until a request comes.

mod check;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Error;

/// The files that are part of the program, in the order of the page.
const EMBEDDED: [(&str, &str); 10] = [
    ("news", include_str!("../applications/news.toml")),
    ("product", include_str!("../applications/product.toml")),
    ("story", include_str!("../applications/story.toml")),
    ("verse", include_str!("../applications/verse.toml")),
    ("explain", include_str!("../applications/explain.toml")),
    ("exercises", include_str!("../applications/exercises.toml")),
    ("quiz", include_str!("../applications/quiz.toml")),
    ("support", include_str!("../applications/support.toml")),
    ("code-complete", include_str!("../applications/code-complete.toml")),
    ("code-explain", include_str!("../applications/code-explain.toml")),
];

/// An application of the web page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Application {
    /// The name of its file, without `.toml`.
    #[serde(skip_deserializing)]
    #[schema(example = "news")]
    pub(crate) id: String,
    /// Where the page lists it: `writing`, `teaching`, `support` or `code`; others come last.
    #[serde(default)]
    pub(crate) group: String,
    /// Its name.
    pub(crate) name: Text,
    /// What it does, in one sentence.
    pub(crate) description: Text,
    /// The system prompt; `{name}` is replaced by that field.
    #[serde(default)]
    pub(crate) system: Text,
    /// The first message, or the prompt of a model without a chat template; `{name}` is replaced by that field.
    pub(crate) template: Text,
    /// The prompt of a model without a chat template, in place of `template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) completion: Option<Text>,
    /// The fields of the form, in order.
    pub(crate) fields: Vec<Field>,
    /// Settings of sampling.
    #[serde(default)]
    pub(crate) sampling: Sampling,
    /// Examples: the values of fields by their names.
    #[serde(default)]
    pub(crate) examples: Vec<BTreeMap<String, Text>>,
}

/// A text: one for all languages, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string, or a table with the strings `en` and `zh`")]
pub(crate) enum Text {
    /// The same in all languages.
    Same(String),
    /// One for each language.
    Translated(Translated),
}

/// A text in each language of the page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Translated {
    /// English.
    pub(crate) en: String,
    /// Chinese.
    pub(crate) zh: String,
}

/// A field of a form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    /// Its name in templates: a lower-case letter, then lower-case letters, digits and underscores.
    pub(crate) name: String,
    /// Its label.
    pub(crate) label: Text,
    /// What it is.
    pub(crate) kind: FieldKind,
    /// The choices; the first is the default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) choices: Vec<Text>,
    /// What a text field holds at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<Text>,
    /// Whether a text field may be left empty.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// The kind of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FieldKind {
    /// One line of text.
    Text,
    /// Several lines of text.
    Textarea,
    /// One of several choices.
    Choice,
}

/// Settings of sampling, with the names of the API. One that is absent is the page's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sampling {
    /// From 1 to 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_tokens: Option<u32>,
    /// From 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    /// From 0.05 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) top_p: Option<f64>,
    /// From 0 to 100,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<u32>,
    /// From 0.8 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repetition_penalty: Option<f64>,
    /// At most four stop strings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stop: Vec<String>,
}

impl Default for Text {
    fn default() -> Self {
        Self::Same(String::new())
    }
}

impl Text {
    /// Returns the text in each language that it has.
    pub(crate) fn all(&self) -> Vec<&str> {
        match self {
            Self::Same(text) => vec![text],
            Self::Translated(Translated { en, zh }) => vec![en, zh],
        }
    }
}

/// Returns the applications of the program, and those of a folder if there is one.
///
/// # Errors
/// Returns an error that names the file, and the key that is invalid.
pub(crate) fn load(folder: Option<&Path>) -> Result<Vec<Application>, Error> {
    let mut applications = Vec::new();
    for (id, text) in EMBEDDED {
        applications.push(parse(id, text).map_err(|reason| invalid(Path::new(&format!("{id}.toml")), reason))?);
    }
    for (path, id) in folder.map(files).transpose()?.unwrap_or_default() {
        let text = std::fs::read_to_string(&path).map_err(|error| invalid(&path, error.to_string()))?;
        let application = parse(&id, &text).map_err(|reason| invalid(&path, reason))?;
        match applications.iter_mut().find(|other: &&mut Application| other.id == id) {
            Some(replaced) => *replaced = application,
            None => applications.push(application),
        }
    }
    Ok(applications)
}

fn invalid(path: &Path, reason: String) -> Error {
    Error::Application { path: path.to_owned(), reason }
}

/// Returns the TOML files of a folder and their names without `.toml`, sorted.
fn files(folder: &Path) -> Result<Vec<(std::path::PathBuf, String)>, Error> {
    let failed = |error: std::io::Error| invalid(folder, error.to_string());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.push((path, stem));
        }
    }
    files.sort();
    Ok(files)
}

/// Reads an application, or returns what is wrong with it.
fn parse(id: &str, text: &str) -> Result<Application, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    let mut application: Application = serde_path_to_error::deserialize(table).map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." { String::new() } else { format!("`{path}`: ") };
        format!("{at}{}", error.inner().message())
    })?;
    id.clone_into(&mut application.id);
    application.check()?;
    Ok(application)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole application.
    const WHOLE: &str = r#"
name = "Greeting"
description = "Greets a person."
system = "You are {mood}."
template = { en = "Greet {name}.", zh = "问候{name}。" }
[[fields]]
name = "name"
label = "Name"
kind = "text"
[[fields]]
name = "mood"
label = "Mood"
kind = "choice"
choices = ["kind", "strict"]
[sampling]
temperature = 0.5
[[examples]]
name = "Ada"
mood = "strict"
"#;

    #[track_caller]
    fn check_refused(old: &str, new: &str, expected: &str) {
        let text = WHOLE.replacen(old, new, 1);
        assert_ne!(text, WHOLE, "{old} is not in the file");
        let error = parse("a", &text).unwrap_err();
        assert!(error.contains(expected), "{old} → {new}: {error}");
    }

    #[test]
    fn those_of_the_program_are_valid() {
        let applications = load(None).unwrap();
        assert_eq!(applications.len(), EMBEDDED.len());
        let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("applications")).unwrap().count();
        assert_eq!(files, EMBEDDED.len(), "every file is embedded");
        for application in applications {
            assert!(matches!(application.name, Text::Translated(_)), "{} is in two languages", application.id);
            assert!(!application.examples.is_empty(), "{} has examples", application.id);
        }
    }

    #[test]
    fn invalid_files_are_named_with_the_key() {
        parse("a", WHOLE).unwrap();
        for (old, new, expected) in [
            ("name = \"Greeting\"", "name = ", "line 2: "),
            ("name = \"Greeting\"", "", "missing field `name`"),
            ("description", "summary", "unknown field `summary`"),
            ("\"Greeting\"", "1", "`name`: expected a string, or a table with the strings `en` and `zh`"),
            ("zh = \"问候{name}。\"", "de = \"Grüße {name}.\"", "`template`: expected a string"),
            ("{name}.", "{person}.", "`template`: there is no field `person`"),
            ("You are {mood}.", "", "`fields[1]`: no template has `{mood}`"),
            ("kind = \"text\"", "kind = \"date\"", "`fields[0].kind`: unknown variant `date`"),
            ("name = \"name\"", "name = \"Name\"", "`fields[0].name`: `Name` must be"),
            ("name = \"mood\"", "name = \"name\"", "`fields[1].name`: another field has the name `name`"),
            ("choices = [\"kind\", \"strict\"]", "", "`fields[1].choices`: a choice needs at least two"),
            ("kind = \"text\"", "kind = \"text\"\nchoices = [\"a\"]", "`fields[0].choices`: only a choice has choices"),
            ("kind = \"choice\"", "kind = \"choice\"\ndefault = \"kind\"", "`fields[1].default`: "),
            ("temperature = 0.5", "temperature = 3.0", "`sampling.temperature`: 3 must be from 0 to 2"),
            ("temperature = 0.5", "temperature = nan", "`sampling.temperature`: NaN must be from 0 to 2"),
            ("temperature = 0.5", "heat = 0.5", "unknown field `heat`"),
            ("temperature = 0.5", "stop = [\"\"]", "`sampling.stop`: "),
            ("name = \"Ada\"", "person = \"Ada\"", "`examples[0]`: there is no field `person`"),
            ("mood = \"strict\"", "mood = \"sad\"", "`examples[0].mood`: `sad` is not a choice"),
        ] {
            check_refused(old, new, expected);
        }
    }

    #[test]
    fn a_folder_adds_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("greeting.toml"), WHOLE).unwrap();
        std::fs::write(folder.path().join("news.toml"), WHOLE).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not an application").unwrap();
        let applications = load(Some(folder.path())).unwrap();
        assert_eq!(applications.len(), EMBEDDED.len() + 1);
        assert_eq!((&applications[0].id[..], &applications[0].name), ("news", &Text::Same("Greeting".to_owned())));
        assert_eq!(applications.last().unwrap().id, "greeting");
        std::fs::write(folder.path().join("bad.toml"), "name = 1").unwrap();
        let error = load(Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("bad.toml: "), "{error}");
        let error = load(Some(&folder.path().join("missing"))).unwrap_err().to_string();
        assert!(error.contains("missing: "), "{error}");
    }
}
