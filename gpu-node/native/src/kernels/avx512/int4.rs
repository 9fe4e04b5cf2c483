//! int4 weights, 8-bit inputs, integer sums within a group.

use super::super::{SUMMED_EXPANDED_STEPS, SUMMED_STEPS};
use super::integers::{Dots, add_byte_sums, add_nibble_sums, add_scaled, no_sums};
use super::integers::{
    dot_bytes, dot_bytes_vnni, dot_nibbles, load_halves, sums_of_strands, sums_to_strands,
};
use super::{Panel, STRANDS, TILES, Totals};
use super::{block_fn, each_strand, each_token, load, moves, prefetch, shuffles, strand_of};
use crate::cpu::levels::{avx512, avx512vbmi2, avx512vnni};
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Defines a kernel compiled for `$level`. `$dot` multiplies, and `$add_sums` adds its sums of `$steps` steps, which begin as
/// `$begin_sums`, up.
macro_rules! dense_fn {
    ($name:ident, $begin_sums:ident, $dot:ident, $add_sums:ident, $steps:expr, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            let nibbles = nibbles();
            for group in 0..groups {
                let scales = scale_upper_nibbles(load_halves(at));
                let minimums = load_halves(at.add(2 * TILES * TILE_ROWS));
                at = at.add(4 * TILES * TILE_ROWS);
                let mut dots = [[_mm512_setzero_si512(); TILES]; T];
                for _ in 0..GROUP / 4 / $steps {
                    let mut sums = $begin_sums(&dots);
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
    ($name:ident, $begin_sums:ident, $dot:ident, $add_sums:ident, $steps:expr, $expand:ident, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            let tables = $expand::bytes();
            for group in 0..groups {
                prefetch(at);
                let (scales, pruned) = header_of_sparse(at);
                let mut masks = at.add(2 * BLOCK_ROWS);
                let (mut first, mut second) = (masks.add(GROUP * BLOCK_ROWS / 8), masks.add(GROUP * BLOCK_ROWS / 8));
                let mut dots = scales.first_dots::<T>(panel, group);
                for _ in 0..GROUP / 4 / $steps {
                    let mut sums = $begin_sums(&dots);
                    for _ in 0..$steps / STRANDS {
                        each_strand!(STRAND => {
                            prefetch(first);
                            prefetch(masks);
                            let pair = [
                                $expand::take_nibbles::<0>(&tables, pruned[0], &mut first, masks),
                                $expand::take_nibbles::<1>(&tables, pruned[1], &mut second, masks.add(8)),
                            ];
                            masks = masks.add(8 * TILES);
                            $dot(&mut sums[strand_of::<T>(STRAND)], pair, words);
                            words = words.add(T);
                        });
                    }
                    $add_sums(&mut dots, &sums);
                }
                at = first.max(second);
                add_scaled(&dots, scales.quarters, panel, group, &mut totals);
            }
        });
    };
}

/// Defines a kernel of expanded groups. As [`dense_fn`].
macro_rules! expanded_fn {
    ($name:ident, $begin_sums:ident, $dot:ident, $add_sums:ident, $steps:expr, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            for group in 0..groups {
                let scales = Scales::load(at);
                at = at.add(EXPANDED_INT4_HEADER);
                let mut dots = scales.first_dots::<T>(panel, group);
                for _ in 0..GROUP / 4 / $steps {
                    let mut sums = $begin_sums(&dots);
                    for _ in 0..$steps / STRANDS {
                        each_strand!(STRAND => {
                            let pair = [load(at), load(at.add(VECTOR_BYTES))];
                            at = at.add(TILES * VECTOR_BYTES);
                            $dot(&mut sums[strand_of::<T>(STRAND)], pair, words);
                            words = words.add(T);
                        });
                    }
                    $add_sums(&mut dots, &sums);
                }
                add_scaled(&dots, scales.quarters, panel, group, &mut totals);
            }
        });
    };
}

/// The scales and offsets of a sparse or expanded group.
pub(super) struct Scales {
    /// A quarter of each row's scale: the scale of an expanded code.
    pub(super) quarters: [__m512; TILES],
    /// The zero point of each row in quarters of a code; of an expanded group with signed codes, minus their sum times the bias
    /// of the inputs.
    pub(super) offsets: [__m512i; TILES],
}

avx512!(
    /// Returns the scales of a sparse group, and the expanded codes of pruned weights, in the places of each row's weights in
    /// a step.
    ///
    /// # Safety
    ///
    /// `at` points to a sparse group.
    #[inline]
    pub(super) unsafe fn header_of_sparse(at: *const u8) -> (Scales, [__m512i; TILES]) {
        // SAFETY: guaranteed by the caller.
        let rows = unsafe { load(at) };
        let scales = _mm512_and_si512(_mm512_srli_epi16::<1>(rows), _mm512_set1_epi16(0x7fe0));
        let zero_points = split(_mm512_and_si512(rows, _mm512_set1_epi16(0x3f)));
        let zero_points = zero_points.map(|points| _mm512_cvtepu16_epi32(points));
        let quarter = _mm512_set1_ps(0.25);
        let quarters = split(scales).map(|scales| _mm512_mul_ps(_mm512_cvtph_ps(scales), quarter));
        let lowest_of_each = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
        let pruned = zero_points.map(|points| _mm512_shuffle_epi8(points, lowest_of_each));
        (Scales { quarters, offsets: zero_points }, pruned)
    }
);

impl Scales {
    avx512!(
        /// # Safety
        ///
        /// `at` points to an expanded group.
        #[inline]
        pub(super) unsafe fn load(at: *const u8) -> Scales {
            let at = at.cast::<f32>();
            // SAFETY: guaranteed by the caller.
            unsafe {
                Scales {
                    quarters: [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(TILE_ROWS))],
                    offsets: [
                        _mm512_loadu_si512(at.add(BLOCK_ROWS).cast()),
                        _mm512_loadu_si512(at.add(BLOCK_ROWS + TILE_ROWS).cast()),
                    ],
                }
            }
        }
    );

    avx512!(
        /// # Safety
        ///
        /// `out` has room for the header of an expanded group.
        #[inline]
        pub(super) unsafe fn store(&self, out: *mut u8) {
            let out = out.cast::<f32>();
            // SAFETY: guaranteed by the caller.
            unsafe {
                for tile in 0..TILES {
                    _mm512_storeu_ps(out.add(tile * TILE_ROWS), self.quarters[tile]);
                    let offsets = out.add(BLOCK_ROWS + tile * TILE_ROWS);
                    _mm512_storeu_si512(offsets.cast(), self.offsets[tile]);
                }
            }
        }
    );

    avx512!(
        /// Returns the sums from which the integer products of a group with unsigned codes begin: those of the zero points, negated.
        ///
        /// # Safety
        ///
        /// The panel has the group `group`.
        #[inline]
        pub(super) unsafe fn first_dots<const T: usize>(&self, panel: Panel<'_>, group: usize) -> Dots<T> {
            // Both factors have 16 bits, and the upper halves of these are 0.
            let negative = self.offsets.map(|points| _mm512_sub_epi16(_mm512_setzero_si512(), points));
            let mut dots = [[_mm512_setzero_si512(); TILES]; T];
            each_token!(T, TOKEN => {
                // SAFETY: guaranteed by the caller.
                let sum = unsafe { _mm512_set1_epi32(*panel.sums.get_unchecked(group * T + TOKEN)) };
                dots[TOKEN] = [_mm512_madd_epi16(negative[0], sum), _mm512_madd_epi16(negative[1], sum)];
            });
            dots
        }
    );
}

avx512!(
    #[inline]
    fn split(vector: __m512i) -> [__m256i; TILES] {
        [_mm512_castsi512_si256(vector), _mm512_extracti64x4_epi64::<1>(vector)]
    }
);

avx512!(
    /// The bytes of a tile's codes in packed vectors: four times the lower nibbles (`TILE` 0) or the upper ones.
    #[inline]
    pub(super) fn expanded_codes<const TILE: usize>(nibbles: __m512i) -> __m512i {
        let shifted =
            if TILE == 0 { _mm512_slli_epi16::<2>(nibbles) } else { _mm512_srli_epi16::<2>(nibbles) };
        _mm512_and_si512(shifted, _mm512_set1_epi8(0x3c))
    }
);

dense_fn!(dense, no_sums, dot_nibbles, add_nibble_sums, SUMMED_STEPS, avx512);
dense_fn!(dense_vnni, sums_to_strands, dot_bytes_vnni, sums_of_strands, (GROUP / 4), avx512vnni);
expanded_fn!(expanded, no_sums, dot_bytes, add_byte_sums, SUMMED_EXPANDED_STEPS, avx512);
expanded_fn!(expanded_vnni, sums_to_strands, dot_bytes_vnni, sums_of_strands, (GROUP / 4), avx512vnni);
sparse_fn!(sparse, no_sums, dot_bytes, add_byte_sums, SUMMED_EXPANDED_STEPS, shuffles, avx512);
sparse_fn!(sparse_vnni, sums_to_strands, dot_bytes_vnni, sums_of_strands, (GROUP / 4), shuffles, avx512vnni);
sparse_fn!(sparse_vbmi2, sums_to_strands, dot_bytes_vnni, sums_of_strands, (GROUP / 4), moves, avx512vbmi2);

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
