//! The files of a model in the Hugging Face layout: a folder, a repository of the Hub, or a sealed artifact.
//!
//! The configuration is in [`CONFIG`]; the weights are in [`WEIGHTS`], in shards listed by [`INDEX`], or in [`GGUF`];
//! the tokenizer is in [`TOKENIZER`], or in the files of GPT-2. Side files ([`is_side_file`]) say how model and
//! tokenizer are used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use artifact::Sealed;
use serde::Deserialize;

use crate::Error;

/// The model's configuration.
pub const CONFIG: &str = "config.json";

/// The weights, where they are in one file.
pub const WEIGHTS: &str = "model.safetensors";

/// The index that maps each tensor to its shard, where the weights are in several files.
pub const INDEX: &str = "model.safetensors.index.json";

/// The weights in a GGUF file, which are read where there are no others: as they were imported from such a file.
pub const GGUF: &str = "model.gguf";

/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";

pub use tokenizer::GENERATION_CONFIG;

/// Returns true if a file of that name says how a model and its tokenizer are used. None of them is required.
pub fn is_side_file(name: &str) -> bool {
    name == GENERATION_CONFIG || tokenizer::is_side_file(name)
}

/// The weights of checkpoints older than safetensors: a pickle, which can run code when it is read.
pub(crate) const PICKLE: &str = "pytorch_model.bin";

/// Endings of files that hold weights in a form that is not read: pickles can run code when they are read, and the
/// others belong to other programs.
const OTHER_WEIGHTS: [&str; 8] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf"];

/// Returns the files of a model among the names of a folder or a repository, sorted: the configuration, the weights,
/// the tokenizer and the side files.
///
/// # Errors
/// Returns the reason if a required file is missing, as the end of a sentence that begins with the folder or
/// repository.
pub fn select(names: &[&str]) -> Result<Vec<String>, String> {
    let has = |name: &str| names.contains(&name);
    if !has(CONFIG) {
        return Err(if has("adapter_config.json") {
            "is an adapter of another model (adapter_config.json); name that model".to_owned()
        } else {
            "is not a model in the Hugging Face layout: it has no config.json".to_owned()
        });
    }
    let weights: Vec<&str> = if has(WEIGHTS) {
        vec![WEIGHTS]
    } else if has(GGUF) && !has(INDEX) {
        vec![GGUF]
    } else if has(INDEX) {
        names.iter().copied().filter(|name| *name == INDEX || is_shard(name)).collect()
    } else {
        return Err(without_weights(names));
    };
    let has_vocabulary = tokenizer::VOCABULARY_FILES.iter().all(|name| has(name));
    if !has(TOKENIZER) && !has_vocabulary {
        let remedy = "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers writes one";
        return Err(format!("has no tokenizer.json; {remedy}"));
    }
    let tokenizer: &[&str] = if has(TOKENIZER) { &[TOKENIZER] } else { &tokenizer::VOCABULARY_FILES };
    let side_files = names.iter().copied().filter(|name| is_side_file(name));
    let all = [CONFIG].into_iter().chain(tokenizer.iter().copied()).chain(weights).chain(side_files);
    let mut selected: Vec<String> = all.map(str::to_owned).collect();
    selected.sort_unstable();
    Ok(selected)
}

/// Returns true if a file of that name holds weights, or is the index of files that do.
pub fn is_weights(name: &str) -> bool {
    is_safetensors(name) || name == GGUF
}

/// As [`is_weights`], for weights in safetensors.
pub(crate) fn is_safetensors(name: &str) -> bool {
    name == WEIGHTS || name == INDEX || is_shard(name)
}

/// Returns the name of a shard, counted from 1: `model-00001-of-00002.safetensors`.
pub fn shard_name(number: usize, count: usize) -> String {
    format!("model-{number:05}-of-{count:05}.safetensors")
}

fn is_shard(name: &str) -> bool {
    let numbers = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    numbers.and_then(|numbers| numbers.split_once("-of-")).is_some_and(|(number, count)| {
        [number, count].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn without_weights(names: &[&str]) -> String {
    let other = names.iter().find(|name| !name.contains('/') && OTHER_WEIGHTS.iter().any(|end| name.ends_with(end)));
    match other {
        Some(other) => format!(
            "has no safetensors, only {other}, which is not read; save it again with transformers \
             (`save_pretrained(…, safe_serialization=True)`), or use a revision that has {WEIGHTS}"
        ),
        None => format!("has no safetensors: neither {WEIGHTS} nor {INDEX}"),
    }
}

/// Returns the path of the file that loading the weights starts from, present or not: the first of [`WEIGHTS`],
/// [`INDEX`] and [`GGUF`] that exists. They are written last, so that their time of modification is the model's.
pub fn weights_entry(folder: &Path) -> PathBuf {
    let mut entries = [WEIGHTS, INDEX, GGUF].map(|name| folder.join(name)).into_iter();
    entries.find(|path| path.exists()).unwrap_or_else(|| folder.join(WEIGHTS))
}

/// Returns the names of the files that hold the weights in a folder, without the index.
///
/// # Errors
/// Returns an error if the index cannot be read or used.
pub fn weights_files(folder: &Path) -> Result<Vec<String>, Error> {
    let entry = weights_entry(folder);
    if entry.ends_with(INDEX) {
        return Ok(Index::read(&entry)?.shards().into_iter().map(str::to_owned).collect());
    }
    Ok(vec![if entry.ends_with(GGUF) { GGUF } else { WEIGHTS }.to_owned()])
}

/// Returns the bytes of the files that hold the weights in a folder.
///
/// # Errors
/// As [`weights_files`], and on I/O errors.
pub fn weights_bytes(folder: &Path) -> Result<u64, Error> {
    let mut total = 0;
    for path in weights_files(folder)?.into_iter().map(|name| folder.join(name)) {
        total += std::fs::metadata(&path).map_err(|source| Error::Io { operation: "read", path, source })?.len();
    }
    Ok(total)
}

/// Compares the weights of a sealed model with its manifest, and returns the paths of the files that hold them.
///
/// # Errors
/// Returns an error if a file is not what was sealed or missing, or the index cannot be used.
pub fn verified_weights(model: &Sealed) -> Result<Vec<PathBuf>, Error> {
    let files = &model.manifest().files;
    if files.contains_key(WEIGHTS) || !files.contains_key(INDEX) {
        let is_gguf = !files.contains_key(WEIGHTS) && files.contains_key(GGUF);
        return Ok(vec![model.verified(if is_gguf { GGUF } else { WEIGHTS })?]);
    }
    let index = Index::read(&model.verified(INDEX)?)?;
    index.shards().into_iter().map(|name| Ok(model.verified(name)?)).collect()
}

/// Compares everything of a sealed model that loading and generating read with its manifest.
///
/// # Errors
/// As [`verified_weights`].
pub fn verify(model: &Sealed) -> Result<(), Error> {
    model.verified(CONFIG)?;
    verified_weights(model)?;
    tokenizer_files(model).into_iter().try_for_each(|name| model.verified(&name).map(drop))?;
    Ok(())
}

/// Returns the names of the files of a sealed model's tokenizer, and the other side files.
pub fn tokenizer_files(model: &Sealed) -> Vec<String> {
    let files = &model.manifest().files;
    let tokenizer: &[&str] = if files.contains_key(TOKENIZER) { &[TOKENIZER] } else { &tokenizer::VOCABULARY_FILES };
    files.keys().filter(|name| tokenizer.contains(&name.as_str()) || is_side_file(name)).cloned().collect()
}

/// The index of sharded weights.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// The name of the shard of each tensor.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or names a file outside its folder.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Index { path: path.to_owned(), reason };
        let text =
            std::fs::read(path).map_err(|source| Error::Io { operation: "read", path: path.to_owned(), source })?;
        let index: Self = serde_json::from_slice(&text).map_err(|e| unusable(e.to_string()))?;
        if let Some(name) = index.shards().into_iter().find(|name| !is_file_name(name)) {
            return Err(unusable(format!("it names `{name}`, which is not a file beside it")));
        }
        Ok(index)
    }

    /// Returns the names of the shards.
    pub fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// Returns true if a name in an index is that of a file in the index's own folder.
fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['\\', '/', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expected: Result<&[&str], &str>) {
        let found = select(names);
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        match (found, expected) {
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
            (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{names:?}"),
        }
    }

    #[test]
    fn the_files_of_a_model_are_selected_and_others_are_not() {
        let one = ["config.json", "model.safetensors", "tokenizer.json"];
        check(&one, Ok(&one));
        check(&["onnx/model.onnx", "README.md", "config.json", "model.safetensors", "tokenizer.json"], Ok(&one));
        let both = ["config.json", "model.safetensors", "pytorch_model.bin", "tokenizer.json"];
        check(&both, Ok(&one));
        let sharded = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        check(&sharded, Ok(&sharded));
        let more = [&sharded[..], &["model-fp16.safetensors", "consolidated.safetensors"]].concat();
        check(&more, Ok(&sharded));
        let chat =
            ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"];
        check(&chat, Ok(&chat));
    }

    #[test]
    fn missing_files_are_named() {
        check(&[], Err("is not a model in the Hugging Face layout: it has no config.json"));
        check(&["adapter_config.json", "adapter_model.safetensors"], Err("is an adapter of another model"));
        check(&["config.json", "tokenizer.json"], Err("has no safetensors: neither"));
        check(&["config.json", "pytorch_model.bin"], Err("has no safetensors, only pytorch_model.bin, which is not"));
        check(&["config.json", "model.safetensors", "vocab.json"], Err("has no tokenizer.json; AutoTokenizer"));
    }

    #[test]
    fn weights_are_found_in_one_file_or_in_shards() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &str| std::fs::write(folder.path().join(name), bytes).unwrap();
        assert_eq!(weights_entry(folder.path()), folder.path().join(WEIGHTS), "named where nothing exists");
        let [first, second] = [1, 2].map(|number| shard_name(number, 2));
        write(INDEX, &format!(r#"{{"weight_map": {{"a": "{second}", "b": "{first}", "c": "{second}"}}}}"#));
        write(&first, "123");
        write(&second, "4567");
        assert_eq!(weights_files(folder.path()).unwrap(), [first, second]);
        assert_eq!(weights_bytes(folder.path()).unwrap(), 7);
        write(WEIGHTS, "89");
        assert_eq!(weights_files(folder.path()).unwrap(), [WEIGHTS]);
        assert_eq!(weights_bytes(folder.path()).unwrap(), 2);
    }
}
