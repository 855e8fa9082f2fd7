//! The files of a tokenizer in a model's folder: their names, and how they are read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::Error;

/// The tokenizer.
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// How the tokenizer is used, as `AutoTokenizer` reads it.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The special tokens by role, in models of transformers before version 5.
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";

/// The chat template.
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The chat template in an older form: an object with the key `chat_template`.
pub(crate) const CHAT_TEMPLATE_JSON: &str = "chat_template.json";

/// The folder of named chat templates.
pub(crate) const NAMED_TEMPLATES: &str = "additional_chat_templates";

/// The defaults of generation, and the ids of the tokens that end it.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// The model's configuration.
pub(crate) const MODEL_CONFIG: &str = "config.json";

/// Tokens added to `vocab.json`, by name.
pub(crate) const ADDED_TOKENS: &str = "added_tokens.json";

/// Returns true if a file of that name, relative to a model's folder, declares something of its text interface.
pub fn is_side_file(name: &str) -> bool {
    let files =
        [TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, CHAT_TEMPLATE, CHAT_TEMPLATE_JSON, GENERATION_CONFIG, ADDED_TOKENS];
    let template = name.strip_prefix(NAMED_TEMPLATES).and_then(|rest| rest.strip_prefix('/'));
    files.contains(&name)
        || template.is_some_and(|name| name.strip_suffix(".jinja").is_some_and(|name| !name.contains(['/', '\\'])))
}

/// Returns the files beside a `tokenizer.json` that are read with it, sorted.
pub fn files_beside(tokenizer: &Path) -> Vec<PathBuf> {
    let folder = tokenizer.parent().unwrap_or(Path::new(""));
    let mut names = file_names(folder);
    names.extend(named_templates(folder));
    names.retain(|name| is_side_file(name) || name == MODEL_CONFIG);
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// Returns the names of the files of named chat templates in a model's folder, relative to it.
pub fn named_templates(folder: &Path) -> Vec<String> {
    let names = file_names(&folder.join(NAMED_TEMPLATES)).into_iter();
    names.map(|name| format!("{NAMED_TEMPLATES}/{name}")).filter(|name| is_side_file(name)).collect()
}

fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Returns the object in a JSON file; `None` if there is no such file.
pub(crate) fn object(folder: &Path, name: &str) -> Result<Option<Map<String, Value>>, Error> {
    let path = folder.join(name);
    let Some(text) = text(&path)? else { return Ok(None) };
    let invalid = |problem: String| Error::SideFile { path: path.clone(), problem };
    match artifact::json::from_slice(text.as_bytes()) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(invalid("it is not an object".to_owned())),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// Returns the text of a file; `None` if there is no such file.
pub(crate) fn text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => {
            let problem = || Error::SideFile { path: path.to_owned(), problem: "it is not UTF-8".to_owned() };
            String::from_utf8(bytes).map(Some).map_err(|_| problem())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(artifact::Error::io("read", path, error).into()),
    }
}
