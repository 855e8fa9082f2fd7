//! Options that trade precision or time for memory: the number type, and activation checkpointing.

use burn::tensor::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The number type of the projections, of attention and of the activations between them. Weights, gradients, the
/// residual stream, and the internals of norms, softmax and loss are always f32 (Mixed Precision Training, 2018;
/// bfloat16 has the exponent range of f32, so that the loss needs no scaling).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 8 of them for the exponent.
    Bf16,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Returns the name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Returns the bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// Returns a number rounded to this precision.
    pub(crate) fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::Bf16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Returns the precisions that a device supports.
    pub fn supported(device: &Device) -> Vec<Self> {
        Self::ALL.into_iter().filter(|precision| device.supports_dtype(precision.dtype())).collect()
    }

    /// Checks that a device, called `name`, supports the precision.
    ///
    /// # Errors
    /// Returns an error with the supported precisions if it does not.
    pub fn check(self, device: &Device, name: &str) -> Result<(), Error> {
        let supported = Self::supported(device);
        if supported.contains(&self) {
            return Ok(());
        }
        let supported = supported.into_iter().map(Self::name).collect::<Vec<_>>().join(", ");
        Err(Error::Precision { precision: self.name(), device: name.to_owned(), supported })
    }
}

/// Whether the backward pass recomputes activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationCheckpointing {
    /// All activations are kept.
    Off,
    /// Only the input of each layer is kept; the rest is recomputed, one layer at a time (Training Deep Nets with
    /// Sublinear Memory Cost, 2016). The gradients are the same, on the CPU bit for bit.
    On,
}
