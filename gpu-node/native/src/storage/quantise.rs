//! Quantisation of one row's group of columns.

use super::packing::Words;
use super::{MAX_GROUP, Precision};
use half::f16;

/// One row of a group. Pruned weights are 0.
pub(super) struct Row<'a> {
    pub(super) values: &'a [f32; MAX_GROUP],
    /// Number of columns that exist. The others are 0, and do not count for the range unless weights are
    /// pruned.
    pub(super) cols: usize,
    /// Whether weights are pruned. If so, 0 must be a code.
    pub(super) pruned: bool,
}

/// The codes of one row's group.
pub(super) struct Codes {
    /// One step's columns in each word: two bf16, or four bytes.
    pub(super) words: Words,
    pub(super) scale: f16,
    pub(super) minimum: f16,
}

/// A weight that the precision cannot represent: it is not finite, or out of range.
pub(super) struct Unrepresentable {
    pub(super) column: usize,
}

impl Codes {
    pub(super) const EMPTY: Codes = Codes { words: [0; MAX_GROUP / 2], scale: f16::ZERO, minimum: f16::ZERO };
}

/// Quantises `row` to `precision` into `out`.
#[inline(always)]
pub(super) fn quantise(precision: Precision, row: &Row<'_>, out: &mut Codes) -> Result<(), Unrepresentable> {
    match precision {
        Precision::Bf16 => round_to_bf16(row, out),
        Precision::Int8 => to_int8(row, out),
        Precision::Int4 if row.pruned => to_int4_with_zero(row, out),
        Precision::Int4 => to_int4(row, out),
    }
}

#[inline(always)]
fn round_to_bf16(row: &Row<'_>, out: &mut Codes) -> Result<(), Unrepresentable> {
    let mut is_unrepresentable = false;
    let mut rounded = |value: f32| {
        let bits = value.to_bits();
        // Rounds to nearest, ties to even. A value that is not finite before or after has all exponent bits
        // set.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        is_unrepresentable |= (bits & 0x7f80_0000 == 0x7f80_0000) | (rounded & 0x7f80_0000 == 0x7f80_0000);
        rounded
    };
    for (word, [low, high]) in out.words.iter_mut().zip(row.values.as_chunks().0) {
        *word = rounded(*low) >> 16 | rounded(*high) & 0xffff_0000;
    }
    if is_unrepresentable {
        return Err(first_unrepresentable(row, f32::from_bits(0x7f7f_7fff)));
    }
    Ok(())
}

#[inline(always)]
fn to_int8(row: &Row<'_>, out: &mut Codes) -> Result<(), Unrepresentable> {
    let (low, high) = range(row.values)?;
    out.scale = scale_of(row, high.max(-low) / 127.0, high.max(-low))?;
    let inverse = inverse(out.scale);
    write_codes(out, row, |value| (nearest((value * inverse).clamp(-127.0, 127.0)) + 128) as u8);
    Ok(())
}

/// `weight ≈ scale · code + minimum`, where one code gives exactly 0. The scale has seven significant bits
/// and a code four, so that minus their product, which is the minimum, fits the eleven bits of an f16.
#[inline(always)]
fn to_int4_with_zero(row: &Row<'_>, out: &mut Codes) -> Result<(), Unrepresentable> {
    let (low, high) = range(row.values)?;
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = scale_of(row, (high - low) / 15.0, high.max(-low))?;
    out.scale = f16::from_bits((scale.to_bits() + 15) & !15);
    let inverse = inverse(out.scale);
    let zero = nearest((-low * inverse).clamp(0.0, 15.0));
    out.minimum = f16::from_f32(-(zero as f32) * out.scale.to_f32());
    if !out.minimum.is_finite() {
        // Rounding moved a weight near the limit out of range.
        return Err(first_unrepresentable(row, 0.9 * f32::from(f16::MAX)));
    }
    write_codes(out, row, |value| (nearest((value * inverse).clamp(-15.0, 15.0)) + zero).clamp(0, 15) as u8);
    Ok(())
}

/// `weight ≈ scale · code + minimum`.
#[inline(always)]
fn to_int4(row: &Row<'_>, out: &mut Codes) -> Result<(), Unrepresentable> {
    range(row.values)?;
    let (low, high) = range(&row.values[..row.cols])?;
    out.scale = scale_of(row, (high - low) / 15.0, high.max(-low))?;
    out.minimum = f16::from_f32(low);
    let inverse = inverse(out.scale);
    let minimum = out.minimum.to_f32();
    write_codes(out, row, |value| nearest(((value - minimum) * inverse).clamp(0.0, 15.0)) as u8);
    Ok(())
}

/// Writes codes of one byte, computed by `code`.
#[inline(always)]
fn write_codes(out: &mut Codes, row: &Row<'_>, code: impl Fn(f32) -> u8) {
    let codes: [u8; MAX_GROUP] = row.values.map(code);
    for (word, codes) in out.words.iter_mut().zip(codes.as_chunks().0) {
        *word = u32::from_le_bytes(*codes);
    }
}

/// Returns the smallest and the largest value. Fails if a value is not finite.
///
/// Compares integers of the same order, which the compiler vectorises. The bits of a negative number below
/// the sign grow as the number falls, so they are inverted.
#[inline(always)]
fn range(values: &[f32]) -> Result<(f32, f32), Unrepresentable> {
    let ordered = |bits: i32| bits ^ (bits >> 31 & i32::MAX);
    let (mut low, mut high) = (i32::MAX, i32::MIN);
    for value in values {
        let key = ordered(value.to_bits().cast_signed());
        low = low.min(key);
        high = high.max(key);
    }
    let (low, high) = (ordered(low).cast_unsigned(), ordered(high).cast_unsigned());
    let (low, high) = (f32::from_bits(low), f32::from_bits(high));
    if low.is_finite() && high.is_finite() {
        return Ok((low, high));
    }
    let column = values.iter().position(|value| !value.is_finite());
    Err(Unrepresentable { column: column.unwrap_or(0) })
}

/// Returns the scale as it is stored. `largest` is the row's largest absolute value.
///
/// Small scales are subnormal f16, which have few bits. These are rounded up, because a smaller scale would
/// clip the largest weights. Others have enough bits to round to nearest.
#[inline(always)]
fn scale_of(row: &Row<'_>, scale: f32, largest: f32) -> Result<f16, Unrepresentable> {
    let nearest = f16::from_f32(scale);
    let is_too_small = scale < f16::MIN_POSITIVE.to_f32() && nearest.to_f32() < scale;
    let stored = if is_too_small { f16::from_bits(nearest.to_bits() + 1) } else { nearest };
    if stored.is_finite() && f16::from_f32(largest).is_finite() {
        return Ok(stored);
    }
    // Every format with scales has the same bound, which is also the bound of a minimum.
    Err(first_unrepresentable(row, f32::from(f16::MAX)))
}

/// Returns the inverse of a scale, or 0 if the scale is 0: every code is then that of 0.
#[inline(always)]
fn inverse(scale: f16) -> f32 {
    let scale = scale.to_f32();
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Rounds to the nearest integer, ties to even, for `|value| < 2²²`: the lowest bit of the sum has the value
/// 1.
#[inline(always)]
fn nearest(value: f32) -> i32 {
    const ONE_AND_A_HALF_TIMES_2_POW_23: f32 = 12_582_912.0;
    (value + ONE_AND_A_HALF_TIMES_2_POW_23).to_bits() as i32 - ONE_AND_A_HALF_TIMES_2_POW_23.to_bits() as i32
}

/// Finds the first weight that is not finite or larger than `largest`.
fn first_unrepresentable(row: &Row<'_>, largest: f32) -> Unrepresentable {
    let fits = |value: &f32| value.is_finite() && value.abs() <= largest;
    let column = row.values.iter().position(|value| !fits(value));
    Unrepresentable { column: column.unwrap_or(0) }
}
