//! Loops over f32, compiled once for each instruction set, which the compiler vectorises.

use super::attention::{Attention, attend};
use super::sampler::Weighing;
use crate::cpu::Implementation;

/// Number of independent partial sums. It defines the order in which a sum is added up.
pub(crate) const LANES: usize = 16;

/// The loops of one instruction set.
///
/// Contract of each: the machine has the instruction set. The methods of [`Implementation`] call them.
pub(crate) struct VectorFns {
    norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    gate: unsafe fn(&mut [f32], &[f32]),
    log_sum_exp: unsafe fn(&[f32]) -> f32,
    weigh: unsafe fn(&[f32], Weighing, &mut [f64]),
    attend: unsafe fn(&mut Attention<'_>),
}

/// Compiles the loops for a level. `$fma`: multiplications and additions are fused. Attention computes in `$lanes`, `$side`
/// rows and `$pages` pages side by side, and `$vectors` vectors of each row: as many sums as the registers hold.
macro_rules! compiled_for {
    ($level:ident, $fma:literal, $lanes:ident, $side:literal, $pages:literal, $vectors:literal) => {
        pub(crate) mod $level {
            use super::{Attention, VectorFns, Weighing};
            use crate::cpu::levels::$level;
            use crate::engine::lanes;

            $level!(
                unsafe fn norm(x: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
                    super::norm::<$fma>(x, gamma, eps, out);
                }
            );
            $level!(
                unsafe fn gate(gate: &mut [f32], up: &[f32]) {
                    super::gate::<$fma>(gate, up);
                }
            );
            $level!(
                unsafe fn log_sum_exp(x: &[f32]) -> f32 {
                    super::log_sum_exp::<$fma>(x)
                }
            );
            $level!(
                unsafe fn weigh(logits: &[f32], weighing: Weighing, weights: &mut [f64]) {
                    super::weigh::<$fma>(logits, weighing, weights);
                }
            );
            $level!(
                unsafe fn attend(attention: &mut Attention<'_>) {
                    super::attend::<lanes::$lanes, $side, $pages, $vectors>(attention);
                }
            );

            pub(crate) const FNS: VectorFns = VectorFns { norm, gate, log_sum_exp, weigh, attend };
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, true, Avx512, 4, 2, 4);
#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, true, Avx2, 2, 1, 2);
#[cfg(target_arch = "aarch64")]
compiled_for!(neon, true, Neon, 4, 1, 1);
compiled_for!(scalar, false, Scalar, 1, 1, 1);

impl Implementation {
    /// `out = x / sqrt(mean(x²) + eps) · gamma` (Zhang and Sennrich 2019, RMSNorm). All slices are `[hidden]`.
    pub(crate) fn norm(&self, x: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
        // SAFETY: the machine can run every implementation that is given out.
        unsafe { (self.vector.norm)(x, gamma, eps, out) }
    }

    /// `gate = silu(gate) · up` (Shazeer 2020, SwiGLU). Both slices are `[intermediate]`.
    pub(crate) fn gate(&self, gate: &mut [f32], up: &[f32]) {
        // SAFETY: as above.
        unsafe { (self.vector.gate)(gate, up) }
    }

    /// Natural logarithm of the sum of exponentials. NaN if any of `x` is NaN.
    pub(crate) fn log_sum_exp(&self, x: &[f32]) -> f32 {
        // SAFETY: as above.
        unsafe { (self.vector.log_sum_exp)(x) }
    }

    /// Writes the weight of each token, `[vocab]`.
    pub(crate) fn weigh(&self, logits: &[f32], weighing: Weighing, weights: &mut [f64]) {
        // SAFETY: as above.
        unsafe { (self.vector.weigh)(logits, weighing, weights) }
    }

    /// Attention of some heads of some tokens.
    pub(crate) fn attend(&self, attention: &mut Attention<'_>) {
        // SAFETY: as above.
        unsafe { (self.vector.attend)(attention) }
    }

    /// Returns an implementation for each set of loops that this machine can run: those of AVX-512 all have the same.
    #[cfg(test)]
    pub(crate) fn with_own_loops() -> Vec<&'static Implementation> {
        let mut found: Vec<&'static Implementation> = Vec::new();
        for implementation in Implementation::supported() {
            let is_known = |other: &&Implementation| {
                std::ptr::fn_addr_eq(other.vector.attend, implementation.vector.attend)
            };
            if !found.iter().any(is_known) {
                found.push(implementation);
            }
        }
        found
    }
}

/// `a · b + c`, with one rounding if `FMA`, where that is one instruction.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Adds up lanes in a fixed order.
#[inline(always)]
pub(crate) fn sum_of(lanes: [f32; LANES]) -> f32 {
    by_halves(lanes, |a, b| a + b)
}

/// Returns the largest lane. A NaN is ignored unless all lanes are NaN.
#[inline(always)]
pub(crate) fn largest_of(lanes: [f32; LANES]) -> f32 {
    by_halves(lanes, f32::max)
}

#[inline(always)]
fn by_halves(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `eˣ` to about two units in the last place; 0 where the result would be subnormal.
///
/// Computes `2ⁿ · eʳ` with `|r| ≤ ln 2 / 2`, for which seven terms of the series are enough.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    // ln 2 in two parts. The first has few enough bits that its product with n is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > 88.0 { 88.0 } else { x };
    let shifted = multiply_add::<FMA>(clamped, std::f32::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = multiply_add::<FMA>(n, -LN2_LOW, multiply_add::<FMA>(n, -LN2_HIGH, clamped));
    let mut sum = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = multiply_add::<FMA>(sum, r, term);
    }
    let exponent = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    let power = f32::from_bits((exponent.wrapping_add(127) as u32) << 23);
    // `<`, so that a NaN stays NaN.
    if x < -87.0 { 0.0 } else { sum * power }
}

#[inline(always)]
fn norm<const FMA: bool>(x: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = multiply_add::<FMA>(*value, *value, *lane);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = multiply_add::<FMA>(*value, *value, *lane);
    }
    let scale = 1.0 / (sum_of(lanes) / x.len() as f32 + eps).sqrt();
    for ((out, value), gamma) in out.iter_mut().zip(x).zip(gamma) {
        *out = value * scale * gamma;
    }
}

#[inline(always)]
fn gate<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp::<FMA>(-*gate)) * up;
    }
}

#[inline(always)]
fn log_sum_exp<const FMA: bool>(x: &[f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in largest.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    let largest = largest.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut sum = 0f64;
    // Adds parts in f32 that are short enough for its precision.
    for part in x.chunks(LANES * 64) {
        let mut lanes = [0.0; LANES];
        let (chunks, rest) = part.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += exp::<FMA>(*value - largest);
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += exp::<FMA>(*value - largest);
        }
        sum += f64::from(sum_of(lanes));
    }
    (f64::from(largest) + sum.ln()) as f32
}

#[inline(always)]
fn weigh<const FMA: bool>(logits: &[f32], weighing: Weighing, weights: &mut [f64]) {
    let Weighing { largest, temperature, floor, above } = weighing;
    for (weight, &logit) in weights.iter_mut().zip(logits) {
        let exact = f64::from(logit);
        let kept = exact >= floor && logit > above;
        let exponential = exp_of_negative::<FMA>((exact - largest) / temperature);
        *weight = if kept { exponential } else { 0.0 };
    }
}

/// `eˣ` for `x ≤ 0`, to about a unit in the last place; 0 where the result would be subnormal.
///
/// As [`exp`]: 2ⁿ times the series of the remainder, which is at most ln 2 / 2.
#[inline(always)]
fn exp_of_negative<const FMA: bool>(x: f64) -> f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    // ln 2 in two parts. The first has few enough bits that its product with n is exact.
    const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    /// 1 / k!, from k = 12 down to 0.
    const INVERSE_FACTORIALS: [f64; 13] = {
        let mut inverses = [1.0; 13];
        let mut k = 1;
        while k < 13 {
            inverses[12 - k] = inverses[13 - k] / k as f64;
            k += 1;
        }
        inverses
    };
    let multiply_add = |a: f64, b: f64, c: f64| if FMA { a.mul_add(b, c) } else { a * b + c };
    let shifted = multiply_add(x, std::f64::consts::LOG2_E, SHIFT);
    let n = shifted - SHIFT;
    let r = multiply_add(n, -LN2_LOW, multiply_add(n, -LN2_HIGH, x));
    let mut sum = INVERSE_FACTORIALS[0] / 13.0;
    for term in INVERSE_FACTORIALS {
        sum = multiply_add(sum, r, term);
    }
    let exponent = shifted.to_bits().wrapping_sub(SHIFT.to_bits());
    let power = f64::from_bits(exponent.wrapping_add(1023) << 52);
    if x < -708.0 { 0.0 } else { sum * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_standard_library_over_its_whole_range() {
        for step in 0..=200_000 {
            let x = -100.0 + step as f32 * 0.001;
            let (found, expected) = (exp::<false>(x), f64::from(x.min(88.0)).exp());
            assert!((f64::from(found) - expected).abs() <= 3e-7 * expected + 2e-38, "{x}: {found}");
        }
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn exp_of_negative_is_within_two_units_of_the_standard_library() {
        for step in 0..=700_000 {
            let x = f64::from(step) * -0.001;
            for found in [exp_of_negative::<false>(x), exp_of_negative::<true>(x)] {
                assert!((found - x.exp()).abs() <= 4e-16 * x.exp(), "{x}: {found}");
            }
        }
        assert_eq!([0.0, -709.0, f64::NEG_INFINITY].map(exp_of_negative::<true>), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn every_implementation_agrees_with_f64() {
        let x: Vec<f32> = (0..203).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
        let gamma: Vec<f32> = (0..203).map(|i| 1.0 + (i as f32).cos() * 0.2).collect();
        let square: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 203.0;
        let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
        for implementation in Implementation::with_own_loops() {
            let mut normed = vec![0.0; 203];
            implementation.norm(&x, &gamma, 1e-5, &mut normed);
            let mut gated = x.clone();
            implementation.gate(&mut gated, &gamma);
            for i in 0..203 {
                let (x, gamma) = (f64::from(x[i]), f64::from(gamma[i]));
                let (normed, gated) = (f64::from(normed[i]), f64::from(gated[i]));
                assert!(
                    (normed - x / (square + 1e-5).sqrt() * gamma).abs() < 2e-6,
                    "{}",
                    implementation.name()
                );
                assert!((gated - x / (1.0 + (-x).exp()) * gamma).abs() < 2e-6, "{}", implementation.name());
            }
            assert!(
                (f64::from(implementation.log_sum_exp(&x)) - sum.ln()).abs() < 2e-6,
                "{}",
                implementation.name()
            );
            let broken = [0.0, f32::NAN, 1.0];
            assert!(implementation.log_sum_exp(&broken).is_nan(), "{}", implementation.name());
        }
    }
}
