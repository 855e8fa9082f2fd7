//! Checkpoints: `config.json`, `generation_config.json`, and weights in `model.safetensors` or in shards with an index.
//!
//! Reading order: `layout` (names and orientation of the tensors of each family), [`StoredModel`] over `read` and
//! `stored` (parameters in mapped files), `write`.

mod layout;
pub(crate) mod mapped;
mod read;
pub(crate) mod stored;
mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use artifact::file::write_atomically;
use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};

use crate::config::{Family, ModelConfig};
use crate::layers::leaf;
use crate::{Dtype, Error, Transformer, gguf, hub_layout, named_parameters};

pub use stored::{StoredParameter, StoredWeights};

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
    save_config(config, folder, dtype)?;
    let parameters = parameters(model);
    let shapes = parameters.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect();
    let tensors = layout::tensors(config.family, &shapes);
    write::folder(folder, &tensors, dtype, max_shard_bytes, &mut |name| Ok(values(&parameters[name].1)?.into()))
}

/// Writes the files of a model but its weights, which are in `dtype`.
///
/// # Errors
/// On I/O errors.
pub fn save_config(config: &ModelConfig, folder: &Path, dtype: Dtype) -> Result<(), Error> {
    write_json(&folder.join(hub_layout::CONFIG), &config.to_hugging_face(dtype.torch_name()))?;
    let generation = json!({
        "_from_model_config": true,
        "bos_token_id": config.begin_of_text,
        "eos_token_id": config.eos_token_id(),
    });
    write_json(&folder.join(hub_layout::GENERATION_CONFIG), &generation)
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

/// Reads the model at `path`: a folder, or a GGUF file. Weights become f32, in whatever number type they are stored.
///
/// # Errors
/// Names the file, and the key or tensor, that is missing, damaged, or does not match the configuration.
pub fn load(path: &Path, device: &Device) -> Result<Transformer, Error> {
    let stored = StoredModel::open(path)?;
    stored.load(device)
}

/// As [`load`], with a known configuration of a folder.
///
/// # Errors
/// As [`load`].
pub fn load_with_config(folder: &Path, config: &ModelConfig, device: &Device) -> Result<Transformer, Error> {
    StoredModel { config: config.clone(), files: WeightFiles::of_folder(folder)? }.load(device)
}

/// A model whose files are mapped, so that its weights can be read in the type that they are stored in.
pub struct StoredModel {
    config: ModelConfig,
    files: WeightFiles,
}

enum WeightFiles {
    Safetensors(read::Files),
    Gguf(Box<gguf::File>),
}

impl WeightFiles {
    fn of_folder(folder: &Path) -> Result<Self, Error> {
        let entry = hub_layout::weights_entry(folder);
        if entry.ends_with(hub_layout::GGUF) {
            Ok(Self::Gguf(Box::new(gguf::File::open(&entry)?)))
        } else {
            read::Files::of_folder(folder).map(Self::Safetensors)
        }
    }
}

impl StoredModel {
    /// Opens the model at `path`: a folder, or a GGUF file.
    ///
    /// # Errors
    /// As [`load`], apart from the tensors.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_file() {
            let file = gguf::File::open(path)?;
            return Ok(Self { config: file.config()?, files: WeightFiles::Gguf(Box::new(file)) });
        }
        Ok(Self { config: load_config(path)?, files: WeightFiles::of_folder(path)? })
    }

    /// Returns the configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Returns the weights.
    ///
    /// # Errors
    /// Names the tensor that is missing, has the wrong shape or type, or is not part of a model of this configuration.
    pub fn weights(&self) -> Result<StoredWeights<'_>, Error> {
        match &self.files {
            WeightFiles::Safetensors(files) => {
                files.locate(&layout::tensors(self.config.family, &shapes_of(&self.config)), &self.config)
            }
            WeightFiles::Gguf(file) => gguf::weights(file, &self.config),
        }
    }

    /// Returns the model with weights in f32.
    fn load(&self, device: &Device) -> Result<Transformer, Error> {
        let weights = self.weights()?;
        let values = |name: &str| weights.get(name).map(StoredParameter::values).unwrap_or_default();
        Ok(named_parameters::map(Transformer::zeros(&self.config, device), &mut Replacer { values, device }))
    }
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
    let mut shapes = shapes_of(config);
    let located = files.locate(&layout::tensors(config.family, &shapes), config)?;
    let weight = |(name, part): (String, StoredParameter)| {
        let shape = shapes.remove(&name).unwrap_or_default();
        (name, Weight { shape, values: part.values() })
    };
    Ok(located.parameters.into_iter().map(weight).collect())
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

/// Returns the dimensions of the parameters of a configuration.
pub(crate) fn shapes_of(config: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = Shapes::default();
    named_parameters::visit(&Transformer::zeros(config, &Device::flex()), &mut shapes);
    shapes.0
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

/// Collects the dimensions of the parameters, which need not have values.
#[derive(Default)]
struct Shapes(BTreeMap<String, Vec<usize>>);

impl named_parameters::Visitor for Shapes {
    fn parameter<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
        self.0.insert(name.to_owned(), param.lazy_shape().to_vec());
    }
}

/// Replaces the values of the parameters, one at a time.
pub(crate) struct Replacer<'a, F> {
    pub(crate) values: F,
    pub(crate) device: &'a Device,
}

impl<F: FnMut(&str) -> Vec<f32>> named_parameters::Mapper for Replacer<'_, F> {
    fn parameter<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (shape, values) = (param.lazy_shape().to_vec(), (self.values)(name));
        assert_eq!(shape.iter().product::<usize>(), values.len(), "parameter {name}");
        let tensor = leaf(Tensor::from_data(TensorData::new(values, shape), self.device));
        Param::initialized(param.id, tensor)
    }
}
