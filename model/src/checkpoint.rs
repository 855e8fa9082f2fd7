//! Checkpoints in the Hugging Face layout: `config.json`, `model.safetensors`, `generation_config.json`.
//!
//! A parameter's name inside this crate is its path in [`Transformer`]; `to_file` and `from_file` turn it into the
//! name and orientation that the family has in transformers.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::file::write_atomically;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DataError, Device, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::config::{Family, ModelConfig};
use crate::transformer::leaf;
use crate::{Error, Transformer};

/// The name of the weights' file.
pub const WEIGHTS: &str = "model.safetensors";

/// The number type that weights are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision: 24 bits of precision.
    F32,
    /// IEEE half precision: 11 bits of precision, values to 65,504.
    F16,
    /// Brain floating point: 8 bits of precision, the range of `f32`.
    Bf16,
}

impl Dtype {
    /// Returns the name in `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

impl From<Dtype> for safetensors::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
        }
    }
}

/// A parameter's values.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub values: Vec<f32>,
}

/// Parameters by their path in [`Transformer`].
pub type Weights = BTreeMap<String, Weight>;

/// Writes a model to `folder`; each file is whole or not there.
///
/// # Errors
/// When the disk refuses, or a weight is beyond the range of `dtype`.
pub fn save(model: &Transformer, folder: &Path, dtype: Dtype) -> Result<(), Error> {
    let config = model.config();
    write_json(&folder.join("config.json"), &config.to_hugging_face(dtype.torch_name()))?;
    let mut generation = json!({"_from_model_config": true});
    if let Some(id) = config.end_of_text {
        generation["bos_token_id"] = id.into();
        generation["eos_token_id"] = id.into();
    }
    write_json(&folder.join("generation_config.json"), &generation)?;
    save_weights(&weights(model)?, config.family, &folder.join(WEIGHTS), dtype)
}

/// Writes parameters, by their names inside this crate, as a safetensors file of a family.
///
/// # Errors
/// As [`save`].
pub fn save_weights(weights: &Weights, family: Family, path: &Path, dtype: Dtype) -> Result<(), Error> {
    let tensors = to_file(weights, family);
    let largest = f32::from(f16::MAX);
    for (name, weight) in tensors.iter().filter(|_| dtype == Dtype::F16) {
        if let Some(value) = weight.values.iter().find(|x| x.is_finite() && x.abs() > largest) {
            return Err(Error::Tensor {
                path: path.to_owned(),
                tensor: name.clone(),
                reason: format!("has the value {value}, beyond the {largest} of f16; take bf16"),
            });
        }
    }
    let encoded: BTreeMap<&String, Vec<u8>> = tensors.iter().map(|(n, w)| (n, dtype.encode(&w.values))).collect();
    let damaged = |source| Error::Safetensors { path: path.to_owned(), source };
    let views = encoded
        .iter()
        .map(|(name, bytes)| Ok((*name, TensorView::new(dtype.into(), tensors[*name].shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(damaged)?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(damaged)?;
    Ok(write_atomically(path, &bytes)?)
}

/// Reads the model in `folder`; weights are computed with in f32, whatever they are stored in.
///
/// # Errors
/// Names the file, and the key or tensor, that is missing, damaged, or does not fit the configuration.
pub fn load(folder: &Path, device: &Device) -> Result<Transformer, Error> {
    let config = load_config(folder)?;
    let weights = load_weights(&folder.join(WEIGHTS), &config)?;
    Ok(with_weights(&config, weights, device))
}

/// Reads the configuration in `folder`.
///
/// # Errors
/// Names the key that is missing, wrong or unsupported.
pub fn load_config(folder: &Path) -> Result<ModelConfig, Error> {
    let path = folder.join("config.json");
    let text = std::fs::read(&path).map_err(|source| Error::Io { operation: "read", path: path.clone(), source })?;
    let unusable = |source| Error::ConfigFile { path: path.clone(), source };
    let value: Value = serde_json::from_slice(&text).map_err(|e| unusable(Box::new(e)))?;
    ModelConfig::from_hugging_face(&value).map_err(|e| unusable(Box::new(e)))
}

/// Reads a family's safetensors file into parameters by their names inside this crate, every shape checked.
///
/// # Errors
/// Names the tensor that is missing or does not fit.
pub fn load_weights(path: &Path, config: &ModelConfig) -> Result<Weights, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { operation: "read", path: path.to_owned(), source })?;
    let file =
        SafeTensors::deserialize(&bytes).map_err(|source| Error::Safetensors { path: path.to_owned(), source })?;
    let shapes = weights(&Transformer::zeros(config, &Device::flex()))?;
    let expected = to_file(&shapes, config.family);
    let mut found = Weights::new();
    for (name, Weight { shape, .. }) in expected {
        let wrong = |reason| Error::Tensor { path: path.to_owned(), tensor: name.clone(), reason };
        // GPT-2 as first published has no `transformer.` before its names.
        let bare = name.strip_prefix("transformer.").unwrap_or(&name);
        let tensor = file.tensor(&name).or_else(|_| file.tensor(bare)).map_err(|_| wrong("is missing".to_owned()))?;
        if tensor.shape() != shape {
            return Err(wrong(format!("has shape {:?}, config.json asks for {shape:?}", tensor.shape())));
        }
        let values = decode(&tensor).ok_or_else(|| wrong(format!("has type {}, not a float", tensor.dtype())))?;
        found.insert(name, Weight { shape, values });
    }
    Ok(from_file(found, config))
}

/// Returns a model's parameters.
///
/// # Errors
/// When the device fails.
pub fn weights(model: &Transformer) -> Result<Weights, Error> {
    let mut collector = Collector::default();
    model.visit(&mut collector);
    match collector.failure {
        None => Ok(collector.weights),
        Some(source) => Err(Error::Compute { what: "weights", source: Box::new(source) }),
    }
}

/// Returns a model of these parameters.
///
/// # Panics
/// When a parameter is missing or has another shape; [`load_weights`] has checked that.
pub fn with_weights(config: &ModelConfig, weights: Weights, device: &Device) -> Transformer {
    Transformer::zeros(config, device).map(&mut Replacer { path: Vec::new(), weights, device })
}

fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    Ok(write_atomically(path, format!("{value:#}\n").as_bytes())?)
}

fn decode(tensor: &TensorView) -> Option<Vec<f32>> {
    let data = tensor.data();
    let pairs = || data.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match tensor.dtype() {
        safetensors::Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        safetensors::Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        safetensors::Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}

/// The parts of a GPT-2 layer: the name here, the name there, and whether the matrix lies the other way round there
/// (its `Conv1D` has `[in, out]`).
const GPT2_LAYER: [(&str, &str, bool); 10] = [
    ("input_layernorm.weight", "ln_1.weight", false),
    ("input_layernorm.bias", "ln_1.bias", false),
    ("self_attn.o_proj.weight", "attn.c_proj.weight", true),
    ("self_attn.o_proj.bias", "attn.c_proj.bias", false),
    ("post_attention_layernorm.weight", "ln_2.weight", false),
    ("post_attention_layernorm.bias", "ln_2.bias", false),
    ("mlp.up_proj.weight", "mlp.c_fc.weight", true),
    ("mlp.up_proj.bias", "mlp.c_fc.bias", false),
    ("mlp.down_proj.weight", "mlp.c_proj.weight", true),
    ("mlp.down_proj.bias", "mlp.c_proj.bias", false),
];

/// The rest of a GPT-2 model.
const GPT2_REST: [(&str, &str); 5] = [
    ("embed_tokens", "transformer.wte.weight"),
    ("embed_positions", "transformer.wpe.weight"),
    ("norm.weight", "transformer.ln_f.weight"),
    ("norm.bias", "transformer.ln_f.bias"),
    ("lm_head", "lm_head.weight"),
];

/// The projections that GPT-2 keeps side by side in `attn.c_attn`.
const GPT2_QKV: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

/// Returns the parameters as a family's file has them.
fn to_file(weights: &Weights, family: Family) -> Weights {
    if family == Family::Qwen3 {
        return weights.iter().map(|(name, weight)| (qwen3_name(name), weight.clone())).collect();
    }
    let mut file = Weights::new();
    for (here, there) in GPT2_REST {
        if let Some(weight) = weights.get(here) {
            file.insert(there.to_owned(), weight.clone());
        }
    }
    for i in (0..).take_while(|i| weights.contains_key(&format!("layers.{i}.input_layernorm.weight"))) {
        for (here, there, turned) in GPT2_LAYER {
            let weight = &weights[&format!("layers.{i}.{here}")];
            let weight = if turned { transposed(weight) } else { weight.clone() };
            file.insert(format!("transformer.h.{i}.{there}"), weight);
        }
        for part in ["weight", "bias"] {
            let parts = GPT2_QKV.map(|projection| &weights[&format!("layers.{i}.self_attn.{projection}.{part}")]);
            let mut shape = parts[0].shape.clone();
            shape[0] *= 3;
            let stacked = Weight { shape, values: parts.iter().flat_map(|w| w.values.clone()).collect() };
            let stacked = if part == "weight" { transposed(&stacked) } else { stacked };
            file.insert(format!("transformer.h.{i}.attn.c_attn.{part}"), stacked);
        }
    }
    file
}

/// Returns a family's file as the parameters here: the inverse of [`to_file`].
fn from_file(mut file: Weights, config: &ModelConfig) -> Weights {
    let mut weights = Weights::new();
    if config.family == Family::Qwen3 {
        for (name, weight) in file {
            let bare = name.strip_prefix("model.").unwrap_or(&name);
            let bare = if bare == "norm.weight" || bare.starts_with("layers.") {
                bare
            } else {
                bare.strip_suffix(".weight").unwrap_or(bare)
            };
            weights.insert(bare.to_owned(), weight);
        }
        return weights;
    }
    for (here, there) in GPT2_REST {
        if let Some(weight) = file.remove(there) {
            weights.insert(here.to_owned(), weight);
        }
    }
    for i in 0..config.n_layer {
        for (here, there, turned) in GPT2_LAYER {
            if let Some(weight) = file.remove(&format!("transformer.h.{i}.{there}")) {
                let weight = if turned { transposed(&weight) } else { weight };
                weights.insert(format!("layers.{i}.{here}"), weight);
            }
        }
        for part in ["weight", "bias"] {
            if let Some(stacked) = file.remove(&format!("transformer.h.{i}.attn.c_attn.{part}")) {
                let stacked = if part == "weight" { transposed(&stacked) } else { stacked };
                let mut shape = stacked.shape.clone();
                shape[0] /= 3;
                let third = stacked.values.len() / 3;
                for (projection, values) in GPT2_QKV.iter().zip(stacked.values.chunks_exact(third)) {
                    let weight = Weight { shape: shape.clone(), values: values.to_vec() };
                    weights.insert(format!("layers.{i}.self_attn.{projection}.{part}"), weight);
                }
            }
        }
    }
    weights
}

fn qwen3_name(name: &str) -> String {
    match name {
        "lm_head" => "lm_head.weight".to_owned(),
        "embed_tokens" => "model.embed_tokens.weight".to_owned(),
        other => format!("model.{other}"),
    }
}

fn transposed(weight: &Weight) -> Weight {
    let (rows, columns) = (weight.shape[0], weight.shape[1]);
    let mut values = Vec::with_capacity(weight.values.len());
    for column in 0..columns {
        values.extend((0..rows).map(|row| weight.values[row * columns + column]));
    }
    Weight { shape: vec![columns, rows], values }
}

/// Collects every parameter under its path.
#[derive(Default)]
struct Collector {
    path: Vec<String>,
    weights: Weights,
    failure: Option<DataError>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().inner();
        let shape = tensor.dims().to_vec();
        match tensor.into_data().try_into_vec_as() {
            Ok(values) => drop(self.weights.insert(self.path.join("."), Weight { shape, values })),
            Err(error) => self.failure = Some(error),
        }
    }
}

/// Puts a value in the place of every parameter.
struct Replacer<'a> {
    path: Vec<String>,
    weights: Weights,
    device: &'a Device,
}

impl ModuleMapper for Replacer<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.join(".");
        let Weight { shape, values } = self.weights.remove(&name).unwrap_or_else(|| panic!("no parameter {name}"));
        assert_eq!(shape, param.val().dims(), "parameter {name}");
        let tensor = leaf(Tensor::from_data(TensorData::new(values, shape), self.device));
        Param::initialized(param.id, tensor)
    }
}
