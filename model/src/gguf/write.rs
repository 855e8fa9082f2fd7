//! Writing a file: one tensor in memory at a time, and the file whole or absent.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use artifact::file::write_atomically_with;

use super::{Array, DEFAULT_ALIGNMENT, MAGIC, Metadata, TensorType, VERSION, Value};
use crate::Error;
use crate::safetensors::ENCODED_AT_ONCE;

/// A tensor of a file.
#[derive(Debug)]
pub(super) struct TensorSpec {
    pub(super) name: String,
    /// Its dimensions, rows first.
    pub(super) shape: Vec<usize>,
    pub(super) tensor_type: TensorType,
}

/// What a tensor contains.
pub(super) enum Content<'v> {
    /// Values, which are encoded in the tensor's type.
    Values(Cow<'v, [f32]>),
    /// The bytes of the tensor's type.
    Encoded(Vec<u8>),
}

/// Writes metadata and tensors, whose content `content` returns in order.
///
/// # Errors
/// Names the tensor that its type cannot store, and on I/O errors.
pub(super) fn write<'v>(
    path: &Path,
    metadata: &Metadata,
    tensors: &[TensorSpec],
    mut content: impl FnMut(usize) -> Result<Content<'v>, Error>,
) -> Result<(), Error> {
    let header = header(path, metadata, tensors)?;
    write_atomically_with(path, |writer| {
        let failed = |source| Error::Io { operation: "write", path: path.to_owned(), source };
        writer.write_all(&header).map_err(failed)?;
        let mut bytes = Vec::new();
        for (i, tensor) in tensors.iter().enumerate() {
            let mut written = 0;
            match content(i)? {
                Content::Values(values) => {
                    // Whole blocks: their length divides the pieces'.
                    for piece in values.chunks(ENCODED_AT_ONCE) {
                        bytes.clear();
                        tensor.tensor_type.encode(piece, &mut bytes).map_err(|reason| tensor.wrong(path, reason))?;
                        writer.write_all(&bytes).map_err(failed)?;
                        written += bytes.len();
                    }
                }
                Content::Encoded(encoded) => {
                    writer.write_all(&encoded).map_err(failed)?;
                    written = encoded.len();
                }
            }
            assert_eq!(tensor.tensor_type.bytes(tensor.shape.iter().product()), Some(written), "{}", tensor.name);
            writer.write_all(&vec![0; padding(written)]).map_err(failed)?;
        }
        Ok(())
    })
}

impl TensorSpec {
    fn wrong(&self, path: &Path, reason: String) -> Error {
        Error::Tensor { path: path.to_owned(), tensor: self.name.clone(), reason }
    }
}

fn header(path: &Path, metadata: &Metadata, tensors: &[TensorSpec]) -> Result<Vec<u8>, Error> {
    let mut header = MAGIC.to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.entries().len() as u64).to_le_bytes());
    for (key, value) in metadata.entries() {
        push_string(&mut header, key);
        push_value(&mut header, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        push_string(&mut header, &tensor.name);
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        for size in tensor.shape.iter().rev() {
            header.extend((*size as u64).to_le_bytes());
        }
        header.extend(tensor.tensor_type.code().to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        let len = tensor.tensor_type.bytes(tensor.shape.iter().product());
        let len =
            len.ok_or_else(|| tensor.wrong(path, format!("has rows of incomplete blocks of {}", tensor.tensor_type)))?;
        offset += len + padding(len);
    }
    header.resize(header.len() + padding(header.len()), 0);
    Ok(header)
}

fn padding(len: usize) -> usize {
    len.next_multiple_of(DEFAULT_ALIGNMENT) - len
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn push_value(bytes: &mut Vec<u8>, value: &Value) {
    let mut push = |code: u32, value: &[u8]| {
        bytes.extend(code.to_le_bytes());
        bytes.extend(value);
    };
    match value {
        Value::U8(x) => push(0, &x.to_le_bytes()),
        Value::I8(x) => push(1, &x.to_le_bytes()),
        Value::U16(x) => push(2, &x.to_le_bytes()),
        Value::I16(x) => push(3, &x.to_le_bytes()),
        Value::U32(x) => push(4, &x.to_le_bytes()),
        Value::I32(x) => push(5, &x.to_le_bytes()),
        Value::F32(x) => push(6, &x.to_le_bytes()),
        Value::Bool(x) => push(7, &[u8::from(*x)]),
        Value::String(text) => {
            push(8, &[]);
            push_string(bytes, text);
        }
        Value::Array(array) => {
            push(9, &[]);
            push_array(bytes, array);
        }
        Value::U64(x) => push(10, &x.to_le_bytes()),
        Value::I64(x) => push(11, &x.to_le_bytes()),
        Value::F64(x) => push(12, &x.to_le_bytes()),
    }
}

fn push_array(bytes: &mut Vec<u8>, array: &Array) {
    fn push<const N: usize, T: Copy>(bytes: &mut Vec<u8>, code: u32, values: &[T], encode: fn(T) -> [u8; N]) {
        bytes.extend(code.to_le_bytes());
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| encode(*value)));
    }
    match array {
        Array::U8(values) => push(bytes, 0, values, u8::to_le_bytes),
        Array::I8(values) => push(bytes, 1, values, i8::to_le_bytes),
        Array::U16(values) => push(bytes, 2, values, u16::to_le_bytes),
        Array::I16(values) => push(bytes, 3, values, i16::to_le_bytes),
        Array::U32(values) => push(bytes, 4, values, u32::to_le_bytes),
        Array::I32(values) => push(bytes, 5, values, i32::to_le_bytes),
        Array::F32(values) => push(bytes, 6, values, f32::to_le_bytes),
        Array::Bool(values) => push(bytes, 7, values, |flag| [u8::from(flag)]),
        Array::String(texts) => {
            bytes.extend(8u32.to_le_bytes());
            bytes.extend((texts.len() as u64).to_le_bytes());
            for text in texts {
                push_string(bytes, text);
            }
        }
        Array::U64(values) => push(bytes, 10, values, u64::to_le_bytes),
        Array::I64(values) => push(bytes, 11, values, i64::to_le_bytes),
        Array::F64(values) => push(bytes, 12, values, f64::to_le_bytes),
    }
}
