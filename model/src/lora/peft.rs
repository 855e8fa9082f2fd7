//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! GPT-2 concatenates its queries, keys and values in `c_attn`, whose adapter has one A for all three; Phi-3 does the
//! same in `qkv_proj` and `gate_up_proj`. In this crate each has its own A, so that a trained adapter is written in
//! blocks: the A stacked and the B on a diagonal, with a multiple of the rank and alpha, which gives the same scale and
//! the same sum. An adapter made by PEFT is read as several adapters with equal A, and written unchanged as long as
//! they are equal.

use std::collections::BTreeMap;
use std::path::Path;

use artifact::Digest;
use artifact::digest::Hasher;
use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::{
    Adapter, EMBEDDINGS, Values, adapters, embedding_path, ends_with_name, linears, module_path, saved_modules,
    with_adapters, with_saved_modules,
};
use crate::checkpoint::{self, Weight};
use crate::config::Family;
use crate::layers::leaf;
use crate::safetensors::{F32Tensor, write_f32};
use crate::{Dtype, Error, Transformer};

/// The configuration of the adapters.
pub const CONFIG: &str = "adapter_config.json";

/// The weights of the adapters.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// The key of [`base_digest`] in the metadata of [`WEIGHTS`], which PEFT neither writes nor reads.
const BASE: &str = "base_sha256";

/// The key of the metadata that marks the adapters of concatenated projections as blocks.
const BLOCKS: &str = "c_attn_blocks";

/// Options of PEFT that change the output of an adapter and are not supported; all are off by default.
const UNSUPPORTED: [&str; 6] =
    ["use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens", "layer_replication", "target_parameters"];

/// An adapter in PEFT's layout.
struct Entry {
    a: Weight,
    b: Weight,
    rank: usize,
    alpha: f64,
}

/// Returns the digest of a model's weights without its adapters and the embeddings that are trained beside them: of
/// their names, shapes and values in f32, so that it does not depend on the files and the number type in which they are
/// stored.
///
/// # Errors
/// Returns an error if the device fails.
pub fn base_digest(model: &Transformer) -> Result<Digest, Error> {
    digest_without(model, &saved_modules(model))
}

fn digest_without(model: &Transformer, excluded: &[&str]) -> Result<Digest, Error> {
    let mut hasher = Hasher::default();
    let weights = checkpoint::weights(model)?.into_iter().filter(|(name, _)| !excluded.contains(&name.as_str()));
    for (name, Weight { shape, values }) in weights {
        hasher.update(format!("{name} {shape:?}\n").as_bytes());
        for chunk in values.chunks(1 << 14) {
            hasher.update(&chunk.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
        }
    }
    Ok(hasher.finish())
}

/// Writes a model's adapters to `folder` in f32, with the name of their base and the digest of its weights.
///
/// # Errors
/// Returns an error if the device fails, and on I/O errors.
pub fn save(model: &Transformer, base: &str, folder: &Path) -> Result<(), Error> {
    let family = model.config().family;
    let all = adapters(model);
    let Some((_, _, first)) = all.first() else { return Ok(()) };
    let (rank, alpha, dropout) = (first.rank(), first.alpha, first.dropout);
    let mut parts: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for (layer, role, adapter) in &all {
        parts.entry(module_path(family, *layer, role)).or_default().push(entry(adapter)?);
    }
    let blocks = !parts.values().all(|parts| is_shared(parts));
    let entries: BTreeMap<String, Entry> =
        parts.into_iter().map(|(path, parts)| (path, concatenated(parts, blocks))).collect();

    let paths = module_paths(model);
    // A name matches every path that ends in it.
    let name = |path: &str, holds: &dyn Fn(&Entry) -> bool| {
        let last = path.rsplit('.').next().unwrap_or(path);
        let all = paths.iter().filter(|other| ends_with_name(other, last)).all(|p| entries.get(p).is_some_and(holds));
        if all { last.to_owned() } else { path.to_owned() }
    };
    let mut targets: Vec<String> = entries.keys().map(|path| name(path, &|_| true)).collect();
    targets.sort();
    targets.dedup();
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for (path, entry) in &entries {
        if entry.rank != rank {
            ranks.insert(name(path, &|other| other.rank == entry.rank), entry.rank.into());
        }
        if entry.alpha.to_bits() != alpha.to_bits() {
            let key = name(path, &|other| other.alpha.to_bits() == entry.alpha.to_bits());
            alphas.insert(key, number(entry.alpha));
        }
    }
    let saved = saved_modules(model);
    let saved_names: Vec<&str> =
        saved.iter().filter_map(|name| embedding_path(family, name).rsplit('.').next()).collect();
    let mut config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": number(alpha),
        "lora_dropout": dropout,
        "target_modules": targets,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "bias": "none",
        "fan_in_fan_out": family == Family::Gpt2,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved_names) },
        "use_dora": false,
        "use_rslora": false,
    });
    if !saved.is_empty() && model.lm_head.is_none() {
        // Without it, PEFT leaves the output projection tied to the base's embedding instead of the saved one.
        config["ensure_weight_tying"] = true.into();
    }
    let tensors = entries.into_iter().flat_map(|(module, Entry { a, b, .. })| {
        [("A", a), ("B", b)].map(|(letter, Weight { shape, values })| F32Tensor {
            name: tensor_name(&module, letter),
            shape,
            values,
        })
    });
    let mut tensors: Vec<F32Tensor> = tensors.collect();
    let mut weights = checkpoint::weights(model)?;
    for name in &saved {
        let Some(Weight { shape, values }) = weights.remove(*name) else { continue };
        if model.lm_head.is_none() {
            // PEFT reads the tied output projection from a tensor of its own.
            let (shape, values) = (shape.clone(), values.clone());
            tensors.push(F32Tensor { name: saved_name(family, EMBEDDINGS[1].0), shape, values });
        }
        tensors.push(F32Tensor { name: saved_name(family, name), shape, values });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let metadata = json!({BASE: base_digest(model)?.to_string(), BLOCKS: blocks}).to_string();
    write_f32(&folder.join(WEIGHTS), tensors, (METADATA, &metadata))?;
    checkpoint::write_json(&folder.join(CONFIG), &config)
}

/// The key of the one entry in the metadata of [`WEIGHTS`].
const METADATA: &str = "adapter";

/// Returns the model with frozen weights and the adapters in `folder`, which PEFT or [`save`] wrote.
///
/// # Errors
/// Names the file, and the key or tensor, that is missing, damaged, not supported, or does not match the model; names
/// both digests if the adapters were trained on a different base.
pub fn load(model: Transformer, folder: &Path) -> Result<Transformer, Error> {
    let config = Config::read(&folder.join(CONFIG))?;
    let path = folder.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(|source| Error::Io { operation: "read", path: path.clone(), source })?;
    let damaged = |source| Error::Safetensors { path: path.clone(), source };
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let ours = header.metadata().as_ref().and_then(|entries| entries.get(METADATA));
    let ours: Value = ours.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let family = model.config().family;
    let saved: Vec<&str> = EMBEDDINGS.iter().map(|(name, _)| *name).filter(|name| config.saves(family, name)).collect();
    if let Some(expected) = ours[BASE].as_str().and_then(|digest| digest.parse().ok()) {
        let found = digest_without(&model, &saved)?;
        if found != expected {
            return Err(Error::AdapterBase { path, expected, found });
        }
    }
    let modules = module_paths(&model);
    let mut known: Vec<String> =
        modules.iter().flat_map(|module| [tensor_name(module, "A"), tensor_name(module, "B")]).collect();
    known.extend(saved.iter().map(|name| saved_name(family, name)));
    if !saved.is_empty() && model.lm_head.is_none() {
        known.push(saved_name(family, EMBEDDINGS[1].0));
    }
    let wrong = |tensor: &str, reason: String| Error::Tensor { path: path.clone(), tensor: tensor.to_owned(), reason };
    let unknown = file.names().into_iter().filter(|name| !known.iter().any(|known| known == name));
    if let Some(name) = unknown.min() {
        return Err(wrong(name, "is not part of an adapter of this model's projections".to_owned()));
    }

    let read = |name: &str| {
        let tensor = file.tensor(name).map_err(|_| wrong(name, "is missing".to_owned()))?;
        let dtype = Dtype::from_safetensors(tensor.dtype())
            .ok_or_else(|| wrong(name, format!("has type {}, not F32, F16 or BF16", tensor.dtype())))?;
        Ok::<_, Error>(Weight { shape: tensor.shape().to_vec(), values: dtype.decode(tensor.data()) })
    };
    let shapes = shapes(&model);
    let mut values: BTreeMap<(usize, &str), Values> = BTreeMap::new();
    for module in modules.iter().filter(|module| file.tensor(&tensor_name(module, "A")).is_ok()) {
        let (a, b) = (read(&tensor_name(module, "A"))?, read(&tensor_name(module, "B"))?);
        let parts: Vec<_> = shapes.iter().filter(|(i, role, _)| module_path(family, *i, role) == *module).collect();
        let outputs: usize = parts.iter().map(|(_, _, [outputs, _])| outputs).sum();
        let inputs = parts.first().map_or(0, |(_, _, [_, inputs])| *inputs);
        let rank = a.shape.first().copied().unwrap_or_default();
        for (letter, weight, expected) in [("A", &a, [rank, inputs]), ("B", &b, [outputs, rank])] {
            if weight.shape != expected || rank == 0 {
                let reason = format!("has shape {:?}, the model requires {expected:?}", weight.shape);
                return Err(wrong(&tensor_name(module, letter), reason));
            }
        }
        let alpha = config.alpha(module, rank);
        let in_blocks = parts.len() > 1 && rank.is_multiple_of(parts.len()) && ours[BLOCKS] == true;
        let blocks = if in_blocks { parts.len() } else { 1 };
        let mut row = 0;
        for (n, (layer, role, [outputs, _])) in parts.iter().enumerate() {
            let part_rank = rank / blocks;
            // The first column of B and row of A that belong to this part.
            let first = if in_blocks { n * part_rank } else { 0 };
            let rows = b.values[row * rank..(row + outputs) * rank].chunks_exact(rank);
            let part = Values {
                a: a.values[first * inputs..(first + part_rank) * inputs].to_vec(),
                b: rows.flat_map(|row| row[first..first + part_rank].iter().copied()).collect(),
                rank: part_rank,
                alpha: alpha / blocks as f64,
                dropout: config.dropout,
            };
            values.insert((*layer, *role), part);
            row += outputs;
        }
    }
    for module in &modules {
        let (a, b) = (tensor_name(module, "A"), tensor_name(module, "B"));
        if file.tensor(&a).is_err() && file.tensor(&b).is_ok() {
            return Err(wrong(&a, "is missing".to_owned()));
        }
    }
    if values.is_empty() {
        return Err(wrong("lora_A", "is missing: the file has no adapter".to_owned()));
    }
    let mut model = with_adapters(model, |layer, role, _| values.remove(&(layer, role)));
    for name in &saved {
        let tensor = saved_name(family, name);
        let weight = read(&tensor)?;
        let expected = [model.config().vocab_size, model.config().d_model];
        if weight.shape != expected {
            let reason = format!("has shape {:?}, the model requires {expected:?}", weight.shape);
            return Err(wrong(&tensor, reason));
        }
        let device = model.device();
        let values = TensorData::new(weight.values, expected.to_vec());
        let replace = |param: Param<Tensor<2>>| {
            let (id, _, mapper) = param.consume();
            Param::from_mapped_value(id, leaf(Tensor::from_data(values, &device)), mapper)
        };
        if *name == EMBEDDINGS[0].0 {
            model.embed_tokens = replace(model.embed_tokens);
        } else {
            model.lm_head = model.lm_head.map(replace);
        }
    }
    Ok(with_saved_modules(model, &saved))
}

/// The keys of `adapter_config.json` that determine an adapter's output.
struct Config {
    modules_to_save: Vec<String>,
    alpha: f64,
    alphas: Vec<(String, f64)>,
    rank_stabilized: bool,
    dropout: f64,
}

impl Config {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path);
        let text = text.map_err(|source| Error::Io { operation: "read", path: path.to_owned(), source })?;
        let unusable = |source| Error::ConfigFile { path: path.to_owned(), source };
        let value: Value = serde_json::from_slice(&text).map_err(|e| unusable(Box::new(e)))?;
        Self::parse(&value).map_err(|reason| unusable(reason.into()))
    }

    fn parse(config: &Value) -> Result<Self, String> {
        if config["peft_type"] != "LORA" {
            return Err(format!("peft_type: {} is not supported, only LORA", config["peft_type"]));
        }
        for key in UNSUPPORTED {
            let off = matches!(&config[key], Value::Null | Value::Bool(false));
            if !off && config[key].as_array().is_none_or(|list| !list.is_empty()) {
                return Err(format!("{key}: {} is not supported", config[key]));
            }
        }
        let number = |key: &str| config[key].as_f64().ok_or_else(|| format!("{key}: {} is not a number", config[key]));
        let patterns = config["alpha_pattern"].as_object();
        let alphas = patterns.into_iter().flatten().map(|(name, alpha)| {
            let is_literal = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
            let alpha = alpha.as_f64().filter(|_| is_literal);
            Ok((name.clone(), alpha.ok_or_else(|| format!("alpha_pattern: `{name}` is not supported"))?))
        });
        let saved = config["modules_to_save"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let modules_to_save: Vec<String> = saved.map(str::to_owned).collect();
        let is_known = |name: &String| ["embed_tokens", "lm_head", "wte"].contains(&name.as_str());
        if let Some(other) = modules_to_save.iter().find(|name| !is_known(name)) {
            return Err(format!("modules_to_save: `{other}` is not supported, only the embeddings"));
        }
        Ok(Self {
            modules_to_save,
            alpha: number("lora_alpha")?,
            alphas: alphas.collect::<Result<_, String>>()?,
            rank_stabilized: config["use_rslora"] == true,
            dropout: config["lora_dropout"].as_f64().unwrap_or_default(),
        })
    }

    /// Returns true if an embedding is saved in full.
    fn saves(&self, family: Family, name: &str) -> bool {
        self.modules_to_save.iter().any(|saved| ends_with_name(embedding_path(family, name), saved))
    }

    /// Returns the alpha of a module, so that alpha / rank is its scale.
    fn alpha(&self, module: &str, rank: usize) -> f64 {
        let own = self.alphas.iter().find(|(name, _)| ends_with_name(module, name));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        // A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023: alpha / √rank.
        if self.rank_stabilized { alpha * (rank as f64).sqrt() } else { alpha }
    }
}

fn entry(adapter: &Adapter) -> Result<Entry, Error> {
    let read = |param: &Param<Tensor<2>>| {
        let tensor = param.val().inner();
        let shape = tensor.dims().to_vec();
        let values = tensor.try_into_vec_as();
        values
            .map(|values| Weight { shape, values })
            .map_err(|source| Error::Compute { what: "adapters", source: Box::new(source) })
    };
    Ok(Entry { a: read(&adapter.a)?, b: read(&adapter.b)?, rank: adapter.rank(), alpha: adapter.alpha })
}

/// Returns true if the adapters of concatenated projections have one A and alpha.
fn is_shared(parts: &[Entry]) -> bool {
    parts.iter().all(|part| part.a == parts[0].a && part.alpha.to_bits() == parts[0].alpha.to_bits())
}

/// Returns the adapter of concatenated projections, in blocks or with the A that they share.
fn concatenated(mut parts: Vec<Entry>, in_blocks: bool) -> Entry {
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let blocks = if in_blocks { parts.len() } else { 1 };
    let (rank, alpha, inputs) = (parts[0].rank, parts[0].alpha, parts[0].a.shape[1]);
    let outputs: usize = parts.iter().map(|part| part.b.shape[0]).sum();
    let a = parts.iter().take(blocks).flat_map(|part| part.a.values.iter().copied()).collect();
    let mut b = Vec::with_capacity(outputs * rank * blocks);
    for (n, part) in parts.iter().enumerate() {
        for row in part.b.values.chunks_exact(rank) {
            let before = if in_blocks { n * rank } else { 0 };
            b.extend(std::iter::repeat_n(0.0, before));
            b.extend_from_slice(row);
            b.extend(std::iter::repeat_n(0.0, (blocks - 1) * rank - before));
        }
    }
    let rank = rank * blocks;
    Entry {
        a: Weight { shape: vec![rank, inputs], values: a },
        b: Weight { shape: vec![outputs, rank], values: b },
        rank,
        alpha: alpha * blocks as f64,
    }
}

/// Returns the layer, the path within it and the `[O, I]` of every projection.
fn shapes(model: &Transformer) -> Vec<(usize, &'static str, [usize; 2])> {
    let mut layers = model.layers.clone();
    let numbered = layers.iter_mut().enumerate();
    numbered.flat_map(|(i, layer)| linears(layer).map(move |(role, linear)| (i, role, linear.dims()))).collect()
}

/// Returns the paths of a model's projections in transformers.
fn module_paths(model: &Transformer) -> Vec<String> {
    let mut paths: Vec<String> =
        shapes(model).iter().map(|(i, role, _)| module_path(model.config().family, *i, role)).collect();
    paths.dedup();
    paths
}

fn saved_name(family: Family, name: &str) -> String {
    format!("base_model.model.{}.weight", embedding_path(family, name))
}

fn tensor_name(module: &str, letter: &str) -> String {
    format!("base_model.model.{module}.lora_{letter}.weight")
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}
