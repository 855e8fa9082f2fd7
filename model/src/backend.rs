//! The backends that models compute on.

use burn::tensor::Device;

/// A class of device: the part of a device that may change results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// burn-flex, with the fused operations of crate `kernels`.
    Cpu,
    /// A GPU through wgpu.
    Wgpu,
    /// A GPU through Vulkan; cargo feature `vulkan`.
    Vulkan,
    /// A GPU through Metal; cargo feature `metal`.
    Metal,
    /// A GPU through CUDA; cargo feature `cuda`.
    Cuda,
    /// burn-ndarray, without fused operations; cargo feature `ndarray`.
    Ndarray,
}

impl Backend {
    /// Every backend, whether or not this build has it.
    pub const ALL: [Self; 6] = [Self::Cpu, Self::Wgpu, Self::Vulkan, Self::Metal, Self::Cuda, Self::Ndarray];

    /// Returns the name in configurations and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::Ndarray => "ndarray",
        }
    }

    /// Returns true if this is the backend with the fused operations of the CPU.
    pub fn is_cpu(self) -> bool {
        self == Self::Cpu
    }

    /// Returns true if `device`, with or without autodiff, belongs to [`Backend::Cpu`].
    pub fn is_cpu_device(device: &Device) -> bool {
        kernels::is_cpu(device)
    }

    /// Returns true if the backend computes in the system's memory.
    pub(crate) fn uses_system_memory(self) -> bool {
        matches!(self, Self::Cpu | Self::Ndarray)
    }

    /// Returns true if this build has the backend.
    pub(crate) fn is_compiled(self) -> bool {
        match self {
            Self::Cpu | Self::Wgpu => true,
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Ndarray => cfg!(feature = "ndarray"),
        }
    }
}
