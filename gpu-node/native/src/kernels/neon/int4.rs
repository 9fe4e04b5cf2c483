//! int4 weights: two in a byte with a minimum for each row and group, or expanded.

use super::super::MAX_INT8_INPUT;
use super::super::expand_then_multiply::{expand_then_multiply, expanding_fn};
use super::{BlockSums, LANES, PIECES, Panel, REGISTER, TILES, dot_products, expand};
use super::{add_scaled, add_scaled_by, load, load_halves, load_sums, store_sums};
use crate::cpu::levels::neon;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, Precision, VECTOR_BYTES};
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
        unsafe { multiply::<GROUP, T, false>(stream, groups, panel, sums) }
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
        unsafe { multiply::<GROUP, T, true>(stream, groups, panel, sums) }
    }
);

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for dense or expanded groups.
    #[inline]
    unsafe fn multiply<const GROUP: usize, const T: usize, const EXPANDED: bool>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            // At most the four registers of a tile, whose codes lie in the same nibbles.
            match T {
                1 | 2 => multiply_by::<GROUP, 4, T, EXPANDED>(stream, groups, panel, sums),
                3 | 4 => multiply_by::<GROUP, 2, T, EXPANDED>(stream, groups, panel, sums),
                _ => multiply_by::<GROUP, 1, T, EXPANDED>(stream, groups, panel, sums),
            }
        }
    }
);

/// Steps whose products fit 16-bit sums of one column each: all of a group of nibbles, fewer of expanded codes.
const fn summed_steps(group: usize, expanded: bool) -> usize {
    let (steps, largest) = if expanded { (4, 63) } else { (group / 4, 15) };
    assert!(steps as i32 * largest * (MAX_INT8_INPUT + 1) <= i16::MAX as i32);
    steps
}

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for dense or expanded groups, and `N` is 4, 2 or 1.
    #[inline]
    unsafe fn multiply_by<const GROUP: usize, const N: usize, const T: usize, const EXPANDED: bool>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let summed = const { summed_steps(GROUP, EXPANDED) };
        let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
        for group in 0..groups {
            for piece in (0..PIECES).step_by(N) {
                // SAFETY: the stream has the groups and the panel has their words, by the contract.
                unsafe {
                    let header = stream.as_ptr().add(group * Codes::<EXPANDED>::group(format));
                    let mut codes = Codes::<EXPANDED>::of(header, piece);
                    let mut words = panel.words.as_ptr().add(group * format.steps() * T);
                    let mut dots = [[[vdupq_n_s32(0); 2]; T]; N];
                    for _ in 0..format.steps() / summed {
                        let mut pairs = [[[vdupq_n_s16(0); 2]; T]; N];
                        for _ in 0..summed {
                            for (index, pairs) in pairs.iter_mut().enumerate() {
                                add_products(pairs, codes.load(index), words);
                            }
                            codes.advance();
                            words = words.add(T);
                        }
                        for (dots, pairs) in dots.iter_mut().flatten().zip(pairs.iter().flatten()) {
                            *dots = [vpadalq_s16(dots[0], pairs[0]), vpadalq_s16(dots[1], pairs[1])];
                        }
                    }
                    let dots = dots.map(|dots| dots.map(|[low, high]| vpaddq_s32(low, high)));
                    add_dots::<N, T, EXPANDED>(&dots, header, piece, panel, group, sums);
                }
            }
        }
    }
);

/// The codes of a step of some registers of rows: nibbles of a dense group, or with `EXPANDED` bytes.
pub(super) struct Codes<const EXPANDED: bool> {
    at: *const u8,
    /// Moves the nibbles of the rows into the lower half of their bytes.
    shift: int8x16_t,
}

impl<const EXPANDED: bool> Codes<EXPANDED> {
    /// Bytes of a group.
    pub(super) fn group(format: Format) -> usize {
        if EXPANDED { format.expanded_group() } else { format.dense_group() }
    }

    neon!(
        /// The first step of a group, of the registers from `piece` on.
        ///
        /// # Safety
        ///
        /// `header` points to a group.
        #[inline]
        pub(super) unsafe fn of(header: *const u8, piece: usize) -> Codes<EXPANDED> {
            let offset = if EXPANDED {
                EXPANDED_INT4_HEADER + piece * REGISTER
            } else {
                4 * BLOCK_ROWS + piece % (PIECES / TILES) * REGISTER
            };
            // A left shift by a negative number is a right shift.
            let shift = vdupq_n_s8(if piece < PIECES / TILES { 0 } else { -4 });
            // SAFETY: guaranteed by the caller.
            Codes { at: unsafe { header.add(offset) }, shift }
        }
    );

    neon!(
        /// The codes of the `index`-th register. Those of a dense group are of the same tile as the first register's.
        ///
        /// # Safety
        ///
        /// The group has the step and the register.
        #[inline]
        pub(super) unsafe fn load(&self, index: usize) -> int8x16_t {
            // SAFETY: guaranteed by the caller.
            let codes = unsafe { load(self.at.add(index * REGISTER)) };
            vreinterpretq_s8_u8(if EXPANDED {
                codes
            } else {
                vandq_u8(vshlq_u8(codes, self.shift), vdupq_n_u8(15))
            })
        }
    );

    neon!(
        /// Goes on to the next step.
        #[inline]
        pub(super) fn advance(&mut self) {
            let step = if EXPANDED { TILES * VECTOR_BYTES } else { VECTOR_BYTES };
            self.at = self.at.wrapping_add(step);
        }
    );
}

neon!(
    /// Adds the products of the four columns of 4 rows, two rows in each of a token's 16-bit sums: those of [`summed_steps`]
    /// fit.
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

expanding_fn!(pub(super) sparse, expand::int4, expanded);

expanding_fn!(
    /// The panel is in planes.
    pub(super) sparse_dot, expand::int4, dot_products::expanded_int4
);

neon!(
    /// Adds a group's integer products, scaled by the scales of weights and inputs, less those of the zero points of an expanded
    /// group, or for each row of a dense one its minimum times the sum of the inputs.
    ///
    /// # Safety
    ///
    /// `header` points to a group, dense or expanded, and the panel has the group `group`.
    #[inline]
    pub(super) unsafe fn add_dots<const N: usize, const T: usize, const EXPANDED: bool>(
        dots: &[[int32x4_t; T]; N],
        header: *const u8,
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        sums: &mut BlockSums,
    ) {
        if EXPANDED {
            let mut dots = *dots;
            let mut quarters = [vdupq_n_f32(0.0); N];
            for (index, (dots, quarters)) in dots.iter_mut().zip(&mut quarters).enumerate() {
                // SAFETY: guaranteed by the caller.
                let zeros = unsafe {
                    let row = header.cast::<f32>().add(LANES * (piece + index));
                    *quarters = vld1q_f32(row);
                    vld1q_s32(row.add(BLOCK_ROWS).cast())
                };
                for (token, dot) in dots.iter_mut().enumerate() {
                    *dot = vmlsq_n_s32(*dot, zeros, panel.sums[group * T + token]);
                }
            }
            add_scaled_by(&dots, &quarters, piece, panel, group, sums);
            return;
        }
        // SAFETY: guaranteed by the caller.
        let minimums: [_; N] = unsafe {
            add_scaled(dots, header, piece, panel, group, sums);
            let minimums = header.add(2 * BLOCK_ROWS);
            std::array::from_fn(|index| load_halves(minimums, piece + index))
        };
        let mut totals = load_sums::<N, T>(sums, piece);
        for (totals, minimums) in totals.iter_mut().zip(minimums) {
            for (token, total) in totals.iter_mut().enumerate() {
                *total = vfmaq_n_f32(*total, minimums, panel.input_sums[group * T + token]);
            }
        }
        store_sums(&totals, sums, piece);
    }
);
