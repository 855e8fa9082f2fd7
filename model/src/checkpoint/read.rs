//! Reading: one file or the shards of an index, memory-mapped and copied one parameter at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;

use super::layout::{self, FileTensor};
use super::mapped::map;
use crate::hub_layout::{self, Index};
use crate::{Dtype, Error, ModelConfig};

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
    dtype: safetensors::Dtype,
    shape: &'a [usize],
    data: &'a [u8],
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
    pub(super) fn locate(
        &self,
        tensors: &[FileTensor],
        config: &ModelConfig,
    ) -> Result<BTreeMap<String, Located<'_>>, Error> {
        let mut located = BTreeMap::new();
        for tensor in tensors {
            let wrong =
                |path: &Path, reason| Error::Tensor { path: path.to_owned(), tensor: tensor.name.clone(), reason };
            let found = self.find(&tensor.name).ok_or_else(|| wrong(&self.path, "is missing".to_owned()))?;
            if found.shape != tensor.shape {
                let reason = format!("has shape {:?}, config.json requires {:?}", found.shape, tensor.shape);
                return Err(wrong(found.path, reason));
            }
            let Some(dtype) = Dtype::from_safetensors(found.dtype) else {
                return Err(wrong(found.path, format!("has type {}, not F32, F16 or BF16", found.dtype)));
            };
            let (all_rows, columns) = if tensor.transposed {
                (tensor.shape[1], tensor.shape[0])
            } else {
                (tensor.shape[0], tensor.shape[1..].iter().product())
            };
            let strides = if tensor.transposed { [1, all_rows] } else { [columns, 1] };
            let mut first_row = 0;
            for (parameter, rows) in &tensor.parts {
                let start = first_row * strides[0];
                let part = Located { data: found.data, dtype, start, rows: *rows, columns, strides };
                located.insert(parameter.clone(), part);
                first_row += rows;
            }
        }
        self.reject_unknown(tensors, config)?;
        Ok(located)
    }

    fn reject_unknown(&self, tensors: &[FileTensor], config: &ModelConfig) -> Result<(), Error> {
        let known: BTreeSet<&str> = tensors.iter().flat_map(|t| [&*t.name, layout::without_prefix(&t.name)]).collect();
        for shard in &self.shards {
            for name in shard.metadata.offset_keys() {
                let tied = config.tied_embeddings && name == "lm_head.weight";
                if known.contains(&*name)
                    || layout::is_ignored_buffer(config.family, &name)
                    || (tied && self.is_tied(tensors))
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

    /// Returns true if the output projection in the files equals the token embedding: some programs write both.
    fn is_tied(&self, tensors: &[FileTensor]) -> bool {
        let embedding = tensors.iter().find(|tensor| tensor.parts[0].0 == "embed_tokens");
        let embedding = embedding.and_then(|tensor| self.find(&tensor.name));
        let head = self.find("lm_head.weight");
        embedding.zip(head).is_some_and(|(a, b)| (a.dtype, a.shape, a.data) == (b.dtype, b.shape, b.data))
    }

    fn find(&self, name: &str) -> Option<Stored<'_>> {
        let find = |name: &str| self.shards.iter().find_map(|shard| shard.find(name));
        find(name).or_else(|| find(layout::without_prefix(name)))
    }
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
        Some(Stored { path: &self.path, dtype: info.dtype, shape: &info.shape, data })
    }
}

/// A parameter in a memory-mapped file.
pub(super) struct Located<'a> {
    data: &'a [u8],
    dtype: Dtype,
    start: usize,
    rows: usize,
    columns: usize,
    /// The strides of rows and columns, in elements.
    strides: [usize; 2],
}

impl Located<'_> {
    /// Returns the values, row by row.
    pub(super) fn values(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.gather(f32::from_le_bytes),
            Dtype::F16 => self.gather(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::Bf16 => self.gather(|bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
    }

    fn gather<const N: usize>(&self, decode: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        // A transposed matrix is read in tiles, so that each cache line is used while it is in the cache.
        const TILE: usize = 32;
        let elements: &[[u8; N]] = self.data.as_chunks().0;
        if self.strides[1] == 1 {
            return elements[self.start..][..self.rows * self.columns].iter().map(|bytes| decode(*bytes)).collect();
        }
        let mut values = vec![0.0; self.rows * self.columns];
        for first in (0..self.columns).step_by(TILE) {
            for row in 0..self.rows {
                for column in first..self.columns.min(first + TILE) {
                    let at = self.start + row * self.strides[0] + column * self.strides[1];
                    values[row * self.columns + column] = decode(elements[at]);
                }
            }
        }
        values
    }
}
