//! Adapters in PEFT's layout, as they are in their files.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use artifact::Digest;
use safetensors::SafeTensors;
use serde_json::Value;

use super::digest::digest_of_stored;
use super::layout::{
    BASE, BLOCKS, CONFIG, METADATA, Projection, WEIGHTS, module_paths, projections, saved_name, tensor_name,
};
use super::{EMBEDDINGS, Values, embedding_path, ends_with_name, module_path};
use crate::checkpoint::{StoredModel, Weight};
use crate::config::Family;
use crate::{Dtype, Error, ModelConfig};

/// Options of PEFT that change the output of an adapter and are not supported; all are off by default.
const UNSUPPORTED: [&str; 8] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
];

/// An adapter in PEFT's layout, read for models of one configuration.
#[derive(Debug)]
pub struct StoredAdapter {
    /// The file of its weights.
    pub path: PathBuf,
    /// What it adds to the projections.
    pub projections: Vec<ProjectionAdapter>,
    /// The embeddings that it replaces, `embed_tokens` or `lm_head`, with their values: `modules_to_save`.
    pub embeddings: Vec<(&'static str, Vec<f32>)>,
    /// The digest of the weights that it was trained on, if the file has it ([`base_digest`](super::base_digest)).
    pub base: Option<Digest>,
}

/// What an adapter adds to a projection.
#[derive(Debug)]
pub struct ProjectionAdapter {
    /// The layer.
    pub layer: usize,
    /// The path of the projection within the layer, such as `self_attn.q_proj`.
    pub role: &'static str,
    /// The matrices and their scale.
    pub values: Values,
}

impl StoredAdapter {
    /// Reads the adapter in `folder`, which PEFT or [`save`](super::save) wrote.
    ///
    /// # Errors
    /// Names the file, and the key or tensor, that is missing, damaged, not supported, or does not match the model.
    pub fn read(model: &ModelConfig, folder: &Path) -> Result<Self, Error> {
        let projections = projections(model);
        let modules = module_paths(model.family, &projections);
        let config = Config::read(&folder.join(CONFIG), &modules)?;
        let path = folder.join(WEIGHTS);
        let bytes =
            std::fs::read(&path).map_err(|source| Error::Io { operation: "read", path: path.clone(), source })?;
        let damaged = |source| Error::Safetensors { path: path.clone(), source };
        let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let ours = header.metadata().as_ref().and_then(|entries| entries.get(METADATA));
        let ours: Value = ours.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let file = File { path: &path, tensors, model, config: &config, in_blocks: ours[BLOCKS] == true };
        file.reject_unknown(&modules)?;
        Ok(Self {
            projections: file.projections(&modules, &projections)?,
            embeddings: file.embeddings()?,
            base: ours[BASE].as_str().and_then(|digest| digest.parse().ok()),
            path,
        })
    }

    /// Checks the digest of the weights that the adapter was trained on, if the file has it, against that of the
    /// weights it is loaded onto, which `found` returns.
    ///
    /// # Errors
    /// [`Error::AdapterBase`] names both digests if they differ.
    pub fn check_base(&self, found: impl FnOnce() -> Result<Digest, Error>) -> Result<(), Error> {
        let Some(expected) = self.base else { return Ok(()) };
        let found = found()?;
        if found == expected { Ok(()) } else { Err(Error::AdapterBase { path: self.path.clone(), expected, found }) }
    }
}

/// A model in files that adapters are loaded for.
#[derive(Debug)]
pub struct StoredBase {
    path: PathBuf,
    /// The digest of its weights, once it is needed; None of weights in quantised blocks.
    digest: OnceLock<Option<Digest>>,
}

impl StoredBase {
    /// Returns the base at `path`: a folder in the Hugging Face layout, or a GGUF file.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), digest: OnceLock::new() }
    }

    /// As [`StoredAdapter::check_base`]. Weights in quantised blocks are others than those that an adapter was trained
    /// on in any case, and are not compared.
    ///
    /// # Errors
    /// As [`StoredAdapter::check_base`]; names the file of the base that cannot be read.
    pub fn check(&self, adapter: &StoredAdapter) -> Result<(), Error> {
        if adapter.base.is_none() {
            return Ok(());
        }
        let digest = if let Some(digest) = self.digest.get() {
            *digest
        } else {
            let digest = digest_of_stored(&StoredModel::open(&self.path)?)?;
            *self.digest.get_or_init(|| digest)
        };
        digest.map_or(Ok(()), |digest| adapter.check_base(|| Ok(digest)))
    }
}

/// The file of weights.
struct File<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    model: &'a ModelConfig,
    config: &'a Config,
    /// Whether the adapters of concatenated projections are blocks.
    in_blocks: bool,
}

impl File<'_> {
    fn wrong(&self, tensor: &str, reason: String) -> Error {
        Error::Tensor { path: self.path.to_owned(), tensor: tensor.to_owned(), reason }
    }

    fn has(&self, tensor: &str) -> bool {
        self.tensors.tensor(tensor).is_ok()
    }

    fn saved_embeddings(&self) -> impl Iterator<Item = &'static str> {
        EMBEDDINGS.iter().map(|(name, _)| *name).filter(move |name| self.config.saves(self.model.family, name))
    }

    fn reject_unknown(&self, modules: &[String]) -> Result<(), Error> {
        let family = self.model.family;
        let mut known: Vec<String> =
            modules.iter().flat_map(|module| [tensor_name(module, "A"), tensor_name(module, "B")]).collect();
        known.extend(self.saved_embeddings().map(|name| saved_name(family, name)));
        if self.saved_embeddings().next().is_some() && self.model.tied_embeddings {
            known.push(saved_name(family, EMBEDDINGS[1].0));
        }
        match self.tensors.names().into_iter().filter(|name| !known.iter().any(|known| known == name)).min() {
            Some(name) => Err(self.wrong(name, "is not part of an adapter of this model's projections".to_owned())),
            None => Ok(()),
        }
    }

    fn projections(&self, modules: &[String], all: &[Projection]) -> Result<Vec<ProjectionAdapter>, Error> {
        let (family, mut projections) = (self.model.family, Vec::new());
        for module in modules {
            let (a, b) = (tensor_name(module, "A"), tensor_name(module, "B"));
            if self.has(&a) {
                let parts: Vec<&Projection> =
                    all.iter().filter(|(i, role, _)| module_path(family, *i, role) == *module).collect();
                self.module(module, &parts, &mut projections)?;
            } else if self.has(&b) {
                return Err(self.wrong(&a, "is missing".to_owned()));
            }
        }
        if projections.is_empty() {
            return Err(self.wrong("lora_A", "is missing: the file has no adapter".to_owned()));
        }
        Ok(projections)
    }

    /// Adds the adapters of the projections that a module consists of.
    fn module(
        &self,
        module: &str,
        parts: &[&Projection],
        projections: &mut Vec<ProjectionAdapter>,
    ) -> Result<(), Error> {
        let (a, b) = (self.read(&tensor_name(module, "A"))?, self.read(&tensor_name(module, "B"))?);
        let outputs: usize = parts.iter().map(|(_, _, [outputs, _])| outputs).sum();
        let inputs = parts.first().map_or(0, |(_, _, [_, inputs])| *inputs);
        let rank = self.config.rank(module).or(a.shape.first().copied()).unwrap_or_default();
        for (letter, weight, expected) in [("A", &a, [rank, inputs]), ("B", &b, [outputs, rank])] {
            if weight.shape != expected || rank == 0 {
                let reason = format!("has shape {:?}, the model and {CONFIG} require {expected:?}", weight.shape);
                return Err(self.wrong(&tensor_name(module, letter), reason));
            }
        }
        let alpha = self.config.alpha(module, rank);
        let in_blocks = parts.len() > 1 && rank.is_multiple_of(parts.len()) && self.in_blocks;
        let blocks = if in_blocks { parts.len() } else { 1 };
        let mut row = 0;
        for (n, (layer, role, [outputs, _])) in parts.iter().enumerate() {
            let part_rank = rank / blocks;
            // The first column of B and row of A that belong to this part.
            let first = if in_blocks { n * part_rank } else { 0 };
            let rows = b.values[row * rank..(row + outputs) * rank].chunks_exact(rank);
            let values = Values {
                a: a.values[first * inputs..(first + part_rank) * inputs].to_vec(),
                b: rows.flat_map(|row| row[first..first + part_rank].iter().copied()).collect(),
                rank: part_rank,
                alpha: alpha / blocks as f64,
                dropout: self.config.dropout,
            };
            projections.push(ProjectionAdapter { layer: *layer, role, values });
            row += outputs;
        }
        Ok(())
    }

    fn embeddings(&self) -> Result<Vec<(&'static str, Vec<f32>)>, Error> {
        let expected = [self.model.vocab_size, self.model.d_model];
        let read = |name: &'static str| {
            let tensor = saved_name(self.model.family, name);
            let weight = self.read(&tensor)?;
            if weight.shape == expected {
                return Ok((name, weight.values));
            }
            let reason = format!("has shape {:?}, the model requires {expected:?}", weight.shape);
            Err(self.wrong(&tensor, reason))
        };
        self.saved_embeddings().map(read).collect()
    }

    fn read(&self, name: &str) -> Result<Weight, Error> {
        let tensor = self.tensors.tensor(name).map_err(|_| self.wrong(name, "is missing".to_owned()))?;
        let dtype = Dtype::from_safetensors(tensor.dtype())
            .ok_or_else(|| self.wrong(name, format!("has type {}, not F32, F16 or BF16", tensor.dtype())))?;
        Ok(Weight { shape: tensor.shape().to_vec(), values: dtype.decode(tensor.data()) })
    }
}

/// The keys of `adapter_config.json` that determine an adapter's output.
struct Config {
    modules_to_save: Vec<String>,
    /// The rank, as far as it is given.
    rank: Option<usize>,
    /// The ranks of modules; None if a name is a pattern.
    ranks: Option<Vec<(String, usize)>>,
    alpha: f64,
    alphas: Vec<(String, f64)>,
    rank_stabilized: bool,
    dropout: f64,
}

impl Config {
    fn read(path: &Path, modules: &[String]) -> Result<Self, Error> {
        let text = std::fs::read(path);
        let text = text.map_err(|source| Error::Io { operation: "read", path: path.to_owned(), source })?;
        let unusable = |source| Error::ConfigFile { path: path.to_owned(), source };
        let value: Value = serde_json::from_slice(&text).map_err(|e| unusable(Box::new(e)))?;
        Self::parse(&value, modules).map_err(|reason| unusable(reason.into()))
    }

    fn parse(config: &Value, modules: &[String]) -> Result<Self, String> {
        if config["peft_type"] != "LORA" {
            return Err(format!("peft_type: {} is not supported, only LORA", config["peft_type"]));
        }
        for key in UNSUPPORTED {
            let off = matches!(&config[key], Value::Null | Value::Bool(false));
            if !off && config[key].as_array().is_none_or(|list| !list.is_empty()) {
                return Err(format!("{key}: {} is not supported", config[key]));
            }
        }
        if !(config["bias"].is_null() || config["bias"] == "none") {
            return Err(format!("bias: {} is not supported, only \"none\"", config["bias"]));
        }
        let targets = config["target_modules"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_target = |target: &&str| modules.iter().any(|module| ends_with_name(module, target));
        if let Some(target) = { targets }.find(|target| !is_target(target)) {
            return Err(format!("target_modules: `{target}` is not a projection of this model"));
        }
        let number = |key: &str| config[key].as_f64().ok_or_else(|| format!("{key}: {} is not a number", config[key]));
        let is_literal = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
        let alphas = config["alpha_pattern"].as_object().into_iter().flatten().map(|(name, alpha)| {
            let alpha = alpha.as_f64().filter(|_| is_literal(name));
            Ok((name.clone(), alpha.ok_or_else(|| format!("alpha_pattern: `{name}` is not supported"))?))
        });
        let size = |value: &Value| value.as_u64().and_then(|rank| usize::try_from(rank).ok());
        let ranks = config["rank_pattern"].as_object().into_iter().flatten();
        let ranks = ranks.map(|(name, rank)| Some((name.clone(), size(rank).filter(|_| is_literal(name))?))).collect();
        let saved = config["modules_to_save"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let modules_to_save: Vec<String> = saved.map(str::to_owned).collect();
        let is_known = |name: &String| ["embed_tokens", "lm_head", "wte"].contains(&name.as_str());
        if let Some(other) = modules_to_save.iter().find(|name| !is_known(name)) {
            return Err(format!("modules_to_save: `{other}` is not supported, only the embeddings"));
        }
        Ok(Self {
            modules_to_save,
            rank: size(&config["r"]),
            ranks,
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

    /// Returns the rank of a module, if it is given; else it is that of the tensors.
    fn rank(&self, module: &str) -> Option<usize> {
        let own = self.ranks.as_ref()?.iter().find(|(name, _)| ends_with_name(module, name));
        own.map(|(_, rank)| *rank).or(self.rank)
    }

    /// Returns the alpha of a module, so that alpha / rank is its scale.
    fn alpha(&self, module: &str, rank: usize) -> f64 {
        let own = self.alphas.iter().find(|(name, _)| ends_with_name(module, name));
        let alpha = own.map_or(self.alpha, |(_, alpha)| *alpha);
        // A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA, 2023: alpha / √rank.
        if self.rank_stabilized { alpha * (rank as f64).sqrt() } else { alpha }
    }
}
