//! GGUF files: a model and its tokenizer in one file, for llama.cpp and what builds on it.
//!
//! The crate `model` knows the container and the weights; here are the tokenizer, between `tokenizer.json` and the keys
//! that llama.cpp reads, and the way to and from a folder in Hugging Face layout.
//!
//! Reading order: this file, `vocabulary` (the tokens), then what the two kinds of tokenizers differ in: `byte_level`
//! (`gpt2`) over `pre_tokenizers`, and `sentence_piece` (`llama`).

mod byte_level;
mod pre_tokenizers;
mod sentence_piece;
mod vocabulary;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use artifact::file;
use burn::tensor::Device;
use model::gguf::{self, Array, Metadata, Parameters, Quantization, TensorType, Value};
use model::{Dtype, Transformer, checkpoint, hub_layout};
use serde_json::{Map, json};
use tempfile::TempDir;
use tokenizer::Tokenizer;

use crate::Error;
use vocabulary::Vocabulary;

/// Parts of model names for which llama.cpp changes how tokens are read, and does not load a tokenizer that lacks some.
const CHANGES_TOKENS: [&str; 2] = ["phi-3", "phi3"];

/// The folder of chat templates with names.
const NAMED_TEMPLATES: &str = "additional_chat_templates";

/// Returns true if the file at `path` begins like a GGUF file.
pub fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == gguf::MAGIC
}

/// Writes a model and its tokenizer to the file `path`, which is whole or absent. Returns what differs from them, in
/// words.
///
/// # Errors
/// Names what llama.cpp does not compute, or does not encode as the tokenizer does; and on I/O errors.
pub fn write(
    model: &Transformer,
    tokenizer: &Tokenizer,
    name: &str,
    quantization: Quantization,
    path: &Path,
) -> Result<Vec<String>, Error> {
    write_with(tokenizer, model.config().vocab_size, name, path, |metadata| {
        gguf::save(model, path, quantization, metadata)
    })
}

/// As [`write()`], of a model that need not be in memory.
///
/// # Errors
/// As [`write()`], and if a parameter cannot be read.
pub fn write_parameters(
    parameters: &mut dyn Parameters,
    tokenizer: &Tokenizer,
    name: &str,
    quantization: Quantization,
    path: &Path,
) -> Result<Vec<String>, Error> {
    write_with(tokenizer, parameters.config().vocab_size, name, path, |metadata| {
        gguf::save_parameters(parameters, path, quantization, metadata)
    })
}

/// Writes a file by `save`, which gets the metadata of the name and the tokenizer.
fn write_with(
    tokenizer: &Tokenizer,
    vocab_size: usize,
    name: &str,
    path: &Path,
    save: impl FnOnce(&Metadata) -> Result<Vec<String>, model::Error>,
) -> Result<Vec<String>, Error> {
    let mut metadata = Metadata::new(path);
    if !CHANGES_TOKENS.iter().any(|part| name.to_lowercase().contains(part)) {
        metadata.set("general.name", name);
    }
    let mut notes = write_tokenizer(tokenizer, vocab_size, &mut metadata)?;
    notes.extend(save(&metadata)?);
    Ok(notes)
}

/// Adds the keys of a tokenizer. Returns what differs from it, in words.
fn write_tokenizer(tokenizer: &Tokenizer, vocab_size: usize, metadata: &mut Metadata) -> Result<Vec<String>, Error> {
    let json = serde_json::from_str(tokenizer.to_json())
        .map_err(|error| Error::File { file: "tokenizer.json".to_owned(), source: Box::new(error) })?;
    let unsupported = |problem: String| Error::GgufTokenizer { problem };
    let (vocabulary, mut notes) = Vocabulary::of_json(&json, vocab_size).map_err(unsupported)?;
    let kind = if sentence_piece::is_of_kind(&json) {
        sentence_piece::write(&json, vocabulary, metadata)
    } else {
        byte_level::write(&json, vocabulary, metadata)
    };
    notes.extend(kind.map_err(unsupported)?);
    notes.extend(write_special_tokens(tokenizer, metadata).map_err(unsupported)?);
    write_templates(tokenizer, metadata);
    Ok(notes)
}

/// Adds the ids of special tokens, and which of them are placed around a text.
fn write_special_tokens(tokenizer: &Tokenizer, metadata: &mut Metadata) -> Result<Vec<String>, String> {
    let interface = tokenizer.interface();
    let (prefix, suffix) = (tokenizer.prefix_tokens(), tokenizer.suffix_tokens());
    let eos = tokenizer.end_of_text();
    let bos = interface.bos.as_ref().map(|token| token.id).or_else(|| prefix.first().copied());
    for (ids, expected, side) in [(prefix, bos, "before"), (suffix, eos, "after")] {
        if !ids.is_empty() && Some(ids) != expected.as_ref().map(std::slice::from_ref) {
            return Err(format!("it places the tokens {ids:?} {side} a text; llama.cpp places one at most"));
        }
    }
    // Without a declared id, llama.cpp takes one of its own, which is another token here.
    let others = tokenizer.stop_tokens().into_iter().filter(|id| Some(*id) != eos);
    let further: Vec<u32> = others.collect();
    let ids = [
        ("bos", bos.or(eos)),
        ("eos", eos),
        ("eot", further.first().copied()),
        ("eom", further.get(1).copied()),
        ("unknown", tokenizer.unknown_token().or_else(|| interface.unk.as_ref().map(|token| token.id))),
        ("padding", interface.pad.as_ref().map(|token| token.id)),
    ];
    for (name, id) in ids {
        if let Some(id) = id {
            metadata.set(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    metadata.set("tokenizer.ggml.add_bos_token", !prefix.is_empty());
    metadata.set("tokenizer.ggml.add_eos_token", !suffix.is_empty());
    let rest = further.get(2..).unwrap_or_default();
    let note = format!("the tokens {rest:?} also end a text; llama.cpp knows those with common names only");
    Ok(if rest.is_empty() { Vec::new() } else { vec![note] })
}

fn write_templates(tokenizer: &Tokenizer, metadata: &mut Metadata) {
    let templates = &tokenizer.interface().chat_templates;
    if let Some(template) = &templates.default {
        metadata.set("tokenizer.chat_template", template.as_str());
    }
    if !templates.named.is_empty() {
        let names = templates.named.keys().cloned().collect();
        metadata.set("tokenizer.chat_templates", Value::Array(Array::String(names)));
    }
    for (name, template) in &templates.named {
        metadata.set(format!("tokenizer.chat_template.{name}"), template.as_str());
    }
}

/// Writes the model in a GGUF file to `folder` in Hugging Face layout, with its tokenizer: weights in f32, f16 or bf16
/// if that keeps every number, else the file itself.
///
/// # Errors
/// Names the key or tensor that is missing, wrong or not supported; and on I/O errors.
pub fn convert(path: &Path, folder: &Path) -> Result<(), Error> {
    let file = gguf::File::open(path)?;
    if file.tensors().values().all(|info| matches!(info.tensor_type, TensorType::Float(_))) {
        checkpoint::save(&checkpoint::load(path, &Device::flex())?, folder, gguf::stored_dtype(&file))?;
    } else {
        checkpoint::save_config(&file.config()?, folder, Dtype::F32)?;
        let to = folder.join(hub_layout::GGUF);
        fs::copy(path, &to).map_err(|e| artifact::Error::io("copy", path, e))?;
    }
    write_tokenizer_files(&file, folder)
}

/// A folder that stands for a GGUF file where a model in Hugging Face layout is expected: with the configuration, the
/// tokenizer and a link to the file. It is removed when this is dropped.
#[derive(Debug)]
pub struct LinkedFolder(TempDir);

impl LinkedFolder {
    /// Returns the folder of the GGUF file at `path`.
    ///
    /// # Errors
    /// Names the key that is missing, wrong or not supported; and on I/O errors.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let file = gguf::File::open(path)?;
        let folder = tempfile::Builder::new().prefix("gguf-").tempdir();
        let folder = folder.map_err(|e| artifact::Error::io("create a folder in", std::env::temp_dir(), e))?;
        checkpoint::save_config(&file.config()?, folder.path(), Dtype::F32)?;
        write_tokenizer_files(&file, folder.path())?;
        let to = folder.path().join(hub_layout::GGUF);
        let source = path.canonicalize().map_err(|e| artifact::Error::io("read", path, e))?;
        link(&source, &to).map_err(|e| artifact::Error::io("link or copy", path, e))?;
        Ok(Self(folder))
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Makes a file appear under another name, without a copy if possible.
fn link(source: &Path, to: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(source, to);
    #[cfg(not(unix))]
    let linked = fs::hard_link(source, to);
    linked.or_else(|_| fs::copy(source, to).map(drop))
}

/// Writes the files of the tokenizer in a GGUF file.
fn write_tokenizer_files(file: &gguf::File, folder: &Path) -> Result<(), Error> {
    let (metadata, model) = (file.metadata(), file.config()?);
    let vocabulary = Vocabulary::of_metadata(metadata)?;
    if vocabulary.tokens.len() != model.vocab_size {
        let rows = model.vocab_size;
        let reason = format!("has {} tokens, the embedding {rows} rows", vocabulary.tokens.len());
        return Err(metadata.wrong(gguf::TOKENS, reason).into());
    }
    let kind = metadata.string(MODEL)?.ok_or_else(|| metadata.wrong(MODEL, "is missing"))?;
    let json = match kind {
        "gpt2" => byte_level::read(metadata, &vocabulary)?,
        "llama" => sentence_piece::read(metadata, &vocabulary)?,
        other => {
            let reason = format!("is {other}, which is not supported; one of gpt2, llama");
            return Err(metadata.wrong(MODEL, reason).into());
        }
    };
    let mut config = Map::new();
    config.insert("tokenizer_class".to_owned(), "PreTrainedTokenizerFast".into());
    config.insert("model_max_length".to_owned(), model.context_length.into());
    config.insert("clean_up_tokenization_spaces".to_owned(), false.into());
    for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        if let Some(token) = vocabulary.special(metadata, key)? {
            config.insert(format!("{name}_token"), token.1.into());
        }
    }
    if let Some(template) = metadata.string("tokenizer.chat_template")? {
        config.insert("chat_template".to_owned(), template.into());
    }
    save(folder, "tokenizer.json", &format!("{json:#}\n"))?;
    save(folder, "tokenizer_config.json", &format!("{:#}\n", json!(config)))?;
    for name in metadata.strings("tokenizer.chat_templates")?.unwrap_or_default() {
        let key = format!("tokenizer.chat_template.{name}");
        let file = format!("{NAMED_TEMPLATES}/{name}.jinja");
        if !tokenizer::is_side_file(&file) || name.starts_with('.') {
            return Err(metadata.wrong(&key, "has a name that cannot name a file").into());
        }
        if let Some(template) = metadata.string(&key)? {
            file::create_folder(&folder.join(NAMED_TEMPLATES))?;
            save(folder, &file, template)?;
        }
    }
    Ok(())
}

/// The key of the kind of tokenizer.
const MODEL: &str = "tokenizer.ggml.model";

fn save(folder: &Path, name: &str, text: &str) -> Result<(), Error> {
    Ok(file::write_atomically(&folder.join(name), text.as_bytes())?)
}
