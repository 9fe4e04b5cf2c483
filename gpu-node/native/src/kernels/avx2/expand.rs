//! Expansion of sparse groups into dense ones.

use super::super::expand_table::{EXPAND_BYTES, EXPAND_UPPER_BYTES};
use super::bf16::expand_eight;
use super::{LANES, TILES, load_halves, prefetch};
use crate::cpu::levels::avx2;
use crate::storage::{BLOCK_ROWS, Format, TILE_ROWS, VECTOR_BYTES};
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
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn int4<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let nibbles = [_mm_set1_epi8(0x0f), _mm_set1_epi8(0xf0u8.cast_signed())];
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: as in `bf16`.
            unsafe {
                let zeros = _mm_loadu_si128(at.add(2 * BLOCK_ROWS).cast());
                out.copy_from_nonoverlapping(at, 2 * BLOCK_ROWS);
                write_minimums(at, zeros, out.add(2 * BLOCK_ROWS));
                out = out.add(4 * BLOCK_ROWS);
                let mut masks = at.add(2 * BLOCK_ROWS + TILE_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                for _ in 0..GROUP / 4 {
                    prefetch(at, EXPAND_AHEAD);
                    let mut taken = [at; TILES];
                    for sixteen in 0..VECTOR_BYTES / 16 {
                        let rows = _mm_set1_epi8(4 * sixteen as i8);
                        let rows =
                            _mm_add_epi8(rows, _mm_set_epi32(0x0303_0303, 0x0202_0202, 0x0101_0101, 0));
                        let zeros = _mm_shuffle_epi8(zeros, rows);
                        let mut codes = _mm_setzero_si128();
                        for (tile, (taken, nibble)) in taken.iter_mut().zip(nibbles).enumerate() {
                            let (kept, places) = take_sixteen(taken, masks.add(8 * tile + 2 * sixteen));
                            // The upper bit of a place without a kept code is set.
                            let expanded = _mm_blendv_epi8(_mm_shuffle_epi8(kept, places), zeros, places);
                            codes = _mm_or_si128(codes, _mm_and_si128(expanded, nibble));
                        }
                        _mm_storeu_si128(out.cast(), codes);
                        out = out.add(16);
                    }
                    at = taken[0].max(taken[1]);
                    masks = masks.add(8 * TILES);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

avx2!(
    /// Writes the minimums of all rows, f16: minus their codes of 0 times their scales.
    ///
    /// # Safety
    ///
    /// `scales` has an f16 for every row of the block, and `out` has room for one.
    #[inline]
    unsafe fn write_minimums(scales: *const u8, zeros: __m128i, out: *mut u8) {
        let nibble = _mm_set1_epi8(15);
        let (low, high) = (_mm_and_si128(zeros, nibble), _mm_and_si128(_mm_srli_epi16::<4>(zeros), nibble));
        let eights = [low, _mm_srli_si128::<8>(low), high, _mm_srli_si128::<8>(high)];
        for (piece, codes) in eights.into_iter().enumerate() {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let scales = _mm256_mul_ps(load_halves(scales, piece), _mm256_set1_ps(-1.0));
                let minimums = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes)), scales);
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(minimums);
                _mm_storeu_si128(out.add(2 * LANES * piece).cast(), halves);
            }
        }
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
