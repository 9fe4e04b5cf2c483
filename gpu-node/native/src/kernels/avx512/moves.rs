//! Expansion within a register by the expanding moves of VBMI2.
//!
//! An expanding move inserts pruned weights between the packed ones. It is the merging form, into a copy of a
//! register that holds the code of a pruned weight: the zeroing form waits for the previous value of its
//! destination. The register passes through [`black_box`]; otherwise the compiler would see the zeros in it
//! and choose the zeroing form. The compiler makes the move read memory directly, which is as fast as from a
//! register on Zen 4.

use super::int4::expanded_codes;
use super::load;
use crate::cpu::levels::avx512vbmi2;
use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

avx512vbmi2!(
    /// Returns a register of pruned weights, for [`take_words`].
    #[inline]
    pub(super) fn words() -> __m512i {
        black_box(_mm512_setzero_si512())
    }
);

avx512vbmi2!(
    /// Returns a register of the codes of pruned weights of int8, for [`take_bytes`].
    #[inline]
    pub(super) fn bytes() -> __m512i {
        black_box(_mm512_set1_epi8(-128))
    }
);

avx512vbmi2!(
    /// Expands the values that a mask of 32 bits keeps, from `at` on, to their places; pruned ones are 0.
    /// Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// Four bytes of the mask are readable, and 64 bytes from `at` on.
    #[inline]
    pub(super) unsafe fn take_words(pruned: &__m512i, at: &mut *const u8, mask: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mask = mask.cast::<u32>().read_unaligned();
            let words = _mm512_mask_expand_epi16(*pruned, mask, load(*at));
            *at = at.add(2 * mask.count_ones() as usize);
            words
        }
    }
);

avx512vbmi2!(
    /// Expands the codes that a mask of 64 bits keeps, from `at` on, to their places; pruned ones are those of `pruned`.
    /// Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// Eight bytes of the mask are readable, and 64 bytes from `at` on.
    #[inline]
    pub(super) unsafe fn take_bytes(pruned: &__m512i, at: &mut *const u8, mask: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller.
        unsafe { expand(*pruned, load(*at), at, mask) }
    }
);

avx512vbmi2!(
    /// As [`take_bytes`], of nibbles: those of a tile, as bytes of expanded codes.
    ///
    /// # Safety
    ///
    /// As for [`take_bytes`].
    #[inline]
    pub(super) unsafe fn take_nibbles<const TILE: usize>(
        _: &__m512i,
        pruned: __m512i,
        at: &mut *const u8,
        mask: *const u8,
    ) -> __m512i {
        // SAFETY: guaranteed by the caller.
        unsafe { expand(pruned, expanded_codes::<TILE>(load(*at)), at, mask) }
    }
);

avx512vbmi2!(
    /// Moves the first of `codes` to the places that a mask of 64 bits keeps, and `at` behind as many bytes.
    ///
    /// Loads the mask twice: from one load the compiler would move it from a general register to a mask
    /// register, which takes longer.
    ///
    /// # Safety
    ///
    /// Eight bytes of the mask are readable.
    #[inline]
    unsafe fn expand(pruned: __m512i, codes: __m512i, at: &mut *const u8, mask: *const u8) -> __m512i {
        let places;
        // SAFETY: only reads bytes that the caller guarantees to be readable.
        unsafe {
            asm!("kmovq {}, qword ptr [{}]", out(kreg) places, in(reg) mask, options(pure, readonly, nostack, preserves_flags));
            let codes = _mm512_mask_expand_epi8(pruned, places, codes);
            *at = at.add(mask.cast::<u64>().read_unaligned().count_ones() as usize);
            codes
        }
    }
);
