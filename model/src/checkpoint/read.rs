//! Reading: one file or the shards of an index, memory-mapped and copied one parameter at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

use super::layout::{self, FileTensor};
use super::mapped::map;
use super::stored::{Content, RowOrder, StoredParameter, StoredWeights};
use crate::compressed_tensors::{self, Part, Rows, tensor_name};
use crate::gguf::TensorType;
use crate::hub_layout::{self, Index};
use crate::{Dtype, Error, Family, ModelConfig};

/// The files of a checkpoint's weights.
pub(super) struct Files {
    /// The file that an error about a missing tensor names: the single file, or the index.
    path: PathBuf,
    shards: Vec<Shard>,
}

struct Shard {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

/// A tensor in a file.
struct Stored<'a> {
    path: &'a Path,
    map: &'a Mmap,
    dtype: safetensors::Dtype,
    shape: &'a [usize],
    data: &'a [u8],
}

impl<'a> Stored<'a> {
    fn part(&self) -> Part<'a, 'a> {
        Part { dtype: self.dtype, shape: self.shape, data: self.data }
    }
}

impl Files {
    /// Opens the weights in `folder`: `model.safetensors` if it exists, as transformers does, else the shards of the
    /// index.
    ///
    /// # Errors
    /// Names the file that is missing or damaged.
    pub(super) fn of_folder(folder: &Path) -> Result<Self, Error> {
        let entry = hub_layout::weights_entry(folder);
        if !entry.ends_with(hub_layout::INDEX) {
            let pickle = folder.join(hub_layout::PICKLE);
            if !entry.exists() && pickle.exists() {
                return Err(Error::Pickle { path: pickle });
            }
            return Self::of_file(&entry);
        }
        let unusable = |reason: String| Error::Index { path: entry.clone(), reason };
        let index = Index::read(&entry)?;
        let mut shards = Vec::new();
        for name in index.shards() {
            let path = folder.join(name);
            if !path.exists() {
                return Err(unusable(format!("it names {name}, which does not exist")));
            }
            shards.push(Shard::open(path)?);
        }
        for (tensor, name) in &index.weight_map {
            let shard = shards.iter().find(|shard| shard.path.ends_with(name));
            if shard.is_none_or(|shard| shard.metadata.info(tensor).is_none()) {
                return Err(unusable(format!("it locates {tensor} in {name}, which does not contain it")));
            }
        }
        Ok(Self { path: entry, shards })
    }

    /// Opens one file.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or is not whole.
    pub(super) fn of_file(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), shards: vec![Shard::open(path.to_owned())?] })
    }

    /// Finds the parameters of `tensors`.
    ///
    /// # Errors
    /// Names the tensor that is missing, has the wrong shape or type, or is not part of a model of this configuration.
    pub(super) fn locate(&self, tensors: &[FileTensor], config: &ModelConfig) -> Result<StoredWeights<'_>, Error> {
        let mut parameters = BTreeMap::new();
        for tensor in tensors {
            let wrong =
                |path: &Path, reason| Error::Tensor { path: path.to_owned(), tensor: tensor.name.clone(), reason };
            if let Some((packed, rows)) = self.find_quantized(tensor, config.family) {
                let all = rows.map_err(|reason| wrong(packed.path, reason))?;
                let mut first_row = 0;
                for (parameter, rows) in &tensor.parts {
                    let part = all.part(first_row, *rows);
                    let content = Content::Quantized { block_type: part.block_type(), rows: part };
                    let part =
                        StoredParameter { content, rows: *rows, columns: tensor.shape[1], map: Some(packed.map) };
                    parameters.insert(parameter.clone(), part);
                    first_row += rows;
                }
                continue;
            }
            let found = self.find(config.family, &tensor.name).or_else(|| self.stand_in(tensor, config));
            let found = found.ok_or_else(|| wrong(&self.path, self.why_missing(&tensor.name)))?;
            if found.shape != tensor.shape {
                let reason = format!("has shape {:?}, config.json requires {:?}", found.shape, tensor.shape);
                return Err(wrong(found.path, reason));
            }
            if !Dtype::is_read_from(found.dtype) {
                return Err(wrong(found.path, format!("has type {}, not F64, F32, F16 or BF16", found.dtype)));
            }
            let (all_rows, columns) = if tensor.transposed {
                (tensor.shape[1], tensor.shape[0])
            } else {
                (tensor.shape[0], tensor.shape[1..].iter().product())
            };
            let size = found.dtype.bitsize() / 8;
            let mut first_row = 0;
            for (parameter, rows) in &tensor.parts {
                let content = match Dtype::from_safetensors(found.dtype) {
                    Some(dtype) if !tensor.transposed => Content::Rows {
                        tensor_type: TensorType::Float(dtype),
                        bytes: &found.data[first_row * columns * size..][..rows * columns * size],
                        order: RowOrder::Same,
                    },
                    _ => {
                        let strides = if tensor.transposed { [1, all_rows] } else { [columns, 1] };
                        let bytes = &found.data[first_row * strides[0] * size..];
                        Content::Strided { dtype: found.dtype, bytes, strides }
                    }
                };
                let part = StoredParameter { content, rows: *rows, columns, map: Some(found.map) };
                parameters.insert(parameter.clone(), part);
                first_row += rows;
            }
        }
        self.reject_unknown(tensors, config)?;
        Ok(StoredWeights { parameters })
    }

    fn reject_unknown(&self, tensors: &[FileTensor], config: &ModelConfig) -> Result<(), Error> {
        let names = |name: &str| layout::names(config.family, name);
        let mut known: BTreeSet<String> = tensors.iter().flat_map(|tensor| names(&tensor.name)).collect();
        for tensor in tensors.iter().filter(|tensor| self.find_quantized(tensor, config.family).is_some()) {
            let parts = compressed_tensors::ENDS.iter().filter_map(|end| tensor_name(&tensor.name, end));
            known.extend(parts.flat_map(|name| names(&name)));
        }
        let heads = names(layout::OUTPUT_PROJECTION);
        for shard in &self.shards {
            for name in shard.metadata.offset_keys() {
                let tied = config.tied_embeddings && heads.contains(&name);
                if known.contains(&name)
                    || layout::is_ignored_buffer(config.family, &name)
                    || (tied && self.is_tied(tensors, config.family))
                {
                    continue;
                }
                let family = config.family.model_type();
                let reason = if tied {
                    "differs from the token embedding, though config.json sets tie_word_embeddings".to_owned()
                } else {
                    format!("is not part of a {family} with this config.json")
                };
                return Err(Error::Tensor { path: shard.path.clone(), tensor: name, reason });
            }
        }
        Ok(())
    }

    /// Returns true if the output projection in the files equals the token embedding, as some programs write both, or
    /// is the only one of the two.
    fn is_tied(&self, tensors: &[FileTensor], family: Family) -> bool {
        let embedding = tensors.iter().find(|tensor| is_embedding(tensor));
        let embedding = embedding.and_then(|tensor| self.find(family, &tensor.name));
        let head = self.find(family, layout::OUTPUT_PROJECTION);
        let same = |a: &Stored, b: &Stored| (a.dtype, a.shape, a.data) == (b.dtype, b.shape, b.data);
        embedding.is_none_or(|embedding| head.is_some_and(|head| same(&embedding, &head)))
    }

    /// Returns the packed integers of a tensor that is quantised, and its rows.
    fn find_quantized(&self, tensor: &FileTensor, family: Family) -> Option<(Stored<'_>, Result<Rows<'_>, String>)> {
        let [rows, columns] = *tensor.shape.as_slice() else { return None };
        let [packed, scales, shape] =
            compressed_tensors::ENDS.map(|end| self.find(family, &tensor_name(&tensor.name, end)?));
        let packed = packed?;
        let all = || {
            if tensor.transposed {
                return Err("is quantised, which is not supported for transposed tensors".to_owned());
            }
            let scales = scales.ok_or("is quantised, but has no weight_scale")?;
            let stored: Option<Vec<i64>> = shape
                .filter(|shape| shape.dtype == safetensors::Dtype::I64)
                .map(|shape| shape.data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect());
            if stored.is_some_and(|stored| stored != [rows as i64, columns as i64]) {
                return Err(format!("has another weight_shape than {:?}, which config.json requires", tensor.shape));
            }
            Rows::new([rows, columns], &packed.part(), &scales.part())
        };
        let rows = all();
        Some((packed, rows))
    }

    /// Returns the output projection for the token embedding that is tied to it: some programs write only the first.
    fn stand_in(&self, tensor: &FileTensor, config: &ModelConfig) -> Option<Stored<'_>> {
        let is_tied = config.tied_embeddings && is_embedding(tensor);
        is_tied.then(|| self.find(config.family, layout::OUTPUT_PROJECTION)).flatten()
    }

    /// Returns the reason for a tensor that is missing, with the name in the files that ends like it: `torch.compile`
    /// and `DataParallel` put a prefix of their own before the names, which transformers does not read either.
    fn why_missing(&self, name: &str) -> String {
        let mut names = self.shards.iter().flat_map(|shard| shard.metadata.offset_keys());
        match names.find(|other| other.ends_with(name)) {
            Some(other) => {
                let prefix = other.strip_suffix(name).unwrap_or_default();
                format!("is missing; the file has {other}: remove the prefix `{prefix}` from its names")
            }
            None => "is missing".to_owned(),
        }
    }

    fn find(&self, family: Family, name: &str) -> Option<Stored<'_>> {
        let names = layout::names(family, name);
        names.iter().find_map(|name| self.shards.iter().find_map(|shard| shard.find(name)))
    }
}

fn is_embedding(tensor: &FileTensor) -> bool {
    tensor.parts[0].0 == "embed_tokens"
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, Error> {
        let map = map(&path)?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|source| Error::Safetensors { path: path.clone(), source })?;
        // Eight bytes before the header hold its length.
        Ok(Self { data_start: header + 8, path, map, metadata })
    }

    fn find(&self, name: &str) -> Option<Stored<'_>> {
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        // `read_metadata` has checked that they are within the file.
        let data = &self.map[self.data_start + start..self.data_start + end];
        Some(Stored { path: &self.path, map: &self.map, dtype: info.dtype, shape: &info.shape, data })
    }
}
