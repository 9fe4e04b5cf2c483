//! AVX2 with FMA and F16C: Haswell, Zen and later.
//!
//! A vector of the layout is two registers of 8 rows, called pieces here. AVX2 has no expanding move: a
//! shuffle from a table moves 8 packed values to their places. For one token the values are multiplied
//! directly; for more tokens a group is expanded into the nearest cache first.
//!
//! Sixteen registers hold the sums of 16 rows of 4 tokens, or of 32 rows of 1 or 2 tokens, and the operands.
//! More tokens take several passes over a group, which then lies in the nearest cache. A token's results do
//! not depend on the other tokens: its sums run over the columns in order.

mod bf16;
mod expand;
mod int4;
mod int8;
mod two_of_four;

use super::activations::{ChunkMut, encode_chunk};
use super::function_tables::{ByGroup, by_group_and_tokens, by_tokens};
use super::{Bf16Words, BlockSums, Expansion, MaxPasses, MinPlaneTokens, MultiplyFns, Panel};
use crate::cpu::levels::avx2;
use crate::prefetch::prefetch_line;
use crate::storage::BLOCK_ROWS;
use std::arch::x86_64::*;

pub(crate) const AVX2: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Floats,
    min_plane_tokens: MinPlaneTokens::NEVER,
    max_passes: MaxPasses::ONE,
    encode,
    release: None,
    near: None,
    int4_in_planes: None,
    dense_bf16: by_tokens!(bf16::dense),
    dense_int8: by_group_and_tokens!(int8::dense),
    dense_int4: by_group_and_tokens!(int4::dense),
    sparse_bf16: by_tokens!(bf16::sparse),
    sparse_int8: by_group_and_tokens!(int8::sparse),
    sparse_int4: by_group_and_tokens!(int4::sparse),
    expanded_int4: by_group_and_tokens!(int4::expanded),
    two_of_four_int8: by_group_and_tokens!(two_of_four::int8),
    expand_bf16: expand::bf16,
    expand_int8: ByGroup { of_64: expand::int8::<64>, of_32: expand::int8::<32> },
    expand_int4: ByGroup {
        of_64: Expansion::Alone(expand::int4::<64>),
        of_32: Expansion::Alone(expand::int4::<32>),
    },
};

const TILES: usize = 2;
/// Rows of a register.
const LANES: usize = 8;
/// Registers of a block, 8 rows each.
const PIECES: usize = BLOCK_ROWS / LANES;
/// Bytes of a register.
const REGISTER: usize = 32;
/// Maximum number of tokens of one pass over a group.
const PASS: usize = 4;
/// Prefetch distance for one token, bytes. Measured on Zen 3, where the hardware prefetcher alone leaves a
/// sixth to a third of the bandwidth unused. More tokens take long enough over a group to prefetch all of the
/// next one.
const AHEAD: usize = 1024;

avx2!(
    unsafe fn encode(chunk: ChunkMut<'_>) {
        encode_chunk(chunk);
    }
);

/// Runs one of the expressions for every [`PASS`] tokens of a panel: the one for 1, 2, 3 or 4 tokens.
macro_rules! each_pass {
    ($panel:expr, $first:ident => $one:expr, $two:expr, $three:expr, $four:expr) => {{
        let mut $first = 0;
        while $first < $panel.tokens {
            let tokens = ($panel.tokens - $first).min(PASS);
            match tokens {
                1 => $one,
                2 => $two,
                3 => $three,
                _ => $four,
            }
            $first += tokens;
        }
    }};
}
use each_pass;

avx2!(
    /// # Safety
    ///
    /// 32 bytes are readable.
    #[inline]
    unsafe fn load(at: *const u8) -> __m256i {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm256_loadu_si256(at.cast()) }
    }
);

avx2!(
    /// Prefetches the memory `ahead` bytes behind `at`; any address is allowed.
    #[inline]
    fn prefetch(at: *const u8, ahead: usize) {
        prefetch_line(at.wrapping_add(ahead));
    }
);

avx2!(
    /// Loads the sums of `N` registers of rows from `piece` on, for `T` tokens from `first` on.
    #[inline]
    fn load_sums<const N: usize, const T: usize>(
        sums: &BlockSums,
        first: usize,
        piece: usize,
    ) -> [[__m256; N]; T] {
        let mut totals = [[_mm256_setzero_ps(); N]; T];
        for (totals, sums) in totals.iter_mut().zip(&sums.0[first..]) {
            for (index, total) in totals.iter_mut().enumerate() {
                let sums = &sums[(piece + index) * LANES..][..LANES];
                // SAFETY: the slice has eight values.
                *total = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
            }
        }
        totals
    }
);

avx2!(
    #[inline]
    fn store_sums<const N: usize, const T: usize>(
        totals: &[[__m256; N]; T],
        sums: &mut BlockSums,
        first: usize,
        piece: usize,
    ) {
        for (totals, sums) in totals.iter().zip(&mut sums.0[first..]) {
            for (index, total) in totals.iter().enumerate() {
                let sums = &mut sums[(piece + index) * LANES..][..LANES];
                // SAFETY: the slice has eight values.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *total) };
            }
        }
    }
);

avx2!(
    /// Loads eight f16 of a header as f32.
    ///
    /// # Safety
    ///
    /// The header has an f16 for every row of the block.
    #[inline]
    unsafe fn load_halves(header: *const u8, piece: usize) -> __m256 {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(header.add(2 * LANES * piece).cast())) }
    }
);

avx2!(
    /// Broadcasts the two words of a token's step of 16-bit integers: the even columns, and the odd ones.
    ///
    /// # Safety
    ///
    /// Two words are readable.
    #[inline]
    unsafe fn inputs_of(words: *const u32) -> [__m256i; 2] {
        // SAFETY: guaranteed by the caller.
        unsafe {
            [
                _mm256_set1_epi32(words.read().cast_signed()),
                _mm256_set1_epi32(words.add(1).read().cast_signed()),
            ]
        }
    }
);

avx2!(
    /// Adds the products of the even and of the odd columns of 8 rows. Weights are 16-bit words.
    #[inline]
    fn add_dot(dot: __m256i, weights: [__m256i; 2], inputs: [__m256i; 2]) -> __m256i {
        let dot = _mm256_add_epi32(dot, _mm256_madd_epi16(weights[0], inputs[0]));
        _mm256_add_epi32(dot, _mm256_madd_epi16(weights[1], inputs[1]))
    }
);

avx2!(
    /// Adds a group's integer products for `T` tokens from `first` on, scaled by the scales of weights and
    /// inputs.
    ///
    /// # Safety
    ///
    /// `header` starts with the scales of all rows, and the panel has the group.
    #[inline]
    unsafe fn add_scaled<const N: usize, const T: usize>(
        dots: &[[__m256i; N]; T],
        header: *const u8,
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        first: usize,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_sums::<N, T>(sums, first, piece);
        for index in 0..N {
            // SAFETY: guaranteed by the caller.
            let scales = unsafe { load_halves(header, piece + index) };
            for (token, (dots, totals)) in dots.iter().zip(&mut totals).enumerate() {
                let scale = panel.scales[group * panel.tokens + first + token];
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(scale));
                totals[index] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[index]), scale, totals[index]);
            }
        }
        store_sums(&totals, sums, first, piece);
    }
);
