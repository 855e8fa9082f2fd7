//! Safetensors files: written from slices, and mapped into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, json};

use crate::Error;

/// Values that are converted to bytes at a time.
const CHUNK: usize = 1 << 14;

/// A tensor of one dimension to write.
pub(crate) enum Values<'a> {
    U8(&'a [u8]),
    U16(&'a [u16]),
    I32(&'a [i32]),
    U64(&'a [u64]),
}

impl Values<'_> {
    fn dtype(&self) -> (&'static str, usize) {
        match self {
            Self::U8(_) => ("U8", 1),
            Self::U16(_) => ("U16", 2),
            Self::I32(_) => ("I32", 4),
            Self::U64(_) => ("U64", 8),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::U64(values) => values.len(),
        }
    }

    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::U8(values) => to.write_all(values),
            Self::U16(values) => write_chunks(to, values, u16::to_le_bytes),
            Self::I32(values) => write_chunks(to, values, i32::to_le_bytes),
            Self::U64(values) => write_chunks(to, values, u64::to_le_bytes),
        }
    }
}

fn write_chunks<T: Copy, const N: usize>(
    to: &mut impl Write,
    values: &[T],
    bytes_of: impl Fn(T) -> [u8; N],
) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK * N);
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| bytes_of(*value)));
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// Writes tensors to `path`, atomically. The bytes depend only on them: the safetensors crate writes metadata in
/// another order each time, so this does not use it.
///
/// # Errors
/// On I/O errors.
pub(crate) fn write(path: &Path, tensors: &[(&str, Values<'_>)]) -> Result<(), Error> {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, values) in tensors {
        let (dtype, bytes) = values.dtype();
        let start = end;
        end += bytes * values.len();
        let entry = json!({ "dtype": dtype, "shape": [values.len()], "data_offsets": [start, end] });
        header.insert((*name).to_owned(), entry);
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    artifact::file::write_atomically_with(path, |to| {
        let mut write = || {
            to.write_all(&(header.len() as u64).to_le_bytes())?;
            to.write_all(&header)?;
            tensors.iter().try_for_each(|(_, values)| values.write(to))
        };
        Ok(write().map_err(|e| artifact::Error::io("write", path, e))?)
    })
}

/// A file that is mapped into memory.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    map: Mmap,
    tensors: Vec<(String, Dtype, Range<usize>)>,
}

/// The place of a tensor's bytes in a file.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub dtype: Dtype,
    pub bytes: Range<usize>,
}

impl TensorFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// Returns an error if it is no safetensors file, and on I/O errors.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |e| artifact::Error::io("map", path, e);
        let file = File::open(path).map_err(failed)?;
        // SAFETY: the file belongs to a sealed artifact, which this program never writes again; a rerun of the stage
        // replaces it by a new file. Its values are checked when it is opened and read as plain bytes afterwards.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let (header_bytes, header) =
            SafeTensors::read_metadata(&map).map_err(|e| Error::invalid(path, e.to_string()))?;
        // The length of the header takes 8 bytes.
        let place = |(start, end): (usize, usize)| 8 + header_bytes + start..8 + header_bytes + end;
        let tensors = header.tensors();
        let tensors = tensors.iter().map(|(name, info)| (name.clone(), info.dtype, place(info.data_offsets))).collect();
        Ok(Self { path: path.to_owned(), map, tensors })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the tensor `name`, which has one of some types.
    ///
    /// # Errors
    /// Returns an error if there is none, or it has another type.
    pub fn tensor(&self, name: &str, dtypes: &[Dtype]) -> Result<Tensor, Error> {
        let found = self.tensors.iter().find(|(found, ..)| found == name);
        let Some((_, dtype, bytes)) = found else {
            return Err(Error::invalid(&self.path, format!("it has no tensor `{name}`")));
        };
        if !dtypes.contains(dtype) {
            let problem = format!("tensor `{name}` has dtype {dtype:?}, expected {:?}", dtypes[0]);
            return Err(Error::invalid(&self.path, problem));
        }
        Ok(Tensor { dtype: *dtype, bytes: bytes.clone() })
    }

    /// Returns the bytes of a tensor.
    pub fn bytes(&self, tensor: &Tensor) -> &[u8] {
        &self.map[tensor.bytes.clone()]
    }
}
