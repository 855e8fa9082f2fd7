//! Writing: one file, or shards and an index where it would be too large; one tensor in memory at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use artifact::file::{write_atomically, write_atomically_with};
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::json;

use super::layout::FileTensor;
use super::{Dtype, INDEX, WEIGHTS};
use crate::Error;

/// Returns the values of the parameter of that name.
type Values<'a, 'v> = dyn FnMut(&str) -> Result<Cow<'v, [f32]>, Error> + 'a;

/// Values that are converted at a time.
const PIECE: usize = 1 << 14;

/// Writes `tensors` into `folder`, in files of at most `max_shard_bytes` where their tensors allow it. The index comes last,
/// so that a folder in which shards are missing has none. `values` returns a parameter's values.
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
    let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
    if shards.len() < 2 {
        file(&single, tensors, dtype, values)?;
        return remove(&index);
    }
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
        file(&folder.join(&name), shard, dtype, values)?;
        weight_map.extend(shard.iter().map(|tensor| (&tensor.name, name.clone())));
    }
    let parameters: u64 = tensors.iter().map(elements).sum();
    let metadata = json!({"total_parameters": parameters, "total_size": parameters * dtype.bytes()});
    let text = format!("{:#}\n", json!({"metadata": metadata, "weight_map": weight_map}));
    write_atomically(&index, text.as_bytes())?;
    // It would be read in place of the shards.
    remove(&single)
}

/// Writes `tensors` as one file, which is whole or not there.
///
/// # Errors
/// When the disk refuses, a value is beyond the range of `dtype`, or the device fails.
pub(super) fn file(
    path: &Path,
    tensors: &[FileTensor],
    dtype: Dtype,
    values: &mut Values<'_, '_>,
) -> Result<(), Error> {
    let header = header(tensors, dtype).map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
    write_atomically_with(path, |writer| {
        let failed = |source| Error::Io { operation: "write", path: path.to_owned(), source };
        writer.write_all(&header).map_err(failed)?;
        let mut bytes = Vec::new();
        for tensor in tensors {
            let values = assemble(tensor, values)?;
            if let Some(value) = values.iter().find(|x| x.is_finite() && x.abs() > dtype.largest()) {
                let reason = format!("has the value {value}, beyond the {} of f16; take bf16", dtype.largest());
                return Err(Error::Tensor { path: path.to_owned(), tensor: tensor.name.clone(), reason });
            }
            for piece in values.chunks(PIECE) {
                bytes.clear();
                encode(piece, dtype, &mut bytes);
                writer.write_all(&bytes).map_err(failed)?;
            }
        }
        Ok(())
    })
}

/// Divides tensors, in order, into files of at most `max_bytes`; a tensor that is larger has a file of its own.
fn split(tensors: &[FileTensor], dtype: Dtype, max_bytes: u64) -> Vec<&[FileTensor]> {
    let (mut shards, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, tensor) in tensors.iter().enumerate() {
        let more = elements(tensor) * dtype.bytes();
        if i > start && bytes + more > max_bytes {
            shards.push(&tensors[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += more;
    }
    shards.push(&tensors[start..]);
    shards
}

fn elements(tensor: &FileTensor) -> u64 {
    tensor.shape.iter().product::<usize>() as u64
}

/// Returns the start of a file: the header's length, and the header.
fn header(tensors: &[FileTensor], dtype: Dtype) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut offset = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = offset;
        offset += (elements(tensor) * dtype.bytes()) as usize;
        let info = TensorInfo { dtype: dtype.into(), shape: tensor.shape.clone(), data_offsets: (start, offset) };
        (tensor.name.clone(), info)
    });
    // transformers refuses a file that does not say so.
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let metadata = Metadata::new(Some(format), infos.collect())?;
    let mut json = serde_json::to_vec(&metadata)?;
    // Tensors begin at a multiple of eight bytes; the format allows blanks at the end of the header.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    Ok(header)
}

/// Returns the values of a tensor as they lie in the file.
fn assemble<'v>(tensor: &FileTensor, values: &mut Values<'_, 'v>) -> Result<Cow<'v, [f32]>, Error> {
    if !tensor.turned && tensor.parts.len() == 1 {
        return values(&tensor.parts[0].0);
    }
    if !tensor.turned {
        let mut all = Vec::new();
        for (parameter, _) in &tensor.parts {
            all.extend_from_slice(&values(parameter)?);
        }
        return Ok(all.into());
    }
    let (columns, all_rows) = (tensor.shape[0], tensor.shape[1]);
    let mut turned = vec![0.0; columns * all_rows];
    let mut first_row = 0;
    for (parameter, rows) in &tensor.parts {
        let part = values(parameter)?;
        for (row, line) in part.chunks_exact(columns).enumerate() {
            for (column, value) in line.iter().enumerate() {
                turned[column * all_rows + first_row + row] = *value;
            }
        }
        first_row += rows;
    }
    Ok(turned.into())
}

fn encode(values: &[f32], dtype: Dtype, bytes: &mut Vec<u8>) {
    match dtype {
        Dtype::F32 => bytes.extend(values.iter().flat_map(|x| x.to_le_bytes())),
        Dtype::F16 => bytes.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        Dtype::Bf16 => bytes.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
