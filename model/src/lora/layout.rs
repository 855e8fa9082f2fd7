//! PEFT's layout: the files of an adapter, and the names of its tensors.

use super::{ROLES, embedding_path, module_path};
use crate::config::Family;
use crate::{ModelConfig, checkpoint};

/// The configuration of the adapters.
pub const CONFIG: &str = "adapter_config.json";

/// The weights of the adapters.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// The key of the one entry in the metadata of [`WEIGHTS`].
pub(super) const METADATA: &str = "adapter";

/// The key of [`base_digest`](super::base_digest) in that entry, which PEFT neither writes nor reads.
pub(super) const BASE: &str = "base_sha256";

/// The key in that entry that marks the adapters of concatenated projections as blocks.
pub(super) const BLOCKS: &str = "c_attn_blocks";

/// A projection: the layer, the path within it and the `[O, I]`.
pub(super) type Projection = (usize, &'static str, [usize; 2]);

/// Returns every projection of a model, layer by layer.
pub(super) fn projections(config: &ModelConfig) -> Vec<Projection> {
    let shapes = checkpoint::shapes_of(config);
    let all = (0..config.n_layer).flat_map(|layer| ROLES.map(|role| (layer, role)));
    let with_shape = |(layer, role)| match shapes.get(&format!("layers.{layer}.{role}.weight"))?[..] {
        [outputs, inputs] => Some((layer, role, [outputs, inputs])),
        _ => None,
    };
    all.filter_map(with_shape).collect()
}

/// Returns the paths of projections in transformers; those that it concatenates have the same one.
pub(super) fn module_paths(family: Family, projections: &[Projection]) -> Vec<String> {
    let mut paths: Vec<String> = projections.iter().map(|(i, role, _)| module_path(family, *i, role)).collect();
    paths.dedup();
    paths
}

/// Returns the name of the tensor with an embedding that is saved in full.
pub(super) fn saved_name(family: Family, name: &str) -> String {
    format!("base_model.model.{}.weight", embedding_path(family, name))
}

/// Returns the name of the tensor with a module's A or B.
pub(super) fn tensor_name(module: &str, letter: &str) -> String {
    format!("base_model.model.{module}.lora_{letter}.weight")
}
