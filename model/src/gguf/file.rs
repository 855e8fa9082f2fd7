//! Opening a file: the header, and a check of everything that it claims.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::parse::Cursor;
use super::{ALIGNMENT, DEFAULT_ALIGNMENT, MAGIC, Metadata, TensorType};
use crate::Error;
use crate::checkpoint::mapped::map;

/// The dimensions that ggml allows.
const MAX_DIMENSIONS: u32 = 4;

/// An open file, memory-mapped.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    tensors: HashMap<String, TensorInfo>,
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its dimensions, rows first; the file has them in the opposite order.
    pub shape: Vec<usize>,
    /// Its number type.
    pub tensor_type: TensorType,
    /// The position of its first byte in the file.
    start: usize,
    /// Its length in bytes.
    len: usize,
}

/// What the file says of a tensor.
struct Claim {
    name: String,
    shape: Vec<usize>,
    code: u32,
    offset: u64,
}

impl File {
    /// Opens the file at `path`. No byte of a tensor is read.
    ///
    /// # Errors
    /// Names what is damaged or not supported, and on I/O errors.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            let source = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(Error::Io { operation: "read", path: path.to_owned(), source });
        }
        let map = map(path)?;
        let (metadata, tensors) = parse(path, &map).map_err(|reason| Error::Gguf { path: path.to_owned(), reason })?;
        Ok(Self { path: path.to_owned(), map, metadata, tensors })
    }

    pub(crate) fn map(&self) -> &Mmap {
        &self.map
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the tensors by name.
    pub fn tensors(&self) -> &HashMap<String, TensorInfo> {
        &self.tensors
    }

    /// Returns a tensor and its bytes.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, &[u8])> {
        let info = self.tensors.get(name)?;
        // `parse` has checked that it is within the file.
        Some((info, &self.map[info.start..][..info.len]))
    }
}

/// Returns the metadata and tensors of a file with these bytes, or the reason that it is not valid.
fn parse(path: &Path, bytes: &[u8]) -> Result<(Metadata, HashMap<String, TensorInfo>), String> {
    if !bytes.starts_with(&MAGIC) {
        return Err("it does not begin with `GGUF`".to_owned());
    }
    let mut cursor = Cursor::new(bytes);
    cursor.u32()?;
    let version = cursor.u32()?;
    if (2..=3).contains(&version.swap_bytes()) {
        return Err("its numbers are big-endian, which is not supported".to_owned());
    }
    if !(2..=3).contains(&version) {
        return Err(format!("it has version {version}; 2 and 3 are read"));
    }
    // A tensor has a name's length, dimensions, a type and an offset; an entry a key's length, a type and a value.
    let tensor_count = cursor.count("tensors", 8 + 4 + 4 + 8)?;
    let entry_count = cursor.count("keys", 8 + 4 + 1)?;
    let mut metadata = Metadata::new(path);
    let mut keys = HashSet::new();
    let mut entries = Vec::new();
    for _ in 0..entry_count {
        let key = cursor.string().map_err(|reason| format!("in a key, {reason}"))?;
        let value = cursor.value().map_err(|reason| format!("key {}: {reason}", shown(&key)))?;
        if !keys.insert(key.clone()) {
            return Err(format!("it has the key {} twice", shown(&key)));
        }
        entries.push((key, value));
    }
    metadata.replace_entries(entries);
    let claims = (0..tensor_count).map(|_| claim(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
    let alignment = alignment(&metadata)?;
    let data_start = cursor.position().next_multiple_of(alignment);
    let mut tensors = HashMap::new();
    for claim in claims {
        let name = claim.name.clone();
        let info = check(claim, bytes.len(), data_start, alignment)
            .map_err(|reason| format!("tensor {}: {reason}", shown(&name)))?;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(format!("it has the tensor {} twice", shown(&name)));
        }
    }
    check_overlaps(&tensors)?;
    Ok((metadata, tensors))
}

fn claim(cursor: &mut Cursor<'_>) -> Result<Claim, String> {
    let name = cursor.string().map_err(|reason| format!("in the name of a tensor, {reason}"))?;
    let wrong = |reason: String| format!("tensor {}: {reason}", shown(&name));
    let dimensions = cursor.u32().map_err(wrong)?;
    if dimensions > MAX_DIMENSIONS {
        return Err(wrong(format!("it has {dimensions} dimensions; {MAX_DIMENSIONS} are the most")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = cursor.u64().map_err(wrong)?;
        shape.push(usize::try_from(size).map_err(|_| wrong(format!("it has the dimension {size}")))?);
    }
    shape.reverse();
    let (code, offset) = (cursor.u32().map_err(wrong)?, cursor.u64().map_err(wrong)?);
    Ok(Claim { name, shape, code, offset })
}

fn alignment(metadata: &Metadata) -> Result<usize, String> {
    let Some(value) = metadata.get(ALIGNMENT) else { return Ok(DEFAULT_ALIGNMENT) };
    match value.as_u64() {
        Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => Ok(alignment as usize),
        _ => Err(format!("key {ALIGNMENT}: {value:?} is not a power of two up to 1048576")),
    }
}

fn check(claim: Claim, file_len: usize, data_start: usize, alignment: usize) -> Result<TensorInfo, String> {
    let Claim { shape, code, offset, .. } = claim;
    let Some(tensor_type) = TensorType::of_code(code) else {
        let name = TensorType::name_of_code(code);
        return Err(format!(
            "its number type is {name}, which is not supported; convert it with llama-quantize to Q8_0"
        ));
    };
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(tensor_type.block_len()) {
        let block = tensor_type.block_len();
        return Err(format!("its rows have {row} numbers, not whole blocks of {block} of {tensor_type}"));
    }
    let len = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let len = len.and_then(|len| tensor_type.bytes(len));
    let start = usize::try_from(offset).ok().and_then(|offset| data_start.checked_add(offset));
    let end = len.zip(start).and_then(|(len, start)| start.checked_add(len));
    let (Some(len), Some(start), Some(_)) = (len, start, end.filter(|end| *end <= file_len)) else {
        return Err(format!(
            "{shape:?} of {tensor_type} at byte {offset} of the data ends after the file, which has {file_len} bytes"
        ));
    };
    if !offset.is_multiple_of(alignment as u64) {
        return Err(format!("it begins at byte {offset} of the data, not at a multiple of {alignment}"));
    }
    Ok(TensorInfo { shape, tensor_type, start, len })
}

fn check_overlaps(tensors: &HashMap<String, TensorInfo>) -> Result<(), String> {
    let mut sorted: Vec<_> = tensors.iter().filter(|(_, info)| info.len > 0).collect();
    sorted.sort_by_key(|(_, info)| info.start);
    for pair in sorted.windows(2) {
        let [(first, before), (second, after)] = [pair[0], pair[1]];
        if before.start + before.len > after.start {
            return Err(format!("the tensors {} and {} overlap", shown(first), shown(second)));
        }
    }
    Ok(())
}

/// Returns the beginning of a name from a file, with escapes for what a terminal does not print.
fn shown(name: &str) -> String {
    const MAX_CHARACTERS: usize = 80;
    let rest = if name.chars().nth(MAX_CHARACTERS).is_some() { "…" } else { "" };
    let start: String = name.chars().take(MAX_CHARACTERS).collect();
    format!("`{}{rest}`", start.escape_debug())
}
