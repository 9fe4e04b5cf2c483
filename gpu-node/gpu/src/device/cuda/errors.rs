//! Errors of the driver that stay.

use super::calls::DriverError;
use cudarc::driver::sys::CUresult;
use std::ops::RangeInclusive;

/// The numbers of the errors of CUDA 13.4.
const KNOWN: &[RangeInclusive<u32>] = &[
    1..=8,
    34..=47,
    100..=102,
    200..=227,
    300..=304,
    400..=402,
    500..=500,
    600..=600,
    700..=721,
    800..=812,
    900..=919,
    999..=999,
];

/// Whether an error stays: every later call in the context fails as well. An error of a newer driver may, and counts: without a
/// reset the device could not be opened again.
pub(super) fn breaks_context(error: DriverError) -> bool {
    use CUresult::*;
    const STAYING: &[CUresult] = &[
        CUDA_ERROR_DEINITIALIZED,
        CUDA_ERROR_DEVICE_UNAVAILABLE,
        CUDA_ERROR_INVALID_CONTEXT,
        CUDA_ERROR_ECC_UNCORRECTABLE,
        CUDA_ERROR_NVLINK_UNCORRECTABLE,
        CUDA_ERROR_CONTAINED,
        CUDA_ERROR_ILLEGAL_ADDRESS,
        CUDA_ERROR_LAUNCH_TIMEOUT,
        CUDA_ERROR_CONTEXT_IS_DESTROYED,
        CUDA_ERROR_ASSERT,
        CUDA_ERROR_HARDWARE_STACK_ERROR,
        CUDA_ERROR_ILLEGAL_INSTRUCTION,
        CUDA_ERROR_MISALIGNED_ADDRESS,
        CUDA_ERROR_INVALID_ADDRESS_SPACE,
        CUDA_ERROR_INVALID_PC,
        CUDA_ERROR_LAUNCH_FAILED,
        CUDA_ERROR_TENSOR_MEMORY_LEAK,
        CUDA_ERROR_MPS_CLIENT_TERMINATED,
        CUDA_ERROR_EXTERNAL_DEVICE,
        CUDA_ERROR_UNKNOWN,
    ];
    let is_known = KNOWN.iter().any(|numbers| numbers.contains(&error.number));
    !is_known || STAYING.iter().any(|&known| error.is(known))
}
