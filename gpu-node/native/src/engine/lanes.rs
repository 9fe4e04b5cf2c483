//! Vectors of [`LANES`] f32 of each instruction set, for loops whose sums must stay in registers: the compiler does not
//! always keep arrays there.

use super::vector::{LANES, exp};
use half::f16;

/// Operations on [`LANES`] f32.
///
/// Contract of each: the machine has the instruction set. They are inlined into functions of its level.
pub(crate) trait Lanes {
    type Vector: Copy;

    fn splat(value: f32) -> Self::Vector;
    fn load(floats: &[f32; LANES]) -> Self::Vector;
    fn load_f16(halves: &[f16; LANES]) -> Self::Vector;
    fn load_i8(bytes: &[i8; LANES]) -> Self::Vector;
    fn store(vector: Self::Vector, floats: &mut [f32; LANES]);
    fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn multiply(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `sum += a · b`, with one rounding where that is one instruction.
    fn add_product(sum: &mut Self::Vector, a: &Self::Vector, b: &Self::Vector);
    /// As [`exp`].
    fn exp(x: f32) -> f32;
}

/// f32, f16 or i8.
pub(crate) trait Element: Copy {
    const ZERO: Self;

    fn load<L: Lanes>(elements: &[Self; LANES]) -> L::Vector;
}

impl Element for f32 {
    const ZERO: f32 = 0.0;

    #[inline(always)]
    fn load<L: Lanes>(elements: &[f32; LANES]) -> L::Vector {
        L::load(elements)
    }
}

impl Element for f16 {
    const ZERO: f16 = f16::ZERO;

    #[inline(always)]
    fn load<L: Lanes>(elements: &[f16; LANES]) -> L::Vector {
        L::load_f16(elements)
    }
}

impl Element for i8 {
    const ZERO: i8 = 0;

    #[inline(always)]
    fn load<L: Lanes>(elements: &[i8; LANES]) -> L::Vector {
        L::load_i8(elements)
    }
}

/// One 512-bit register.
#[cfg(target_arch = "x86_64")]
pub(crate) enum Avx512 {}

/// Two 256-bit registers.
#[cfg(target_arch = "x86_64")]
pub(crate) enum Avx2 {}

/// Four 128-bit registers.
#[cfg(target_arch = "aarch64")]
pub(crate) enum Neon {}

/// An array.
pub(crate) enum Scalar {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Avx2, Avx512, LANES, Lanes, exp, f16};
    use std::arch::x86_64::*;

    impl Lanes for Avx512 {
        type Vector = __m512;

        #[inline(always)]
        fn splat(value: f32) -> __m512 {
            // SAFETY: the contract.
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        fn load(floats: &[f32; LANES]) -> __m512 {
            // SAFETY: the contract, and the array is as long.
            unsafe { _mm512_loadu_ps(floats.as_ptr()) }
        }

        #[inline(always)]
        fn load_f16(halves: &[f16; LANES]) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())) }
        }

        #[inline(always)]
        fn load_i8(bytes: &[i8; LANES]) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(bytes.as_ptr().cast()))) }
        }

        #[inline(always)]
        fn store(vector: __m512, floats: &mut [f32; LANES]) {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(floats.as_mut_ptr(), vector) }
        }

        #[inline(always)]
        fn add(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the contract.
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        fn multiply(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the contract.
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        fn add_product(sum: &mut __m512, a: &__m512, b: &__m512) {
            // SAFETY: the contract.
            *sum = unsafe { _mm512_fmadd_ps(*a, *b, *sum) }
        }

        #[inline(always)]
        fn exp(x: f32) -> f32 {
            exp::<true>(x)
        }
    }

    impl Lanes for Avx2 {
        type Vector = [__m256; 2];

        #[inline(always)]
        fn splat(value: f32) -> [__m256; 2] {
            // SAFETY: the contract.
            unsafe { [_mm256_set1_ps(value); 2] }
        }

        #[inline(always)]
        fn load(floats: &[f32; LANES]) -> [__m256; 2] {
            let at = floats.as_ptr();
            // SAFETY: the contract, and the array has eight floats from each on.
            unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
        }

        #[inline(always)]
        fn load_f16(halves: &[f16; LANES]) -> [__m256; 2] {
            // SAFETY: the contract with F16C, which the level has, and the array is as long.
            unsafe {
                let halves = _mm256_loadu_si256(halves.as_ptr().cast());
                let low = _mm256_castsi256_si128(halves);
                let high = _mm256_extracti128_si256::<1>(halves);
                [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)]
            }
        }

        #[inline(always)]
        fn load_i8(bytes: &[i8; LANES]) -> [__m256; 2] {
            // SAFETY: the contract, and the array is as long.
            unsafe {
                let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
                [bytes, _mm_srli_si128::<8>(bytes)].map(|half| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(half)))
            }
        }

        #[inline(always)]
        fn store([low, high]: [__m256; 2], floats: &mut [f32; LANES]) {
            let (first, second) = floats.split_at_mut(8);
            // SAFETY: the contract, and each half has eight floats.
            unsafe {
                _mm256_storeu_ps(first.as_mut_ptr(), low);
                _mm256_storeu_ps(second.as_mut_ptr(), high);
            }
        }

        #[inline(always)]
        fn add(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the contract.
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }

        #[inline(always)]
        fn multiply(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
            // SAFETY: the contract.
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }

        #[inline(always)]
        fn add_product(sum: &mut [__m256; 2], a: &[__m256; 2], b: &[__m256; 2]) {
            for half in 0..2 {
                // SAFETY: the contract.
                sum[half] = unsafe { _mm256_fmadd_ps(a[half], b[half], sum[half]) }
            }
        }

        #[inline(always)]
        fn exp(x: f32) -> f32 {
            exp::<true>(x)
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{LANES, Lanes, Neon, exp, f16, widen};
    use std::arch::aarch64::*;

    impl Lanes for Neon {
        type Vector = [float32x4_t; 4];

        #[inline(always)]
        fn splat(value: f32) -> [float32x4_t; 4] {
            // SAFETY: the contract.
            unsafe { [vdupq_n_f32(value); 4] }
        }

        #[inline(always)]
        fn load(floats: &[f32; LANES]) -> [float32x4_t; 4] {
            let at = floats.as_ptr();
            // SAFETY: the contract, and the array has four floats from each on.
            unsafe { [vld1q_f32(at), vld1q_f32(at.add(4)), vld1q_f32(at.add(8)), vld1q_f32(at.add(12))] }
        }

        #[inline(always)]
        fn load_f16(halves: &[f16; LANES]) -> [float32x4_t; 4] {
            Neon::load(&widen(halves))
        }

        #[inline(always)]
        fn load_i8(bytes: &[i8; LANES]) -> [float32x4_t; 4] {
            // SAFETY: the contract, and the array is as long.
            unsafe {
                let bytes = vld1q_s8(bytes.as_ptr());
                let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
                [
                    vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                    vcvtq_f32_s32(vmovl_high_s16(low)),
                    vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                    vcvtq_f32_s32(vmovl_high_s16(high)),
                ]
            }
        }

        #[inline(always)]
        fn store(vector: [float32x4_t; 4], floats: &mut [f32; LANES]) {
            for (floats, part) in floats.as_chunks_mut::<4>().0.iter_mut().zip(vector) {
                // SAFETY: the contract, and there are four floats.
                unsafe { vst1q_f32(floats.as_mut_ptr(), part) }
            }
        }

        #[inline(always)]
        fn add(mut a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
            for (a, b) in a.iter_mut().zip(b) {
                // SAFETY: the contract.
                *a = unsafe { vaddq_f32(*a, b) };
            }
            a
        }

        #[inline(always)]
        fn multiply(mut a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
            for (a, b) in a.iter_mut().zip(b) {
                // SAFETY: the contract.
                *a = unsafe { vmulq_f32(*a, b) };
            }
            a
        }

        #[inline(always)]
        fn add_product(sum: &mut [float32x4_t; 4], a: &[float32x4_t; 4], b: &[float32x4_t; 4]) {
            for part in 0..4 {
                // SAFETY: the contract.
                sum[part] = unsafe { vfmaq_f32(sum[part], a[part], b[part]) };
            }
        }

        #[inline(always)]
        fn exp(x: f32) -> f32 {
            exp::<true>(x)
        }
    }
}

impl Lanes for Scalar {
    type Vector = [f32; LANES];

    #[inline(always)]
    fn splat(value: f32) -> [f32; LANES] {
        [value; LANES]
    }

    #[inline(always)]
    fn load(floats: &[f32; LANES]) -> [f32; LANES] {
        *floats
    }

    #[inline(always)]
    fn load_f16(halves: &[f16; LANES]) -> [f32; LANES] {
        widen(halves)
    }

    #[inline(always)]
    fn load_i8(bytes: &[i8; LANES]) -> [f32; LANES] {
        let mut floats = [0.0; LANES];
        for (float, byte) in floats.iter_mut().zip(bytes) {
            *float = f32::from(*byte);
        }
        floats
    }

    #[inline(always)]
    fn store(vector: [f32; LANES], floats: &mut [f32; LANES]) {
        *floats = vector;
    }

    #[inline(always)]
    fn add(mut a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        for (a, b) in a.iter_mut().zip(b) {
            *a += b;
        }
        a
    }

    #[inline(always)]
    fn multiply(mut a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        for (a, b) in a.iter_mut().zip(b) {
            *a *= b;
        }
        a
    }

    #[inline(always)]
    fn add_product(sum: &mut [f32; LANES], a: &[f32; LANES], b: &[f32; LANES]) {
        for lane in 0..LANES {
            sum[lane] += a[lane] * b[lane];
        }
    }

    #[inline(always)]
    fn exp(x: f32) -> f32 {
        exp::<false>(x)
    }
}

/// Converts f16 to f32 by integer operations, which the compiler vectorises for every instruction set.
#[inline(always)]
fn widen(halves: &[f16; LANES]) -> [f32; LANES] {
    // Changes the bias of the exponent from 15 to 127, for subnormal numbers too.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let mut floats = [0.0; LANES];
    for (float, half) in floats.iter_mut().zip(halves) {
        let bits = u32::from(half.to_bits());
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * REBIAS;
        // Infinities and NaN are kept: they must show in every token that attends to them.
        let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        *float = f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16);
    }
    floats
}

#[cfg(test)]
mod tests;
