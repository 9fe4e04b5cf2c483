//! int4 weights, two in a byte, with a minimum for each row and group.

use super::super::expand_then_multiply::{expand_then_multiply, expanding_fn};
use super::{BlockSums, PIECES, Panel, REGISTER, dot_products, expand};
use super::{add_dots, add_scaled, load, load_halves, load_sums, store_sums};
use crate::cpu::levels::neon;
use crate::storage::{BLOCK_ROWS, Format, Precision, VECTOR_BYTES};
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
                1..=4 => dense_by::<GROUP, 4, T>(stream, groups, panel, sums),
                _ => dense_by::<GROUP, 2, T>(stream, groups, panel, sums),
            }
        }
    }
);

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, and `N` is 4 or 2.
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
                    let mut words = panel.words.as_ptr().add(2 * group * format.steps() * T);
                    let mut dots = [[vdupq_n_s32(0); T]; N];
                    for _ in 0..format.steps() {
                        for (index, dots) in dots.iter_mut().enumerate() {
                            let codes = vshlq_u8(load(at.add(index * REGISTER)), shift);
                            add_dots(dots, vreinterpretq_s8_u8(vandq_u8(codes, nibble)), words);
                        }
                        at = at.add(VECTOR_BYTES);
                        words = words.add(2 * T);
                    }
                    add_scaled(&dots, header, piece, panel, group, sums);
                    add_minimums::<N, T>(header.add(2 * BLOCK_ROWS), piece, panel, group, sums);
                }
            }
        }
    }
);

expanding_fn!(pub(super) sparse, expand::int4, dense);

expanding_fn!(
    /// The panel is in planes.
    pub(super) sparse_dot, expand::int4, dot_products::dense_int4
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
        let mut totals = load_sums::<N, T>(sums, piece);
        for (index, totals) in totals.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let minimums = unsafe { load_halves(minimums, piece + index) };
            for (token, total) in totals.iter_mut().enumerate() {
                let place = group * T + token;
                let input = panel.scales[place] * panel.sums[place] as f32;
                *total = vfmaq_n_f32(*total, minimums, input);
            }
        }
        store_sums(&totals, sums, piece);
    }
);
