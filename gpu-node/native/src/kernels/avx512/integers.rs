//! The parts that int8 and int4 share.

use super::{Panel, STRANDS, TILES, Totals, each_token, load};
use crate::cpu::levels::{avx512, avx512vnni};
use std::arch::asm;
use std::arch::x86_64::*;

/// Integer sums of a group, `[token][tile]`.
pub(super) type Dots<const T: usize> = [[__m512i; TILES]; T];

/// Adds the products of a step's codes, which are unsigned bytes, and the 16-bit inputs of `$tokens` tokens: first the even
/// columns, then the odd ones, as 16-bit words. `$add_pairs` adds the products of pairs of words.
///
/// A macro: the compiler does not inline a function of its length everywhere, and the sums would pass through memory.
///
/// # Safety
///
/// `$words` points to the words of as many tokens, two each.
macro_rules! add_dots {
    ($add_pairs:ident, $tokens:ident, $dots:expr, $pair:expr, $words:expr) => {{
        let (dots, pair): (&mut Dots<$tokens>, [__m512i; TILES]) = ($dots, $pair);
        let byte = _mm512_set1_epi16(255);
        let even = [_mm512_and_si512(pair[0], byte), _mm512_and_si512(pair[1], byte)];
        let odd = [_mm512_srli_epi16::<8>(pair[0]), _mm512_srli_epi16::<8>(pair[1])];
        each_token!($tokens, TOKEN => {
            let words = $words.add(2 * TOKEN);
            let first = _mm512_set1_epi32(words.read().cast_signed());
            let second = _mm512_set1_epi32(words.add(1).read().cast_signed());
            let dots = &mut dots[TOKEN];
            $add_pairs::<$tokens>(&mut dots[0], even[0], first);
            $add_pairs::<$tokens>(&mut dots[1], even[1], first);
            $add_pairs::<$tokens>(&mut dots[0], odd[0], second);
            $add_pairs::<$tokens>(&mut dots[1], odd[1], second);
        });
    }};
}
pub(super) use add_dots;

avx512!(
    /// Adds the products of pairs of 16-bit words.
    #[inline]
    pub(super) fn add_pairs<const T: usize>(sum: &mut __m512i, words: __m512i, inputs: __m512i) {
        *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(words, inputs));
    }
);

avx512vnni!(
    /// Adds the products of pairs of 16-bit words, for loops with few other instructions.
    ///
    /// The compiler splits most dependent accumulations into a multiplication and an addition, to shorten the
    /// chain of dependencies. With one token that is faster, because the latency of the chain is the limit.
    #[inline]
    pub(super) fn add_pairs_vnni<const T: usize>(sum: &mut __m512i, words: __m512i, inputs: __m512i) {
        if T == 1 {
            *sum = _mm512_dpwssd_epi32(*sum, words, inputs);
        } else {
            add_pairs_fused::<T>(sum, words, inputs);
        }
    }
);

avx512vnni!(
    /// Adds the products of pairs of 16-bit words in one instruction, for loops in which the number of
    /// instructions is the limit.
    #[inline]
    pub(super) fn add_pairs_fused<const T: usize>(sum: &mut __m512i, words: __m512i, inputs: __m512i) {
        // SAFETY: an AVX-512 VNNI instruction that only reads and writes registers.
        unsafe {
            asm!(
                "vpdpwssd {sum}, {words}, {inputs}",
                sum = inout(zmm_reg) *sum,
                words = in(zmm_reg) words,
                inputs = in(zmm_reg) inputs,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
);

avx512!(
    /// Adds the products of a step of int4 codes, which are unsigned bytes, and of 8-bit inputs as 16-bit sums of pairs. The
    /// codes of the second tile are upper nibbles. The sums of `SUMMED_STEPS` steps fit.
    ///
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens.
    #[inline]
    pub(super) unsafe fn dot_nibbles<const T: usize>(
        sums: &mut Dots<T>,
        pair: [__m512i; TILES],
        words: *const u32,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe { dot_bytes(sums, [pair[0], _mm512_srli_epi16::<4>(pair[1])], words) }
    }
);

avx512!(
    /// As [`dot_nibbles`], of expanded codes. The sums of `SUMMED_EXPANDED_STEPS` steps fit.
    ///
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens.
    #[inline]
    pub(super) unsafe fn dot_bytes<const T: usize>(
        sums: &mut Dots<T>,
        pair: [__m512i; TILES],
        words: *const u32,
    ) {
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let inputs = _mm512_set1_epi32(unsafe { words.add(TOKEN).read() }.cast_signed());
            for (sum, codes) in sums[TOKEN].iter_mut().zip(pair) {
                add_words(sum, _mm512_maddubs_epi16(codes, inputs));
            }
        });
    }
);

avx512!(
    /// Adds 16-bit words.
    ///
    /// The compiler would reorder plain additions of several steps into a tree, whose parts do not fit the registers.
    #[inline]
    fn add_words(sum: &mut __m512i, words: __m512i) {
        // SAFETY: an AVX-512 instruction that only reads and writes registers.
        unsafe {
            asm!(
                "vpaddw {sum}, {sum}, {words}",
                sum = inout(zmm_reg) *sum,
                words = in(zmm_reg) words,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
);

avx512!(
    /// The 16-bit sums that [`dot_nibbles`] and [`dot_bytes`] begin from: none.
    #[inline]
    pub(super) fn no_sums<const T: usize>(_: &Dots<T>) -> [Dots<T>; STRANDS] {
        [[[_mm512_setzero_si512(); TILES]; T]; STRANDS]
    }
);

avx512!(
    /// Adds the sums of `SUMMED_STEPS` steps of [`dot_nibbles`], with the codes of the second tile as upper nibbles.
    #[inline]
    pub(super) fn add_nibble_sums<const T: usize>(dots: &mut Dots<T>, sums: &[Dots<T>; STRANDS]) {
        add_pair_sums::<T, 4>(dots, sums);
    }
);

avx512!(
    /// Adds the sums of `SUMMED_EXPANDED_STEPS` steps of [`dot_bytes`].
    #[inline]
    pub(super) fn add_byte_sums<const T: usize>(dots: &mut Dots<T>, sums: &[Dots<T>; STRANDS]) {
        add_pair_sums::<T, 0>(dots, sums);
    }
);

avx512!(
    /// Adds 16-bit sums, those of the second tile shifted to the left.
    #[inline]
    fn add_pair_sums<const T: usize, const SHIFT: u32>(dots: &mut Dots<T>, sums: &[Dots<T>; STRANDS]) {
        let ones = _mm512_set1_epi16(1);
        each_token!(T, TOKEN => {
            let mut sums = [sums[0][TOKEN], sums[1][TOKEN]];
            if T == 1 {
                sums[0] = [0, 1].map(|tile| _mm512_add_epi16(sums[0][tile], sums[1][tile]));
            }
            let [first, second] = sums[0].map(|sum| _mm512_madd_epi16(sum, ones));
            let dots = &mut dots[TOKEN];
            dots[0] = _mm512_add_epi32(dots[0], first);
            dots[1] = _mm512_add_epi32(dots[1], _mm512_slli_epi32::<SHIFT>(second));
        });
    }
);

avx512vnni!(
    /// As [`dot_bytes`], but as 32-bit sums.
    ///
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens.
    #[inline]
    pub(super) unsafe fn dot_bytes_vnni<const T: usize>(
        sums: &mut Dots<T>,
        pair: [__m512i; TILES],
        words: *const u32,
    ) {
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let inputs = _mm512_set1_epi32(unsafe { words.add(TOKEN).read() }.cast_signed());
            for (sum, codes) in sums[TOKEN].iter_mut().zip(pair) {
                *sum = _mm512_dpbusd_epi32(*sum, codes, inputs);
            }
        });
    }
);

avx512vnni!(
    /// As [`dot_bytes_vnni`], of signed codes and of the inputs plus 128.
    ///
    /// # Safety
    ///
    /// `words` points to the words of `T` tokens.
    #[inline]
    pub(super) unsafe fn dot_signed_vnni<const T: usize>(
        sums: &mut Dots<T>,
        pair: [__m512i; TILES],
        words: *const u32,
    ) {
        let upper_bits = _mm512_set1_epi8(-128);
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let inputs = _mm512_set1_epi32(unsafe { words.add(TOKEN).read() }.cast_signed());
            let inputs = _mm512_xor_si512(inputs, upper_bits);
            for (sum, codes) in sums[TOKEN].iter_mut().zip(pair) {
                *sum = _mm512_dpbusd_epi32(*sum, inputs, codes);
            }
        });
    }
);

avx512vnni!(
    /// The sums that [`dot_bytes_vnni`] adds to: those of even steps begin from `dots`.
    #[inline]
    pub(super) fn sums_to_strands<const T: usize>(dots: &Dots<T>) -> [Dots<T>; STRANDS] {
        [*dots, [[_mm512_setzero_si512(); TILES]; T]]
    }
);

avx512vnni!(
    /// Ends what [`sums_to_strands`] began.
    #[inline]
    pub(super) fn sums_of_strands<const T: usize>(dots: &mut Dots<T>, sums: &[Dots<T>; STRANDS]) {
        *dots = join_strands(sums);
    }
);

avx512!(
    /// Loads the f16 of both tiles as f32.
    ///
    /// # Safety
    ///
    /// 64 bytes are readable.
    #[inline]
    pub(super) unsafe fn load_halves(at: *const u8) -> [__m512; TILES] {
        // SAFETY: guaranteed by the caller.
        let halves = unsafe { load(at) };
        [
            _mm512_cvtph_ps(_mm512_castsi512_si256(halves)),
            _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(halves)),
        ]
    }
);

avx512!(
    /// Adds up the sums of even and odd steps, which are separate for one token.
    #[inline]
    pub(super) fn join_strands<const T: usize>(dots: &[Dots<T>; STRANDS]) -> Dots<T> {
        let mut joined = dots[0];
        if T == 1 {
            joined[0][0] = _mm512_add_epi32(joined[0][0], dots[1][0][0]);
            joined[0][1] = _mm512_add_epi32(joined[0][1], dots[1][0][1]);
        }
        joined
    }
);

avx512!(
    /// Adds a group's integer products, scaled by the scales of weights and inputs.
    ///
    /// # Safety
    ///
    /// The panel has the group `group`.
    #[inline]
    pub(super) unsafe fn add_scaled<const T: usize>(
        dots: &Dots<T>,
        scales: [__m512; TILES],
        panel: Panel<'_>,
        group: usize,
        totals: &mut Totals<T>,
    ) {
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let input = unsafe { _mm512_set1_ps(*panel.scales.get_unchecked(group * T + TOKEN)) };
            let [first, second] = scales.map(|scale| _mm512_mul_ps(scale, input));
            let total = &mut totals[TOKEN];
            total[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[TOKEN][0]), first, total[0]);
            total[1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[TOKEN][1]), second, total[1]);
        });
    }
);
