//! int8 weights of which two of every four columns are kept. A step is four columns, so every row keeps two
//! codes of it: all lie at known places, and the inputs are moved to the weights instead of the weights to
//! their columns.

use super::int8::sparse;
use super::{AHEAD, BlockSums, LANES, PIECES, Panel, TILES, add_scaled, prefetch};
use crate::cpu::levels::avx2;
use crate::storage::{BLOCK_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Bytes of the codes that 8 rows keep of a step.
const KEPT: usize = VECTOR_BYTES / TILES / 2;

avx2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, and every row of the stream keeps two codes of every step.
    pub(super) unsafe fn int8<const GROUP: usize, const TOKENS: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match TOKENS {
                1 => add_groups::<GROUP, 1>(stream, groups, panel, sums),
                2 => add_groups::<GROUP, 2>(stream, groups, panel, sums),
                // The sums of more tokens do not fit the registers.
                _ => sparse::<GROUP, TOKENS>(stream, groups, panel, sums),
            }
        }
    }
);

avx2!(
    /// # Safety
    ///
    /// As for [`int8`], with `T` tokens.
    #[inline]
    unsafe fn add_groups<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let zero_point = _mm256_set1_epi16(128);
        // SAFETY: the arrays have 32 bytes.
        let (shifts, places) = unsafe {
            (_mm256_loadu_si256(SHIFTS.as_ptr().cast()), _mm256_loadu_si256(PAIRS.as_ptr().cast()))
        };
        let mut words = panel.words.as_ptr();
        let mut at = stream.as_ptr();
        for group in 0..groups {
            let header = at;
            let mut dots = [[_mm256_setzero_si256(); PIECES]; T];
            // SAFETY: the codes of a group follow its masks; the panel has two words for each step and token.
            unsafe {
                let mut masks = header.add(2 * BLOCK_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                for _ in 0..GROUP / 4 {
                    prefetch(at, AHEAD);
                    let mut pairs = [_mm256_setzero_si256(); T];
                    for pairs in &mut pairs {
                        let inputs = _mm256_set1_epi64x(words.cast::<i64>().read_unaligned());
                        *pairs = _mm256_shuffle_epi8(inputs, places);
                        words = words.add(2);
                    }
                    for piece in 0..PIECES {
                        let mask = masks.cast::<i32>().add(piece).read_unaligned();
                        let lanes = _mm256_srlv_epi32(_mm256_set1_epi32(mask), shifts);
                        let codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(at.cast()));
                        let weights = _mm256_sub_epi16(codes, zero_point);
                        at = at.add(KEPT);
                        for (dots, pairs) in dots.iter_mut().zip(pairs) {
                            let inputs = _mm256_permutevar8x32_epi32(pairs, lanes);
                            let products = _mm256_madd_epi16(weights, inputs);
                            dots[piece] = _mm256_add_epi32(dots[piece], products);
                        }
                    }
                    masks = masks.add(4 * PIECES);
                }
                add_scaled(&dots, header, 0, panel, group, 0, sums);
            }
        }
    }
);

/// The place of each lane's four bits within the mask of 8 rows.
static SHIFTS: [u32; LANES] = [0, 4, 8, 12, 16, 20, 24, 28];

/// For the lower three of four bits with two ones, which tell them apart, the bytes of the inputs of the two
/// columns in a step's two words: of columns 0 and 2, and of columns 1 and 3.
static PAIRS: [[u8; 4]; LANES] = {
    const PLACES: [u8; 4] = [0, 4, 2, 6];
    let mut table = [[255; 4]; LANES];
    let mut bits: usize = 0;
    while bits < 16 {
        if bits.count_ones() == 2 {
            let first = PLACES[bits.trailing_zeros() as usize];
            let second = PLACES[bits.ilog2() as usize];
            table[bits % LANES] = [first, first + 1, second, second + 1];
        }
        bits += 1;
    }
    table
};
