//! The tensors of a file: names, and how their values differ from the parameters of this crate.

use std::collections::BTreeMap;

use crate::checkpoint::stored::RowOrder;
use crate::config::NormKind;
use crate::{Family, ModelConfig, checkpoint};

/// The token embedding.
pub(super) const EMBEDDING: &str = "token_embd.weight";

/// The learned positions.
pub(super) const POSITIONS: &str = "position_embd.weight";

/// The output projection.
pub(super) const OUTPUT: &str = "output.weight";

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileTensor {
    /// Its name in the file.
    pub(super) name: String,
    /// Its dimensions, rows first.
    pub(super) shape: Vec<usize>,
    /// The parameters that it consists of, stacked, with the number of rows of each.
    pub(super) parts: Vec<(String, usize)>,
    /// How its values differ from the parameters'.
    pub(super) change: Change,
}

/// How the values of a tensor in a file differ from those of its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Not at all.
    None,
    /// The rows of each of so many heads: here, element `i` is rotated with element `i` + C / 2 (RoFormer in the form
    /// of Hugging Face); in the file with its neighbour.
    Interleaved(usize),
    /// The file has 1 + weight.
    PlusOne,
}

impl Change {
    /// Returns the values of the file for rows of a parameter.
    pub(super) fn apply(self, values: &[f32], columns: usize) -> Vec<f32> {
        match self {
            Self::None => values.to_vec(),
            Self::Interleaved(heads) => reordered(values, columns, heads, |i, half| i % 2 * half + i / 2),
            Self::PlusOne => values.iter().map(|x| 1.0 + x).collect(),
        }
    }

    /// Returns the rows of the file for rows of a matrix in blocks.
    pub(super) fn apply_to_blocks(self, blocks: Vec<u8>, rows: usize) -> Vec<u8> {
        match self {
            Self::None => blocks,
            Self::Interleaved(heads) => reordered(&blocks, blocks.len() / rows, heads, |i, half| i % 2 * half + i / 2),
            Self::PlusOne => panic!("of vectors, which are never in blocks"),
        }
    }

    /// Returns the values of a parameter, a vector, for those of the file.
    pub(super) fn revert(self, values: &[f32]) -> Vec<f32> {
        let order = self.row_order(values.len());
        let added = if self == Self::PlusOne { 1.0 } else { 0.0 };
        (0..values.len()).map(|row| values[order.in_file(row)] - added).collect()
    }

    /// Returns the order of the rows in the file, of so many.
    pub(super) fn row_order(self, rows: usize) -> RowOrder {
        match self {
            Self::Interleaved(heads) => RowOrder::Interleaved { head_rows: rows / heads },
            Self::None | Self::PlusOne => RowOrder::Same,
        }
    }
}

/// Returns the rows of each head in another order: `source` gives the row within the head from a row and half their
/// number.
fn reordered<T: Copy>(values: &[T], columns: usize, heads: usize, source: impl Fn(usize, usize) -> usize) -> Vec<T> {
    let rows_of_head = values.len() / columns / heads;
    let mut reordered = Vec::with_capacity(values.len());
    for head in values.chunks_exact(rows_of_head * columns) {
        for row in 0..rows_of_head {
            reordered.extend_from_slice(&head[source(row, rows_of_head / 2) * columns..][..columns]);
        }
    }
    reordered
}

/// Returns the tensors of a model's file, in the order of llama.cpp's files: the embeddings, the layers, the rest.
pub(super) fn tensors(config: &ModelConfig) -> Vec<FileTensor> {
    let parameters = checkpoint::shapes_of(config);
    let mut tensors = BTreeMap::<(usize, String), Vec<Part<'_>>>::new();
    for (parameter, shape) in &parameters {
        let (block, name, part) = location(config.family, parameter);
        tensors.entry((block, name)).or_default().push((part, parameter, shape));
    }
    tensors
        .into_iter()
        .map(|((_, name), mut parts)| {
            parts.sort_unstable();
            let mut shape = parts[0].2.to_vec();
            shape[0] = parts.iter().map(|(.., shape)| shape[0]).sum();
            let change = change(config, parts[0].1);
            let parts = parts.into_iter().map(|(_, parameter, shape)| (parameter.to_owned(), shape[0])).collect();
            FileTensor { name, shape, parts, change }
        })
        .collect()
}

/// The position of a parameter in its tensor, its name and its dimensions.
type Part<'a> = (usize, &'a str, &'a [usize]);

fn change(config: &ModelConfig, parameter: &str) -> Change {
    let is_interleaved = matches!(config.family, Family::Llama | Family::Mistral | Family::SmolLm3);
    if is_interleaved && parameter.contains(".self_attn.q_proj.") {
        Change::Interleaved(config.n_head)
    } else if is_interleaved && parameter.contains(".self_attn.k_proj.") {
        Change::Interleaved(config.n_kv_head)
    } else if config.family.architecture().norm == NormKind::RmsFromOne && parameter.ends_with("norm.weight") {
        Change::PlusOne
    } else {
        Change::None
    }
}

/// Returns the place of a parameter: the order of its block, its tensor, and its part of that.
fn location(family: Family, parameter: &str) -> (usize, String, usize) {
    let rest = |order, name: &str| (order, name.to_owned(), 0);
    match parameter {
        "embed_tokens" => return rest(0, EMBEDDING),
        "embed_positions" => return rest(0, POSITIONS),
        "lm_head" => return rest(usize::MAX, OUTPUT),
        "norm.weight" => return rest(usize::MAX, "output_norm.weight"),
        "norm.bias" => return rest(usize::MAX, "output_norm.bias"),
        _ => {}
    }
    let found = parameter.strip_prefix("layers.").and_then(|rest| {
        let (layer, rest) = rest.split_once('.')?;
        let (module, kind) = rest.rsplit_once('.')?;
        let fused: &[(&str, &str, usize)] = match family {
            Family::Gpt2 => &FUSED_ATTENTION,
            Family::Phi3 => &FUSED,
            _ => &[],
        };
        let (_, tensor, part) = fused.iter().chain(&MODULES).find(|(name, ..)| *name == module)?;
        Some((layer.parse::<usize>().ok()? + 1, format!("blk.{layer}.{tensor}.{kind}"), *part))
    });
    found.unwrap_or_else(|| panic!("no tensor for parameter {parameter}"))
}

/// The modules of a layer: the name in this crate, the name in the file, and the part of that tensor.
const MODULES: [(&str, &str, usize); 13] = [
    ("input_layernorm", "attn_norm", 0),
    ("self_attn.q_proj", "attn_q", 0),
    ("self_attn.k_proj", "attn_k", 0),
    ("self_attn.v_proj", "attn_v", 0),
    ("self_attn.o_proj", "attn_output", 0),
    ("self_attn.q_norm", "attn_q_norm", 0),
    ("self_attn.k_norm", "attn_k_norm", 0),
    ("attention_output_norm", "post_attention_norm", 0),
    ("post_attention_layernorm", "ffn_norm", 0),
    ("mlp.gate_proj", "ffn_gate", 0),
    ("mlp.up_proj", "ffn_up", 0),
    ("mlp.down_proj", "ffn_down", 0),
    ("mlp_output_norm", "post_ffw_norm", 0),
];

/// The modules of GPT-2 that are one tensor.
const FUSED_ATTENTION: [(&str, &str, usize); 3] =
    [("self_attn.q_proj", "attn_qkv", 0), ("self_attn.k_proj", "attn_qkv", 1), ("self_attn.v_proj", "attn_qkv", 2)];

/// The modules of Phi-3 that are one tensor.
const FUSED: [(&str, &str, usize); 5] = [
    FUSED_ATTENTION[0],
    FUSED_ATTENTION[1],
    FUSED_ATTENTION[2],
    ("mlp.gate_proj", "ffn_up", 0),
    ("mlp.up_proj", "ffn_up", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_the_halves_of_a_head() {
        let check = |change: Change, columns: usize, values: &[f32], expected: &[f32]| {
            assert_eq!(change.apply(values, columns), expected);
            let order = change.row_order(expected.len() / columns);
            for (row, values) in values.chunks(columns).enumerate() {
                let found = &expected[order.in_file(row) * columns..][..columns];
                assert!(change == Change::PlusOne || found == values);
            }
            assert!(columns > 1 || change.revert(expected) == values);
        };
        let rows: Vec<f32> = (0..8).map(|i| i as f32).collect();
        check(Change::Interleaved(1), 1, &rows, &[0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
        check(Change::Interleaved(2), 1, &rows, &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        check(Change::Interleaved(1), 2, &rows, &[0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        let bytes = (0..8).collect::<Vec<u8>>();
        assert_eq!(Change::Interleaved(1).apply_to_blocks(bytes.clone(), 4), [0, 1, 4, 5, 2, 3, 6, 7]);
        assert_eq!(Change::None.apply_to_blocks(bytes.clone(), 4), bytes);
        check(Change::PlusOne, 1, &[0.5, -1.0], &[1.5, 0.0]);
        check(Change::None, 1, &rows, &rows);
    }
}
