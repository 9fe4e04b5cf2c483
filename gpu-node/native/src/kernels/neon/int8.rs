//! int8 weights.

use super::super::expand_then_multiply::{expand_then_multiply, expanding_fn};
use super::{BlockSums, PIECES, Panel, REGISTER, TILES, add_dots, add_scaled, dot_products, expand, load};
use crate::cpu::levels::neon;
use crate::storage::{Format, Precision, VECTOR_BYTES};
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
            match T {
                1 | 2 => dense_by::<GROUP, 8, T>(stream, groups, panel, sums),
                3 | 4 => dense_by::<GROUP, 4, T>(stream, groups, panel, sums),
                _ => dense_by::<GROUP, 2, T>(stream, groups, panel, sums),
            }
        }
    }
);

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    #[inline]
    unsafe fn dense_by<const GROUP: usize, const N: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let offset = vdupq_n_u8(128);
        let format = format(GROUP);
        for group in 0..groups {
            for piece in (0..PIECES).step_by(N) {
                // SAFETY: the stream has the groups and the panel has their words, by the contract.
                unsafe {
                    let header = stream.as_ptr().add(group * format.dense_group());
                    let mut at = header.add(format.dense_header() + piece * REGISTER);
                    let mut words = panel.words.as_ptr().add(2 * group * format.steps() * T);
                    let mut dots = [[vdupq_n_s32(0); T]; N];
                    for _ in 0..format.steps() {
                        for (index, dots) in dots.iter_mut().enumerate() {
                            let weights = veorq_u8(load(at.add(index * REGISTER)), offset);
                            add_dots(dots, vreinterpretq_s8_u8(weights), words);
                        }
                        at = at.add(TILES * VECTOR_BYTES);
                        words = words.add(2 * T);
                    }
                    add_scaled(&dots, header, piece, panel, group, sums);
                }
            }
        }
    }
);

expanding_fn!(pub(super) sparse, expand::int8, dense);

expanding_fn!(
    /// The panel is in planes.
    pub(super) sparse_dot, expand::int8, dot_products::dense_int8
);

fn format(group: usize) -> Format {
    Format::new(Precision::Int8, group).expect("a group that int8 has")
}
