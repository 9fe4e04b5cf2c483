//! The primitives of packing with AVX-512.

use super::{Packing, Vector, WORDS, Words};
use crate::storage::{TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// AVX-512. Only the functions that are compiled for the level `avx512` or one above it name it: the machine has the
/// instructions wherever its methods run.
pub(super) struct Avx512;

impl Packing for Avx512 {
    #[inline(always)]
    fn prefetch(values: &[f32]) {
        for line in values.chunks(16) {
            // SAFETY: a prefetch cannot fault; the address is in the slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }

    /// Compresses 16 codes at a time, as 32-bit lanes: AVX-512 without VBMI2 compresses no bytes. The codes behind the
    /// kept ones of each part are overwritten by the next part.
    #[inline(always)]
    fn bytes(codes: &Vector, mask: u64, out: &mut Vector) {
        let mut kept = 0;
        for (part, codes) in codes.chunks_exact(16).enumerate() {
            let mask = (mask >> (16 * part)) as u16;
            // SAFETY: the machine has the instructions; at most 48 codes were kept before, so 16 more fit in `out`.
            unsafe {
                let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.as_ptr().cast()));
                let codes = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(mask, codes));
                _mm_storeu_si128(out.as_mut_ptr().add(kept).cast(), codes);
            }
            kept += mask.count_ones() as usize;
        }
    }

    #[inline(always)]
    fn words(codes: &Vector, mask: u32, out: &mut Vector) {
        let mut kept = 0;
        for (part, codes) in codes.chunks_exact(32).enumerate() {
            let mask = (mask >> (16 * part)) as u16;
            // SAFETY: as in `bytes`, with two bytes for a code.
            unsafe {
                let codes = _mm512_cvtepu16_epi32(_mm256_loadu_si256(codes.as_ptr().cast()));
                let codes = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(mask, codes));
                _mm256_storeu_si256(out.as_mut_ptr().add(2 * kept).cast(), codes);
            }
            kept += mask.count_ones() as usize;
        }
    }

    #[inline(always)]
    fn spread(values: &Vector, mask: u32, out: &mut [f32; WORDS]) {
        let mut kept = 0;
        for (part, out) in out.chunks_exact_mut(WORDS / 2).enumerate() {
            let mask = (mask >> (16 * part)) as u16;
            // SAFETY: the machine has the instructions; at most 16 values were taken before, so 16 more are within the
            // 64 bytes; the part has 16 values.
            unsafe {
                let words = _mm256_loadu_si256(values.as_ptr().add(2 * kept).cast());
                let words = _mm512_maskz_expand_epi32(mask, _mm512_cvtepu16_epi32(words));
                _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_slli_epi32::<16>(words));
            }
            kept += mask.count_ones() as usize;
        }
    }

    /// Stores whole vectors: a load of a whole vector that was stored in halves waits for the memory.
    #[inline(always)]
    fn keep<const N: usize>(values: &[f32; N], mask: u64, out: &mut [f32; N]) {
        let vectors = values.chunks_exact(16).zip(out.chunks_exact_mut(16));
        for (index, (values, out)) in vectors.enumerate() {
            // SAFETY: the machine has the instructions; both slices have 16 values, one vector.
            unsafe {
                let kept = _mm512_maskz_loadu_ps((mask >> (16 * index)) as u16, values.as_ptr());
                _mm512_storeu_ps(out.as_mut_ptr(), kept);
            }
        }
    }

    /// Transposes in four rounds of shuffles. The compiler would scatter each row, which is slow on Zen 4.
    /// Without closures, which would not be compiled for these instructions.
    #[inline(always)]
    fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS] {
        let mut vectors = [[0; VECTOR_BYTES]; TILE_ROWS];
        // SAFETY: the machine has the instructions; every row has 16 words from `half · 16` on, and every
        // vector 64 bytes.
        unsafe {
            let mut loaded = [_mm512_setzero_si512(); TILE_ROWS];
            for (loaded, row) in loaded.iter_mut().zip(rows) {
                *loaded = _mm512_loadu_si512(row[half * TILE_ROWS..][..TILE_ROWS].as_ptr().cast());
            }
            // For each four rows, lane `l` of `fours[.][k]` has their words of step 4 l + k.
            let mut fours = [[_mm512_setzero_si512(); 4]; 4];
            for (four, rows) in fours.iter_mut().zip(loaded.as_chunks::<4>().0) {
                let [a, b, c, d] = *rows;
                let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                *four = [
                    _mm512_unpacklo_epi64(low, low2),
                    _mm512_unpackhi_epi64(low, low2),
                    _mm512_unpacklo_epi64(high, high2),
                    _mm512_unpackhi_epi64(high, high2),
                ];
            }
            for step in 0..4 {
                let [a, b, c, d] = [fours[0][step], fours[1][step], fours[2][step], fours[3][step]];
                let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
                let (even2, odd2) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
                let lanes = [
                    _mm512_shuffle_i32x4::<0x88>(even, even2),
                    _mm512_shuffle_i32x4::<0x88>(odd, odd2),
                    _mm512_shuffle_i32x4::<0xdd>(even, even2),
                    _mm512_shuffle_i32x4::<0xdd>(odd, odd2),
                ];
                for (lane, vector) in lanes.into_iter().enumerate() {
                    _mm512_storeu_si512(vectors[4 * lane + step].as_mut_ptr().cast(), vector);
                }
            }
        }
        vectors
    }
}

/// AVX-512 with VBMI2. Only the functions that are compiled for the level `avx512vbmi2` name it.
pub(super) struct Avx512Vbmi2;

impl Packing for Avx512Vbmi2 {
    #[inline(always)]
    fn prefetch(values: &[f32]) {
        Avx512::prefetch(values);
    }

    #[inline(always)]
    fn keep<const N: usize>(values: &[f32; N], mask: u64, out: &mut [f32; N]) {
        Avx512::keep(values, mask, out);
    }

    #[inline(always)]
    fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS] {
        Avx512::transpose(rows, half)
    }

    #[inline(always)]
    fn bytes(codes: &Vector, mask: u64, out: &mut Vector) {
        // SAFETY: the machine has the instructions; both vectors are 64 bytes. The result is compressed in a
        // register and stored whole, because the form that compresses to memory is slow on Zen.
        unsafe {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_compress_epi8(mask, codes));
        }
    }

    #[inline(always)]
    fn words(codes: &Vector, mask: u32, out: &mut Vector) {
        // SAFETY: as in `bytes`.
        unsafe {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            _mm512_storeu_si512(out.as_mut_ptr().cast(), _mm512_maskz_compress_epi16(mask, codes));
        }
    }

    #[inline(always)]
    fn spread(values: &Vector, mask: u32, out: &mut [f32; WORDS]) {
        // SAFETY: the machine has the instructions; the input has 64 bytes, the output 32 values.
        unsafe {
            let words = _mm512_maskz_expand_epi16(mask, _mm512_loadu_si512(values.as_ptr().cast()));
            let (low, high) = (_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words));
            for (out, words) in out.chunks_exact_mut(WORDS / 2).zip([low, high]) {
                let floats = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words));
                _mm512_storeu_si512(out.as_mut_ptr().cast(), floats);
            }
        }
    }
}
