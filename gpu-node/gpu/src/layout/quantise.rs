//! Quantisation of one row's group of columns, by the rules of the native addon.

use half::f16;

/// The codes of one row's group.
pub(super) struct Scaled {
    /// int8: the scale, f16; int4: the scale, and the minimum in the upper half.
    pub(super) scales: u32,
    /// The lowest bits of each count.
    pub(super) codes: [u8; 64],
}

/// `weight ≈ scale · code`, with codes from −127 to 127. An error is the column of a weight that does not fit.
pub(super) fn to_int8(weights: &[f32; 64]) -> Result<Scaled, usize> {
    let largest = weights.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
    let scale = scale_of(weights, largest / 127.0)?;
    let inverse = inverse(scale);
    let code = |weight: f32| (weight * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
    Ok(Scaled { scales: scale.to_bits().into(), codes: weights.map(code) })
}

/// `weight ≈ scale · code + minimum`, with codes from 0 to 15. With `pruned`, a code is exactly 0: the scale has seven
/// significant bits and a code four, so that minus their product, which is the minimum, fits the eleven bits of an f16.
pub(super) fn to_int4(weights: &[f32; 64], cols: usize, pruned: bool) -> Result<Scaled, usize> {
    let exists = &weights[..if pruned { 32 } else { cols }];
    let low = exists.iter().copied().fold(f32::INFINITY, f32::min);
    let high = exists.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (low, high) = if pruned { (low.min(0.0), high.max(0.0)) } else { (low, high) };
    let scale = scale_of(weights, (high - low) / 15.0)?;
    let scale = if pruned { f16::from_bits(scale.to_bits().saturating_add(15) & !15) } else { scale };
    let inverse = inverse(scale);
    let zero = (-low * inverse).round_ties_even().clamp(0.0, 15.0);
    let minimum = if pruned { f16::from_f32(-zero * scale.to_f32()) } else { f16::from_f32(low) };
    if !minimum.is_finite() || !scale.is_finite() {
        return Err(largest_at(weights));
    }
    let from = minimum.to_f32();
    let code = |weight: f32| match pruned {
        true => ((weight * inverse).round_ties_even() + zero).clamp(0.0, 15.0) as u8,
        false => ((weight - from) * inverse).round_ties_even().clamp(0.0, 15.0) as u8,
    };
    let scales = u32::from(scale.to_bits()) | u32::from(minimum.to_bits()) << 16;
    Ok(Scaled { scales, codes: weights.map(code) })
}

/// Rounds a scale to f16. It is 0 only if the weights are the same.
fn scale_of(weights: &[f32; 64], scale: f32) -> Result<f16, usize> {
    let rounded = f16::from_f32(scale);
    if !rounded.is_finite() {
        return Err(largest_at(weights));
    }
    if rounded.to_bits() == 0 && scale > 0.0 {
        return Ok(f16::from_bits(1));
    }
    Ok(rounded)
}

fn largest_at(weights: &[f32; 64]) -> usize {
    let by_size = |a: &(usize, &f32), b: &(usize, &f32)| a.1.abs().total_cmp(&b.1.abs());
    weights.iter().enumerate().max_by(by_size).map_or(0, |(col, _)| col)
}

fn inverse(scale: f16) -> f32 {
    let scale = scale.to_f32();
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}
