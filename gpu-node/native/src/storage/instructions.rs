//! What packing does with the instructions of the machine. The bytes are the same with all of them.

#![allow(unsafe_code)]

use super::VECTOR_BYTES;

/// A vector of codes.
pub(super) type Vector = [u8; VECTOR_BYTES];

/// Moves kept codes together.
pub(super) trait Compress {
    /// Writes the bytes of `codes` whose bit is 1 to the start of `out`; what is behind them is anything.
    fn bytes(codes: &Vector, mask: u64, out: &mut Vector);

    /// As [`Compress::bytes`], of values of two bytes.
    fn words(codes: &Vector, mask: u32, out: &mut Vector);
}

/// Something that is worth compiling for each instruction set: inline all of it.
pub(super) trait Work {
    type Output;

    fn run<C: Compress>(self) -> Self::Output;
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

impl Compress for Portable {
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
            out[kept % (VECTOR_BYTES / 2)] = *code;
            kept += (mask >> bit & 1) as usize;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Compress, Portable, Vector, Work};
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

    impl Compress for Avx512 {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept, in front; the rest as it is.
    struct Kept<'a>(&'a Vector, u64);

    impl Work for Kept<'_> {
        type Output = (Vec<u8>, Vec<u8>);

        #[inline(always)]
        fn run<C: Compress>(self) -> Self::Output {
            let Kept(codes, mask) = self;
            let (mut bytes, mut words) = ([0; VECTOR_BYTES], [0; VECTOR_BYTES]);
            C::bytes(codes, mask, &mut bytes);
            C::words(codes, mask as u32, &mut words);
            let (kept, kept_words) = (mask.count_ones(), (mask as u32).count_ones());
            (bytes[..kept as usize].to_vec(), words[..2 * kept_words as usize].to_vec())
        }
    }

    #[test]
    fn every_instruction_set_keeps_the_same_in_the_same_order() {
        let codes: Vector = std::array::from_fn(|index| (index * 37 + 11) as u8);
        let mut mask = 0x9e37_79b9_7f4a_7c15u64;
        let mut masks = vec![0, u64::MAX, 1, 1 << 63, 0x8000_0001];
        masks.extend((0..200).map(|_| {
            mask = mask.rotate_left(7).wrapping_mul(0x2545_f491_4f6c_dd1d);
            mask
        }));
        for mask in masks {
            let by_bit = |width: usize| -> Vec<u8> {
                let places = codes.chunks_exact(width).enumerate();
                places.filter(|(bit, _)| mask >> bit & 1 == 1).flat_map(|(_, code)| code.to_vec()).collect()
            };
            let expected = (by_bit(1), by_bit(2));
            assert_eq!(Kept(&codes, mask).run::<Portable>(), expected, "{mask:x}");
            assert_eq!(run(Kept(&codes, mask)), expected, "{mask:x}");
        }
    }
}
