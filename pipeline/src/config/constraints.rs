//! Keys that `train.init` and `train.budget` decide, so that they need not be given, or must not be.

use settings::ConfigSource;
use toml_edit::{DocumentMut, TableLike};

use super::{Config, ConfigError};

/// Uses the tokenizer of `train.init` if no other is given in `document`, the file with its overrides.
///
/// # Errors
/// Returns an error if the file, or an override, gives a key that `train.budget` chooses or a part of the shape that
/// the model of `train.init` has, or asks for the tokenizer of a `train.init` that is not given.
pub fn complete(config: &mut Config, document: &DocumentMut, source: &ConfigSource) -> Result<(), ConfigError> {
    let refused = |key: &str, message: String| Err(source.error_at(key, message).into());
    if let Some(budget) = &config.train.budget {
        let chosen = [(&["train"][..], &train::budget::KEYS[..]), (&["train", "model"], &train::budget::SHAPE_KEYS)];
        for (path, keys) in chosen {
            let Some(table) = table(document, path) else { continue };
            if let Some(key) = keys.iter().find(|key| table.contains_key(key)) {
                let key = format!("{}.{key}", path.join("."));
                let message = format!("`{key}` cannot be given with train.budget = \"{budget}\", which chooses it");
                return refused(&key, message);
            }
        }
    }
    config.preprocess.tokenizer.chat_template = config.train.chat_template.clone();
    let Some(init) = &config.train.init else {
        if config.train.pad_vocab_to_multiple_of != 1 {
            let key = "train.pad_vocab_to_multiple_of";
            let advice = "a model that starts here has the vocabulary of its tokenizer";
            return refused(key, format!("`{key}` has an effect only with train.init; {advice}"));
        }
        if config.preprocess.tokenizer.from_init {
            let key = "preprocess.tokenizer.from_init";
            return refused(key, format!("`{key}` is true, but train.init is not given, whose tokenizer it would be"));
        }
        return Ok(());
    };
    if init.trim().is_empty() {
        return refused("train.init", "`train.init` is empty; name a model, or remove the key".to_owned());
    }
    let shape = table(document, &["train", "model"]);
    let extra = shape.and_then(|table| table.iter().map(|(key, _)| key.to_owned()).find(|key| key != "context_length"));
    if let Some(key) = extra {
        let key = format!("train.model.{key}");
        let message = format!(
            "`{key}` cannot be given with train.init = \"{init}\", whose model has its own shape; of \
             [train.model], only context_length may be given"
        );
        return refused(&key, message);
    }
    if table(document, &["preprocess", "tokenizer"]).is_none_or(TableLike::is_empty) {
        config.preprocess.tokenizer.from_init = true;
    }
    Ok(())
}

/// Removes the keys that `train.init` and `train.budget` decide from a resolved configuration, so that it can be loaded
/// again.
pub fn strip(config: &mut toml::Table) {
    let Some(toml::Value::Table(train)) = config.get_mut("train") else { return };
    if train.contains_key("budget") {
        train.retain(|key, _| !train::budget::KEYS.contains(&key));
        if let Some(toml::Value::Table(model)) = train.get_mut("model") {
            model.retain(|key, _| !train::budget::SHAPE_KEYS.contains(&key));
        }
    }
    if train.contains_key("init")
        && let Some(toml::Value::Table(model)) = train.get_mut("model")
    {
        model.retain(|key, _| key == "context_length");
    }
}

fn table<'a>(document: &'a DocumentMut, path: &[&str]) -> Option<&'a dyn TableLike> {
    let mut table: &dyn TableLike = document.as_table();
    for name in path {
        table = table.get(name)?.as_table_like()?;
    }
    Some(table)
}
