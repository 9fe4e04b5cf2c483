//! Expansion of sparse groups into dense ones.

use super::super::expand_table::{EXPAND_BYTES, EXPAND_UPPER_BYTES};
use super::bf16::expand_eight;
use super::prefetch;
use crate::cpu::levels::avx2;
use crate::storage::{BLOCK_ROWS, Format};
use std::arch::x86_64::*;

/// Prefetch distance, bytes: about a group, which arrives while the group before it is multiplied.
const EXPAND_AHEAD: usize = 2048;

avx2!(
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn bf16(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            let masks = at;
            // SAFETY: a load reads 16 bytes from a value on, at most 16 bytes beyond the stream, which a
            // vector follows; `out` has room for the groups, by the contract.
            unsafe {
                at = at.add(Format::BF16.sparse_header());
                for index in 0..Format::BF16.sparse_header() {
                    if index.is_multiple_of(8) {
                        prefetch(at, EXPAND_AHEAD);
                    }
                    _mm_storeu_si128(out.cast(), expand_eight(&mut at, *masks.add(index)));
                    out = out.add(16);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

avx2!(
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn int8<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let offset = _mm_set1_epi8(-128);
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: as in `bf16`.
            unsafe {
                out.copy_from_nonoverlapping(at, 2 * BLOCK_ROWS);
                out = out.add(2 * BLOCK_ROWS);
                let masks = at.add(2 * BLOCK_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                for index in (0..GROUP * BLOCK_ROWS / 8).step_by(2) {
                    if index.is_multiple_of(16) {
                        prefetch(at, EXPAND_AHEAD);
                    }
                    let codes = _mm_xor_si128(sixteen_signed(&mut at, masks.add(index)), offset);
                    _mm_storeu_si128(out.cast(), codes);
                    out = out.add(16);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

avx2!(
    /// Expands the codes that two bytes of a mask keep, from `at` on, to their places as signed numbers.
    /// Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// The contract of `take_sixteen`.
    #[inline]
    pub(super) unsafe fn sixteen_signed(at: &mut *const u8, masks: *const u8) -> __m128i {
        // SAFETY: guaranteed by the caller.
        let (codes, places) = unsafe { take_sixteen(at, masks) };
        // Signed, so that a pruned weight is 0, which is what the shuffle writes at its place.
        _mm_shuffle_epi8(_mm_xor_si128(codes, _mm_set1_epi8(-128)), places)
    }
);

avx2!(
    /// Loads the bytes that two bytes of a mask keep, each into one half of a register, and the shuffle that
    /// moves them to their places. Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// Two bytes of the mask are readable, and 8 bytes behind the codes that the first of them keeps.
    #[inline]
    unsafe fn take_sixteen(at: &mut *const u8, masks: *const u8) -> (__m128i, __m128i) {
        // SAFETY: guaranteed by the caller; the tables have an entry for every byte.
        unsafe {
            let (low, high) = (*masks, *masks.add(1));
            let second = at.add(low.count_ones() as usize);
            let codes = eight_and_eight(at.cast(), second.cast());
            let places = eight_and_eight(
                EXPAND_BYTES.0.as_ptr().add(low as usize).cast(),
                EXPAND_UPPER_BYTES.0.as_ptr().add(high as usize).cast(),
            );
            *at = second.add(high.count_ones() as usize);
            (codes, places)
        }
    }
);

avx2!(
    /// # Safety
    ///
    /// Eight bytes are readable from each pointer.
    #[inline]
    unsafe fn eight_and_eight(low: *const f64, high: *const f64) -> __m128i {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let low = _mm_castsi128_pd(_mm_loadl_epi64(low.cast()));
            _mm_castpd_si128(_mm_loadh_pd(low, high))
        }
    }
);
