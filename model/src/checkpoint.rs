//! Checkpoints: `config.json`, `generation_config.json`, and weights in `model.safetensors` or in shards with an index.
//!
//! Reading order: `layout` (names and orientation of the tensors of each family), `read`, `write`.

mod layout;
pub(crate) mod mapped;
mod read;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use artifact::file::write_atomically;
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use kernels::blocks::BlockType;
use serde_json::{Value, json};

use crate::config::{Family, ModelConfig};
use crate::layers::leaf;
use crate::{Dtype, Error, Transformer, hub_layout, named_parameters};

/// The size beyond which [`save`] writes shards: the default of Hugging Face's hub.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// The values of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub values: Vec<f32>,
}

/// Parameters by name.
pub type Weights = BTreeMap<String, Weight>;

/// Writes a model to `folder`; each file is whole or absent.
///
/// # Errors
/// Returns an error if a weight exceeds the range of `dtype`, and on I/O errors.
pub fn save(model: &Transformer, folder: &Path, dtype: Dtype) -> Result<(), Error> {
    save_sharded(model, folder, dtype, MAX_SHARD_BYTES)
}

/// As [`save`], in files of at most `max_shard_bytes` of weights. A tensor is never divided.
///
/// # Errors
/// As [`save`].
pub fn save_sharded(model: &Transformer, folder: &Path, dtype: Dtype, max_shard_bytes: u64) -> Result<(), Error> {
    let config = model.config();
    write_json(&folder.join(hub_layout::CONFIG), &config.to_hugging_face(dtype.torch_name()))?;
    let generation = json!({
        "_from_model_config": true,
        "bos_token_id": config.begin_of_text,
        "eos_token_id": config.eos_token_id(),
    });
    write_json(&folder.join(hub_layout::GENERATION_CONFIG), &generation)?;
    let parameters = parameters(model);
    let shapes = parameters.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect();
    let tensors = layout::tensors(config.family, &shapes);
    write::folder(folder, &tensors, dtype, max_shard_bytes, &mut |name| Ok(values(&parameters[name].1)?.into()))
}

/// Writes parameters as one safetensors file of a family.
///
/// # Errors
/// As [`save`].
pub fn save_weights(weights: &Weights, family: Family, path: &Path, dtype: Dtype) -> Result<(), Error> {
    let shapes = weights.iter().map(|(name, weight)| (name.clone(), weight.shape.clone())).collect();
    let tensors = layout::tensors(family, &shapes);
    write::file(path, &tensors, dtype, &mut |name| Ok(Cow::Borrowed(&weights[name].values)))
}

/// Reads the model in `folder`. Weights become f32, in whatever number type they are stored.
///
/// # Errors
/// Names the file, and the key or tensor, that is missing, damaged, or does not match the configuration.
pub fn load(folder: &Path, device: &Device) -> Result<Transformer, Error> {
    load_with_config(folder, &load_config(folder)?, device)
}

/// As [`load`], with a known configuration.
///
/// # Errors
/// As [`load`].
pub fn load_with_config(folder: &Path, config: &ModelConfig, device: &Device) -> Result<Transformer, Error> {
    let files = read::Files::of_folder(folder)?;
    let model = Transformer::zeros(config, device);
    let located = files.locate(&layout::tensors(config.family, &shapes(&model)), config)?;
    Ok(named_parameters::map(model, &mut Replacer { values: |name: &str| located[name].values(), device }))
}

/// The values of a stored parameter, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredValues {
    /// Numbers, and the type in which they are stored.
    Floats(Dtype, Vec<f32>),
    /// Blocks of integers with a scale each.
    Blocks(BlockType, Vec<u8>),
}

impl StoredValues {
    /// Returns the numbers.
    pub fn into_floats(self) -> Vec<f32> {
        match self {
            Self::Floats(_, values) => values,
            Self::Blocks(block_type, blocks) => block_type.dequantize(&blocks),
        }
    }
}

/// The weights in a folder, which are read one parameter at a time.
pub struct StoredWeights<'a> {
    located: BTreeMap<String, read::Located<'a>>,
}

impl StoredWeights<'_> {
    /// Returns the values of a parameter, row by row, in the type that they are stored in (F64 as F32); None if the
    /// model has no such parameter.
    pub fn read(&self, name: &str) -> Option<StoredValues> {
        self.located.get(name).map(read::Located::stored)
    }
}

/// Maps the weights in `folder` while `read` copies what it needs, so that the model is in memory once.
///
/// # Errors
/// As [`load`].
pub fn with_stored_weights<R>(
    folder: &Path,
    config: &ModelConfig,
    read: impl FnOnce(&StoredWeights<'_>) -> R,
) -> Result<R, Error> {
    let files = read::Files::of_folder(folder)?;
    let shapes = shapes(&Transformer::zeros(config, &Device::flex()));
    let located = files.locate(&layout::tensors(config.family, &shapes), config)?;
    Ok(read(&StoredWeights { located }))
}

/// Reads the configuration in `folder`.
///
/// # Errors
/// Names the key that is missing, not valid or not supported.
pub fn load_config(folder: &Path) -> Result<ModelConfig, Error> {
    let path = folder.join(hub_layout::CONFIG);
    let value = read_json(&path)?;
    let mut config = ModelConfig::from_hugging_face(&value)
        .map_err(|e| Error::ConfigFile { path: path.clone(), source: Box::new(e) })?;
    let generation = folder.join(hub_layout::GENERATION_CONFIG);
    if generation.exists() {
        config.read_generation_config(&read_json(&generation)?);
    }
    Ok(config)
}

/// Reads the parameters in one safetensors file of a family, and checks every shape.
///
/// # Errors
/// Names the tensor that is missing or does not match.
pub fn load_weights(path: &Path, config: &ModelConfig) -> Result<Weights, Error> {
    let files = read::Files::of_file(path)?;
    let mut shapes = shapes(&Transformer::zeros(config, &Device::flex()));
    let located = files.locate(&layout::tensors(config.family, &shapes), config)?;
    let weight = |(name, part): (String, read::Located)| {
        let shape = shapes.remove(&name).unwrap_or_default();
        (name, Weight { shape, values: part.values() })
    };
    Ok(located.into_iter().map(weight).collect())
}

/// Returns a model's parameters, without those of adapters, which [`crate::lora::save`] writes.
///
/// # Errors
/// Returns an error if the device fails.
pub fn weights(model: &Transformer) -> Result<Weights, Error> {
    let weight = |(name, (shape, flat))| Ok((name, Weight { shape, values: values(&flat)? }));
    parameters(model).into_iter().map(weight).collect()
}

/// Returns a model with these parameters.
///
/// # Panics
/// Panics if a parameter is missing or has the wrong shape; [`load_weights`] checks that.
pub fn with_weights(config: &ModelConfig, mut weights: Weights, device: &Device) -> Transformer {
    let values = |name: &str| weights.remove(name).unwrap_or_else(|| panic!("no parameter {name}")).values;
    named_parameters::map(Transformer::zeros(config, device), &mut Replacer { values, device })
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    Ok(write_atomically(path, format!("{value:#}\n").as_bytes())?)
}

fn read_json(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read(path).map_err(|source| Error::Io { operation: "read", path: path.to_owned(), source })?;
    artifact::json::from_slice(&text).map_err(|e| Error::ConfigFile { path: path.to_owned(), source: Box::new(e) })
}

/// The dimensions of a parameter, and its values as a vector.
pub(crate) type Flat = (Vec<usize>, Tensor<1>);

/// Returns the parameters on their device, without those of adapters.
pub(crate) fn parameters(model: &Transformer) -> BTreeMap<String, Flat> {
    let mut collector = Collector::default();
    named_parameters::visit(model, &mut collector);
    collector.parameters
}

/// Returns the dimensions of the parameters.
pub(crate) fn shapes(model: &Transformer) -> BTreeMap<String, Vec<usize>> {
    parameters(model).into_iter().map(|(name, (shape, _))| (name, shape)).collect()
}

/// Returns the values of a parameter.
pub(crate) fn values(flat: &Tensor<1>) -> Result<Vec<f32>, Error> {
    flat.clone().try_into_vec_as().map_err(|e| Error::Compute { what: "weights", source: Box::new(e) })
}

/// Collects the parameters by name, on their device.
#[derive(Default)]
struct Collector {
    parameters: BTreeMap<String, Flat>,
}

impl named_parameters::Visitor for Collector {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        if name.contains(".lora.") {
            return;
        }
        let tensor = param.val().inner();
        let shape = tensor.dims().to_vec();
        let flat = tensor.reshape([shape.iter().product::<usize>()]);
        self.parameters.insert(name.to_owned(), (shape, flat));
    }
}

/// Replaces the values of the parameters, one at a time.
pub(crate) struct Replacer<'a, F> {
    pub(crate) values: F,
    pub(crate) device: &'a Device,
}

impl<F: FnMut(&str) -> Vec<f32>> named_parameters::Mapper for Replacer<'_, F> {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (shape, values) = (param.val().dims().to_vec(), (self.values)(name));
        assert_eq!(shape.iter().product::<usize>(), values.len(), "parameter {name}");
        let tensor = leaf(Tensor::from_data(TensorData::new(values, shape), self.device));
        Param::initialized(param.id, tensor)
    }
}
