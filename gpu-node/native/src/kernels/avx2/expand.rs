//! Expansion of sparse groups.

use super::super::expand_table::{EXPAND_BYTES, EXPAND_UPPER_BYTES};
use super::bf16::expand_eight;
use super::{LANES, PIECES, TILES};
use crate::cpu::levels::avx2;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format};
use std::arch::x86_64::*;

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
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: as in `bf16`.
            unsafe {
                for piece in 0..PIECES {
                    write_scales(at, piece, out.cast());
                }
                out = out.add(EXPANDED_INT4_HEADER);
                let mut zeros = [_mm_setzero_si128(); BLOCK_ROWS / 4];
                for (index, zeros) in zeros.iter_mut().enumerate() {
                    *zeros = zero_points_of(at.add(8 * index));
                }
                let mut masks = at.add(2 * BLOCK_ROWS);
                let mut taken = [masks.add(GROUP * BLOCK_ROWS / 8); TILES];
                for _ in 0..GROUP / 4 {
                    for (index, zeros) in zeros.into_iter().enumerate() {
                        let tile = index / (BLOCK_ROWS / 4 / TILES);
                        let (kept, places) = take_sixteen(&mut taken[tile], masks.add(2 * index));
                        let nibbles =
                            if tile == 0 { _mm_slli_epi16::<2>(kept) } else { _mm_srli_epi16::<2>(kept) };
                        let codes = _mm_shuffle_epi8(_mm_and_si128(nibbles, _mm_set1_epi8(0x3c)), places);
                        // The upper bit of a place without a kept code is set.
                        _mm_storeu_si128(out.cast(), _mm_blendv_epi8(codes, zeros, places));
                        out = out.add(16);
                    }
                    masks = masks.add(8 * TILES);
                }
                at = taken[0].max(taken[1]);
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

avx2!(
    /// Writes a quarter of the scales of 8 rows of a sparse group, and their zero points.
    ///
    /// # Safety
    ///
    /// `header` points to a sparse group, and `out` has room for the header of an expanded one.
    #[inline]
    unsafe fn write_scales(header: *const u8, piece: usize, out: *mut f32) {
        // SAFETY: guaranteed by the caller.
        let rows = unsafe { _mm_loadu_si128(header.add(2 * LANES * piece).cast()) };
        let scales = _mm_and_si128(_mm_srli_epi16::<1>(rows), _mm_set1_epi16(0x7fe0));
        let zeros = _mm256_cvtepu16_epi32(_mm_and_si128(rows, _mm_set1_epi16(0x3f)));
        let quarters = _mm256_mul_ps(_mm256_cvtph_ps(scales), _mm256_set1_ps(0.25));
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(out.add(LANES * piece), quarters);
            _mm256_storeu_si256(out.add(BLOCK_ROWS + LANES * piece).cast(), zeros);
        }
    }
);

avx2!(
    /// The bytes of pruned weights of 4 rows, in the places of their weights in a step.
    ///
    /// # Safety
    ///
    /// `rows` has the 16 bits of four rows of a sparse group.
    #[inline]
    unsafe fn zero_points_of(rows: *const u8) -> __m128i {
        // SAFETY: guaranteed by the caller.
        let rows = unsafe { _mm_loadl_epi64(rows.cast()) };
        let lowest_of_each = _mm_set_epi32(0x0606_0606, 0x0404_0404, 0x0202_0202, 0);
        _mm_shuffle_epi8(_mm_and_si128(rows, _mm_set1_epi16(0x3f)), lowest_of_each)
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
