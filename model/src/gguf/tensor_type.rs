//! The number types of tensors.

use std::fmt;

use kernels::blocks::{BlockType, quantize_k, quantize_q4_0, quantize_q8_0};

use crate::Dtype;

/// The number type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// A floating-point type.
    Float(Dtype),
    /// Blocks with a scale.
    Blocks(BlockType),
}

/// The types that are read, with the numbers that files have for them.
const CODES: [(u32, TensorType); 11] = [
    (0, TensorType::Float(Dtype::F32)),
    (1, TensorType::Float(Dtype::F16)),
    (2, TensorType::Blocks(BlockType::Q4_0)),
    (3, TensorType::Blocks(BlockType::Q4_1)),
    (6, TensorType::Blocks(BlockType::Q5_0)),
    (7, TensorType::Blocks(BlockType::Q5_1)),
    (8, TensorType::Blocks(BlockType::Q8_0)),
    (12, TensorType::Blocks(BlockType::Q4_K)),
    (13, TensorType::Blocks(BlockType::Q5_K)),
    (14, TensorType::Blocks(BlockType::Q6_K)),
    (30, TensorType::Float(Dtype::Bf16)),
];

/// Names of ggml's other types, for errors.
const OTHER_NAMES: [(u32, &str); 24] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (4, "Q4_2"),
    (5, "Q4_3"),
];

impl TensorType {
    /// Returns the type of a number in a file.
    pub(super) fn of_code(code: u32) -> Option<Self> {
        CODES.iter().find(|(known, _)| *known == code).map(|(_, tensor_type)| *tensor_type)
    }

    /// Returns the number in a file.
    pub(super) fn code(self) -> u32 {
        CODES.iter().find(|(_, tensor_type)| *tensor_type == self).map_or(0, |(code, _)| *code)
    }

    /// Returns ggml's name of a number in a file.
    pub(super) fn name_of_code(code: u32) -> String {
        let other = || OTHER_NAMES.iter().find(|(known, _)| *known == code).map(|(_, name)| (*name).to_owned());
        Self::of_code(code).map(|known| known.to_string()).or_else(other).unwrap_or_else(|| format!("number {code}"))
    }

    /// Returns the number of values that are stored together.
    pub fn block_len(self) -> usize {
        match self {
            Self::Float(_) => 1,
            Self::Blocks(block_type) => block_type.weights(),
        }
    }

    /// Returns the bytes of a row, or of several; None if `len` values are not whole blocks, or too many to count.
    pub fn bytes(self, len: usize) -> Option<usize> {
        let bytes = match self {
            Self::Float(dtype) => dtype.bytes() as usize,
            Self::Blocks(block_type) => block_type.bytes(),
        };
        len.is_multiple_of(self.block_len()).then(|| (len / self.block_len()).checked_mul(bytes)).flatten()
    }

    /// Returns the values of whole blocks.
    ///
    /// # Panics
    /// Panics if the bytes are not whole blocks.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::Float(dtype) => dtype.decode(bytes),
            Self::Blocks(block_type) => block_type.dequantize(bytes),
        }
    }

    /// As [`decode`](Self::decode), writes the values to `values`.
    ///
    /// # Panics
    /// Panics if the bytes are not whole blocks of as many values.
    pub fn decode_to(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::Float(dtype) => dtype.decode_to(bytes, values),
            Self::Blocks(block_type) => block_type.dequantize_to(bytes, values),
        }
    }

    /// Appends values, a multiple of the block's length, to `bytes`.
    ///
    /// # Errors
    /// Returns the reason if a value is out of the type's range, or the type is not written.
    pub fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), String> {
        let range = match self {
            Self::Float(Dtype::F32 | Dtype::Bf16) => f32::INFINITY,
            Self::Float(Dtype::F16) => Dtype::F16.max(),
            Self::Blocks(BlockType::Q4_0) => Dtype::F16.max() * 8.0,
            Self::Blocks(_) => Dtype::F16.max() * 15.0,
        };
        // In floating point, numbers that are not finite are stored as they are.
        let is_wrong =
            |x: &f32| x.abs() > range && (x.is_finite() || self.block_len() > 1) || x.is_nan() && self.block_len() > 1;
        if let Some(value) = values.iter().find(|x| is_wrong(x)) {
            return Err(format!("has the value {value}, which {self} cannot store (up to {range}); use bf16 or f32"));
        }
        match self {
            Self::Float(dtype) => dtype.encode(values, bytes),
            Self::Blocks(BlockType::Q8_0) => bytes.extend(values.as_chunks().0.iter().flat_map(quantize_q8_0)),
            Self::Blocks(BlockType::Q4_0) => bytes.extend(values.as_chunks().0.iter().flat_map(quantize_q4_0)),
            Self::Blocks(block_type @ (BlockType::Q4_K | BlockType::Q6_K)) => {
                values.as_chunks().0.iter().for_each(|block| quantize_k(block_type, block, bytes));
            }
            Self::Blocks(_) => return Err(format!("cannot be written as {self}, which is only read")),
        }
        Ok(())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(dtype) => f.write_str(&dtype.name().to_uppercase()),
            Self::Blocks(block_type) => write!(f, "{block_type:?}"),
        }
    }
}
