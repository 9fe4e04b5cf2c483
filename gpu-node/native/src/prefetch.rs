//! Hints to the processor to read memory before it is needed.

#![allow(unsafe_code)]

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Begins to read the line of `at` into the nearest cache; any address is allowed.
#[inline]
pub(crate) fn prefetch_line(at: *const u8) {
    if cfg!(miri) {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    #[allow(unused_unsafe, reason = "unsafe in the oldest Rust that builds it")]
    // SAFETY: a prefetch reads no memory and accepts any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Begins to read `bytes` bytes from `at` on, without the end of the last line if `at` is within a line; any address is allowed.
#[inline]
pub(crate) fn prefetch_bytes(at: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(LINE) {
        prefetch_line(at.wrapping_add(offset));
    }
}
