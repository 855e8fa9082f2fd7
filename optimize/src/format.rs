//! The formats of a model's weights.

use kernels::blocks::BlockType;
use model::compressed_tensors::Integers;
use model::gguf::Quantization;
use model::{Dtype, ModelConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A format of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[allow(non_camel_case_types, reason = "the names of the formats")]
pub enum Format {
    /// IEEE single precision.
    #[serde(rename = "f32")]
    F32,
    /// Brain floating point.
    #[serde(rename = "bf16")]
    Bf16,
    /// IEEE half precision.
    #[serde(rename = "f16")]
    F16,
    /// Integers of 8 bits with a scale for each 32.
    #[serde(rename = "int8")]
    Int8,
    /// Integers of 4 bits with a scale for each 32.
    #[serde(rename = "int4")]
    Int4,
    /// A GGUF file in IEEE single precision.
    #[serde(rename = "gguf-f32")]
    GgufF32,
    /// A GGUF file in brain floating point.
    #[serde(rename = "gguf-bf16")]
    GgufBf16,
    /// A GGUF file in IEEE half precision.
    #[serde(rename = "gguf-f16")]
    GgufF16,
    /// A GGUF file with integers of 8 bits.
    #[serde(rename = "gguf-q8_0")]
    GgufQ8_0,
    /// A GGUF file with integers of 4 bits.
    #[serde(rename = "gguf-q4_0")]
    GgufQ4_0,
    /// A GGUF file with integers of 4 bits in groups with scales and offsets, and some matrices of 6 bits.
    #[serde(rename = "gguf-q4_k_m")]
    GgufQ4_K_M,
    /// A GGUF file with integers of 6 bits.
    #[serde(rename = "gguf-q6_k")]
    GgufQ6_K,
}

/// How a format is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Safetensors(Safetensors),
    Gguf(Quantization),
}

/// The Hugging Face layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Safetensors {
    /// The type of the tensors that are not quantised.
    pub(crate) dtype: Dtype,
    /// The integers that matrices are quantised to.
    pub(crate) integers: Option<Integers>,
}

impl Format {
    /// Every format.
    pub(crate) const ALL: [Self; 12] = [
        Self::F32,
        Self::Bf16,
        Self::F16,
        Self::Int8,
        Self::Int4,
        Self::GgufF32,
        Self::GgufBf16,
        Self::GgufF16,
        Self::GgufQ8_0,
        Self::GgufQ4_0,
        Self::GgufQ4_K_M,
        Self::GgufQ6_K,
    ];

    /// Returns the name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::GgufF32 => "gguf-f32",
            Self::GgufBf16 => "gguf-bf16",
            Self::GgufF16 => "gguf-f16",
            Self::GgufQ8_0 => "gguf-q8_0",
            Self::GgufQ4_0 => "gguf-q4_0",
            Self::GgufQ4_K_M => "gguf-q4_k_m",
            Self::GgufQ6_K => "gguf-q6_k",
        }
    }

    pub(crate) fn layout(self) -> Layout {
        let safetensors = |dtype, integers| Layout::Safetensors(Safetensors { dtype, integers });
        match self {
            Self::F32 => safetensors(Dtype::F32, None),
            Self::Bf16 => safetensors(Dtype::Bf16, None),
            Self::F16 => safetensors(Dtype::F16, None),
            // The rest as scales are.
            Self::Int8 => safetensors(Dtype::F16, Some(Integers::Int8)),
            Self::Int4 => safetensors(Dtype::F16, Some(Integers::Int4)),
            Self::GgufF32 => Layout::Gguf(Quantization::F32),
            Self::GgufBf16 => Layout::Gguf(Quantization::Bf16),
            Self::GgufF16 => Layout::Gguf(Quantization::F16),
            Self::GgufQ8_0 => Layout::Gguf(Quantization::Q8_0),
            Self::GgufQ4_0 => Layout::Gguf(Quantization::Q4_0),
            Self::GgufQ4_K_M => Layout::Gguf(Quantization::Q4_K_M),
            Self::GgufQ6_K => Layout::Gguf(Quantization::Q6_K),
        }
    }

    /// Returns true if matrices become integers.
    pub(crate) fn is_quantized(self) -> bool {
        match self.layout() {
            Layout::Safetensors(safetensors) => safetensors.integers.is_some(),
            Layout::Gguf(quantization) => {
                !matches!(quantization, Quantization::F32 | Quantization::Bf16 | Quantization::F16)
            }
        }
    }

    /// Returns true if a scale may be another than that of the block's largest weight, so that importance matters.
    pub(crate) fn has_chosen_scales(self) -> bool {
        self.is_quantized() && !matches!(self, Self::Int8 | Self::GgufQ8_0)
    }

    /// Returns the parameters that the format has in blocks of integers.
    pub(crate) fn blocks(self, config: &ModelConfig) -> Vec<(String, BlockType)> {
        match self.layout() {
            // The layout of compressed-tensors has no transposed matrices, which GPT-2's are.
            Layout::Safetensors(_) if !config.family.is_rotary() => Vec::new(),
            Layout::Safetensors(Safetensors { integers, .. }) => {
                let Some(integers) = integers else { return Vec::new() };
                // Blocks of 32, too.
                let names = Quantization::Q8_0.blocks(config).into_keys();
                names.map(|name| (name, integers.block_type())).collect()
            }
            Layout::Gguf(quantization) => quantization.blocks(config).into_iter().collect(),
        }
    }
}
