//! Writing and reading a model.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use kernels::blocks::BlockType;

use super::config::{self, context_length};
use super::layout::{self, FileTensor, OUTPUT};
use super::quantization::Quantization;
use super::rope_factors::{self, ROPE_FACTORS};
use super::write::{Content, TensorSpec, write};
use super::{File, Metadata, TensorType};
use crate::checkpoint::{self, Flat};
use crate::{Dtype, Error, Family, ModelConfig, RopeScaling, Transformer};

/// The version of ggml's blocks.
const QUANTIZATION_VERSION: u32 = 2;

/// The parameters of a model that is written, one at a time.
pub trait Parameters {
    /// Returns the configuration of the model.
    fn config(&self) -> &ModelConfig;

    /// Returns the values of a parameter, row by row.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    fn values(&mut self, name: &str) -> Result<Vec<f32>, Error>;

    /// Returns the rows of a matrix in blocks, if they are rounded already; else they are rounded to the
    /// nearest.
    ///
    /// # Errors
    /// Returns an error if they cannot be read.
    fn blocks(&mut self, name: &str, block_type: BlockType) -> Result<Option<Vec<u8>>, Error>;
}

/// The parameters of a model in memory.
struct InMemory<'a> {
    config: &'a ModelConfig,
    parameters: BTreeMap<String, Flat>,
}

impl Parameters for InMemory<'_> {
    fn config(&self) -> &ModelConfig {
        self.config
    }

    fn values(&mut self, name: &str) -> Result<Vec<f32>, Error> {
        checkpoint::values(&self.parameters[name].1)
    }

    fn blocks(&mut self, _: &str, _: BlockType) -> Result<Option<Vec<u8>>, Error> {
        Ok(None)
    }
}

/// Writes a model to the file `path`, which is whole or absent, with further metadata. Returns what differs from the
/// model, in words.
///
/// # Errors
/// Names what llama.cpp does not compute or the type cannot store, and on I/O errors.
pub fn save(
    model: &Transformer,
    path: &Path,
    quantization: Quantization,
    further: &Metadata,
) -> Result<Vec<String>, Error> {
    let mut parameters = InMemory { config: model.config(), parameters: checkpoint::parameters(model) };
    save_parameters(&mut parameters, path, quantization, further)
}

/// As [`save`], of a model that need not be in memory.
///
/// # Errors
/// As [`save`], and if a parameter cannot be read.
pub fn save_parameters(
    parameters: &mut dyn Parameters,
    path: &Path,
    quantization: Quantization,
    further: &Metadata,
) -> Result<Vec<String>, Error> {
    let config = &parameters.config().clone();
    let mut metadata = Metadata::new(path);
    config::write(config, &mut metadata)?;
    metadata.set("general.type", "model");
    metadata.set("general.file_type", quantization.file_type());
    metadata.set("general.quantization_version", QUANTIZATION_VERSION);
    for (key, value) in further.entries() {
        metadata.set(key.clone(), value.clone());
    }
    let mut notes: Vec<String> = context_length(config).1.into_iter().collect();

    let mut tensors = layout::tensors(config);
    // The only family whose output projection llama.cpp requires.
    if config.family == Family::Olmo2 && config.tied_embeddings {
        tensors.extend(tensors.first().map(|embedding| FileTensor { name: OUTPUT.to_owned(), ..embedding.clone() }));
    }
    let mut unfit = 0;
    let specs = tensors.iter().map(|tensor| {
        let (tensor_type, is_other) = quantization.tensor_type(tensor, config);
        unfit += usize::from(is_other);
        TensorSpec { name: tensor.name.clone(), shape: tensor.shape.clone(), tensor_type }
    });
    let mut specs: Vec<_> = specs.collect();
    if unfit > 0 {
        notes.push(format!(
            "{unfit} matrices have more bits, in Q8_0 or F16: their rows are not whole blocks of their type"
        ));
    }
    let factors = match config.rope_scaling {
        Some(RopeScaling::Llama3 { .. }) => Some(rope_factors::factors(config)),
        _ => None,
    };
    if let Some(factors) = &factors {
        let tensor_type = TensorType::Float(Dtype::F32);
        specs.push(TensorSpec { name: ROPE_FACTORS.to_owned(), shape: vec![factors.len()], tensor_type });
    }
    write(path, &metadata, &specs, |i| match tensors.get(i) {
        Some(tensor) => content(tensor, specs[i].tensor_type, parameters),
        None => Ok(Content::Values(Cow::Borrowed(factors.as_deref().unwrap_or_default()))),
    })?;
    Ok(notes)
}

/// Returns what a tensor of a file contains.
fn content(
    tensor: &FileTensor,
    tensor_type: TensorType,
    parameters: &mut dyn Parameters,
) -> Result<Content<'static>, Error> {
    if let TensorType::Blocks(block_type) = tensor_type {
        let mut parts = Vec::new();
        for (parameter, rows) in &tensor.parts {
            let blocks = parameters.blocks(parameter, block_type)?;
            parts.extend(blocks.map(|blocks| tensor.change.apply_to_blocks(blocks, *rows)));
        }
        if parts.len() == tensor.parts.len() {
            return Ok(Content::Encoded(parts.concat()));
        }
    }
    let columns = tensor.shape[1..].iter().product();
    let mut values = Vec::with_capacity(tensor.shape.iter().product());
    for (parameter, _) in &tensor.parts {
        values.extend(tensor.change.apply(&parameters.values(parameter)?, columns));
    }
    Ok(Content::Values(Cow::Owned(values)))
}

impl File {
    /// Returns the configuration of the model.
    ///
    /// # Errors
    /// Names the key that is missing, wrong or not supported.
    pub fn config(&self) -> Result<ModelConfig, Error> {
        config::read(self)
    }
}

/// Returns the smallest type that stores the numbers of every tensor without a change: f16 or bf16 if all are of that
/// type or f32 numbers that it has too, else f32.
pub fn stored_dtype(file: &File) -> Dtype {
    let is_kept = |dtype: Dtype| {
        file.tensors().iter().all(|(name, info)| match info.tensor_type {
            TensorType::Float(stored) if stored == dtype => true,
            TensorType::Float(Dtype::F32) => {
                let values = file.tensor(name).map(|(info, bytes)| info.tensor_type.decode(bytes)).unwrap_or_default();
                let mut rounded = Vec::new();
                dtype.encode(&values, &mut rounded);
                dtype.decode(&rounded).iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            _ => false,
        })
    };
    let has = |dtype| file.tensors().values().any(|info| info.tensor_type == TensorType::Float(dtype));
    let candidates = [Dtype::F16, Dtype::Bf16].into_iter();
    candidates.into_iter().find(|dtype| has(*dtype) && is_kept(*dtype)).unwrap_or(Dtype::F32)
}
