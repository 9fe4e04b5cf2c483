//! Properties of x86 processors that the standard library does not report.

#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, CpuidResult};
use std::sync::OnceLock;

/// Number of the XSAVE state component that holds AMX tile data.
const TILE_DATA: u64 = 18;

/// Returns the result of the CPUID instruction.
#[allow(unused_unsafe, reason = "unsafe in the oldest Rust that builds it")]
fn cpuid(leaf: u32, sub_leaf: u32) -> CpuidResult {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { __cpuid_count(leaf, sub_leaf) }
}

/// Returns whether AMD made the processor.
pub(super) fn is_amd() -> bool {
    let vendor = cpuid(0, 0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// Returns whether the processor multiplies AMX tiles of bytes and of bf16, and the system can save them for a process.
/// Does not ask for permission to use them: [`request_tiles`] does.
pub(super) fn has_tiles() -> bool {
    const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    cpuid(0, 0).eax >= 7 && cpuid(7, 0).edx & TILES == TILES && system::saves_tiles()
}

/// Asks the system for permission to use AMX tiles, once per process. Returns whether it was granted.
///
/// Linux saves eight kilobytes of tiles per thread only for processes that ask for them.
pub(super) fn request_tiles() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(system::request_tiles)
}

#[cfg(target_os = "linux")]
mod system {
    use super::{TILE_DATA, asm};

    const ARCH_PRCTL: i64 = 158;
    const ARCH_GET_XCOMP_SUPP: u64 = 0x1021;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;

    pub(super) fn saves_tiles() -> bool {
        let mut supported = 0u64;
        // SAFETY: the call writes 64 bits to the address, which is that of `supported`.
        let result =
            unsafe { arch_prctl(ARCH_GET_XCOMP_SUPP, (&raw mut supported).expose_provenance() as u64) };
        result == 0 && supported >> TILE_DATA & 1 == 1
    }

    pub(super) fn request_tiles() -> bool {
        // SAFETY: the call accesses no memory of the process.
        unsafe { arch_prctl(ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    }

    /// Makes the system call `arch_prctl`. Returns 0, or a negative error number.
    ///
    /// # Safety
    ///
    /// `argument` is valid for `operation`.
    unsafe fn arch_prctl(operation: u64, argument: u64) -> i64 {
        let result: i64;
        // SAFETY: guaranteed by the caller; the system changes no other registers than these.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") operation,
                in("rsi") argument,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn saves_tiles() -> bool {
        false
    }

    pub(super) fn request_tiles() -> bool {
        false
    }
}
