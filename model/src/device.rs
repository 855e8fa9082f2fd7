//! Devices by name.

use std::time::{Duration, Instant};

use burn::tensor::{Device, DeviceKind, DeviceType, Distribution, Tensor};

use crate::{Error, Precision};

/// The names that a configuration may give, whether or not this build has them.
pub const NAMES: [&str; 7] = ["auto", "cpu", "wgpu", "vulkan", "metal", "cuda", "ndarray"];

/// A device that this build can compute on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The name to give as `device`.
    pub name: &'static str,
    /// What it is, in words.
    pub description: String,
    /// What it computes in.
    pub precisions: Vec<Precision>,
}

/// Returns the device that `name` stands for.
///
/// `auto` is the first real GPU that this build finds, else the CPU; a software driver is not a real GPU, though `wgpu`
/// takes it when there is nothing better.
///
/// # Errors
/// When no device has that name, this build was made without it, or this machine has none.
pub fn resolve(name: &str) -> Result<Device, Error> {
    match class(name)? {
        "wgpu" => wgpu(true).ok_or_else(|| absent(name, "no GPU or software driver for it")),
        #[cfg(feature = "vulkan")]
        "vulkan" => first(DeviceType::Vulkan).ok_or_else(|| absent(name, "no Vulkan driver")),
        #[cfg(feature = "metal")]
        "metal" => first(DeviceType::Metal).ok_or_else(|| absent(name, "no Metal driver")),
        #[cfg(feature = "cuda")]
        "cuda" => first(DeviceType::Cuda).ok_or_else(|| absent(name, "no CUDA driver")),
        #[cfg(feature = "ndarray")]
        "ndarray" => Ok(ndarray()),
        _ => Ok(Device::flex()),
    }
}

/// Returns the class of device that `name` stands for on this machine, the part of it that may change results:
/// `cpu`, `wgpu`, `vulkan`, `metal`, `cuda` or `ndarray`.
///
/// # Errors
/// When no device has that name, or this build was made without it.
pub fn class(name: &str) -> Result<&'static str, Error> {
    let without = |feature: &'static str| Err(Error::DeviceFeature { feature });
    match name {
        "cpu" => Ok("cpu"),
        "wgpu" => Ok("wgpu"),
        "vulkan" if cfg!(feature = "vulkan") => Ok("vulkan"),
        "vulkan" => without("vulkan"),
        "metal" if cfg!(feature = "metal") => Ok("metal"),
        "metal" => without("metal"),
        "cuda" if cfg!(feature = "cuda") => Ok("cuda"),
        "cuda" => without("cuda"),
        "ndarray" if cfg!(feature = "ndarray") => Ok("ndarray"),
        "ndarray" => without("ndarray"),
        "auto" => Ok(automatic()),
        other => Err(Error::UnknownDevice { name: other.to_owned() }),
    }
}

fn automatic() -> &'static str {
    #[cfg(feature = "cuda")]
    if first(DeviceType::Cuda).is_some() {
        return "cuda";
    }
    #[cfg(feature = "metal")]
    if first(DeviceType::Metal).is_some() {
        return "metal";
    }
    if wgpu(false).is_none() {
        return "cpu";
    }
    if cfg!(feature = "vulkan") { "vulkan" } else { "wgpu" }
}

/// Returns the device that `name` stands for, in words.
///
/// # Errors
/// As [`resolve`].
pub fn describe(name: &str) -> Result<String, Error> {
    let device = resolve(name)?;
    Ok(match class(name)? {
        "cpu" => "CPU (burn-flex)".to_owned(),
        "ndarray" => "CPU (burn-ndarray)".to_owned(),
        class => match device.identity() {
            Some(identity) => format!("{} ({class})", identity.name),
            None => class.to_owned(),
        },
    })
}

/// Returns every device that this build finds on this machine, `cpu` first.
pub fn list() -> Vec<DeviceInfo> {
    let compiled = NAMES.into_iter().filter(|name| *name != "auto" && class(name).is_ok());
    let found = |name| {
        let (device, description) = (resolve(name).ok()?, describe(name).ok()?);
        Some(DeviceInfo { name, description, precisions: Precision::supported(&device) })
    };
    compiled.filter_map(found).collect()
}

/// Returns the memory that a class of device has free, as far as that can be told: for the CPU what the system or its
/// control group still gives, for others nothing, since burn does not say.
pub fn free_memory_bytes(class: &str) -> Option<u64> {
    if !matches!(class, "cpu" | "ndarray") {
        return None;
    }
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.free_memory);
    let free = limit.map_or(system.available_memory(), |limit| limit.min(system.available_memory()));
    (free > 0).then_some(free)
}

/// Rows and columns of the matrices whose product is timed: large enough to fill some cores, small enough to be quick.
const PROBE_SIZE: usize = 512;

/// How long the product is timed.
const PROBE_TIME: Duration = Duration::from_millis(300);

/// Returns the floating-point operations a second of a matrix product on a device in a precision that it has, the fastest of those that fit into
/// 0.3 seconds: what training is held against.
///
/// # Errors
/// When the device fails.
pub fn matmul_flops_per_second(device: &Device, precision: Precision) -> Result<f64, Error> {
    let shape = [PROBE_SIZE, PROBE_SIZE];
    let matrix = || Tensor::<2>::random(shape, Distribution::Default, device).cast(precision.dtype());
    let (a, b) = (matrix(), matrix());
    let product = || {
        let started = Instant::now();
        // One element is enough: it waits for the whole product.
        let corner = a.clone().matmul(b.clone()).slice([0..1, 0..1]).try_into_vec_as::<f32>();
        corner.map_err(|e| Error::Compute { what: "a matrix product", source: Box::new(e) })?;
        Ok::<_, Error>(started.elapsed().as_secs_f64())
    };
    // The first product pays for compiling or choosing a kernel, and what else the machine does slows down some.
    product()?;
    let (started, mut fastest) = (Instant::now(), f64::INFINITY);
    while started.elapsed() < PROBE_TIME {
        fastest = fastest.min(product()?);
    }
    Ok(2.0 * (PROBE_SIZE as f64).powi(3) / fastest)
}

fn absent(name: &str, reason: &'static str) -> Error {
    Error::DeviceAbsent { name: name.to_owned(), reason }
}

/// Returns the best adapter that wgpu finds; a software driver only where `software` allows it.
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
#[allow(deprecated, reason = "kept for comparison; burn prefers burn-flex")]
fn ndarray() -> Device {
    Device::ndarray()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_or_say_why_not() {
        assert_eq!(class("cpu").unwrap(), "cpu");
        assert_eq!(resolve("cpu").unwrap(), Device::flex());
        assert!(resolve("auto").is_ok());
        let unknown = resolve("tpu").unwrap_err().to_string();
        assert_eq!(unknown, "unknown device `tpu`; one of auto, cpu, wgpu, vulkan, metal, cuda, ndarray");
        if !cfg!(feature = "cuda") {
            let missing = resolve("cuda").unwrap_err().to_string();
            assert_eq!(missing, "this build has no `cuda`; build it with `--features cuda`, or take device `auto`");
        }
        assert_eq!(list()[0].name, "cpu");
        assert_eq!(list()[0].precisions, Precision::ALL);
    }
}
