//! int4 weights, 8-bit inputs, integer sums within a group.

use super::super::expand_then_multiply::expand_then_multiply;
use super::super::{SUMMED_EXPANDED_STEPS, SUMMED_STEPS};
use super::{AHEAD, BlockSums, LANES, Panel, expand};
use super::{PASS, PIECES, REGISTER, TILES, each_pass};
use super::{load, load_halves, load_sums, prefetch, store_sums};
use crate::cpu::levels::avx2;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, Precision, VECTOR_BYTES};
use std::arch::asm;
use std::arch::x86_64::*;

/// Registers of a step: each holds 8 rows of both tiles.
const PAIRS: usize = PIECES / TILES;

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
        let bytes = Format::new(Precision::Int4, GROUP).expect("a group that int4 has").dense_group();
        for group in 0..groups {
            // SAFETY: the stream has the groups and the panel has their words, by the contract.
            unsafe {
                let at = stream.as_ptr().add(group * bytes);
                if TOKENS == 1 {
                    add_group::<GROUP, 1>(at, panel, group, 0, AHEAD, sums);
                } else {
                    each_pass!(
                        panel, first =>
                        add_group::<GROUP, 1>(at, panel, group, first, bytes, sums),
                        add_group::<GROUP, 2>(at, panel, group, first, bytes, sums),
                        add_group::<GROUP, 3>(at, panel, group, first, bytes, sums),
                        add_group::<GROUP, 4>(at, panel, group, first, bytes, sums)
                    );
                }
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
        let (expand, multiply) = (expand::int4::<GROUP>, expanded::<GROUP, TOKENS>);
        // SAFETY: guaranteed by the caller.
        unsafe { expand_then_multiply(expand, multiply, stream, groups, panel, sums) }
    }
);

avx2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for expanded groups.
    pub(super) unsafe fn expanded<const GROUP: usize, const TOKENS: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let bytes = Format::new(Precision::Int4, GROUP).expect("a group that int4 has").expanded_group();
        for group in 0..groups {
            // SAFETY: the stream has the groups and the panel has their words, by the contract.
            unsafe {
                let at = stream.as_ptr().add(group * bytes);
                each_pass!(
                    panel, first =>
                    add_expanded::<GROUP, 1>(at, panel, group, first, sums),
                    add_expanded::<GROUP, 2>(at, panel, group, first, sums),
                    add_expanded::<GROUP, 3>(at, panel, group, first, sums),
                    add_expanded::<GROUP, 4>(at, panel, group, first, sums)
                );
            }
        }
    }
);

const _: () = assert!(SUMMED_EXPANDED_STEPS == 2);

avx2!(
    /// Adds the products of an expanded group, two registers of rows and two steps at a time, for `T` tokens from `first`
    /// on.
    ///
    /// # Safety
    ///
    /// `header` points to an expanded group, and the panel has the group `group`.
    #[inline]
    unsafe fn add_expanded<const GROUP: usize, const T: usize>(
        header: *const u8,
        panel: Panel<'_>,
        group: usize,
        first: usize,
        sums: &mut BlockSums,
    ) {
        let steps = GROUP / 4;
        let ones = _mm256_set1_epi16(1);
        for piece in (0..PIECES).step_by(2) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let mut at = header.add(EXPANDED_INT4_HEADER + piece * REGISTER);
                let mut words = panel.words.as_ptr().add(group * steps * panel.tokens + first);
                let mut dots = [[_mm256_setzero_si256(); T]; 2];
                for _ in 0..steps / 2 {
                    let next = at.add(TILES * VECTOR_BYTES);
                    let codes =
                        [0, REGISTER].map(|register| [load(at.add(register)), load(next.add(register))]);
                    for token in 0..T {
                        let word = words.add(token);
                        let inputs = [word.read(), word.add(panel.tokens).read()]
                            .map(|word| _mm256_set1_epi32(word.cast_signed()));
                        for (dots, codes) in dots.iter_mut().zip(codes) {
                            let pairs = _mm256_add_epi16(
                                _mm256_maddubs_epi16(codes[0], inputs[0]),
                                _mm256_maddubs_epi16(codes[1], inputs[1]),
                            );
                            dots[token] = _mm256_add_epi32(dots[token], _mm256_madd_epi16(pairs, ones));
                        }
                    }
                    at = next.add(TILES * VECTOR_BYTES);
                    words = words.add(2 * panel.tokens);
                }
                for (dots, piece) in dots.iter().zip(piece..) {
                    let quarters = header.cast::<f32>().add(LANES * piece);
                    let zeros = load(quarters.add(BLOCK_ROWS).cast());
                    let mut dots = *dots;
                    for (token, dot) in dots.iter_mut().enumerate() {
                        let sum = _mm256_set1_epi32(panel.sums[group * panel.tokens + first + token]);
                        // Both numbers have 16 bits, and zero points are not negative.
                        *dot = _mm256_sub_epi32(*dot, _mm256_madd_epi16(zeros, sum));
                    }
                    let scales = (_mm256_loadu_ps(quarters), None);
                    add_piece(&dots, scales, piece, panel, group, first, sums);
                }
            }
        }
    }
);

avx2!(
    /// Adds the products of a group for `T` tokens from `first` on. The first pass prefetches the memory
    /// `ahead` bytes further.
    ///
    /// # Safety
    ///
    /// `header` points to a dense group, and the panel has the group `group`.
    #[inline]
    unsafe fn add_group<const GROUP: usize, const T: usize>(
        header: *const u8,
        panel: Panel<'_>,
        group: usize,
        first: usize,
        ahead: usize,
        sums: &mut BlockSums,
    ) {
        let steps = GROUP / 4;
        for pair in 0..PAIRS {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let mut at = header.add(4 * BLOCK_ROWS + pair * REGISTER);
                let mut words = panel.words.as_ptr().add(group * steps * panel.tokens + first);
                let (mut low, mut high) = ([_mm256_setzero_si256(); T], [_mm256_setzero_si256(); T]);
                for _ in 0..steps / SUMMED_STEPS {
                    let (mut low_sums, mut high_sums) =
                        ([_mm256_setzero_si256(); T], [_mm256_setzero_si256(); T]);
                    for _ in 0..SUMMED_STEPS {
                        if first == 0 && pair == 0 {
                            prefetch(at, ahead);
                        }
                        let [low_codes, high_codes] = codes_of(load(at));
                        for (token, (low, high)) in low_sums.iter_mut().zip(&mut high_sums).enumerate() {
                            let inputs = _mm256_set1_epi32(words.add(token).read().cast_signed());
                            add_products(low, low_codes, inputs);
                            add_products(high, high_codes, inputs);
                        }
                        at = at.add(VECTOR_BYTES);
                        words = words.add(panel.tokens);
                    }
                    add_sums(&mut low, &low_sums);
                    add_sums(&mut high, &high_sums);
                }
                for (dots, piece) in [(&low, pair), (&high, PAIRS + pair)] {
                    let minimums = load_halves(header.add(2 * BLOCK_ROWS), piece);
                    let scales = (load_halves(header, piece), Some(minimums));
                    add_piece(dots, scales, piece, panel, group, first, sums);
                }
            }
        }
    }
);

avx2!(
    /// Unpacks the codes of the first and of the second tile.
    #[inline]
    fn codes_of(nibbles: __m256i) -> [__m256i; TILES] {
        let nibble = _mm256_set1_epi8(15);
        [_mm256_and_si256(nibbles, nibble), _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), nibble)]
    }
);

avx2!(
    /// Adds the products of unsigned codes and signed inputs, as sums of pairs, to sums of 16 bits.
    ///
    /// The compiler would reorder plain additions of several steps into a tree, whose parts do not fit the registers.
    #[inline]
    fn add_products(sums: &mut __m256i, codes: __m256i, inputs: __m256i) {
        let products = _mm256_maddubs_epi16(codes, inputs);
        // SAFETY: an AVX2 instruction that only reads and writes registers.
        unsafe {
            asm!(
                "vpaddw {sums}, {sums}, {products}",
                sums = inout(ymm_reg) *sums,
                products = in(ymm_reg) products,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
);

avx2!(
    /// Adds sums of pairs, of 16 bits, for each token.
    #[inline]
    fn add_sums<const T: usize>(dots: &mut [__m256i; T], sums: &[__m256i; T]) {
        for (dot, sums) in dots.iter_mut().zip(sums) {
            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(*sums, _mm256_set1_epi16(1)));
        }
    }
);

avx2!(
    /// Adds the integer products of 8 rows, scaled by the scales of weights and inputs, and for each row its
    /// minimum, where it has one, times the sum of the inputs.
    #[inline]
    fn add_piece<const T: usize>(
        dots: &[__m256i; T],
        (scales, minimums): (__m256, Option<__m256>),
        piece: usize,
        panel: Panel<'_>,
        group: usize,
        first: usize,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_sums::<1, T>(sums, first, piece);
        for (token, (dot, [total])) in dots.iter().zip(&mut totals).enumerate() {
            let place = group * panel.tokens + first + token;
            let scaled = _mm256_mul_ps(scales, _mm256_set1_ps(panel.scales[place]));
            *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*dot), scaled, *total);
            if let Some(minimums) = minimums {
                *total = _mm256_fmadd_ps(minimums, _mm256_set1_ps(panel.input_sums[place]), *total);
            }
        }
        store_sums(&totals, sums, first, piece);
    }
);

const _: () = assert!(LANES * PIECES == BLOCK_ROWS && PASS == 4);
