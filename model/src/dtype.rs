//! The number types that weights, and keys and values, are stored in.

use half::{bf16, f16};
use kernels::slices::KvType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A floating-point type of the tensors in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE single precision: 24 bits of precision.
    F32,
    /// IEEE half precision: 11 bits of precision, values to 65,504.
    F16,
    /// Brain floating point: 8 bits of precision, the range of `f32`.
    Bf16,
}

impl Dtype {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Returns the type that a safetensors file names; None for types that are not read as weights.
    pub fn from_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        Self::ALL.into_iter().find(|known| safetensors::Dtype::from(*known) == dtype)
    }

    /// Returns true if tensors of this type in a file are read as weights: those above, and F64, which is rounded.
    pub fn is_read_from(stored: safetensors::Dtype) -> bool {
        stored == safetensors::Dtype::F64 || Self::from_safetensors(stored).is_some()
    }

    /// Returns the numbers of a tensor's bytes in a file; None for types that are not read as weights.
    pub fn decode_stored(stored: safetensors::Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
        if stored == safetensors::Dtype::F64 {
            return Some(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect());
        }
        Some(Self::from_safetensors(stored)?.decode(bytes))
    }

    /// Returns the name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Returns the name in `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Returns the type that a `config.json` names, by any of PyTorch's names; None for types that weights are not
    /// written in.
    pub fn from_torch_name(name: &str) -> Option<Self> {
        match name.strip_prefix("torch.").unwrap_or(name) {
            "float32" | "float" => Some(Self::F32),
            "float16" | "half" => Some(Self::F16),
            "bfloat16" => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Returns the bytes of a number.
    pub fn bytes(self) -> u64 {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Returns the largest finite number.
    pub fn max(self) -> f32 {
        match self {
            Self::F32 => f32::MAX,
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
        }
    }

    /// Appends numbers to `bytes` in little-endian order, rounded to the nearest, ties to even.
    pub fn encode(self, values: &[f32], bytes: &mut Vec<u8>) {
        match self {
            Self::F32 => bytes.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            Self::F16 => bytes.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
            Self::Bf16 => bytes.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
        }
    }

    /// Returns the numbers of a tensor's bytes.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / self.bytes() as usize];
        self.decode_to(bytes, &mut values);
        values
    }

    /// Writes the numbers of a tensor's bytes to `values`, as many as it holds.
    pub fn decode_to(self, bytes: &[u8], values: &mut [f32]) {
        match self {
            Self::F32 => decode_each(bytes, values, f32::from_le_bytes),
            Self::F16 => decode_each(bytes, values, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Self::Bf16 => decode_each(bytes, values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
    }
}

/// The number type of the keys and values in a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KvCacheDtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// 8-bit integers, with a scale for each token and head.
    Int8,
}

impl KvCacheDtype {
    /// Returns the name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

impl From<KvCacheDtype> for KvType {
    fn from(dtype: KvCacheDtype) -> Self {
        match dtype {
            KvCacheDtype::F32 => Self::F32,
            KvCacheDtype::F16 => Self::F16,
            KvCacheDtype::Int8 => Self::Int8,
        }
    }
}

fn decode_each<const N: usize>(bytes: &[u8], values: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    for (x, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        *x = decode(*bytes);
    }
}

impl From<Dtype> for safetensors::Dtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
        }
    }
}
