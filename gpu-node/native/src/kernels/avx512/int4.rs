//! int4 weights, 16-bit inputs, integer sums within a group.

use super::integers::{add_scaled, dot, dot_vnni, join_strands, load_halves};
use super::{Panel, STRANDS, TILES, Totals};
use super::{block_fn, each_strand, each_token, load, prefetch, strand_of};
use crate::cpu::levels::{avx512, avx512vnni};
use crate::storage::{TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Defines a kernel compiled for `$level`. `$dot` multiplies.
macro_rules! dense_fn {
    ($name:ident, $dot:ident, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            let nibbles = nibbles();
            for group in 0..groups {
                let scales = scale_upper_nibbles(load_halves(at));
                let minimums = load_halves(at.add(2 * TILES * TILE_ROWS));
                at = at.add(4 * TILES * TILE_ROWS);
                let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
                for _ in 0..GROUP / 4 / STRANDS {
                    each_strand!(STRAND => {
                        prefetch(at);
                        let codes = load(at);
                        at = at.add(VECTOR_BYTES);
                        let pair = nibbles.map(|nibble| _mm512_and_si512(codes, nibble));
                        $dot(&mut dots[strand_of::<T>(STRAND)], pair, words);
                        words = words.add(2 * T);
                    });
                }
                add_scaled(&join_strands(&dots), scales, panel, group, &mut totals);
                add_minimums(minimums, panel, group, &mut totals);
            }
        });
    };
}

dense_fn!(dense, dot, avx512);
dense_fn!(dense_vnni, dot_vnni, avx512vnni);

avx512!(
    /// The bits of a byte that hold the codes of the first and of the second tile.
    #[inline]
    pub(super) fn nibbles() -> [__m512i; TILES] {
        [_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0xf0u8.cast_signed())]
    }
);

avx512!(
    /// Divides the second tile's scales by 16, which is exact: its codes stay in the upper nibbles, and each
    /// vector needs one shift less.
    #[inline]
    pub(super) fn scale_upper_nibbles(scales: [__m512; TILES]) -> [__m512; TILES] {
        [scales[0], _mm512_mul_ps(scales[1], _mm512_set1_ps(1.0 / 16.0))]
    }
);

avx512!(
    /// Adds for each row its minimum times the sum of a group's inputs.
    ///
    /// # Safety
    ///
    /// The panel has the group `group`.
    #[inline]
    pub(super) unsafe fn add_minimums<const T: usize>(
        minimums: [__m512; TILES],
        panel: Panel<'_>,
        group: usize,
        totals: &mut Totals<T>,
    ) {
        each_token!(T, TOKEN => {
            let place = group * T + TOKEN;
            // SAFETY: guaranteed by the caller.
            let sum = unsafe { *panel.scales.get_unchecked(place) * *panel.sums.get_unchecked(place) as f32 };
            let (total, sum) = (&mut totals[TOKEN], _mm512_set1_ps(sum));
            total[0] = _mm512_fmadd_ps(minimums[0], sum, total[0]);
            total[1] = _mm512_fmadd_ps(minimums[1], sum, total[1]);
        });
    }
);
