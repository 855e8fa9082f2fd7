//! Devices: found by name, described, and timed.

use std::time::{Duration, Instant};

use burn::tensor::{Device, DeviceKind, DeviceType, Distribution, Tensor};

use crate::{Backend, Error, Precision};

/// A device that this build can compute on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The name to give as `device`.
    pub name: &'static str,
    /// Its description, as `CPU (burn-flex)`.
    pub description: String,
    /// The number types it computes in.
    pub precisions: Vec<Precision>,
}

/// Returns the device that `name` stands for.
///
/// `auto` is the first real GPU that this build finds, else the CPU. A software driver is not a real GPU, though `wgpu`
/// uses one if there is nothing better.
///
/// # Errors
/// Returns an error if no device has that name, this build was made without it, or this machine has none.
pub fn resolve(name: &str) -> Result<Device, Error> {
    match backend(name)? {
        Backend::Wgpu => wgpu(true).ok_or_else(|| absent(name, "no GPU or software driver for it")),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => first(DeviceType::Vulkan).ok_or_else(|| absent(name, "no Vulkan driver")),
        #[cfg(feature = "metal")]
        Backend::Metal => first(DeviceType::Metal).ok_or_else(|| absent(name, "no Metal driver")),
        #[cfg(feature = "cuda")]
        Backend::Cuda => first(DeviceType::Cuda).ok_or_else(|| absent(name, "no CUDA driver")),
        #[cfg(feature = "ndarray")]
        Backend::Ndarray => Ok(ndarray()),
        _ => Ok(Device::flex()),
    }
}

/// Returns the backend that `name` stands for on this machine.
///
/// # Errors
/// Returns an error if no device has that name, or this build was made without it.
pub fn backend(name: &str) -> Result<Backend, Error> {
    if name == "auto" {
        return Ok(automatic());
    }
    let Some(backend) = Backend::ALL.into_iter().find(|backend| backend.name() == name) else {
        return Err(Error::UnknownDevice { name: name.to_owned() });
    };
    if backend.is_compiled() { Ok(backend) } else { Err(Error::DeviceFeature { feature: backend.name() }) }
}

/// Returns the backend of the first real GPU that this build finds, else the CPU.
fn automatic() -> Backend {
    #[cfg(feature = "cuda")]
    if first(DeviceType::Cuda).is_some() {
        return Backend::Cuda;
    }
    #[cfg(feature = "metal")]
    if first(DeviceType::Metal).is_some() {
        return Backend::Metal;
    }
    if wgpu(false).is_none() {
        return Backend::Cpu;
    }
    if cfg!(feature = "vulkan") { Backend::Vulkan } else { Backend::Wgpu }
}

/// Returns a description of the device that `name` stands for.
///
/// # Errors
/// As [`resolve`].
pub fn describe(name: &str) -> Result<String, Error> {
    let device = resolve(name)?;
    Ok(match backend(name)? {
        Backend::Cpu => "CPU (burn-flex)".to_owned(),
        Backend::Ndarray => "CPU (burn-ndarray)".to_owned(),
        backend => match device.identity() {
            Some(identity) => format!("{} ({})", identity.name, backend.name()),
            None => backend.name().to_owned(),
        },
    })
}

/// Returns every device that this build finds on this machine, `cpu` first.
pub fn list() -> Vec<DeviceInfo> {
    let compiled = Backend::ALL.into_iter().filter(|backend| backend.is_compiled()).map(Backend::name);
    let found = |name| {
        let (device, description) = (resolve(name).ok()?, describe(name).ok()?);
        Some(DeviceInfo { name, description, precisions: Precision::supported(&device) })
    };
    compiled.filter_map(found).collect()
}

/// Returns the free memory of a backend: for the CPU what the system or its control group has left; None for GPUs,
/// since burn does not report it.
pub fn free_memory_bytes(backend: Backend) -> Option<u64> {
    if !backend.uses_system_memory() {
        return None;
    }
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.free_memory);
    let free = limit.map_or(system.available_memory(), |limit| limit.min(system.available_memory()));
    (free > 0).then_some(free)
}

/// Rows and columns of the matrices whose product is timed. Heuristic, not measured: large enough to occupy several
/// cores, small enough to be quick.
const PROBE_SIZE: usize = 512;

/// How long products are timed.
const PROBE_TIME: Duration = Duration::from_millis(300);

/// Returns the floating-point operations per second of a matrix product on a device, in a precision that it supports:
/// the fastest of the products that fit into 0.3 seconds. Utilisation during training is relative to it.
///
/// # Errors
/// Returns an error if the device fails.
pub fn matmul_flops_per_second(device: &Device, precision: Precision) -> Result<f64, Error> {
    let shape = [PROBE_SIZE, PROBE_SIZE];
    let matrix = || Tensor::<2>::random(shape, Distribution::Default, device).cast(precision.dtype());
    let (a, b) = (matrix(), matrix());
    let seconds = || {
        let started = Instant::now();
        // Reading one element waits for the whole product.
        let corner = a.clone().matmul(b.clone()).slice([0..1, 0..1]).try_into_vec_as::<f32>();
        corner.map_err(|e| Error::Compute { what: "a matrix product", source: Box::new(e) })?;
        Ok::<_, Error>(started.elapsed().as_secs_f64())
    };
    // The first product includes compiling or selecting a kernel.
    seconds()?;
    let (started, mut fastest) = (Instant::now(), f64::INFINITY);
    while started.elapsed() < PROBE_TIME {
        fastest = fastest.min(seconds()?);
    }
    Ok(2.0 * (PROBE_SIZE as f64).powi(3) / fastest)
}

fn absent(name: &str, reason: &'static str) -> Error {
    Error::DeviceAbsent { name: name.to_owned(), reason }
}

/// Returns the best adapter that wgpu finds; software drivers count only if `software` is set.
fn wgpu(software: bool) -> Option<Device> {
    let found = Device::enumerate(DeviceType::Wgpu).into_vec();
    let kinds = [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::VirtualGpu(0), DeviceKind::Cpu];
    let wanted = if software { &kinds[..] } else { &kinds[..3] };
    wanted.iter().map(|kind| Device::wgpu(kind.clone())).find(|device| found.contains(device))
}

#[cfg(any(feature = "vulkan", feature = "metal", feature = "cuda"))]
fn first(kind: DeviceType) -> Option<Device> {
    Device::enumerate(kind).into_vec().into_iter().next()
}

#[cfg(feature = "ndarray")]
#[allow(deprecated, reason = "kept for comparison; burn recommends burn-flex")]
fn ndarray() -> Device {
    Device::ndarray()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_or_the_error_names_the_reason() {
        assert_eq!(backend("cpu").unwrap(), Backend::Cpu);
        assert_eq!(resolve("cpu").unwrap(), Device::flex());
        assert!(resolve("auto").is_ok());
        let unknown = resolve("tpu").unwrap_err().to_string();
        assert_eq!(unknown, "unknown device `tpu`; one of auto, cpu, wgpu, vulkan, metal, cuda, ndarray");
        if !cfg!(feature = "cuda") {
            let missing = resolve("cuda").unwrap_err().to_string();
            assert_eq!(missing, "this build has no `cuda`; build it with `--features cuda`, or use device `auto`");
        }
        assert_eq!(list()[0].name, "cpu");
        assert_eq!(list()[0].precisions, Precision::ALL);
    }

    #[test]
    fn the_cpu_is_recognised_with_and_without_autodiff() {
        assert!(Backend::is_cpu_device(&Device::flex()));
        assert!(Backend::is_cpu_device(&Device::flex().autodiff()));
    }
}
