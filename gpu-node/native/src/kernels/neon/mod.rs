//! NEON: every 64-bit ARM processor, and dot products of bytes, which most have.
//!
//! A vector of the layout is four registers of 4 rows, called pieces here. As with AVX2, a table lookup
//! expands 8 values at a time, through memory.

mod bf16;
mod dot_products;
mod expand;
mod int4;
mod int8;

use super::activations::{ChunkMut, encode_chunk};
use super::function_tables::{ByGroup, by_group_and_tokens, by_tokens};
use super::{Bf16Words, BlockSums, Expansion, MaxPasses, MinPlaneTokens, MultiplyFns, Panel};
use crate::cpu::levels::neon;
use crate::storage::BLOCK_ROWS;
use std::arch::{aarch64::*, asm};

pub(crate) const NEON: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Pairs,
    min_plane_tokens: MinPlaneTokens::NEVER,
    max_passes: MaxPasses::ONE,
    encode,
    release: None,
    near: None,
    int4_in_planes: None,
    dense_bf16: by_tokens!(bf16::dense),
    dense_int8: by_group_and_tokens!(int8::dense),
    dense_int4: by_group_and_tokens!(int4::dense),
    sparse_bf16: by_tokens!(bf16::sparse),
    sparse_int8: by_group_and_tokens!(int8::sparse),
    sparse_int4: by_group_and_tokens!(int4::sparse),
    expanded_int4: by_group_and_tokens!(int4::expanded),
    two_of_four_int8: by_group_and_tokens!(int8::sparse),
    expand_bf16: expand::bf16,
    expand_int8: ByGroup { of_64: expand::int8::<64>, of_32: expand::int8::<32> },
    expand_int4: ByGroup {
        of_64: Expansion::Alone(expand::int4::<64>),
        of_32: Expansion::Alone(expand::int4::<32>),
    },
};

/// NEON with dot products of bytes. The sums are the same integers.
pub(crate) const NEON_DOT: MultiplyFns = MultiplyFns {
    min_plane_tokens: MinPlaneTokens { int8: 1, int4: 1 },
    dense_int8: by_group_and_tokens!(dot_products::dense_int8),
    dense_int4: by_group_and_tokens!(dot_products::dense_int4),
    sparse_int8: by_group_and_tokens!(int8::sparse_dot),
    sparse_int4: by_group_and_tokens!(int4::sparse_dot),
    expanded_int4: by_group_and_tokens!(dot_products::expanded_int4),
    two_of_four_int8: by_group_and_tokens!(int8::sparse_dot),
    ..NEON
};

const TILES: usize = 2;
/// Rows of a register.
const LANES: usize = 4;
/// Registers of 4 rows in a block.
const PIECES: usize = BLOCK_ROWS / LANES;
/// Bytes of a register.
const REGISTER: usize = 16;

neon!(
    unsafe fn encode(chunk: ChunkMut<'_>) {
        encode_chunk(chunk);
    }
);

neon!(
    /// # Safety
    ///
    /// 16 bytes are readable.
    #[inline]
    unsafe fn load(at: *const u8) -> uint8x16_t {
        // SAFETY: guaranteed by the caller.
        unsafe { vld1q_u8(at) }
    }
);

neon!(
    /// Loads the sums of `N` registers of rows from `piece` on.
    #[inline]
    fn load_sums<const N: usize, const T: usize>(sums: &BlockSums, piece: usize) -> [[float32x4_t; T]; N] {
        let mut totals = [[vdupq_n_f32(0.0); T]; N];
        for (index, totals) in totals.iter_mut().enumerate() {
            for (total, sums) in totals.iter_mut().zip(&sums.0) {
                let sums = &sums[(piece + index) * LANES..][..LANES];
                // SAFETY: the slice has four values.
                *total = unsafe { vld1q_f32(sums.as_ptr()) };
            }
        }
        totals
    }
);

neon!(
    #[inline]
    fn store_sums<const N: usize, const T: usize>(
        totals: &[[float32x4_t; T]; N],
        sums: &mut BlockSums,
        piece: usize,
    ) {
        for (index, totals) in totals.iter().enumerate() {
            for (total, sums) in totals.iter().zip(&mut sums.0) {
                let sums = &mut sums[(piece + index) * LANES..][..LANES];
                // SAFETY: the slice has four values.
                unsafe { vst1q_f32(sums.as_mut_ptr(), *total) };
            }
        }
    }
);

neon!(
    /// Loads four f16 of a header as f32.
    ///
    /// # Safety
    ///
    /// The header has an f16 for every row of the block.
    #[inline]
    unsafe fn load_halves(header: *const u8, piece: usize) -> float32x4_t {
        // SAFETY: guaranteed by the caller.
        floats_of(unsafe { vld1_u8(header.add(2 * LANES * piece)) })
    }
);

neon!(
    /// Converts four f16.
    #[inline]
    fn floats_of(halves: uint8x8_t) -> float32x4_t {
        let floats: float32x4_t;
        // SAFETY: every 64-bit ARM processor has the instruction, whose intrinsic is not stable.
        unsafe {
            asm!(
                "fcvtl {floats:v}.4s, {halves:v}.4h",
                floats = lateout(vreg) floats,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        floats
    }
);

neon!(
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens, two each.
    #[inline]
    unsafe fn add_dots<const T: usize>(dots: &mut [int32x4_t; T], weights: int8x16_t, words: *const u32) {
        let weights = vreinterpretq_s16_s8(weights);
        let even = vshrq_n_s16::<8>(vshlq_n_s16::<8>(weights));
        let odd = vshrq_n_s16::<8>(weights);
        for (token, dot) in dots.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let [first, second] = unsafe { [words.add(2 * token).read(), words.add(2 * token + 1).read()] };
            let first = vreinterpretq_s16_u32(vdupq_n_u32(first));
            let second = vreinterpretq_s16_u32(vdupq_n_u32(second));
            let low = vmull_s16(vget_low_s16(even), vget_low_s16(first));
            let low = vmlal_s16(low, vget_low_s16(odd), vget_low_s16(second));
            let high = vmlal_high_s16(vmull_high_s16(even, first), odd, second);
            *dot = vaddq_s32(*dot, vpaddq_s32(low, high));
        }
    }
);

neon!(
    /// Adds a group's integer products, scaled by the scales of weights and inputs.
    ///
    /// # Safety
    ///
    /// `header` starts with the scales of all rows, and the panel has the group `group`.
    #[inline]
    unsafe fn add_scaled<const N: usize, const T: usize>(
        dots: &[[int32x4_t; T]; N],
        header: *const u8,
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        let scales = std::array::from_fn(|index| unsafe { load_halves(header, piece + index) });
        add_scaled_by(dots, &scales, piece, panel, group, sums);
    }
);

neon!(
    /// As [`add_scaled`], by the scales of `N` registers of rows.
    #[inline]
    fn add_scaled_by<const N: usize, const T: usize>(
        dots: &[[int32x4_t; T]; N],
        scales: &[float32x4_t; N],
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_sums::<N, T>(sums, piece);
        for ((dots, totals), scales) in dots.iter().zip(&mut totals).zip(scales) {
            for (token, (dot, total)) in dots.iter().zip(totals).enumerate() {
                let scale = vmulq_n_f32(*scales, panel.scales[group * T + token]);
                *total = vfmaq_f32(*total, vcvtq_f32_s32(*dot), scale);
            }
        }
        store_sums(&totals, sums, piece);
    }
);
