//! The number type that a model computes in.

use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The number type of the projections, of attention and of what lies between them. Weights and gradients, the residual
/// stream, and the insides of norms, softmax and loss are f32 in either (Mixed Precision Training, 2018; bfloat16 has
/// the exponents of f32, so losses are not scaled).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 8 of them for the exponent.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Returns its name, as configurations have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Returns how many bytes a number takes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Returns those that a device computes in.
    pub fn supported(device: &Device) -> Vec<Self> {
        Self::ALL.into_iter().filter(|precision| device.supports_dtype(precision.dtype())).collect()
    }

    /// Checks that a device, called `name`, computes in it.
    ///
    /// # Errors
    /// When it does not; says in what it does.
    pub fn check(self, device: &Device, name: &str) -> Result<(), Error> {
        let supported = Self::supported(device);
        if supported.contains(&self) {
            return Ok(());
        }
        let supported = supported.into_iter().map(Self::name).collect::<Vec<_>>().join(", ");
        Err(Error::Precision { precision: self.name(), device: name.to_owned(), supported })
    }
}
