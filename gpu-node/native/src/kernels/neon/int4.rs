//! int4 weights: two in a byte with a minimum for each row and group, or expanded.

use super::super::MAX_INT8_INPUT;
use super::super::expand_then_multiply::{expand_then_multiply, expanding_fn};
use super::{BlockSums, LANES, PIECES, Panel, REGISTER, TILES, dot_products, expand};
use super::{add_scaled, add_scaled_by, load, load_halves, load_sums, store_sums};
use crate::cpu::levels::neon;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, MAX_GROUP, Precision, VECTOR_BYTES};
use std::arch::aarch64::*;

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn dense<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            // At most the four registers of a tile, whose codes lie in the same nibbles.
            match T {
                1 | 2 => dense_by::<GROUP, 4, T>(stream, groups, panel, sums),
                3 | 4 => dense_by::<GROUP, 2, T>(stream, groups, panel, sums),
                _ => dense_by::<GROUP, 1, T>(stream, groups, panel, sums),
            }
        }
    }
);

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, and `N` is 4, 2 or 1.
    #[inline]
    unsafe fn dense_by<const GROUP: usize, const N: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let nibble = vdupq_n_u8(15);
        let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
        for group in 0..groups {
            for piece in (0..PIECES).step_by(N) {
                // SAFETY: the stream has the groups and the panel has their words, by the contract.
                unsafe {
                    let header = stream.as_ptr().add(group * format.dense_group());
                    // A left shift by a negative number is a right shift.
                    let shift = vdupq_n_s8(if piece < PIECES / 2 { 0 } else { -4 });
                    let mut at = header.add(format.dense_header() + piece % (PIECES / 2) * REGISTER);
                    let mut words = panel.words.as_ptr().add(group * format.steps() * T);
                    let mut dots = [[[vdupq_n_s16(0); 2]; T]; N];
                    for _ in 0..format.steps() {
                        for (index, dots) in dots.iter_mut().enumerate() {
                            let codes = vshlq_u8(load(at.add(index * REGISTER)), shift);
                            add_products(dots, vreinterpretq_s8_u8(vandq_u8(codes, nibble)), words);
                        }
                        at = at.add(VECTOR_BYTES);
                        words = words.add(T);
                    }
                    let dots = dots
                        .map(|dots| dots.map(|[low, high]| vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))));
                    add_scaled(&dots, header, piece, panel, group, sums);
                    add_minimums::<N, T>(header.add(2 * BLOCK_ROWS), piece, panel, group, sums);
                }
            }
        }
    }
);

const _: () = assert!(MAX_GROUP as i32 / 4 * 15 * (MAX_INT8_INPUT + 1) <= i16::MAX as i32);

neon!(
    /// Adds the products of the four columns of 4 rows, two rows in each of a token's 16-bit sums. Those of a group of nibbles
    /// fit, and those of `SUMMED_COLUMN_STEPS` steps of expanded codes.
    ///
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens.
    #[inline]
    unsafe fn add_products<const T: usize>(
        sums: &mut [[int16x8_t; 2]; T],
        codes: int8x16_t,
        words: *const u32,
    ) {
        for (token, [low, high]) in sums.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let inputs = vreinterpretq_s8_u32(vdupq_n_u32(unsafe { words.add(token).read() }));
            *low = vmlal_s8(*low, vget_low_s8(codes), vget_low_s8(inputs));
            *high = vmlal_high_s8(*high, codes, inputs);
        }
    }
);

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for expanded groups.
    pub(super) unsafe fn expanded<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match T {
                1 | 2 => expanded_by::<GROUP, 4, T>(stream, groups, panel, sums),
                3 | 4 => expanded_by::<GROUP, 2, T>(stream, groups, panel, sums),
                _ => expanded_by::<GROUP, 1, T>(stream, groups, panel, sums),
            }
        }
    }
);

/// Steps whose products fit 16-bit sums of one column each.
const SUMMED_COLUMN_STEPS: usize = 4;
const _: () = assert!(SUMMED_COLUMN_STEPS as i32 * 63 * (MAX_INT8_INPUT + 1) <= i16::MAX as i32);

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for expanded groups, and `N` is 4, 2 or 1.
    #[inline]
    unsafe fn expanded_by<const GROUP: usize, const N: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
        for group in 0..groups {
            for piece in (0..PIECES).step_by(N) {
                // SAFETY: the stream has the groups and the panel has their words, by the contract.
                unsafe {
                    let header = stream.as_ptr().add(group * format.expanded_group());
                    let mut at = header.add(EXPANDED_INT4_HEADER + piece * REGISTER);
                    let mut words = panel.words.as_ptr().add(group * format.steps() * T);
                    let mut dots = [[[vdupq_n_s32(0); 2]; T]; N];
                    for _ in 0..format.steps() / SUMMED_COLUMN_STEPS {
                        let mut pairs = [[[vdupq_n_s16(0); 2]; T]; N];
                        for _ in 0..SUMMED_COLUMN_STEPS {
                            for (index, pairs) in pairs.iter_mut().enumerate() {
                                let codes = load(at.add(index * REGISTER));
                                add_products(pairs, vreinterpretq_s8_u8(codes), words);
                            }
                            at = at.add(TILES * VECTOR_BYTES);
                            words = words.add(T);
                        }
                        for (dots, pairs) in dots.iter_mut().flatten().zip(pairs.iter().flatten()) {
                            *dots = [vpadalq_s16(dots[0], pairs[0]), vpadalq_s16(dots[1], pairs[1])];
                        }
                    }
                    let dots = dots.map(|dots| dots.map(|[low, high]| vpaddq_s32(low, high)));
                    add_expanded(&dots, header, piece, panel, group, sums);
                }
            }
        }
    }
);

expanding_fn!(pub(super) sparse, expand::int4, expanded);

expanding_fn!(
    /// The panel is in planes.
    pub(super) sparse_dot, expand::int4, dot_products::expanded_int4
);

neon!(
    /// Adds for each row its minimum times the sum of the inputs.
    ///
    /// # Safety
    ///
    /// `minimums` has an f16 for every row, and the panel has the group `group`.
    #[inline]
    pub(super) unsafe fn add_minimums<const N: usize, const T: usize>(
        minimums: *const u8,
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        let minimums = std::array::from_fn(|index| unsafe { load_halves(minimums, piece + index) });
        add_minimums_of::<N, T>(&minimums, piece, panel, group, sums);
    }
);

neon!(
    /// As [`add_minimums`], with the minimums of `N` registers of rows.
    #[inline]
    fn add_minimums_of<const N: usize, const T: usize>(
        minimums: &[float32x4_t; N],
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_sums::<N, T>(sums, piece);
        for (totals, minimums) in totals.iter_mut().zip(minimums) {
            for (token, total) in totals.iter_mut().enumerate() {
                *total = vfmaq_n_f32(*total, *minimums, panel.input_sums[group * T + token]);
            }
        }
        store_sums(&totals, sums, piece);
    }
);

neon!(
    /// Adds the integer products of an expanded group, scaled, less those of the zero points.
    ///
    /// # Safety
    ///
    /// `header` points to the group, and the panel has the group `group`.
    #[inline]
    pub(super) unsafe fn add_expanded<const N: usize, const T: usize>(
        dots: &[[int32x4_t; T]; N],
        header: *const u8,
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        sums: &mut BlockSums,
    ) {
        let floats = |index: usize| {
            // SAFETY: guaranteed by the caller.
            unsafe { vld1q_f32(header.cast::<f32>().add(index)) }
        };
        let quarters = std::array::from_fn(|index| floats(LANES * (piece + index)));
        let minimums = std::array::from_fn(|index| floats(BLOCK_ROWS + LANES * (piece + index)));
        add_scaled_by(dots, &quarters, piece, panel, group, sums);
        add_minimums_of::<N, T>(&minimums, piece, panel, group, sums);
    }
);
