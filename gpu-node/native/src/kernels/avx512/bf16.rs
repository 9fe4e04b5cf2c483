//! bf16 weights, products and sums in f32. Inputs are f32, or pairs of bf16 for the dot product.
//!
//! On Intel's processors the dot product of bf16 pairs does half as many multiplications per cycle as two
//! fused multiply-adds of f32, which need two more cheap instructions for each vector of weights. On Zen 4 it
//! does twice as many.

use super::{TILES, Totals};
use super::{block_fn, each_token, load, moves, prefetch, shuffles};
use crate::cpu::levels::{avx512, avx512bf16, avx512vbmi2};
use crate::storage::{Format, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Defines a dense kernel for inputs with `$words` words for a token's two columns, compiled for `$level`.
/// `$add_pair` adds the products of two columns.
macro_rules! dense_fn {
    ($name:ident, $words:literal, $add_pair:ident, $level:ident) => {
        block_fn!($level $name<T> |groups, panel, at, words, totals| {
            for _ in 0..groups * Format::BF16.steps() {
                prefetch(at);
                prefetch(at.wrapping_add(VECTOR_BYTES));
                let pair = [load(at), load(at.add(VECTOR_BYTES))];
                $add_pair(&mut totals, pair, words);
                at = at.add(TILES * VECTOR_BYTES);
                words = words.add($words * T);
            }
        });
    };
}

/// Defines a sparse kernel. As [`dense_fn`]; `$expand` expands the values.
macro_rules! sparse_fn {
    ($name:ident, $words:literal, $add_pair:ident, $expand:ident, $level:ident) => {
        block_fn!($level $name<T> |groups, panel, at, words, totals| {
            let tables = $expand::words();
            for _ in 0..groups {
                let mut masks = at;
                at = at.add(Format::BF16.sparse_header());
                for _ in 0..Format::BF16.steps() {
                    prefetch(at);
                    prefetch(masks);
                    let first = $expand::take_words(&tables, &mut at, masks);
                    let second = $expand::take_words(&tables, &mut at, masks.add(4));
                    masks = masks.add(4 * TILES);
                    $add_pair(&mut totals, [first, second], words);
                    words = words.add($words * T);
                }
            }
        });
    };
}

dense_fn!(dense, 2, add_columns, avx512);
dense_fn!(dense_pairs, 1, add_dots, avx512bf16);
sparse_fn!(sparse_by_shuffles, 2, add_columns, shuffles, avx512);
sparse_fn!(sparse_by_moves, 2, add_columns, moves, avx512vbmi2);
sparse_fn!(sparse_pairs, 1, add_dots, moves, avx512bf16);

avx512bf16!(
    /// Adds the products of two columns, whose bf16 lie side by side in a lane.
    ///
    /// # Safety
    ///
    /// `words` points to the pairs of `T` tokens.
    #[inline]
    unsafe fn add_dots<const T: usize>(totals: &mut Totals<T>, pair: [__m512i; TILES], words: *const u32) {
        // SAFETY: both types are 512 bits, and every value is valid.
        let bf16 = |vector| unsafe { std::mem::transmute::<__m512i, __m512bh>(vector) };
        let [first, second] = pair.map(bf16);
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let input = bf16(_mm512_set1_epi32(unsafe { words.add(TOKEN).read() }.cast_signed()));
            totals[TOKEN][0] = _mm512_dpbf16_ps(totals[TOKEN][0], first, input);
            totals[TOKEN][1] = _mm512_dpbf16_ps(totals[TOKEN][1], second, input);
        });
    }
);

avx512!(
    /// Adds the products of two columns, whose bf16 lie side by side in a lane.
    ///
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens for both columns.
    #[inline]
    unsafe fn add_columns<const T: usize>(totals: &mut Totals<T>, pair: [__m512i; TILES], words: *const u32) {
        let words = words.cast();
        let upper = _mm512_set1_epi32(0xffff_0000u32.cast_signed());
        let even = pair.map(|pair| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pair)));
        let odd = pair.map(|pair| _mm512_castsi512_ps(_mm512_and_si512(pair, upper)));
        // SAFETY: guaranteed by the caller.
        unsafe {
            add_column(totals, even, words);
            add_column(totals, odd, words.add(T));
        }
    }
);

avx512!(
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens.
    #[inline]
    unsafe fn add_column<const T: usize>(
        totals: &mut Totals<T>,
        weights: [__m512; TILES],
        words: *const f32,
    ) {
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let input = unsafe { _mm512_set1_ps(words.add(TOKEN).read()) };
            totals[TOKEN][0] = _mm512_fmadd_ps(weights[0], input, totals[TOKEN][0]);
            totals[TOKEN][1] = _mm512_fmadd_ps(weights[1], input, totals[TOKEN][1]);
        });
    }
);
