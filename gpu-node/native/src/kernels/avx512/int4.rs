//! int4 weights, 8-bit inputs, integer sums within a group.

use super::super::SUMMED_STEPS;
use super::integers::{add_scaled, add_sums, add_sums_vnni, dot_bytes, dot_bytes_vnni, load_halves};
use super::{Panel, STRANDS, TILES, Totals};
use super::{block_fn, each_strand, each_token, load, moves, prefetch, shuffles, strand_of};
use crate::cpu::levels::{avx512, avx512vbmi2, avx512vnni};
use crate::storage::{BLOCK_ROWS, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Defines a kernel compiled for `$level`. `$dot` multiplies, and `$add_sums` adds its sums of `$steps` steps up.
macro_rules! dense_fn {
    ($name:ident, $dot:ident, $add_sums:ident, $steps:expr, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            let nibbles = nibbles();
            for group in 0..groups {
                let scales = scale_upper_nibbles(load_halves(at));
                let minimums = load_halves(at.add(2 * TILES * TILE_ROWS));
                at = at.add(4 * TILES * TILE_ROWS);
                let mut dots = [[_mm512_setzero_si512(); TILES]; T];
                for _ in 0..GROUP / 4 / $steps {
                    let mut sums = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
                    for _ in 0..$steps / STRANDS {
                        each_strand!(STRAND => {
                            prefetch(at);
                            let codes = load(at);
                            at = at.add(VECTOR_BYTES);
                            let pair = nibbles.map(|nibble| _mm512_and_si512(codes, nibble));
                            $dot(&mut sums[strand_of::<T>(STRAND)], pair, words);
                            words = words.add(T);
                        });
                    }
                    $add_sums(&mut dots, &sums);
                }
                add_scaled(&dots, scales, panel, group, &mut totals);
                add_minimums(minimums, panel, group, &mut totals);
            }
        });
    };
}

/// Defines a sparse kernel. As [`dense_fn`]; `$expand` expands the codes.
macro_rules! sparse_fn {
    ($name:ident, $dot:ident, $add_sums:ident, $steps:expr, $expand:ident, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            let nibbles = nibbles();
            let tables = $expand::bytes();
            for group in 0..groups {
                prefetch(at);
                let header = SparseHeader::load(at);
                let tables = $expand::with_pruned(&tables, header.zeros);
                let mut masks = at.add(SPARSE_SCALES);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                let mut dots = [[_mm512_setzero_si512(); TILES]; T];
                for _ in 0..GROUP / 4 / $steps {
                    let mut sums = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
                    for _ in 0..$steps / STRANDS {
                        each_strand!(STRAND => {
                            prefetch(at);
                            prefetch(masks);
                            let (mut first, mut second) = (at, at);
                            let pair = [
                                $expand::take_bytes(&tables, &mut first, masks),
                                $expand::take_bytes(&tables, &mut second, masks.add(8)),
                            ];
                            at = first.max(second);
                            masks = masks.add(8 * TILES);
                            let pair = [
                                _mm512_and_si512(pair[0], nibbles[0]),
                                _mm512_and_si512(pair[1], nibbles[1]),
                            ];
                            $dot(&mut sums[strand_of::<T>(STRAND)], pair, words);
                            words = words.add(T);
                        });
                    }
                    $add_sums(&mut dots, &sums);
                }
                let minimums = header.minimums();
                add_scaled(&dots, scale_upper_nibbles(header.scales), panel, group, &mut totals);
                add_minimums(minimums, panel, group, &mut totals);
            }
        });
    };
}

/// Bytes before the masks of a sparse group.
pub(super) const SPARSE_SCALES: usize = 2 * BLOCK_ROWS + TILE_ROWS;

/// The scales and the codes of 0 of a sparse group.
pub(super) struct SparseHeader {
    pub(super) scales: [__m512; TILES],
    /// The code of 0 of each row, in the places of its weights in a step: of the first tile in the lower nibbles, of the
    /// second in the upper ones.
    pub(super) zeros: __m512i,
}

impl SparseHeader {
    avx512!(
        /// # Safety
        ///
        /// `at` points to a sparse group.
        #[inline]
        pub(super) unsafe fn load(at: *const u8) -> SparseHeader {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let zeros = _mm_loadu_si128(at.add(2 * BLOCK_ROWS).cast());
                // Each byte four times: to the byte of its lane, and from there to the other three.
                let zeros = _mm512_mullo_epi32(_mm512_cvtepu8_epi32(zeros), _mm512_set1_epi32(0x0101_0101));
                SparseHeader { scales: load_halves(at), zeros }
            }
        }
    );

    avx512!(
        /// The minimums of the rows: minus their codes of 0 times their scales.
        #[inline]
        pub(super) fn minimums(&self) -> [__m512; TILES] {
            let nibble = _mm512_set1_epi32(15);
            let codes = [
                _mm512_and_si512(self.zeros, nibble),
                _mm512_and_si512(_mm512_srli_epi32::<4>(self.zeros), nibble),
            ];
            let negative = _mm512_set1_ps(-1.0);
            [0, 1].map(|tile| {
                let scale = _mm512_mul_ps(self.scales[tile], negative);
                _mm512_mul_ps(_mm512_cvtepi32_ps(codes[tile]), scale)
            })
        }
    );
}

dense_fn!(dense, dot_bytes, add_sums, SUMMED_STEPS, avx512);
dense_fn!(dense_vnni, dot_bytes_vnni, add_sums_vnni, (GROUP / 4), avx512vnni);
sparse_fn!(sparse, dot_bytes, add_sums, SUMMED_STEPS, shuffles, avx512);
sparse_fn!(sparse_vnni, dot_bytes_vnni, add_sums_vnni, (GROUP / 4), shuffles, avx512vnni);
sparse_fn!(sparse_vbmi2, dot_bytes_vnni, add_sums_vnni, (GROUP / 4), moves, avx512vbmi2);

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
            // SAFETY: guaranteed by the caller.
            let sum = unsafe { _mm512_set1_ps(*panel.input_sums.get_unchecked(group * T + TOKEN)) };
            let total = &mut totals[TOKEN];
            total[0] = _mm512_fmadd_ps(minimums[0], sum, total[0]);
            total[1] = _mm512_fmadd_ps(minimums[1], sum, total[1]);
        });
    }
);
