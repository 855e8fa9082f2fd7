//! Writing a model for other programs, and checking that it reads back as it was.

use std::fs;
use std::path::{Path, PathBuf};

use artifact::{Sealed, file};
use burn::tensor::Device;
use model::gguf::Quantization;
use model::{Dtype, checkpoint, hub_layout};
use serde_json::Value;
use tokenizer::Tokenizer;

use crate::model::files_of;
use crate::{Behaviour, Error, Parity, TextParity, gguf};

/// What was exported.
#[derive(Debug, Clone)]
pub struct Export {
    /// The number type of the weights.
    pub dtype: Dtype,
    /// The size of all files.
    pub bytes: u64,
    /// What was written, read back and compared with its source.
    pub parity: Parity,
    /// The same of the tokenizer and the chat template.
    pub text: TextParity,
}

/// Writes the model in the folder `source` to the folder `output`, with its tokenizer and side files, and compares the
/// two. Without a `dtype`, the weights keep theirs; with `force`, the model in `output` is replaced.
///
/// # Errors
/// Returns an error if `output` is not empty or is the model itself, the model is invalid, transformers would read
/// another tokenizer or chat template than from `source`, or on I/O errors. Then `output` is unchanged.
pub fn export(source: &Path, output: &Path, dtype: Option<Dtype>, force: bool) -> Result<Export, Error> {
    files_of(source)?;
    if !force && fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::NotEmpty { folder: output.to_owned() });
    }
    if output.exists() && output.canonicalize().ok() == source.canonicalize().ok() {
        return Err(Error::Itself { folder: output.to_owned() });
    }
    let dtype = dtype.map_or_else(|| stored_dtype(source), Ok)?;
    let unfinished = unfinished(output)?;
    let written = write_folder(source, &unfinished, dtype);
    let (parity, text) = written.inspect_err(|_| drop(fs::remove_dir_all(&unfinished)))?;
    let bytes = replace(&unfinished, output)?;
    Ok(Export { dtype, bytes, parity, text })
}

/// Writes the model in the folder `source` to the folder `to`, and compares the two.
fn write_folder(source: &Path, to: &Path, dtype: Dtype) -> Result<(Parity, TextParity), Error> {
    let device = Device::flex();
    file::create_folder(to)?;
    let before = {
        let model = checkpoint::load(source, &device)?;
        checkpoint::save(&model, to, dtype)?;
        Behaviour::of(&model)?
    };
    copy_tokenizer(source, to)?;
    let after = Behaviour::of(&checkpoint::load(to, &device)?)?;
    Ok((before.parity(&after), TextParity::of(source, to)?))
}

/// A model that was exported to a GGUF file.
#[derive(Debug, Clone)]
pub struct GgufExport {
    /// The number type of the matrices.
    pub quantization: Quantization,
    /// The size of the file.
    pub bytes: u64,
    /// What differs from the model apart from rounding, in words.
    pub notes: Vec<String>,
    /// What was written, read back and compared with its source.
    pub parity: Parity,
}

/// Writes the model in the folder `source` and its tokenizer to the GGUF file `output`, and compares the two. Without a
/// `quantization`, the weights keep their type; with `force`, the file is replaced. `name` is the model's name in the
/// file.
///
/// # Errors
/// Returns an error if `output` exists, or the model or tokenizer is invalid or not one that llama.cpp reads, or on I/O
/// errors. Then `output` is unchanged.
pub fn export_gguf(
    source: &Path,
    output: &Path,
    name: &str,
    quantization: Option<Quantization>,
    force: bool,
) -> Result<GgufExport, Error> {
    files_of(source)?;
    if output.exists() && (!force || !output.is_file()) {
        return Err(Error::Exists { path: output.to_owned() });
    }
    let quantization = quantization.map_or_else(|| stored_dtype(source).map(Quantization::from), Ok)?;
    let unfinished = unfinished_name(output)?;
    file::create_folder(output.parent().unwrap_or(Path::new("")))?;
    let written = write_gguf(source, &unfinished, name, quantization);
    let (parity, notes) = written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    let bytes = fs::metadata(&unfinished).map_or(0, |metadata| metadata.len());
    fs::rename(&unfinished, output).map_err(|e| artifact::Error::io("write", output, e))?;
    Ok(GgufExport { quantization, bytes, notes, parity })
}

/// Writes the model in the folder `source` to the GGUF file `to`, and compares the two; returns the notes, too.
fn write_gguf(
    source: &Path,
    to: &Path,
    name: &str,
    quantization: Quantization,
) -> Result<(Parity, Vec<String>), Error> {
    let device = Device::flex();
    let (before, notes) = {
        let model = checkpoint::load(source, &device)?;
        let tokenizer = Tokenizer::from_folder(source)?;
        (Behaviour::of(&model)?, gguf::write(&model, &tokenizer, name, quantization, to)?)
    };
    let after = Behaviour::of(&checkpoint::load(to, &device)?)?;
    Ok((before.parity(&after), notes))
}

/// Reads the model in an artifact, writes it to a temporary folder in `root`, reads that, and compares the two.
///
/// # Errors
/// Returns an error if the model is invalid, or on I/O errors.
pub fn round_trip(sealed: &Sealed, root: &Path) -> Result<Parity, Error> {
    let device = Device::flex();
    // Beside the artifacts: on the same disk, which has space for one more model.
    let folder = tempfile::Builder::new()
        .prefix(".import-")
        .tempdir_in(root)
        .map_err(|e| artifact::Error::io("create a folder in", root, e))?;
    let before = {
        let model = checkpoint::load(sealed.folder(), &device)?;
        checkpoint::save(&model, folder.path(), Dtype::F32)?;
        Behaviour::of(&model)?
    };
    let after = Behaviour::of(&checkpoint::load(folder.path(), &device)?)?;
    Ok(before.parity(&after))
}

/// Returns the folder of the model in an artifact, after comparing its files with their digests.
///
/// # Errors
/// Returns an error if it is not a model, or a file does not have its digest.
pub fn verified(sealed: &Sealed) -> Result<PathBuf, Error> {
    let folder = sealed.folder().to_owned();
    let files = sealed.files("");
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    let chosen = hub_layout::select(&names)
        .map_err(|problem| Error::NotAModel { place: folder.display().to_string(), problem })?;
    for file in chosen {
        sealed.verified(&file)?;
    }
    Ok(folder)
}

/// Returns the number type that the model's `config.json` gives its weights.
fn stored_dtype(folder: &Path) -> Result<Dtype, Error> {
    let path = folder.join("config.json");
    let text = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
    let config: Value = artifact::json::from_slice(&text)
        .map_err(|error| Error::File { file: path.display().to_string(), source: Box::new(error) })?;
    let named = ["dtype", "torch_dtype"].into_iter().find_map(|key| config.get(key).and_then(Value::as_str));
    Ok(named.and_then(Dtype::from_torch_name).unwrap_or(Dtype::F32))
}

/// Returns an empty folder beside `output` to write to, so that a reader never sees half a model.
fn unfinished(output: &Path) -> Result<PathBuf, Error> {
    let path = unfinished_name(output)?;
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|e| artifact::Error::io("remove", &path, e))?;
    }
    Ok(path)
}

fn unfinished_name(output: &Path) -> Result<PathBuf, Error> {
    let name = output.file_name().ok_or_else(|| Error::NoName { path: output.to_owned() })?;
    Ok(output.with_file_name(format!(".{}.unfinished", name.to_string_lossy())))
}

/// Copies the files of the tokenizer and the side files.
fn copy_tokenizer(source: &Path, to: &Path) -> Result<(), Error> {
    let is_copied = |name: &String| name != hub_layout::CONFIG && !hub_layout::is_weights(name);
    for name in files_of(source)?.into_iter().filter(is_copied) {
        let path = source.join(&name);
        let bytes = fs::read(&path).map_err(|e| artifact::Error::io("read", &path, e))?;
        let target = to.join(&name);
        file::create_folder(target.parent().unwrap_or(to))?;
        file::write_atomically(&target, &bytes)?;
    }
    Ok(())
}

/// Returns true if a file of that name is a tokenizer, or declares how it is used.
fn is_of_tokenizer(name: &str) -> bool {
    name == hub_layout::TOKENIZER || tokenizer::VOCABULARY_FILES.contains(&name) || hub_layout::is_side_file(name)
}

/// Moves the files of `from` into `to`, in place of the model there; returns their length.
fn replace(from: &Path, to: &Path) -> Result<u64, Error> {
    file::create_folder(to)?;
    let list = |folder: &Path| -> Result<Vec<PathBuf>, Error> {
        let entries = fs::read_dir(folder).map_err(|e| artifact::Error::io("list", folder, e))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    };
    // Files of the model before would be read along with the new ones: shards, a chat template, a special token.
    // A GGUF file is read only where there are no other weights.
    let is_weights = |name: &str| hub_layout::is_weights(name) && name != hub_layout::GGUF;
    let is_of_model = |name: &str| is_weights(name) || is_of_tokenizer(name);
    let old = list(to)?.into_iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    for name in old.filter(|name| is_of_model(name)).chain(tokenizer::named_templates(to)) {
        let old = to.join(name);
        fs::remove_file(&old).map_err(|e| artifact::Error::io("remove", &old, e))?;
    }
    let mut bytes = 0;
    for name in files_of(from)? {
        let (path, target) = (from.join(&name), to.join(&name));
        bytes += fs::metadata(&path).map_or(0, |metadata| metadata.len());
        file::create_folder(target.parent().unwrap_or(to))?;
        fs::rename(&path, &target).map_err(|e| artifact::Error::io("write", &target, e))?;
    }
    fs::remove_dir_all(from).map_err(|e| artifact::Error::io("remove", from, e))?;
    file::sync_folder(to)?;
    Ok(bytes)
}
