//! int8 weights of which two of every four columns are kept. A step is four columns, so every row keeps two
//! codes of it: all lie at known places, and the inputs are moved to the weights instead of the weights to
//! their columns.

use super::integers::{Dots, add_pairs, add_pairs_fused, add_scaled, join_strands, load_halves};
use super::shuffles::{half_shifts, load_mask};
use super::{STRANDS, TILES};
use super::{block_fn, each_strand, each_token, prefetch, strand_of};
use crate::cpu::levels::{avx512, avx512vnni};
use crate::storage::{BLOCK_ROWS, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Bytes of the codes that a vector keeps.
const KEPT: usize = VECTOR_BYTES / 2;

/// Defines a kernel compiled for `$level`. `$add_pairs` adds the products of pairs of 16-bit words.
macro_rules! int8_fn {
    ($name:ident, $add_pairs:ident, $level:ident) => {
        block_fn!(
            /// Every row of the stream keeps two codes of every step.
            $level $name<GROUP, T> |groups, panel, at, words, totals| {
                let tables = tables();
                for group in 0..groups {
                    let scales = load_halves(at);
                    let mut masks = at.add(2 * TILES * TILE_ROWS);
                    at = masks.add(GROUP * BLOCK_ROWS / 8);
                    let mut dots: [Dots<T>; STRANDS] = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
                    for _ in 0..GROUP / 4 / STRANDS {
                        each_strand!(STRAND => {
                            prefetch(at);
                            prefetch(masks);
                            let lanes = [lanes_of(&tables, masks), lanes_of(&tables, masks.add(8))];
                            let weights = [weights_at(at), weights_at(at.add(KEPT))];
                            masks = masks.add(8 * TILES);
                            at = at.add(TILES * KEPT);
                            let dots = &mut dots[strand_of::<T>(STRAND)];
                            each_token!(T, TOKEN => {
                                let pairs = pairs_of(&tables, words.add(2 * TOKEN));
                                for tile in 0..TILES {
                                    let inputs = _mm512_permutexvar_epi32(lanes[tile], pairs);
                                    $add_pairs::<T>(&mut dots[TOKEN][tile], weights[tile], inputs);
                                }
                            });
                            words = words.add(2 * T);
                        });
                    }
                    add_scaled(&join_strands(&dots), scales, panel, group, &mut totals);
                }
            }
        );
    };
}

int8_fn!(int8, add_pairs, avx512);
int8_fn!(int8_vnni, add_pairs_fused, avx512vnni);

/// The tables of the kernels, in registers.
struct Tables {
    /// The place of each lane's four bits within half a mask.
    shifts: __m512i,
    /// For each four bits of a mask, the inputs of the two columns that they keep.
    pairs: __m512i,
}

avx512!(
    #[inline]
    fn tables() -> Tables {
        // SAFETY: the array has 64 bytes.
        let pairs = unsafe { _mm512_loadu_si512(PAIRS.as_ptr().cast()) };
        Tables { shifts: half_shifts(), pairs }
    }
);

avx512!(
    /// Returns each row's four bits of a mask in the lowest bits of its lane.
    ///
    /// # Safety
    ///
    /// Eight bytes are readable.
    #[inline]
    unsafe fn lanes_of(tables: &Tables, mask: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller.
        _mm512_srlv_epi32(unsafe { load_mask(mask) }, tables.shifts)
    }
);

avx512!(
    /// Loads half a vector of codes as weights, 16-bit words.
    ///
    /// # Safety
    ///
    /// 32 bytes are readable.
    #[inline]
    unsafe fn weights_at(at: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller.
        let codes = unsafe { _mm256_loadu_si256(at.cast()) };
        _mm512_sub_epi16(_mm512_cvtepu8_epi16(codes), _mm512_set1_epi16(128))
    }
);

avx512!(
    /// Returns for each four bits of a mask a token's inputs of the two columns that they keep.
    ///
    /// # Safety
    ///
    /// `words` points to the two words of a step.
    #[inline]
    unsafe fn pairs_of(tables: &Tables, words: *const u32) -> __m512i {
        // SAFETY: guaranteed by the caller.
        let inputs = unsafe { words.cast::<i64>().read_unaligned() };
        _mm512_shuffle_epi8(_mm512_set1_epi64(inputs), tables.pairs)
    }
);

/// For each four bits with two ones, the bytes of the inputs of the two columns in a step's two words: of
/// columns 0 and 2, and of columns 1 and 3.
static PAIRS: [[u8; 4]; 16] = {
    const PLACES: [u8; 4] = [0, 4, 2, 6];
    let mut table = [[255; 4]; 16];
    let mut bits: usize = 0;
    while bits < 16 {
        if bits.count_ones() == 2 {
            let first = PLACES[bits.trailing_zeros() as usize];
            let second = PLACES[bits.ilog2() as usize];
            table[bits] = [first, first + 1, second, second + 1];
        }
        bits += 1;
    }
    table
};
