//! int8 weights, 16-bit inputs, integer sums within a group.

use super::integers::{Dots, add_scaled, dot, join_strands, load_halves};
use super::{BlockSums, Panel, STRANDS, TILES};
use super::{add_totals, each_token, load, load_mask64, prefetch, strand_of};
use crate::cpu::levels::avx512;
use crate::storage::{BLOCK_ROWS, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;
use std::hint::black_box;

avx512!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn dense<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let mut totals = [[_mm512_setzero_ps(); TILES]; T];
        let mut at = stream.as_ptr();
        let mut words = panel.words.as_ptr();
        for group in 0..groups {
            // SAFETY: the stream has the groups and the panel has their words, by the contract.
            unsafe {
                let scales = load_halves(at);
                at = at.add(2 * TILES * TILE_ROWS);
                let mut dots = start_at_zero_point::<T>(panel, group);
                for _ in 0..GROUP / 4 / STRANDS {
                    for strand in 0..STRANDS {
                        prefetch(at);
                        prefetch(at.wrapping_add(VECTOR_BYTES));
                        let pair = [load(at), load(at.add(VECTOR_BYTES))];
                        at = at.add(TILES * VECTOR_BYTES);
                        dot(&mut dots[strand_of::<T>(strand)], pair, words);
                        words = words.add(2 * T);
                    }
                }
                add_scaled(&join_strands(&dots), scales, panel, group, &mut totals);
            }
        }
        add_totals(&totals, sums);
    }
);

avx512!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn sparse<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let pruned = black_box(_mm512_set1_epi8(-128));
        let mut totals = [[_mm512_setzero_ps(); TILES]; T];
        let mut at = stream.as_ptr();
        let mut words = panel.words.as_ptr();
        for group in 0..groups {
            // SAFETY: as in `bf16::sparse`.
            unsafe {
                let scales = load_halves(at);
                let mut masks = at.add(2 * TILES * TILE_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                let mut dots = start_at_zero_point::<T>(panel, group);
                for _ in 0..GROUP / 4 / STRANDS {
                    for strand in 0..STRANDS {
                        prefetch(at);
                        let (mask, kept) = load_mask64(masks);
                        let first = _mm512_mask_expand_epi8(pruned, mask, load(at));
                        at = at.add(kept);
                        let (mask, kept) = load_mask64(masks.add(8));
                        let second = _mm512_mask_expand_epi8(pruned, mask, load(at));
                        at = at.add(kept);
                        masks = masks.add(8 * TILES);
                        dot(&mut dots[strand_of::<T>(strand)], [first, second], words);
                        words = words.add(2 * T);
                    }
                }
                add_scaled(&join_strands(&dots), scales, panel, group, &mut totals);
            }
        }
        add_totals(&totals, sums);
    }
);

avx512!(
    /// int8 codes are the weights plus 128. The products of that offset are the same for all rows: they are
    /// subtracted here.
    ///
    /// # Safety
    ///
    /// The panel has the group `group`.
    #[inline]
    unsafe fn start_at_zero_point<const T: usize>(panel: Panel<'_>, group: usize) -> [Dots<T>; STRANDS] {
        let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let sum = unsafe { *panel.sums.get_unchecked(group * T + TOKEN) };
            dots[0][TOKEN] = [_mm512_set1_epi32(-128 * sum); TILES];
        });
        dots
    }
);
