//! Writing safetensors files.
//!
//! A file is [`header`] and then the bytes of the tensors in the order of the header, without gaps. [`write_f32`]
//! writes tensors that are in memory.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use ::safetensors::SafeTensorError;
use ::safetensors::tensor::{Metadata, TensorInfo};
use artifact::file::write_atomically_with;

use crate::{Dtype, Error};

/// The metadata of a file of weights, as transformers requires it.
pub const PYTORCH: (&str, &str) = ("format", "pt");

/// A tensor's name, number type and dimensions.
#[derive(Debug, Clone)]
pub struct TensorSpec {
    /// Its name in the file.
    pub name: String,
    /// Its number type, which need not be a [`Dtype`].
    pub dtype: ::safetensors::Dtype,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// A tensor of f32 in memory.
#[derive(Debug, Clone)]
pub struct F32Tensor {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub values: Vec<f32>,
}

/// Returns the start of a file: the length of the header, and the header.
///
/// There is one entry of metadata: the format's library keeps several in a hash map, whose order differs between runs.
///
/// # Errors
/// Returns an error if a tensor has more bytes than can be counted, or a number type below one byte ends within a byte.
pub fn header(
    tensors: impl IntoIterator<Item = TensorSpec>,
    (key, value): (&str, &str),
) -> Result<Vec<u8>, SafeTensorError> {
    let mut offset = 0;
    let infos = tensors.into_iter().map(|TensorSpec { name, dtype, shape }| {
        let start = offset;
        offset += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name, TensorInfo { dtype, shape, data_offsets: (start, offset) })
    });
    let metadata = Metadata::new(Some(HashMap::from([(key.to_owned(), value.to_owned())])), infos.collect())?;
    let mut json = serde_json::to_vec(&metadata)?;
    // Tensors begin at a multiple of eight bytes; the format allows blanks at the end of the header.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    Ok(header)
}

/// Writes tensors in f32, sorted by name, with one entry of metadata. The file is whole or absent.
///
/// # Errors
/// Returns an error if the tensors are not a valid file, and on I/O errors.
pub fn write_f32(path: &Path, mut tensors: Vec<F32Tensor>, metadata: (&str, &str)) -> Result<(), Error> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let specs = tensors.iter().map(|tensor| TensorSpec {
        name: tensor.name.clone(),
        dtype: ::safetensors::Dtype::F32,
        shape: tensor.shape.clone(),
    });
    let header = header(specs, metadata).map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
    write_atomically_with(path, |writer| {
        let failed = |source| Error::from(artifact::Error::io("write", path, source));
        writer.write_all(&header).map_err(failed)?;
        let mut bytes = Vec::new();
        for values in tensors.iter().flat_map(|tensor| tensor.values.chunks(ENCODED_AT_ONCE)) {
            bytes.clear();
            Dtype::F32.encode(values, &mut bytes);
            writer.write_all(&bytes).map_err(failed)?;
        }
        Ok(())
    })
}

/// Numbers that are encoded at a time. Heuristic, not measured: 64 KiB stay in the cache between encoding and writing.
pub(crate) const ENCODED_AT_ONCE: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use ::safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn bytes_are_those_of_the_library() {
        let tensors = [("b.long_name", vec![2, 3]), ("a", vec![1]), ("empty", vec![0, 4])].map(|(name, shape)| {
            let values = (0..shape.iter().product::<usize>()).map(|i| i as f32 - 1.5).collect();
            F32Tensor { name: name.to_owned(), shape, values }
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        write_f32(&path, tensors.to_vec(), ("key", "a \"value\"")).unwrap();
        let bytes = tensors.each_ref().map(|tensor| {
            let mut bytes = Vec::new();
            Dtype::F32.encode(&tensor.values, &mut bytes);
            bytes
        });
        let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
            let view = TensorView::new(::safetensors::Dtype::F32, tensor.shape.clone(), bytes).unwrap();
            (tensor.name.clone(), view)
        });
        let metadata = HashMap::from([("key".to_owned(), "a \"value\"".to_owned())]);
        let expected = ::safetensors::serialize(views, Some(metadata)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }
}
