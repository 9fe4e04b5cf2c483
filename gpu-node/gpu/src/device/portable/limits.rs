//! The limits of a device: what the kernels need, and what its buffers may have.
//!
//! WebGPU's defaults would do, but a driver may have less: Vulkan guarantees 4 storage buffers and groups of 128 threads, and wgpu
//! counts 2 storage buffers on the oldest cards of DX12.

use wgpu::Limits;

/// Storage buffers of a kernel: those of a product with sparse int4, and the data of a step.
const STORAGE_BUFFERS: u32 = 7;
/// Threads of a group.
const GROUP_THREADS: u32 = 256;
/// Bytes of shared memory: those of a product with 16 tokens at a time.
const SHARED_BYTES: u32 = 16 << 10;

/// The largest buffer that kernels use, bytes. Metal's may be larger, but wgpu tells kernels their sizes in 32 bits.
const MAX_BUFFER_BYTES: u64 = (1 << 32) - 16;

/// The largest buffer that kernels can use, bytes. A driver may let kernels use more of a buffer than it allocates at once.
pub(super) fn max_buffer_bytes(limits: &Limits) -> u64 {
    let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(MAX_BUFFER_BYTES);
    // As buffers are allocated.
    most / 16 * 16
}

/// The first limit that is too low for the kernels, if any, and what they need.
pub(super) fn lacking(limits: &Limits) -> Option<String> {
    let needs = [
        ("storage buffers for a kernel", limits.max_storage_buffers_per_shader_stage, STORAGE_BUFFERS),
        ("threads in a group", limits.max_compute_invocations_per_workgroup, GROUP_THREADS),
        ("threads in a row of a group", limits.max_compute_workgroup_size_x, GROUP_THREADS),
        ("bytes of shared memory", limits.max_compute_workgroup_storage_size, SHARED_BYTES),
    ];
    let too_low = needs.into_iter().find(|(_, has, needed)| has < needed);
    too_low.map(|(what, has, needed)| format!("it has {has} {what}, and the kernels need {needed}"))
}

#[cfg(test)]
mod tests {
    use super::super::{Portable, adapters};
    use super::{GROUP_THREADS, SHARED_BYTES, STORAGE_BUFFERS};
    use crate::device::kernel::{CalibrationKind, ExchangeKind, KernelKind, MAX_HEAD_DIM};
    use crate::fault::DeviceFault;
    use crate::layout::Form;
    use copal_native::engine::ModelConfig;
    use wgpu::{BufferUsages, Limits};

    /// Every kernel; the refinement of masks with as few buffers as it has.
    fn all_kernels() -> Vec<KernelKind> {
        let products =
            Form::ALL.into_iter().flat_map(|form| [1, 4, 16].map(|tokens| KernelKind::Product(form, tokens)));
        let of_calibration = {
            use CalibrationKind::*;
            [Linear, Rotate, Attention, Residual, Statistic, Check].map(KernelKind::Calibration)
        };
        let of_exchange = {
            use ExchangeKind::*;
            [Product, Error, Whole, Groups].map(|kind| KernelKind::Exchange(kind, 1))
        };
        KernelKind::OF_STEPS.into_iter().chain(products).chain(of_calibration).chain(of_exchange).collect()
    }

    #[test]
    fn every_kernel_compiles_on_a_device_with_just_what_is_needed_and_one_with_less_is_not_opened() {
        let Some(adapter) = adapters().into_iter().next() else { return };
        let least = Limits {
            max_storage_buffers_per_shader_stage: STORAGE_BUFFERS,
            max_compute_invocations_per_workgroup: GROUP_THREADS,
            max_compute_workgroup_size_x: GROUP_THREADS,
            max_compute_workgroup_storage_size: SHARED_BYTES,
            ..adapter.limits()
        };
        let config = ModelConfig {
            hidden: 48,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: MAX_HEAD_DIM,
            intermediate: 72,
            vocab: 99,
            context: 4096,
            eps: 1e-5,
            rope: vec![1.0; MAX_HEAD_DIM / 2],
        };
        let device = Portable::with_limits(&adapter, least.clone()).unwrap();
        device.compile(Some(&config), &all_kernels()).unwrap();
        let lower: [fn(&mut Limits) -> &mut u32; 4] = [
            |limits| &mut limits.max_storage_buffers_per_shader_stage,
            |limits| &mut limits.max_compute_invocations_per_workgroup,
            |limits| &mut limits.max_compute_workgroup_size_x,
            |limits| &mut limits.max_compute_workgroup_storage_size,
        ];
        for limit in lower {
            let mut less = least.clone();
            *limit(&mut less) -= 1;
            match Portable::with_limits(&adapter, less).err() {
                Some(DeviceFault::Unavailable(reason)) => {
                    assert!(reason.contains("the kernels need"), "{reason}")
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_buffer_of_the_size_that_a_device_names_can_be_allocated_and_no_larger_one() {
        let Some(adapter) = adapters().into_iter().next() else { return };
        for (max_buffer_size, max_storage_buffer_binding_size) in
            [(1 << 20, 1 << 21), (1 << 21, (1 << 20) + 9)]
        {
            let limits = Limits { max_buffer_size, max_storage_buffer_binding_size, ..adapter.limits() };
            let device = Portable::with_limits(&adapter, limits).unwrap();
            let most = device.description().max_binding_bytes;
            assert_eq!(most, 1 << 20);
            device.allocate("a test", most, BufferUsages::STORAGE).unwrap();
            let fault = device.allocate("a test", most + 1, BufferUsages::STORAGE).err();
            assert!(matches!(fault, Some(DeviceFault::OutOfMemory(_))), "{fault:?}");
        }
    }
}
