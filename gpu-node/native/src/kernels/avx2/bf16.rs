//! bf16 weights, inputs as f32, sums in f32.

use super::super::expand_table::EXPAND_WORDS;
use super::super::expand_then_multiply::expand_then_multiply;
use super::{AHEAD, LANES, PASS, PIECES, REGISTER, TILES, each_pass, load, load_sums, prefetch, store_sums};
use super::{BlockSums, Panel, expand};
use crate::cpu::levels::avx2;
use crate::storage::{Format, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Bytes of one step of a dense block.
const STEP: usize = TILES * VECTOR_BYTES;

avx2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn dense<const TOKENS: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        for group in 0..groups {
            // SAFETY: the stream has the groups and the panel has their words, by the contract.
            unsafe {
                let at = stream.as_ptr().add(group * Format::BF16.dense_group());
                let words = panel.words.as_ptr().add(group * Format::BF16.group() * panel.tokens).cast();
                if TOKENS == 1 {
                    add_group::<PIECES, 1>(at, words, 1, 0, AHEAD, sums);
                } else {
                    let ahead = Format::BF16.dense_group();
                    each_pass!(
                        panel, first =>
                        add_group::<PIECES, 1>(at, words, panel.tokens, first, ahead, sums),
                        add_group::<PIECES, 2>(at, words, panel.tokens, first, ahead, sums),
                        add_group::<2, 3>(at, words, panel.tokens, first, ahead, sums),
                        add_group::<2, 4>(at, words, panel.tokens, first, ahead, sums)
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
    /// # Safety
    ///
    /// `group` points to a dense group, and `words` to the words of its columns for `tokens` tokens.
    #[inline]
    unsafe fn add_group<const N: usize, const T: usize>(
        group: *const u8,
        words: *const f32,
        tokens: usize,
        first: usize,
        ahead: usize,
        sums: &mut BlockSums,
    ) {
        for piece in (0..PIECES).step_by(N) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let mut totals = load_sums::<N, T>(sums, first, piece);
                let mut words = words.add(first);
                let mut at = group.add(piece * REGISTER);
                for _ in 0..Format::BF16.steps() {
                    if first == 0 && piece == 0 {
                        prefetch(at, ahead);
                        prefetch(at, ahead + VECTOR_BYTES);
                    }
                    let mut pairs = [_mm256_setzero_si256(); N];
                    for (index, pair) in pairs.iter_mut().enumerate() {
                        *pair = load(at.add(index * REGISTER));
                    }
                    add_column(&mut totals, pairs.map(|pair| even(pair)), words);
                    add_column(&mut totals, pairs.map(|pair| odd(pair)), words.add(tokens));
                    at = at.add(STEP);
                    words = words.add(2 * tokens);
                }
                store_sums(&totals, sums, first, piece);
            }
        }
    }
);

avx2!(
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens.
    #[inline]
    unsafe fn add_column<const N: usize, const T: usize>(
        totals: &mut [[__m256; N]; T],
        weights: [__m256; N],
        words: *const f32,
    ) {
        for (token, totals) in totals.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let input = unsafe { _mm256_set1_ps(words.add(token).read()) };
            for (total, weights) in totals.iter_mut().zip(weights) {
                *total = _mm256_fmadd_ps(weights, input, *total);
            }
        }
    }
);

avx2!(
    /// The first of each pair of bf16, as f32.
    #[inline]
    fn even(pairs: __m256i) -> __m256 {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs))
    }
);

avx2!(
    /// The second of each pair of bf16, as f32.
    #[inline]
    fn odd(pairs: __m256i) -> __m256 {
        _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000u32.cast_signed())))
    }
);

avx2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    pub(super) unsafe fn sparse<const TOKENS: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            if TOKENS == 1 {
                sparse_alone(stream, groups, panel, sums);
            } else {
                expand_then_multiply(expand::bf16, dense::<TOKENS>, stream, groups, panel, sums);
            }
        }
    }
);

avx2!(
    /// Multiplies sparse groups by one token: expanded values are multiplied directly, and the sums stay in
    /// registers.
    ///
    /// # Safety
    ///
    /// The contract of a `BlockFn`.
    #[inline]
    unsafe fn sparse_alone(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums) {
        let [mut totals] = load_sums::<PIECES, 1>(sums, 0, 0);
        let mut words = panel.words.as_ptr().cast::<f32>();
        let mut at = stream.as_ptr();
        for _ in 0..groups {
            let mut masks = at;
            // SAFETY: a load reads 16 bytes from a value on, at most 16 bytes beyond the stream, which a
            // vector follows; the panel has two words for each step.
            unsafe {
                at = at.add(Format::BF16.sparse_header());
                for _ in 0..Format::BF16.steps() {
                    prefetch(at, AHEAD);
                    let inputs = [_mm256_set1_ps(words.read()), _mm256_set1_ps(words.add(1).read())];
                    words = words.add(2);
                    for (piece, total) in totals.iter_mut().enumerate() {
                        let low = expand_eight(&mut at, *masks.add(2 * piece));
                        let high = expand_eight(&mut at, *masks.add(2 * piece + 1));
                        let pairs = _mm256_set_m128i(high, low);
                        *total = _mm256_fmadd_ps(even(pairs), inputs[0], *total);
                        *total = _mm256_fmadd_ps(odd(pairs), inputs[1], *total);
                    }
                    masks = masks.add(2 * PIECES);
                }
            }
        }
        store_sums(&[totals], sums, 0, 0);
    }
);

avx2!(
    /// Expands up to eight values from `at` on to the places of the ones in `mask`. Moves `at` behind them.
    ///
    /// # Safety
    ///
    /// 16 bytes are readable from `at` on.
    #[inline]
    pub(super) unsafe fn expand_eight(at: &mut *const u8, mask: u8) -> __m128i {
        // SAFETY: guaranteed by the caller; the table has an entry for every byte.
        unsafe {
            let places = EXPAND_WORDS.0.get_unchecked(mask as usize);
            let values = _mm_loadu_si128(at.cast());
            *at = at.cast::<u16>().add(mask.count_ones() as usize).cast();
            _mm_shuffle_epi8(values, _mm_load_si128(places.as_ptr().cast()))
        }
    }
);

const _: () = assert!(AHEAD.is_multiple_of(VECTOR_BYTES) && LANES * 4 == REGISTER && PASS == 4);
