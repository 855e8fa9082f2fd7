//! Adapters in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! GPT-2 concatenates its queries, keys and values in `c_attn`, whose adapter has one A for all three; Phi-3 does the
//! same in `qkv_proj` and `gate_up_proj`. In this crate each has its own A, so that a trained adapter is written in
//! blocks: the A stacked and the B on a diagonal, with a multiple of the rank and alpha, which gives the same scale and
//! the same sum. An adapter made by PEFT is read as several adapters with equal A, and written unchanged as long as
//! they are equal.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use serde_json::{Map, Value, json};

use super::digest::{base_digest, digest_without};
use super::layout::{BASE, BLOCKS, CONFIG, METADATA, WEIGHTS, module_paths, projections, saved_name, tensor_name};
use super::stored::StoredAdapter;
use super::{
    Adapter, EMBEDDINGS, adapters, embedding_path, ends_with_name, module_path, saved_modules, with_adapters,
    with_saved_modules,
};
use crate::checkpoint::{self, Weight};
use crate::config::Family;
use crate::layers::leaf;
use crate::safetensors::{F32Tensor, write_f32};
use crate::{Error, Transformer};

/// An adapter in PEFT's layout.
struct Entry {
    a: Weight,
    b: Weight,
    rank: usize,
    alpha: f64,
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

    let paths = module_paths(family, &projections(model.config()));
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

/// Returns the model with frozen weights and the adapters in `folder`, which PEFT or [`save`] wrote.
///
/// # Errors
/// Names the file, and the key or tensor, that is missing, damaged, not supported, or does not match the model; names
/// both digests if the adapters were trained on a different base.
pub fn load(model: Transformer, folder: &Path) -> Result<Transformer, Error> {
    let stored = StoredAdapter::read(model.config(), folder)?;
    let saved: Vec<&str> = stored.embeddings.iter().map(|(name, _)| *name).collect();
    stored.check_base(|| digest_without(&model, &saved))?;
    let values = stored.projections.into_iter().map(|adapter| ((adapter.layer, adapter.role), adapter.values));
    let mut values: BTreeMap<_, _> = values.collect();
    let mut model = with_adapters(model, |layer, role, _| values.remove(&(layer, role)));
    let (device, shape) = (model.device(), [model.config().vocab_size, model.config().d_model]);
    for (name, values) in stored.embeddings {
        let replace = |param: Param<Tensor<2>>| {
            let (id, _, mapper) = param.consume();
            let values = TensorData::new(values, shape.to_vec());
            Param::from_mapped_value(id, leaf(Tensor::from_data(values, &device)), mapper)
        };
        if name == EMBEDDINGS[0].0 {
            model.embed_tokens = replace(model.embed_tokens);
        } else {
            model.lm_head = model.lm_head.map(replace);
        }
    }
    Ok(with_saved_modules(model, &saved))
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

fn number(value: f64) -> Value {
    if value.fract() == 0.0 { json!(value as i64) } else { json!(value) }
}
