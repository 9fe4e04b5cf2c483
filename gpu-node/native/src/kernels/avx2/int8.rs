//! int8 weights, 16-bit inputs, integer sums within a group.

use super::super::expand_then_multiply::expand_then_multiply;
use super::{AHEAD, BlockSums, Panel, expand};
use super::{PASS, PIECES, REGISTER, TILES, add_dot, add_scaled, each_pass, inputs_of, load, prefetch};
use crate::cpu::levels::avx2;
use crate::storage::{BLOCK_ROWS, Format, Precision, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Bytes of one step of a dense block.
const STEP: usize = TILES * VECTOR_BYTES;

avx2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn dense<const GROUP: usize, const TOKENS: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let bytes = format(GROUP).dense_group();
        for group in 0..groups {
            // SAFETY: the stream has the groups and the panel has their words, by the contract.
            unsafe {
                let at = stream.as_ptr().add(group * bytes);
                if TOKENS == 1 {
                    add_group::<GROUP, PIECES, 1>(at, panel, group, 0, AHEAD, sums);
                } else {
                    each_pass!(
                        panel, first =>
                        add_group::<GROUP, PIECES, 1>(at, panel, group, first, bytes, sums),
                        add_group::<GROUP, PIECES, 2>(at, panel, group, first, bytes, sums),
                        add_group::<GROUP, 2, 3>(at, panel, group, first, bytes, sums),
                        add_group::<GROUP, 2, 4>(at, panel, group, first, bytes, sums)
                    );
                }
            }
        }
    }
);

avx2!(
    /// Adds the products of a group, `N` registers of rows at a time, for `T` tokens from `first` on. The
    /// first pass prefetches the memory `ahead` bytes further.
    ///
    /// Codes are the weights plus 128. Sums start at minus the products of that offset, which are the same
    /// for all rows.
    ///
    /// # Safety
    ///
    /// `header` points to a dense group, and the panel has the group `group`.
    #[inline]
    unsafe fn add_group<const GROUP: usize, const N: usize, const T: usize>(
        header: *const u8,
        panel: Panel<'_>,
        group: usize,
        first: usize,
        ahead: usize,
        sums: &mut BlockSums,
    ) {
        let steps = GROUP / 4;
        let low = _mm256_set1_epi16(255);
        let mut start = [[_mm256_setzero_si256(); N]; T];
        for (token, start) in start.iter_mut().enumerate() {
            *start = [_mm256_set1_epi32(-128 * panel.sums[group * panel.tokens + first + token]); N];
        }
        for piece in (0..PIECES).step_by(N) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let mut at = header.add(2 * BLOCK_ROWS + piece * REGISTER);
                let mut words = panel.words.as_ptr().add(2 * (group * steps * panel.tokens + first));
                let mut dots = start;
                for _ in 0..steps {
                    if first == 0 && piece == 0 {
                        prefetch(at, ahead);
                        prefetch(at, ahead + VECTOR_BYTES);
                    }
                    let mut weights = [[_mm256_setzero_si256(); 2]; N];
                    for (index, weights) in weights.iter_mut().enumerate() {
                        let codes = load(at.add(index * REGISTER));
                        *weights = [_mm256_and_si256(codes, low), _mm256_srli_epi16::<8>(codes)];
                    }
                    for (token, dots) in dots.iter_mut().enumerate() {
                        let inputs = inputs_of(words.add(2 * token));
                        for (dot, weights) in dots.iter_mut().zip(weights) {
                            *dot = add_dot(*dot, weights, inputs);
                        }
                    }
                    at = at.add(STEP);
                    words = words.add(2 * panel.tokens);
                }
                add_scaled(&dots, header, piece, panel, group, first, sums);
            }
        }
    }
);

avx2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn sparse<const GROUP: usize, const TOKENS: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            if TOKENS == 1 {
                sparse_alone::<GROUP>(stream, groups, panel, sums);
            } else {
                let (expand, multiply) = (expand::int8::<GROUP>, dense::<GROUP, TOKENS>);
                expand_then_multiply(expand, multiply, stream, groups, panel, sums);
            }
        }
    }
);

avx2!(
    /// Multiplies sparse groups by one token: expanded values are multiplied directly.
    ///
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    #[inline]
    unsafe fn sparse_alone<const GROUP: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let first_of_two = _mm256_set1_epi16(1);
        let mut words = panel.words.as_ptr();
        let mut at = stream.as_ptr();
        for group in 0..groups {
            let header = at;
            let mut dots = [_mm256_setzero_si256(); PIECES];
            // SAFETY: a load reads 8 bytes from a value on, at most 8 bytes beyond the stream, which a vector
            // follows; the panel has two words for each step.
            unsafe {
                let mut masks = header.add(2 * BLOCK_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                for _ in 0..GROUP / 4 {
                    prefetch(at, AHEAD);
                    let inputs = inputs_of(words);
                    words = words.add(2);
                    for (piece, dot) in dots.iter_mut().enumerate() {
                        let low = expand::sixteen_signed(&mut at, masks.add(4 * piece));
                        let high = expand::sixteen_signed(&mut at, masks.add(4 * piece + 2));
                        let codes = _mm256_set_m128i(high, low);
                        // Signed bytes as 16-bit words: the even ones multiplied by 1 and the odd ones by 0,
                        // and the odd ones shifted down.
                        let weights =
                            [_mm256_maddubs_epi16(first_of_two, codes), _mm256_srai_epi16::<8>(codes)];
                        *dot = add_dot(*dot, weights, inputs);
                    }
                    masks = masks.add(4 * PIECES);
                }
                add_scaled(&[dots], header, 0, panel, group, 0, sums);
            }
        }
    }
);

pub(super) fn format(group: usize) -> Format {
    Format::new(Precision::Int8, group).expect("a group that int8 has")
}
