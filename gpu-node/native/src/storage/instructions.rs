//! What packing does with the instructions of the machine. The bytes are the same with all of them.

#![allow(unsafe_code)]

use super::{LONGEST_GROUP, TILE_ROWS, VECTOR_BYTES};

/// A vector of codes.
pub(super) type Vector = [u8; VECTOR_BYTES];

/// A row's codes, a step each; of bf16 there are as many, of the others fewer.
pub(super) type Words = [u32; LONGEST_GROUP / 2];

/// Values of two bytes in a vector.
pub(super) const WORDS: usize = VECTOR_BYTES / 2;

/// What the compiler does not make good use of the machine for.
pub(super) trait Packing {
    /// That these values will be read soon: rows are read a piece at a time, which the machine does not foresee.
    fn prefetch(values: &[f32]);

    /// Writes the values whose bit is 1, and 0 for the others.
    fn keep(values: &[f32; LONGEST_GROUP], mask: u64, out: &mut [f32; LONGEST_GROUP]);

    /// The vectors of 16 steps of a tile's rows, from the first or from the 16th step on.
    fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS];

    /// Writes the bytes of `codes` whose bit is 1 to the start of `out`; what is behind them is anything.
    fn bytes(codes: &Vector, mask: u64, out: &mut Vector);

    /// As [`Packing::bytes`], of values of two bytes.
    fn words(codes: &Vector, mask: u32, out: &mut Vector);

    /// Writes the next of `values`, bf16, to every place whose bit is 1, and 0 to the others.
    fn spread(values: &Vector, mask: u32, out: &mut [f32; WORDS]);
}

/// Something that is worth compiling for each instruction set: inline all of it.
pub(super) trait Work {
    type Output;

    fn run<C: Packing>(self) -> Self::Output;
}

/// Runs `work` as it was compiled for the best instructions of this machine.
pub(super) fn run<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if x86::has_avx512() {
            // SAFETY: as just asked.
            return unsafe { x86::run_avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as just asked.
            return unsafe { x86::run_avx2(work) };
        }
    }
    work.run::<Portable>()
}

struct Portable;

impl Packing for Portable {
    #[inline(always)]
    fn prefetch(_: &[f32]) {}

    #[inline(always)]
    fn keep(values: &[f32; LONGEST_GROUP], mask: u64, out: &mut [f32; LONGEST_GROUP]) {
        let bytes = values.chunks_exact(8).zip(mask.to_le_bytes());
        for (out, (values, byte)) in out.chunks_exact_mut(8).zip(bytes) {
            for (out, (value, keep)) in out.iter_mut().zip(values.iter().zip(&KEEP[byte as usize])) {
                *out = f32::from_bits(value.to_bits() & keep);
            }
        }
    }

    #[inline(always)]
    fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS] {
        let mut vectors = [[0; VECTOR_BYTES]; TILE_ROWS];
        for (lane, row) in rows.iter().enumerate() {
            for (vector, word) in vectors.iter_mut().zip(&row[half * TILE_ROWS..][..TILE_ROWS]) {
                vector[4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
            }
        }
        vectors
    }

    #[inline(always)]
    fn bytes(codes: &Vector, mask: u64, out: &mut Vector) {
        let mut kept = 0;
        // Written whether it is kept or not, and over what was not: no branch to predict. `%` is for the
        // compiler: the place is below 64, for at most as many were kept before.
        for (bit, code) in codes.iter().enumerate() {
            out[kept % VECTOR_BYTES] = *code;
            kept += (mask >> bit & 1) as usize;
        }
    }

    #[inline(always)]
    fn words(codes: &Vector, mask: u32, out: &mut Vector) {
        let (codes, _) = codes.as_chunks::<2>();
        let (out, _) = out.as_chunks_mut::<2>();
        let mut kept = 0;
        for (bit, code) in codes.iter().enumerate() {
            out[kept % WORDS] = *code;
            kept += (mask >> bit & 1) as usize;
        }
    }

    #[inline(always)]
    fn spread(values: &Vector, mask: u32, out: &mut [f32; WORDS]) {
        let (values, _) = values.as_chunks::<2>();
        let mut kept = 0;
        for (bit, out) in out.iter_mut().enumerate() {
            let is_kept = mask >> bit & 1;
            // Below 32, as in `bytes`.
            let value = u32::from(u16::from_le_bytes(values[kept % WORDS])) << 16;
            *out = f32::from_bits(value * is_kept);
            kept += is_kept as usize;
        }
    }
}

/// For every byte of a mask, all ones for each bit that is set: eight weights at a time.
static KEEP: [[u32; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = if byte >> bit & 1 == 1 { !0 } else { 0 };
            bit += 1;
        }
        byte += 1;
    }
    table
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LONGEST_GROUP, Packing, Portable, TILE_ROWS, VECTOR_BYTES, Vector, WORDS, Words, Work};
    use std::arch::x86_64::*;

    pub(super) fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("popcnt")
    }

    /// # Safety
    ///
    /// The machine has what [`has_avx512`] asks for.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,popcnt")]
    pub(super) unsafe fn run_avx512<W: Work>(work: W) -> W::Output {
        work.run::<Avx512>()
    }

    /// # Safety
    ///
    /// The machine has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn run_avx2<W: Work>(work: W) -> W::Output {
        work.run::<Portable>()
    }

    /// Only [`run_avx512`] names it, so that whoever has it may use the instructions.
    pub(super) struct Avx512;

    impl Packing for Avx512 {
        #[inline(always)]
        fn prefetch(values: &[f32]) {
            for line in values.chunks(16) {
                // SAFETY: a hint, which reads nothing and cannot fault; the address is one of the slice.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }

        #[inline(always)]
        fn bytes(codes: &Vector, mask: u64, out: &mut Vector) {
            // SAFETY: the machine has the instructions; both vectors are 64 bytes. In a register, and stored
            // whole: the form that writes to memory is slow on Zen.
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
            // SAFETY: the machine has the instructions; the input is 64 bytes, the output 32 values.
            unsafe {
                let words = _mm512_maskz_expand_epi16(mask, _mm512_loadu_si512(values.as_ptr().cast()));
                let (low, high) = (_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words));
                for (out, words) in out.chunks_exact_mut(WORDS / 2).zip([low, high]) {
                    let floats = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words));
                    _mm512_storeu_si512(out.as_mut_ptr().cast(), floats);
                }
            }
        }

        /// Whole vectors: what is stored in halves and loaded whole waits for the memory.
        #[inline(always)]
        fn keep(values: &[f32; LONGEST_GROUP], mask: u64, out: &mut [f32; LONGEST_GROUP]) {
            let vectors = values.chunks_exact(16).zip(out.chunks_exact_mut(16));
            for (index, (values, out)) in vectors.enumerate() {
                // SAFETY: the machine has the instructions; there are as many values as a vector has.
                unsafe {
                    let kept = _mm512_maskz_loadu_ps((mask >> (16 * index)) as u16, values.as_ptr());
                    _mm512_storeu_ps(out.as_mut_ptr(), kept);
                }
            }
        }

        /// In four exchanges of neighbours: the compiler scatters each row, which Zen 4 is slow at. No closures:
        /// they would not be compiled for these instructions.
        #[inline(always)]
        fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS] {
            let mut vectors = [[0; VECTOR_BYTES]; TILE_ROWS];
            // SAFETY: the machine has the instructions; every row has 16 words from there on, every vector 64 bytes.
            unsafe {
                let mut loaded = [_mm512_setzero_si512(); TILE_ROWS];
                for (loaded, row) in loaded.iter_mut().zip(rows) {
                    *loaded = _mm512_loadu_si512(row[half * TILE_ROWS..][..TILE_ROWS].as_ptr().cast());
                }
                // Of four rows, in lane `l` of `fours[.][k]` the words of step 4 l + k.
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
                    let (even, odd) =
                        (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
                    let (even2, odd2) =
                        (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a mask does, of the same codes.
    struct Masked<'a>(&'a Vector, &'a [f32; LONGEST_GROUP], u64);

    #[derive(Debug, PartialEq)]
    struct Found {
        bytes: Vec<u8>,
        words: Vec<u8>,
        kept: [f32; LONGEST_GROUP],
        spread: [f32; WORDS],
    }

    impl Work for Masked<'_> {
        type Output = Found;

        #[inline(always)]
        fn run<P: Packing>(self) -> Found {
            let Masked(codes, values, mask) = self;
            let (mut bytes, mut words) = ([0; VECTOR_BYTES], [0; VECTOR_BYTES]);
            let (mut kept, mut spread) = ([f32::NAN; LONGEST_GROUP], [f32::NAN; WORDS]);
            P::bytes(codes, mask, &mut bytes);
            P::words(codes, mask as u32, &mut words);
            P::keep(values, mask, &mut kept);
            P::spread(codes, mask as u32, &mut spread);
            let bytes = bytes[..mask.count_ones() as usize].to_vec();
            Found { bytes, words: words[..2 * (mask as u32).count_ones() as usize].to_vec(), kept, spread }
        }
    }

    #[test]
    fn every_instruction_set_keeps_the_same_in_the_same_order() {
        let codes: Vector = std::array::from_fn(|index| (index * 37 + 11) as u8);
        let values: [f32; LONGEST_GROUP] = std::array::from_fn(|index| index as f32 - 30.5);
        let mut mask = 0x9e37_79b9_7f4a_7c15u64;
        let mut masks = vec![0, u64::MAX, 1, 1 << 63, 0x8000_0001];
        masks.extend((0..200).map(|_| {
            mask = mask.rotate_left(7).wrapping_mul(0x2545_f491_4f6c_dd1d);
            mask
        }));
        for mask in masks {
            let is_kept = |bit: usize| mask >> bit & 1 == 1;
            let by_bit = |width: usize| -> Vec<u8> {
                let places = codes.chunks_exact(width).enumerate();
                places.filter(|(bit, _)| is_kept(*bit)).flat_map(|(_, code)| code.to_vec()).collect()
            };
            let mut bf16 =
                codes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_le_bytes(*word)) << 16);
            let expected = Found {
                bytes: by_bit(1),
                words: by_bit(2),
                kept: std::array::from_fn(|bit| if is_kept(bit) { values[bit] } else { 0.0 }),
                spread: std::array::from_fn(|bit| {
                    if is_kept(bit) { f32::from_bits(bf16.next().unwrap()) } else { 0.0 }
                }),
            };
            assert_eq!(Masked(&codes, &values, mask).run::<Portable>(), expected, "{mask:x}");
            assert_eq!(run(Masked(&codes, &values, mask)), expected, "{mask:x}");
        }
    }

    struct Transposed<'a>(&'a [&'a Words; TILE_ROWS], usize);

    impl Work for Transposed<'_> {
        type Output = [Vector; TILE_ROWS];

        #[inline(always)]
        fn run<P: Packing>(self) -> [Vector; TILE_ROWS] {
            P::transpose(self.0, self.1)
        }
    }

    #[test]
    fn a_vector_has_a_step_of_every_row() {
        let words: [Words; TILE_ROWS] =
            std::array::from_fn(|row| std::array::from_fn(|step| (1000 * row + step) as u32));
        let rows = std::array::from_fn(|row| &words[row]);
        for half in [0, 1] {
            let expected: [Vector; TILE_ROWS] = std::array::from_fn(|step| {
                std::array::from_fn(|byte| words[byte / 4][half * TILE_ROWS + step].to_le_bytes()[byte % 4])
            });
            assert_eq!(Transposed(&rows, half).run::<Portable>(), expected);
            assert_eq!(run(Transposed(&rows, half)), expected);
        }
    }
}
