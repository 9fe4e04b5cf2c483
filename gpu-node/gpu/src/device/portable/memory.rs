//! The memory of a device.

#![allow(unsafe_code)]

use wgpu::Adapter;

/// Bytes of the largest heap in the device's own memory, where the interface tells: Vulkan.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn memory_bytes(adapter: &Adapter) -> Option<u64> {
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: nothing is destroyed, and the guard lives until the properties were read.
    let properties = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let heaps = &properties.memory_heaps[..properties.memory_heap_count as usize];
    heaps.iter().filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max()
}

/// Metal does not tell through wgpu.
#[cfg(target_vendor = "apple")]
pub(super) fn memory_bytes(_: &Adapter) -> Option<u64> {
    None
}
