//! The devices of NVIDIA's driver.

use crate::device::DeviceDescription;
use cudarc::driver::result::{self, device};
use cudarc::driver::sys::{self, CUdevice, CUdevice_attribute};
use std::ffi::c_int;
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
pub(super) struct Found {
    pub(super) device: CUdevice,
    pub(super) capability: Capability,
    pub(super) description: DeviceDescription,
}

/// The devices that kernels can be compiled for, in the order of the driver. Empty without a driver.
pub(super) fn find() -> Vec<Found> {
    let Some(version) = driver_version() else { return Vec::new() };
    let count = device::get_count().unwrap_or(0);
    let found = (0..count).filter_map(|ordinal| describe(ordinal, version));
    found.filter(|found| found.capability >= MIN_CAPABILITY).collect()
}

/// The version of the driver, `1000 · major + 10 · minor`, if there is one that is new enough and has a device. Looked for
/// once.
pub(super) fn driver_version() -> Option<c_int> {
    static VERSION: OnceLock<Option<c_int>> = OnceLock::new();
    *VERSION.get_or_init(|| {
        // SAFETY: loads the driver's library, as every call of it would.
        if !unsafe { sys::is_culib_present() } {
            return None;
        }
        let mut version = 0;
        // SAFETY: the call writes an integer, and may come before `cuInit`.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().ok()?;
        (version >= MIN_DRIVER && result::init().is_ok()).then_some(version)
    })
}

/// Major and minor of a version of the driver.
pub(super) fn version_text(version: c_int) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn describe(ordinal: c_int, version: c_int) -> Option<Found> {
    let device = device::get(ordinal).ok()?;
    // SAFETY: the driver named the device.
    let attribute = |attribute| unsafe { device::get_attribute(device, attribute) }.ok();
    use CUdevice_attribute::*;
    let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? as u32;
    let minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)? as u32;
    let name = device::get_name(device).ok()?;
    // SAFETY: as above.
    let bytes = unsafe { device::total_mem(device) }.ok()? as u64;
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
    Some(Found { device, capability: Capability { major, minor }, description })
}
