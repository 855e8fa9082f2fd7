//! Writing: one file, or shards and an index if it would be too large; one tensor in memory at a time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use artifact::file::{write_atomically, write_atomically_with};
use serde_json::json;

use super::layout::FileTensor;
use crate::safetensors::{self, ENCODED_AT_ONCE, TensorSpec};
use crate::{Dtype, Error, hub_layout};

/// A function that returns the values of a parameter by name.
type Values<'a, 'v> = dyn FnMut(&str) -> Result<Cow<'v, [f32]>, Error> + 'a;

/// Writes `tensors` to `folder`, in files of at most `max_shard_bytes` unless a single tensor is larger. The index is
/// written last, so that a folder with missing shards has none. The weights of an earlier model there are removed.
///
/// # Errors
/// As [`file`].
pub(super) fn folder(
    folder: &Path,
    tensors: &[FileTensor],
    dtype: Dtype,
    max_shard_bytes: u64,
    values: &mut Values<'_, '_>,
) -> Result<(), Error> {
    let shards = split(tensors, dtype, max_shard_bytes);
    let index = folder.join(hub_layout::INDEX);
    if shards.len() < 2 {
        file(&folder.join(hub_layout::WEIGHTS), tensors, dtype, values)?;
        return remove_weights_except(folder, &BTreeSet::from([hub_layout::WEIGHTS.to_owned()]));
    }
    // An earlier index would name shards of which some are already new.
    remove(&index)?;
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = hub_layout::shard_name(i + 1, shards.len());
        file(&folder.join(&name), shard, dtype, values)?;
        weight_map.extend(shard.iter().map(|tensor| (&tensor.name, name.clone())));
    }
    let parameters: u64 = tensors.iter().map(elements).sum();
    let metadata = json!({"total_parameters": parameters, "total_size": parameters * dtype.bytes()});
    let text = format!("{:#}\n", json!({"metadata": metadata, "weight_map": weight_map}));
    write_atomically(&index, text.as_bytes())?;
    let mut written: BTreeSet<String> = weight_map.into_values().collect();
    written.insert(hub_layout::INDEX.to_owned());
    remove_weights_except(folder, &written)
}

/// Writes `tensors` as one file, which is whole or absent.
///
/// # Errors
/// Returns an error if a value exceeds the range of `dtype` or the device fails, and on I/O errors.
pub(super) fn file(
    path: &Path,
    tensors: &[FileTensor],
    dtype: Dtype,
    values: &mut Values<'_, '_>,
) -> Result<(), Error> {
    let specs = tensors.iter().map(|tensor| TensorSpec {
        name: tensor.name.clone(),
        dtype: dtype.into(),
        shape: tensor.shape.clone(),
    });
    let header = safetensors::header(specs, safetensors::PYTORCH)
        .map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
    write_atomically_with(path, |writer| {
        let failed = |source| Error::Io { operation: "write", path: path.to_owned(), source };
        writer.write_all(&header).map_err(failed)?;
        let mut bytes = Vec::new();
        for tensor in tensors {
            let values = assemble(tensor, values)?;
            let overflow = values.iter().find(|x| x.is_finite() && x.abs() > dtype.max());
            if let Some(value) = overflow.filter(|_| dtype == Dtype::F16) {
                let reason = format!("has the value {value}, above the maximum of f16, {}; use bf16", dtype.max());
                return Err(Error::Tensor { path: path.to_owned(), tensor: tensor.name.clone(), reason });
            }
            for piece in values.chunks(ENCODED_AT_ONCE) {
                bytes.clear();
                dtype.encode(piece, &mut bytes);
                writer.write_all(&bytes).map_err(failed)?;
            }
        }
        Ok(())
    })
}

/// Divides tensors, in order, into shards of at most `max_bytes`; a larger tensor has its own shard.
fn split(tensors: &[FileTensor], dtype: Dtype, max_bytes: u64) -> Vec<&[FileTensor]> {
    let (mut shards, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        let size = elements(tensor) * dtype.bytes();
        if i > start && bytes + size > max_bytes {
            shards.push(&tensors[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += size;
    }
    shards.push(&tensors[start..]);
    shards
}

fn elements(tensor: &FileTensor) -> u64 {
    tensor.shape.iter().product::<usize>() as u64
}

/// Returns the values of a tensor in the order of the file.
fn assemble<'v>(tensor: &FileTensor, values: &mut Values<'_, 'v>) -> Result<Cow<'v, [f32]>, Error> {
    if !tensor.transposed && tensor.parts.len() == 1 {
        return values(&tensor.parts[0].0);
    }
    if !tensor.transposed {
        let mut all = Vec::new();
        for (parameter, _) in &tensor.parts {
            all.extend_from_slice(&values(parameter)?);
        }
        return Ok(all.into());
    }
    let (columns, all_rows) = (tensor.shape[0], tensor.shape[1]);
    let mut transposed = vec![0.0; columns * all_rows];
    let mut first_row = 0;
    for (parameter, rows) in &tensor.parts {
        let part = values(parameter)?;
        for (row, line) in part.chunks_exact(columns).enumerate() {
            for (column, value) in line.iter().enumerate() {
                transposed[column * all_rows + first_row + row] = *value;
            }
        }
        first_row += rows;
    }
    Ok(transposed.into())
}

/// Removes the files of weights in `folder` that are not in `written`: a single file would take precedence over shards,
/// and shards of an earlier model would be copied along.
fn remove_weights_except(folder: &Path, written: &BTreeSet<String>) -> Result<(), Error> {
    let failed = |source| Error::Io { operation: "list", path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if hub_layout::is_safetensors(&name) && !written.contains(&name) {
            remove(&folder.join(name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
