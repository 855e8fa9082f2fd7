//! The types of files: which number type each tensor has.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kernels::blocks::BlockType;

use super::TensorType;
use super::layout::{self, FileTensor, POSITIONS};
use crate::{Dtype, ModelConfig};

/// The number type of the matrices of a file; vectors are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the names of the formats")]
pub enum Quantization {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// Brain floating point.
    Bf16,
    /// 8 bits and a scale for each 32 weights: 8.5 bits a weight.
    Q8_0,
    /// 4 bits and a scale for each 32 weights: 4.5 bits a weight. The output projection has 8.5, as the matrix that
    /// loses most.
    Q4_0,
    /// 4 bits, with scales and offsets in groups of 256 weights: 4.5 bits a weight; the output projection, and values
    /// and down projections of half the layers, have 6.6.
    Q4_K_M,
    /// 6 bits, with scales in groups of 256 weights: 6.6 bits a weight.
    Q6_K,
}

impl Quantization {
    /// Every type.
    pub const ALL: [Self; 7] = [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0, Self::Q4_K_M, Self::Q6_K];

    /// Returns the name in commands and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_K_M => "q4_k_m",
            Self::Q6_K => "q6_k",
        }
    }

    /// Returns the type of the values that a file has: f32 where they are dequantised.
    pub fn stored_dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            _ => Dtype::F32,
        }
    }

    /// Returns llama.cpp's number of a file of this type.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4_K_M => 15,
            Self::Q6_K => 18,
            Self::Bf16 => 32,
        }
    }

    /// Returns the type of a matrix whose rows may have any length.
    fn preferred(self, name: &str, is_output: bool, n_layer: usize) -> TensorType {
        TensorType::Blocks(match self {
            Self::F32 => return TensorType::Float(Dtype::F32),
            Self::F16 => return TensorType::Float(Dtype::F16),
            Self::Bf16 => return TensorType::Float(Dtype::Bf16),
            Self::Q8_0 => BlockType::Q8_0,
            Self::Q4_0 => {
                if is_output {
                    BlockType::Q8_0
                } else {
                    BlockType::Q4_0
                }
            }
            Self::Q4_K_M => {
                if is_output || has_more_bits(name, n_layer) {
                    BlockType::Q6_K
                } else {
                    BlockType::Q4_K
                }
            }
            Self::Q6_K => BlockType::Q6_K,
        })
    }

    /// Returns the parameters that a file of this type has in blocks.
    pub fn blocks(self, config: &ModelConfig) -> BTreeMap<String, BlockType> {
        let mut blocks = BTreeMap::new();
        for tensor in layout::tensors(config) {
            if let (TensorType::Blocks(block_type), _) = self.tensor_type(&tensor, config) {
                blocks.extend(tensor.parts.into_iter().map(|(parameter, _)| (parameter, block_type)));
            }
        }
        blocks
    }

    /// Returns the type of a tensor, and whether its size does not allow the usual one.
    pub(super) fn tensor_type(self, tensor: &FileTensor, config: &ModelConfig) -> (TensorType, bool) {
        // As llama.cpp has them: norms, biases and learned positions.
        if tensor.shape.len() < 2 || tensor.name == POSITIONS {
            return (TensorType::Float(Dtype::F32), false);
        }
        let first = &tensor.parts[0].0;
        let is_output = first == "lm_head" || (config.tied_embeddings && first == "embed_tokens");
        let row = tensor.shape[tensor.shape.len() - 1];
        let preferred = self.preferred(&tensor.name, is_output, config.n_layer);
        let types = [preferred, TensorType::Blocks(BlockType::Q8_0), TensorType::Float(Dtype::F16)];
        let fits = |tensor_type: &TensorType| row.is_multiple_of(tensor_type.block_len());
        let found = types.into_iter().find(fits).unwrap_or(preferred);
        (found, found != preferred)
    }
}

/// Returns true for the matrices to which llama.cpp gives more bits in `Q4_K_M`: of the values and down projections,
/// those of the first and last eighth of the layers and of every third between; and fused ones, of which values are a
/// part.
fn has_more_bits(name: &str, n_layer: usize) -> bool {
    let layer = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let Some((layer, module)) = layer.and_then(|(layer, module)| Some((layer.parse::<usize>().ok()?, module))) else {
        return false;
    };
    let eighth = n_layer / 8;
    let is_chosen = layer < eighth || layer >= 7 * n_layer / 8 || (layer - eighth) % 3 == 2;
    module == "attn_qkv.weight" || (is_chosen && ["attn_v.weight", "ffn_down.weight"].contains(&module))
}

impl From<Dtype> for Quantization {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|quantization| quantization.name() == text);
        named.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}
