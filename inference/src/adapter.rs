//! Adapters that are computed beside the weights of their base, instead of being merged into them (LoRA: Low-Rank
//! Adaptation of Large Language Models, 2021).
//!
//! The base is in memory once, whatever the number of its adapters, and rows of different adapters and of the base are
//! read in the same forward pass (Punica: Multi-Tenant LoRA Serving, 2023).

pub(crate) mod low_rank;

use std::path::Path;

use model::lora::{self, StoredAdapter, StoredBase};
use model::{ModelConfig, Transformer};
use sha2::{Digest, Sha256};

use crate::Error;
use low_rank::LayerAdapter;

/// An adapter in memory, for the forward pass that its [`AdapterBase`] came with.
pub struct Adapter {
    weights: Weights,
    digest: [u8; 32],
}

enum Weights {
    Packed(Vec<LayerAdapter>),
    /// The base with the adapter; it has its tensors in common with the base.
    Attached(Box<Transformer>),
}

/// What loads the adapters of a model.
pub struct AdapterBase {
    config: ModelConfig,
    kind: BaseKind,
}

enum BaseKind {
    /// The model of an engine, in files.
    Stored(StoredBase),
    /// A model on a device.
    Loaded(Box<Transformer>),
}

impl AdapterBase {
    /// Returns what loads the adapters of an engine whose model is at `path`: a folder in the Hugging Face layout, or a
    /// GGUF file.
    pub fn of_files(config: ModelConfig, path: &Path) -> Self {
        Self { config, kind: BaseKind::Stored(StoredBase::new(path)) }
    }

    /// Returns what loads the adapters of a model on a device, for its [`BurnForward`](crate::BurnForward).
    pub fn of_model(model: Transformer) -> Self {
        Self { config: model.config().clone(), kind: BaseKind::Loaded(Box::new(model)) }
    }

    /// Loads the adapter in `folder`, which is in PEFT's layout.
    ///
    /// # Errors
    /// Names the file, and the key or tensor, that is missing, damaged, not supported, or does not match the model.
    pub fn load(&self, folder: &Path) -> Result<Adapter, Error> {
        let stored = StoredAdapter::read(&self.config, folder)?;
        if let Some((name, _)) = stored.embeddings.first() {
            let reason = format!(
                "modules_to_save: `{name}` is not supported beside a base that others use; serve the merged model"
            );
            let path = folder.join(lora::CONFIG);
            return Err(model::Error::ConfigFile { path, source: reason.into() }.into());
        }
        let weights = match &self.kind {
            BaseKind::Stored(base) => {
                base.check(&stored)?;
                Weights::Packed(LayerAdapter::layers(&self.config, &stored))
            }
            BaseKind::Loaded(base) => Weights::Attached(Box::new(lora::load((**base).clone(), folder)?)),
        };
        Ok(Adapter { weights, digest: digest(&stored) })
    }
}

impl Adapter {
    /// Returns a digest of what the adapter adds.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Returns the bytes of the matrices that an engine holds beside its base; 0 on another device.
    pub fn bytes(&self) -> usize {
        self.layers().map_or(0, |layers| layers.iter().map(LayerAdapter::bytes).sum())
    }

    /// Returns what it adds to each layer, if it is that of an engine.
    pub(crate) fn layers(&self) -> Option<&[LayerAdapter]> {
        match &self.weights {
            Weights::Packed(layers) => Some(layers),
            Weights::Attached(_) => None,
        }
    }

    /// Returns the base with the adapter, if it is that of a model on a device.
    pub(crate) fn model(&self) -> Option<&Transformer> {
        match &self.weights {
            Weights::Packed(_) => None,
            Weights::Attached(model) => Some(model),
        }
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter").field("digest", &self.digest).finish_non_exhaustive()
    }
}

fn digest(stored: &StoredAdapter) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for projection in &stored.projections {
        let (lora::Values { a, b, rank, alpha, .. }, role) = (&projection.values, projection.role);
        hasher.update(format!("{} {role} {rank} {:016x}\n", projection.layer, alpha.to_bits()));
        for values in [a, b] {
            for chunk in values.chunks(1 << 14) {
                hasher.update(chunk.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
    }
    hasher.finalize().into()
}
