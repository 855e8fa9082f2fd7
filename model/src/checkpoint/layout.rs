//! The tensors of each family's files: names and orientation of the parameters.
//!
//! A parameter's name in this crate is its path in [`crate::Transformer`]. The files of the rotary families have nearly
//! the same names and the same orientation, `[out, in]`; Phi-3 concatenates projections of the same input, and families
//! with norms on the outputs of a layer's parts have other names for them. GPT-2 has its own names, transposed matrices
//! (its `Conv1D` has `[in, out]`), and queries, keys and values concatenated in one tensor.

use std::collections::BTreeMap;

use crate::Family;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileTensor {
    /// Its name in the file.
    pub(super) name: String,
    /// Its dimensions in the file.
    pub(super) shape: Vec<usize>,
    /// The parameters that it consists of, stacked, with the number of rows of each.
    pub(super) parts: Vec<(String, usize)>,
    /// Whether it is transposed in the file.
    pub(super) transposed: bool,
}

/// Returns the tensors of a family's files for parameters of these shapes, sorted by name.
pub(super) fn tensors(family: Family, parameters: &BTreeMap<String, Vec<usize>>) -> Vec<FileTensor> {
    let mut tensors = BTreeMap::<String, Vec<(Location, &String, &Vec<usize>)>>::new();
    for (parameter, shape) in parameters {
        let location = location(family, parameter);
        tensors.entry(location.tensor.clone()).or_default().push((location, parameter, shape));
    }
    tensors
        .into_iter()
        .map(|(name, mut parts)| {
            parts.sort_by_key(|(location, ..)| location.part);
            let transposed = parts[0].0.transposed && parts[0].2.len() == 2;
            let mut shape = parts[0].2.clone();
            shape[0] = parts.iter().map(|(.., shape)| shape[0]).sum();
            if transposed {
                shape.reverse();
            }
            let parts = parts.into_iter().map(|(_, parameter, shape)| (parameter.clone(), shape[0])).collect();
            FileTensor { name, shape, parts, transposed }
        })
        .collect()
}

/// Returns true if a tensor is a buffer that earlier versions of transformers saved: masks and frequencies, which are
/// not parameters.
pub(super) fn is_ignored_buffer(family: Family, name: &str) -> bool {
    match family {
        Family::Gpt2 => name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"),
        _ => name.ends_with("rotary_emb.inv_freq"),
    }
}

/// Returns the names of a tensor that transformers reads, the usual one first: files of `AutoModel`, and GPT-2 as first
/// published, do not have the prefix of the base model, and some files have it once more, on every tensor.
pub(super) fn names(family: Family, name: &str) -> [String; 3] {
    let prefix = if family == Family::Gpt2 { "transformer." } else { "model." };
    [name.to_owned(), name.strip_prefix(prefix).unwrap_or(name).to_owned(), format!("{prefix}{name}")]
}

/// The location of a parameter in a file.
struct Location {
    tensor: String,
    part: usize,
    transposed: bool,
}

fn location(family: Family, parameter: &str) -> Location {
    if family.is_rotary() {
        return rotary_location(family, parameter);
    }
    if let Some((_, tensor)) = GPT2_REST.iter().find(|(name, _)| *name == parameter) {
        return Location { tensor: (*tensor).to_owned(), part: 0, transposed: false };
    }
    let (layer, rest) = parameter.strip_prefix("layers.").and_then(|rest| rest.split_once('.')).unwrap_or_default();
    let (module, kind) = rest.rsplit_once('.').unwrap_or_default();
    let found = GPT2_LAYER.iter().find(|(name, ..)| *name == module);
    let &(_, tensor, part) = found.unwrap_or_else(|| panic!("no tensor for parameter {parameter}"));
    Location { tensor: format!("transformer.h.{layer}.{tensor}.{kind}"), part, transposed: true }
}

fn rotary_location(family: Family, parameter: &str) -> Location {
    let own = |tensor: String| Location { tensor, part: 0, transposed: false };
    if parameter == "lm_head" {
        return own(OUTPUT_PROJECTION.to_owned());
    }
    if parameter == "embed_tokens" {
        return own("model.embed_tokens.weight".to_owned());
    }
    let renamed: &[(&str, &str, usize)] = match family {
        Family::Phi3 => &PHI3_LAYER,
        _ if family.architecture().norm_placement.is_after() => &OUTPUT_NORMS,
        _ => &[],
    };
    let within_layer = parameter.strip_prefix("layers.").and_then(|rest| rest.split_once('.'));
    let found = within_layer.and_then(|(layer, rest)| {
        let (module, kind) = rest.rsplit_once('.')?;
        let (_, tensor, part) = renamed.iter().find(|(name, ..)| *name == module)?;
        Some(Location { tensor: format!("model.layers.{layer}.{tensor}.{kind}"), part: *part, transposed: false })
    });
    found.unwrap_or_else(|| own(format!("model.{parameter}")))
}

/// The modules of a Phi-3 layer with other names: the name in this crate, the name in the file, and the part of that
/// tensor.
const PHI3_LAYER: [(&str, &str, usize); 5] = [
    ("self_attn.q_proj", "self_attn.qkv_proj", 0),
    ("self_attn.k_proj", "self_attn.qkv_proj", 1),
    ("self_attn.v_proj", "self_attn.qkv_proj", 2),
    ("mlp.gate_proj", "mlp.gate_up_proj", 0),
    ("mlp.up_proj", "mlp.gate_up_proj", 1),
];

/// The norms of a layer in families that have some on the outputs of its parts.
const OUTPUT_NORMS: [(&str, &str, usize); 3] = [
    ("attention_output_norm", "post_attention_layernorm", 0),
    ("post_attention_layernorm", "pre_feedforward_layernorm", 0),
    ("mlp_output_norm", "post_feedforward_layernorm", 0),
];

/// The modules of a GPT-2 layer: the name in this crate, the name in the file, and the part of that tensor.
const GPT2_LAYER: [(&str, &str, usize); 8] = [
    ("input_layernorm", "ln_1", 0),
    ("self_attn.q_proj", "attn.c_attn", 0),
    ("self_attn.k_proj", "attn.c_attn", 1),
    ("self_attn.v_proj", "attn.c_attn", 2),
    ("self_attn.o_proj", "attn.c_proj", 0),
    ("post_attention_layernorm", "ln_2", 0),
    ("mlp.up_proj", "mlp.c_fc", 0),
    ("mlp.down_proj", "mlp.c_proj", 0),
];

/// The other parameters of a GPT-2 model.
const GPT2_REST: [(&str, &str); 5] = [
    ("embed_tokens", "transformer.wte.weight"),
    ("embed_positions", "transformer.wpe.weight"),
    ("norm.weight", "transformer.ln_f.weight"),
    ("norm.bias", "transformer.ln_f.bias"),
    ("lm_head", "lm_head.weight"),
];

/// The output projection of every family.
pub(super) const OUTPUT_PROJECTION: &str = "lm_head.weight";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_mapped_to_tensors() {
        let check = |family: Family, parameters: &[(&str, &[usize])], name: &str, shape: &[usize], transposed: bool| {
            let given = parameters.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
            let parts = parameters.iter().map(|(name, shape)| ((*name).to_owned(), shape[0])).collect();
            let expected = FileTensor { name: name.to_owned(), shape: shape.to_vec(), parts, transposed };
            assert_eq!(tensors(family, &given), [expected]);
        };
        let up = "layers.1.mlp.up_proj.weight";
        check(Family::Llama, &[(up, &[48, 32])], "model.layers.1.mlp.up_proj.weight", &[48, 32], false);
        check(Family::Qwen3, &[("norm.weight", &[32])], "model.norm.weight", &[32], false);
        check(Family::Qwen2, &[("embed_tokens", &[50, 32])], "model.embed_tokens.weight", &[50, 32], false);
        check(Family::Qwen2, &[("lm_head", &[50, 32])], "lm_head.weight", &[50, 32], false);
        let gate_up = [("layers.1.mlp.gate_proj.weight", &[48, 32][..]), (up, &[48, 32])];
        check(Family::Phi3, &gate_up, "model.layers.1.mlp.gate_up_proj.weight", &[96, 32], false);
        let (before, after) = ("layers.1.post_attention_layernorm.weight", "layers.1.attention_output_norm.weight");
        check(Family::Gemma2, &[(before, &[32])], "model.layers.1.pre_feedforward_layernorm.weight", &[32], false);
        check(Family::Olmo2, &[(after, &[32])], "model.layers.1.post_attention_layernorm.weight", &[32], false);
        check(Family::Gpt2, &[(up, &[128, 32])], "transformer.h.1.mlp.c_fc.weight", &[32, 128], true);
        check(Family::Gpt2, &[("embed_positions", &[64, 32])], "transformer.wpe.weight", &[64, 32], false);
        check(Family::Gpt2, &[("layers.0.input_layernorm.bias", &[32])], "transformer.h.0.ln_1.bias", &[32], false);
        let [q, k, v] = ["q", "k", "v"].map(|x| format!("layers.0.self_attn.{x}_proj.weight"));
        let attention = [(&*q, &[32, 32][..]), (&*k, &[32, 32]), (&*v, &[32, 32])];
        check(Family::Gpt2, &attention, "transformer.h.0.attn.c_attn.weight", &[32, 96], true);
    }
}
