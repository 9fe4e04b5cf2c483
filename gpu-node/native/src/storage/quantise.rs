//! Quantisation of a group of columns, all rows of a block together.

use super::packing::Words;
use super::{BLOCK_ROWS, MAX_GROUP, Precision};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// The values of a group of `N` columns. Pruned weights are 0. Rows that do not exist are `None`.
pub(super) struct Values<'a, const N: usize> {
    pub(super) rows: [Option<&'a [f32; N]>; BLOCK_ROWS],
    /// Number of columns that exist. The others are 0, and do not count for the range unless weights are
    /// pruned.
    pub(super) cols: usize,
    pub(super) pruned: Pruned,
}

/// Whether weights are pruned, and how these are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pruned {
    /// No weight is pruned: the format need not represent 0.
    None,
    /// As codes of 0.
    Coded,
    /// Not at all.
    Omitted,
}

/// The codes of one row's group.
pub(super) struct Codes {
    /// One step's columns in each word: two bf16, or four bytes. Of int4 without its pruned weights the bytes are places (see
    /// [`PLACES`]), of which [`choose_zero_points`](super::zero_points::choose_zero_points) makes the codes.
    pub(super) words: Words,
    pub(super) scale: f16,
    /// Of int4, unless pruned weights are left out.
    pub(super) minimum: f16,
    /// Of int4 without its pruned weights, in quarters of a code.
    pub(super) zero_point: u8,
}

/// A weight that the precision cannot represent: it is not finite, or out of range.
pub(super) struct Unrepresentable {
    pub(super) row: usize,
    pub(super) column: usize,
}

impl Codes {
    pub(super) const EMPTY: Codes =
        Codes { words: [0; MAX_GROUP / 2], scale: f16::ZERO, minimum: f16::ZERO, zero_point: 0 };

    /// The place of a weight of 0.
    #[inline(always)]
    pub(super) fn place_of_zero(&self) -> u8 {
        PLACES / 4 * self.zero_point + PLACES / 2
    }
}

/// One number for each row of a block: they are computed together, because a row alone would wait for one division
/// after another.
type Rows<T> = [T; BLOCK_ROWS];

/// Quantises a group to `precision` into `out`, the codes of the rows. Fails with the first weight that the precision
/// cannot represent.
#[inline(always)]
pub(super) fn quantise<const N: usize>(
    precision: Precision,
    values: &Values<'_, N>,
    out: &mut Rows<Codes>,
) -> Result<(), Unrepresentable> {
    if precision == Precision::Bf16 {
        return round_to_bf16(values, out);
    }
    let (low, high) = ranges(values);
    match precision {
        Precision::Bf16 => {}
        Precision::Int8 => {
            let scales = Scales::new(values, &max_of(&low, &high), 127.0, &max_of(&low, &high))?;
            let inverse = scales.inverse();
            for (row, codes, values) in existing(values, out) {
                codes.scale = scales.stored[row];
                let inverse = inverse[row];
                write_codes(codes, values, |value| {
                    (nearest((value * inverse).clamp(-127.0, 127.0)) + 128) as u8
                });
            }
        }
        Precision::Int4 if values.pruned == Pruned::Coded => int4_with_zero(values, &low, &high, out)?,
        Precision::Int4 if values.pruned == Pruned::Omitted => int4_without_pruned(values, &low, &high, out)?,
        Precision::Int4 => {
            let range: Rows<f32> = std::array::from_fn(|row| high[row] - low[row]);
            let scales = Scales::new(values, &range, 15.0, &max_of(&low, &high))?;
            let inverse = scales.inverse();
            let minimums = to_halves(&low);
            let lowest = to_floats(&minimums);
            for (row, codes, values) in existing(values, out) {
                (codes.scale, codes.minimum) = (scales.stored[row], minimums[row]);
                let (inverse, minimum) = (inverse[row], lowest[row]);
                write_codes(codes, values, |value| {
                    nearest(((value - minimum) * inverse).clamp(0.0, 15.0)) as u8
                });
            }
        }
    }
    Ok(())
}

/// `weight ≈ scale · code + minimum`, where one code gives exactly 0. The scale has seven significant bits
/// and a code four, so that minus their product, which is the minimum, fits the eleven bits of an f16.
#[inline(always)]
fn int4_with_zero<const N: usize>(
    values: &Values<'_, N>,
    low: &Rows<f32>,
    high: &Rows<f32>,
    out: &mut Rows<Codes>,
) -> Result<(), Unrepresentable> {
    let range: Rows<f32> = std::array::from_fn(|row| high[row] - low[row]);
    let mut scales = Scales::new(values, &range, 15.0, &max_of(low, high))?;
    for stored in &mut scales.stored {
        *stored = f16::from_bits((stored.to_bits() + 15) & !15);
    }
    let (scale, inverse) = (to_floats(&scales.stored), scales.inverse());
    let zero: Rows<i32> = std::array::from_fn(|row| nearest((-low[row] * inverse[row]).clamp(0.0, 15.0)));
    let minimums = to_halves(&std::array::from_fn(|row| -(zero[row] as f32) * scale[row]));
    // Rounding moved a weight near the limit out of range.
    let is_wrong = std::array::from_fn(|row| !is_finite(minimums[row]));
    reject(values, &is_wrong, 0.9 * f32::from(f16::MAX))?;
    for (row, codes, values) in existing(values, out) {
        (codes.scale, codes.minimum) = (scales.stored[row], minimums[row]);
        let (inverse, zero) = (inverse[row], zero[row]);
        write_codes(codes, values, |value| {
            (nearest((value * inverse).clamp(-15.0, 15.0)) + zero).clamp(0, 15) as u8
        });
    }
    Ok(())
}

/// `weight ≈ scale · (code − zero_point / 4)`, with a zero point of 6 bits. The scale has as many significant bits as
/// [`scale_and_zero_point`] has room for. Weights are between the lowest and the highest code as evenly as the two allow, until a
/// better zero point is chosen.
#[inline(always)]
fn int4_without_pruned<const N: usize>(
    values: &Values<'_, N>,
    low: &Rows<f32>,
    high: &Rows<f32>,
    out: &mut Rows<Codes>,
) -> Result<(), Unrepresentable> {
    let range: Rows<f32> = std::array::from_fn(|row| high[row] - low[row]);
    let mut scales = Scales::new(values, &range, 15.0, &max_of(low, high))?;
    for stored in &mut scales.stored {
        // Subnormal scales are rounded up, see `Scales::new`.
        let rounding = if *stored < f16::MIN_POSITIVE { UNUSED_SCALE_BITS } else { UNUSED_SCALE_BITS / 2 };
        *stored = f16::from_bits((stored.to_bits() + rounding) & !UNUSED_SCALE_BITS);
    }
    let inverse = scales.inverse();
    for (row, codes, values) in existing(values, out) {
        codes.scale = scales.stored[row];
        let inverse = inverse[row];
        let middle = 0.5 * (low[row] + high[row]) * inverse;
        let zero_point = nearest((4.0 * (7.5 - middle)).clamp(0.0, f32::from(MAX_ZERO_POINT))) as u8;
        // A subnormal scale is coarse. There 0 is a code, so that smaller weights do not become half of the scale.
        let is_code = codes.scale < f16::MIN_POSITIVE;
        codes.zero_point = if is_code { zero_point & !3 } else { zero_point };
        let (inverse, zero) = (f32::from(PLACES) * inverse, f32::from(codes.place_of_zero()));
        write_codes(codes, values, |value| nearest((value * inverse + zero).clamp(0.0, 255.0)) as u8);
    }
    Ok(())
}

/// Places of a code: weights are quantised to a sixteenth of one before the zero point is chosen. The first ones are those that are
/// rounded to code 0.
pub(super) const PLACES: u8 = 16;

/// Lowest bits of an f16 that the scales of [`int4_without_pruned`] do not have.
const UNUSED_SCALE_BITS: u16 = 0x1f;
/// The largest zero point of [`int4_without_pruned`], in quarters of a code: the highest code stands for 0.
pub(super) const MAX_ZERO_POINT: u8 = 60;
/// The bits of a zero point.
const ZERO_POINT_BITS: u16 = 0x3f;

/// The scale and the zero point of a row's group in 16 bits: the scale without its sign and its [`UNUSED_SCALE_BITS`] in
/// the upper ten.
#[inline(always)]
pub(super) fn scale_and_zero_point(codes: &Codes) -> u16 {
    codes.scale.to_bits() << 1 | u16::from(codes.zero_point)
}

/// A quarter of the scale of a row's group, and its zero point in quarters of a code, from their 16 bits.
#[inline(always)]
pub(crate) fn read_scale_and_zero_point(bits: u16) -> (f32, u8) {
    let zero_point = bits & ZERO_POINT_BITS;
    (0.25 * f16::from_bits((bits ^ zero_point) >> 1).to_f32(), zero_point as u8)
}

#[inline(always)]
fn round_to_bf16<const N: usize>(
    values: &Values<'_, N>,
    out: &mut Rows<Codes>,
) -> Result<(), Unrepresentable> {
    let mut is_wrong = [false; BLOCK_ROWS];
    for (row, codes, values) in existing(values, out) {
        let mut is_unrepresentable = false;
        let mut rounded = |value: f32| {
            let bits = value.to_bits();
            // Rounds to nearest, ties to even. A value that is not finite before or after has all exponent bits
            // set.
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
            is_unrepresentable |=
                (bits & 0x7f80_0000 == 0x7f80_0000) | (rounded & 0x7f80_0000 == 0x7f80_0000);
            rounded
        };
        for (word, [low, high]) in codes.words.iter_mut().zip(values.as_chunks().0) {
            *word = rounded(*low) >> 16 | rounded(*high) & 0xffff_0000;
        }
        is_wrong[row] = is_unrepresentable;
    }
    reject(values, &is_wrong, f32::from_bits(0x7f7f_7fff))
}

/// The rows that exist: number, codes and values.
#[inline(always)]
fn existing<'a, const N: usize>(
    values: &Values<'a, N>,
    out: &'a mut Rows<Codes>,
) -> impl Iterator<Item = (usize, &'a mut Codes, &'a [f32; N])> {
    let rows = values.rows;
    out.iter_mut().enumerate().filter_map(move |(row, codes)| Some((row, codes, rows[row]?)))
}

/// Writes codes of one byte, computed by `code`.
#[inline(always)]
fn write_codes<const N: usize>(out: &mut Codes, values: &[f32; N], code: impl Fn(f32) -> u8) {
    // Loops of its own: `map` of an array is not compiled for the instructions of the caller.
    let mut codes = [0u8; N];
    for (out, value) in codes.iter_mut().zip(values) {
        *out = code(*value);
    }
    for (word, codes) in out.words.iter_mut().zip(codes.as_chunks().0) {
        *word = u32::from_le_bytes(*codes);
    }
}

/// Returns the smallest and the largest value of every row, and of 0 where weights are pruned. All values are finite.
///
/// Compares integers of the same order, which the compiler vectorises. The bits of a negative number below
/// the sign grow as the number falls, so they are inverted.
#[inline(always)]
fn ranges<const N: usize>(values: &Values<'_, N>) -> (Rows<f32>, Rows<f32>) {
    let ordered = |bits: i32| bits ^ (bits >> 31 & i32::MAX);
    let (mut lows, mut highs) = ([0.0; BLOCK_ROWS], [0.0; BLOCK_ROWS]);
    for (row, row_values) in values.rows.iter().enumerate() {
        let Some(row_values) = row_values else { continue };
        // 0 is its own key.
        let (mut low, mut high) = if values.pruned == Pruned::None { (i32::MAX, i32::MIN) } else { (0, 0) };
        let mut include = |value: &f32| {
            let key = ordered(value.to_bits().cast_signed());
            low = low.min(key);
            high = high.max(key);
        };
        if values.pruned != Pruned::None || values.cols == N {
            row_values.iter().for_each(&mut include);
        } else {
            row_values[..values.cols].iter().for_each(&mut include);
        }
        lows[row] = f32::from_bits(ordered(low).cast_unsigned());
        highs[row] = f32::from_bits(ordered(high).cast_unsigned());
    }
    (lows, highs)
}

/// The largest absolute value of every row.
#[inline(always)]
fn max_of(low: &Rows<f32>, high: &Rows<f32>) -> Rows<f32> {
    std::array::from_fn(|row| high[row].max(-low[row]))
}

/// The scales of the rows, as they are stored.
struct Scales {
    stored: Rows<f16>,
}

impl Scales {
    /// `range / codes` of every row. `largest` is the row's largest absolute value.
    ///
    /// Small scales are subnormal f16, which have few bits. These are rounded up, because a smaller scale would
    /// clip the largest weights. Others have enough bits to round to nearest.
    #[inline(always)]
    fn new<const N: usize>(
        values: &Values<'_, N>,
        range: &Rows<f32>,
        codes: f32,
        largest: &Rows<f32>,
    ) -> Result<Scales, Unrepresentable> {
        let scale: Rows<f32> = std::array::from_fn(|row| range[row] / codes);
        let mut stored = to_halves(&scale);
        let rounded = to_floats(&stored);
        for row in 0..BLOCK_ROWS {
            let is_too_small = scale[row] < f16::MIN_POSITIVE.to_f32_const() && rounded[row] < scale[row];
            stored[row] = f16::from_bits(stored[row].to_bits() + u16::from(is_too_small));
        }
        let limits = to_halves(largest);
        // Every format with scales has the same bound, which is also the bound of a minimum.
        let is_wrong = std::array::from_fn(|row| !is_finite(stored[row]) || !is_finite(limits[row]));
        reject(values, &is_wrong, f32::from(f16::MAX))?;
        Ok(Scales { stored })
    }

    /// The inverses of the scales, or 0 where the scale is 0: every code is then that of 0.
    #[inline(always)]
    fn inverse(&self) -> Rows<f32> {
        let mut scales = to_floats(&self.stored);
        for scale in &mut scales {
            *scale = if *scale == 0.0 { 0.0 } else { 1.0 / *scale };
        }
        scales
    }
}

#[inline(always)]
fn to_halves(values: &Rows<f32>) -> Rows<f16> {
    let mut halves = [f16::ZERO; BLOCK_ROWS];
    halves.convert_from_f32_slice(values);
    halves
}

#[inline(always)]
fn to_floats(halves: &Rows<f16>) -> Rows<f32> {
    let mut values = [0.0; BLOCK_ROWS];
    halves.convert_to_f32_slice(&mut values);
    values
}

#[inline(always)]
fn is_finite(value: f16) -> bool {
    value.to_bits() & 0x7c00 != 0x7c00
}

/// Rounds to the nearest integer, ties to even, for `|value| < 2²²`: the lowest bit of the sum has the value
/// 1.
#[inline(always)]
fn nearest(value: f32) -> i32 {
    const ONE_AND_A_HALF_TIMES_2_POW_23: f32 = 12_582_912.0;
    (value + ONE_AND_A_HALF_TIMES_2_POW_23).to_bits() as i32 - ONE_AND_A_HALF_TIMES_2_POW_23.to_bits() as i32
}

/// Fails if a row is wrong, with its first weight that is not finite or larger than `largest`.
#[inline(always)]
fn reject<const N: usize>(
    values: &Values<'_, N>,
    is_wrong: &Rows<bool>,
    largest: f32,
) -> Result<(), Unrepresentable> {
    if !is_wrong.iter().fold(false, |any, wrong| any | wrong) {
        return Ok(());
    }
    let row = is_wrong.iter().position(|wrong| *wrong).unwrap_or(0);
    let fits = |value: &f32| value.is_finite() && value.abs() <= largest;
    let column = values.rows[row].and_then(|values| values.iter().position(|value| !fits(value)));
    Err(Unrepresentable { row, column: column.unwrap_or(0) })
}
