//! bf16 weights, products and sums in f32. Two weights share a word, in which the second is an f32 apart from
//! its low bits.

use super::super::expand_then_multiply::expand_then_multiply;
use super::{BlockSums, PIECES, Panel, REGISTER, TILES, expand, load, load_sums, store_sums};
use crate::cpu::levels::neon;
use crate::storage::{Format, VECTOR_BYTES};
use std::arch::aarch64::*;

neon!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn dense<const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            // Half of the registers hold sums: fewer tokens leave room for more rows at a time.
            match T {
                1 | 2 => dense_by::<8, T>(stream, groups, panel, sums),
                3 | 4 => dense_by::<4, T>(stream, groups, panel, sums),
                _ => dense_by::<2, T>(stream, groups, panel, sums),
            }
        }
    }
);

neon!(
    /// `N` registers of rows at a time.
    ///
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    #[inline]
    unsafe fn dense_by<const N: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let second = vdupq_n_u32(0xffff_0000);
        let steps = Format::BF16.steps();
        for group in 0..groups {
            for piece in (0..PIECES).step_by(N) {
                // SAFETY: the stream has the groups and the panel has their words, by the contract.
                unsafe {
                    let mut totals = load_sums::<N, T>(sums, piece);
                    let mut words = panel.words.as_ptr().add(group * steps * T);
                    let mut at = stream.as_ptr().add(group * Format::BF16.dense_group() + piece * REGISTER);
                    for _ in 0..steps {
                        for (index, totals) in totals.iter_mut().enumerate() {
                            let pair = vreinterpretq_u32_u8(load(at.add(index * REGISTER)));
                            let weights = vreinterpretq_f32_u32(vshlq_n_u32::<16>(pair));
                            let others = vreinterpretq_f32_u32(vandq_u32(pair, second));
                            for (token, total) in totals.iter_mut().enumerate() {
                                let pair = words.add(token).read();
                                *total = vfmaq_n_f32(*total, weights, f32::from_bits(pair << 16));
                                *total = vfmaq_n_f32(*total, others, f32::from_bits(pair & 0xffff_0000));
                            }
                        }
                        at = at.add(TILES * VECTOR_BYTES);
                        words = words.add(T);
                    }
                    store_sums(&totals, sums, piece);
                }
            }
        }
    }
);

/// # Safety
///
/// The contract of a `BlockFn`.
pub(super) unsafe fn sparse<const T: usize>(
    stream: &[u8],
    groups: usize,
    panel: Panel<'_>,
    sums: &mut BlockSums,
) {
    // SAFETY: guaranteed by the caller.
    unsafe { expand_then_multiply(expand::bf16, dense::<T>, stream, groups, panel, sums) }
}
