//! The devices of NVIDIA's driver.

use super::calls::{self, written};
use crate::device::DeviceDescription;
use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute};
use std::ffi::{CStr, c_int};
use std::sync::OnceLock;

/// The oldest driver, as `cuDriverGetVersion` tells it: earlier ones lack functions that are called here.
const MIN_DRIVER: c_int = 12_000;
/// The least compute capability.
const MIN_CAPABILITY: Capability = Capability { major: 7, minor: 5 };
/// What the driver of the tests calls its device.
const SOFTWARE_NAME: &str = "software CUDA";

/// The instructions of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Capability {
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Capability {
    /// As compilers write it, 89 for 8.9.
    pub(super) fn number(self) -> u32 {
        10 * self.major + self.minor
    }
}

/// A device that the driver named.
#[derive(Clone)]
pub(in crate::device) struct Card {
    /// Tells it from others of its name.
    pub(super) device: CUdevice,
    pub(super) capability: Capability,
    /// The version of the driver.
    pub(super) driver: c_int,
    /// Whether a stream can allocate its memory.
    pub(super) has_pools: bool,
    pub(in crate::device) description: DeviceDescription,
}

/// The devices that kernels can be compiled for, in the order of the driver. Empty without a driver.
pub(in crate::device) fn find() -> Vec<Card> {
    let Some(version) = driver_version() else { return Vec::new() };
    // SAFETY: the call writes an integer.
    let count = unsafe { written(|count| calls::cuDeviceGetCount(count)) }.unwrap_or(0);
    let cards = (0..count).filter_map(|ordinal| describe(ordinal, version));
    cards.filter(|card| card.capability >= MIN_CAPABILITY).collect()
}

/// The version of the driver, `1000 · major + 10 · minor`, if there is one that is new enough and has a device. Looked for
/// once.
fn driver_version() -> Option<c_int> {
    static VERSION: OnceLock<Option<c_int>> = OnceLock::new();
    *VERSION.get_or_init(|| {
        // SAFETY: loads the driver's library, as every call of it would.
        if !unsafe { sys::is_culib_present() } {
            return None;
        }
        // SAFETY: the call writes an integer, and may come before `cuInit`.
        let version = unsafe { written(|version| calls::cuDriverGetVersion(version)) }.ok()?;
        // SAFETY: it takes no flags.
        (version >= MIN_DRIVER && unsafe { calls::cuInit(0) }.is_ok()).then_some(version)
    })
}

/// Major and minor of a version of the driver.
pub(super) fn version_text(version: c_int) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn describe(ordinal: c_int, version: c_int) -> Option<Card> {
    // SAFETY: the call writes a device.
    let device = unsafe { written(|device| calls::cuDeviceGet(device, ordinal)) }.ok()?;
    // SAFETY: the driver named the device, and the call writes an integer.
    let attribute = |name| unsafe { written(|value| calls::cuDeviceGetAttribute(value, name, device)) }.ok();
    use CUdevice_attribute::*;
    let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32;
    let minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32;
    let mut name = [0_u8; 256];
    // SAFETY: the call writes at most as many bytes, the last of them a zero.
    unsafe { calls::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as c_int, device) }.ok()?;
    let name = CStr::from_bytes_until_nul(&name).ok()?.to_string_lossy().into_owned();
    // SAFETY: the call writes a number.
    let bytes = unsafe { written(|bytes| calls::cuDeviceTotalMem_v2(bytes, device)) }.ok()? as u64;
    let kind = match attribute(CU_DEVICE_ATTRIBUTE_INTEGRATED) {
        _ if name == SOFTWARE_NAME => "software",
        Some(1) => "integrated",
        _ => "discrete",
    };
    let driver = format!("NVIDIA CUDA {} compute capability {major}.{minor}", version_text(version));
    let description = DeviceDescription {
        name,
        api: "cuda",
        kind,
        driver,
        max_binding_bytes: bytes,
        memory_bytes: Some(bytes),
    };
    let has_pools = attribute(CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED) == Some(1);
    Some(Card { device, capability: Capability { major, minor }, driver: version, has_pools, description })
}
