//! Where the families' files have the parameters: names and orientation.
//!
//! A parameter's name inside this crate is its path in [`crate::Transformer`]. The rotary families have nearly the same
//! names and the same orientation, `[out, in]`. GPT-2 has names of its own, matrices that lie the other way round (its
//! `Conv1D` has `[in, out]`), and queries, keys and values side by side in one.

use std::collections::BTreeMap;

use crate::Family;

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileTensor {
    /// Its name in the file.
    pub(super) name: String,
    /// Its dimensions in the file.
    pub(super) shape: Vec<usize>,
    /// The parameters that it is made of, one below the other, and how many rows each has.
    pub(super) parts: Vec<(String, usize)>,
    /// Whether it lies the other way round in the file.
    pub(super) turned: bool,
}

/// Returns the tensors of a family's file for parameters of these shapes, in the order of their names.
pub(super) fn tensors(family: Family, parameters: &BTreeMap<String, Vec<usize>>) -> Vec<FileTensor> {
    let mut tensors = BTreeMap::<String, Vec<(Place, &String, &Vec<usize>)>>::new();
    for (parameter, shape) in parameters {
        let place = place(family, parameter);
        tensors.entry(place.tensor.clone()).or_default().push((place, parameter, shape));
    }
    tensors
        .into_iter()
        .map(|(name, mut parts)| {
            parts.sort_by_key(|(place, ..)| place.part);
            let turned = parts[0].0.turned && parts[0].2.len() == 2;
            let mut shape = parts[0].2.clone();
            shape[0] = parts.iter().map(|(.., shape)| shape[0]).sum();
            if turned {
                shape.reverse();
            }
            let parts = parts.into_iter().map(|(_, parameter, shape)| (parameter.clone(), shape[0])).collect();
            FileTensor { name, shape, parts, turned }
        })
        .collect()
}

/// Tells whether a tensor that no model here needs may lie in a family's file all the same: buffers that transformers
/// once saved, which hold masks and frequencies and nothing learned.
pub(super) fn is_harmless(family: Family, name: &str) -> bool {
    match family {
        Family::Gpt2 => name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"),
        _ => name.ends_with("rotary_emb.inv_freq"),
    }
}

/// Returns the name without what `AutoModel` leaves out: files of a bare model, and GPT-2 as first published.
pub(super) fn bare(name: &str) -> &str {
    name.strip_prefix("transformer.").or_else(|| name.strip_prefix("model.")).unwrap_or(name)
}

/// Where a parameter is.
struct Place {
    tensor: String,
    part: usize,
    turned: bool,
}

fn place(family: Family, parameter: &str) -> Place {
    if family.is_rotary() {
        let tensor = match parameter {
            "lm_head" => "lm_head.weight".to_owned(),
            "embed_tokens" => "model.embed_tokens.weight".to_owned(),
            other => format!("model.{other}"),
        };
        return Place { tensor, part: 0, turned: false };
    }
    if let Some((_, there)) = GPT2_REST.iter().find(|(here, _)| *here == parameter) {
        return Place { tensor: (*there).to_owned(), part: 0, turned: false };
    }
    let (layer, rest) = parameter.strip_prefix("layers.").and_then(|rest| rest.split_once('.')).unwrap_or_default();
    let (module, kind) = rest.rsplit_once('.').unwrap_or_default();
    let found = GPT2_LAYER.iter().find(|(here, ..)| *here == module);
    let &(_, there, part) = found.unwrap_or_else(|| panic!("no place for parameter {parameter}"));
    Place { tensor: format!("transformer.h.{layer}.{there}.{kind}"), part, turned: true }
}

/// The modules of a GPT-2 layer: the name here, the name there, and which part of it.
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

/// The rest of a GPT-2 model.
const GPT2_REST: [(&str, &str); 5] = [
    ("embed_tokens", "transformer.wte.weight"),
    ("embed_positions", "transformer.wpe.weight"),
    ("norm.weight", "transformer.ln_f.weight"),
    ("norm.bias", "transformer.ln_f.bias"),
    ("lm_head", "lm_head.weight"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_their_place() {
        let check = |family: Family, parameters: &[(&str, &[usize])], name: &str, shape: &[usize], turned: bool| {
            let given = parameters.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
            let parts = parameters.iter().map(|(name, shape)| ((*name).to_owned(), shape[0])).collect();
            let expected = FileTensor { name: name.to_owned(), shape: shape.to_vec(), parts, turned };
            assert_eq!(tensors(family, &given), [expected]);
        };
        let up = "layers.1.mlp.up_proj.weight";
        check(Family::Llama, &[(up, &[48, 32])], "model.layers.1.mlp.up_proj.weight", &[48, 32], false);
        check(Family::Qwen3, &[("norm.weight", &[32])], "model.norm.weight", &[32], false);
        check(Family::Qwen2, &[("embed_tokens", &[50, 32])], "model.embed_tokens.weight", &[50, 32], false);
        check(Family::Qwen2, &[("lm_head", &[50, 32])], "lm_head.weight", &[50, 32], false);
        check(Family::Gpt2, &[(up, &[128, 32])], "transformer.h.1.mlp.c_fc.weight", &[32, 128], true);
        check(Family::Gpt2, &[("embed_positions", &[64, 32])], "transformer.wpe.weight", &[64, 32], false);
        check(Family::Gpt2, &[("layers.0.input_layernorm.bias", &[32])], "transformer.h.0.ln_1.bias", &[32], false);
        let [q, k, v] = ["q", "k", "v"].map(|x| format!("layers.0.self_attn.{x}_proj.weight"));
        let attention = [(&*q, &[32, 32][..]), (&*k, &[32, 32]), (&*v, &[32, 32])];
        check(Family::Gpt2, &attention, "transformer.h.0.attn.c_attn.weight", &[32, 96], true);
    }
}
