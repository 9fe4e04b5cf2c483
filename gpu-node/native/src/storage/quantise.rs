//! A row's group of columns in the codes of a precision.

use super::packing::Words;
use super::{MAX_GROUP, Precision};
use half::f16;

/// One row of a group. Pruned weights come in as 0.
pub(super) struct Row<'a> {
    pub(super) values: &'a [f32; MAX_GROUP],
    /// Columns that exist; the others are 0, and where nothing is pruned not part of the range.
    pub(super) cols: usize,
    /// Whether weights are pruned: then 0 must have a code.
    pub(super) pruned: bool,
}

/// The codes of a row's group.
pub(super) struct Codes {
    /// A step's columns each: two of bf16, or four of a byte.
    pub(super) words: Words,
    pub(super) scale: f16,
    pub(super) minimum: f16,
}

/// A column whose weight the precision cannot hold: it is not finite, or out of range.
pub(super) struct Unfit {
    pub(super) column: usize,
}

impl Codes {
    pub(super) const EMPTY: Codes = Codes { words: [0; MAX_GROUP / 2], scale: f16::ZERO, minimum: f16::ZERO };
}

/// Writes `row` in `precision` into `out`.
#[inline(always)]
pub(super) fn quantise(precision: Precision, row: &Row<'_>, out: &mut Codes) -> Result<(), Unfit> {
    match precision {
        Precision::Bf16 => round_to_bf16(row, out),
        Precision::Int8 => to_int8(row, out),
        Precision::Int4 if row.pruned => to_int4_with_zero(row, out),
        Precision::Int4 => to_int4(row, out),
    }
}

#[inline(always)]
fn round_to_bf16(row: &Row<'_>, out: &mut Codes) -> Result<(), Unfit> {
    let mut unfit = false;
    let mut rounded = |value: f32| {
        let bits = value.to_bits();
        // To the nearest, ties to even; what is not finite before or after has all exponent bits.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        unfit |= (bits & 0x7f80_0000 == 0x7f80_0000) | (rounded & 0x7f80_0000 == 0x7f80_0000);
        rounded
    };
    for (word, [low, high]) in out.words.iter_mut().zip(row.values.as_chunks().0) {
        *word = rounded(*low) >> 16 | rounded(*high) & 0xffff_0000;
    }
    if unfit {
        return Err(first_unfit(row, f32::from_bits(0x7f7f_7fff)));
    }
    Ok(())
}

#[inline(always)]
fn to_int8(row: &Row<'_>, out: &mut Codes) -> Result<(), Unfit> {
    let (low, high) = range(row.values)?;
    out.scale = scale_of(row, high.max(-low) / 127.0, high.max(-low))?;
    let inverse = inverse(out.scale);
    put(out, row, |value| (nearest((value * inverse).clamp(-127.0, 127.0)) + 128) as u8);
    Ok(())
}

/// `weight ≈ scale · code + minimum`, of which one code is 0 to the bit: the scale has seven bits and a code four,
/// so that their product, which the minimum has to be, fits the eleven of an f16.
#[inline(always)]
fn to_int4_with_zero(row: &Row<'_>, out: &mut Codes) -> Result<(), Unfit> {
    let (low, high) = range(row.values)?;
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = scale_of(row, (high - low) / 15.0, high.max(-low))?;
    out.scale = f16::from_bits((scale.to_bits() + 15) & !15);
    let inverse = inverse(out.scale);
    let zero = nearest((-low * inverse).clamp(0.0, 15.0));
    out.minimum = f16::from_f32(-(zero as f32) * out.scale.to_f32());
    if !out.minimum.is_finite() {
        // Rounding has carried it out of range, of a weight that is nearly there.
        return Err(first_unfit(row, 0.9 * f32::from(f16::MAX)));
    }
    put(out, row, |value| (nearest((value * inverse).clamp(-15.0, 15.0)) + zero).clamp(0, 15) as u8);
    Ok(())
}

/// `weight ≈ scale · code + minimum`.
#[inline(always)]
fn to_int4(row: &Row<'_>, out: &mut Codes) -> Result<(), Unfit> {
    range(row.values)?;
    let (low, high) = range(&row.values[..row.cols])?;
    out.scale = scale_of(row, (high - low) / 15.0, high.max(-low))?;
    out.minimum = f16::from_f32(low);
    let inverse = inverse(out.scale);
    let minimum = out.minimum.to_f32();
    put(out, row, |value| nearest(((value - minimum) * inverse).clamp(0.0, 15.0)) as u8);
    Ok(())
}

/// Writes codes of one byte.
#[inline(always)]
fn put(out: &mut Codes, row: &Row<'_>, code: impl Fn(f32) -> u8) {
    let codes: [u8; MAX_GROUP] = row.values.map(code);
    for (word, codes) in out.words.iter_mut().zip(codes.as_chunks().0) {
        *word = u32::from_le_bytes(*codes);
    }
}

/// Smallest and largest value; fails on one that is not finite.
///
/// As integers of the same order, which is what the compiler vectorises: of a negative number the bits
/// below the sign grow as it falls.
#[inline(always)]
fn range(values: &[f32]) -> Result<(f32, f32), Unfit> {
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
    Err(Unfit { column: column.unwrap_or(0) })
}

/// The scale as it is stored; `largest` is the row's largest absolute value.
#[inline(always)]
fn scale_of(row: &Row<'_>, scale: f32, largest: f32) -> Result<f16, Unfit> {
    let stored = f16::from_f32(scale);
    if stored.is_finite() && f16::from_f32(largest).is_finite() {
        return Ok(stored);
    }
    // The same bound for every format with scales: it is also what a minimum can be.
    Err(first_unfit(row, f32::from(f16::MAX)))
}

/// 0 where the scale has vanished: then every code is that of 0.
#[inline(always)]
fn inverse(scale: f16) -> f32 {
    let scale = scale.to_f32();
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// To the nearest integer, ties to even, of `|value| < 2²²`: the sum's lowest bit is worth one.
#[inline(always)]
fn nearest(value: f32) -> i32 {
    const ONE_AND_A_HALF_TIMES_2_POW_23: f32 = 12_582_912.0;
    (value + ONE_AND_A_HALF_TIMES_2_POW_23).to_bits() as i32 - ONE_AND_A_HALF_TIMES_2_POW_23.to_bits() as i32
}

fn first_unfit(row: &Row<'_>, largest: f32) -> Unfit {
    let fits = |value: &f32| value.is_finite() && value.abs() <= largest;
    let column = row.values.iter().position(|value| !fits(value));
    Unfit { column: column.unwrap_or(0) }
}
