//! The weights that each form stores, by an implementation of its own: an oracle for packing and for kernels.

use super::Form;
use half::{bf16, f16};

/// The weights that a kernel of a form sees, of a matrix with `cols` columns. `bits` are those of its mask file.
pub fn stored(weights: &[f32], cols: usize, bits: Option<&[u8]>, form: Form) -> Vec<f32> {
    let keeps = |index: usize| {
        let (row, col) = (index / cols, index % cols);
        bits.is_none_or(|bits| bits[row * cols.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1)
    };
    let kept: Vec<f32> =
        weights.iter().enumerate().map(|(index, &weight)| if keeps(index) { weight } else { 0.0 }).collect();
    match form {
        Form::Sparse | Form::Bf16 => kept.iter().map(|&weight| bf16::from_f32(weight).to_f32()).collect(),
        Form::SparseInt4 => {
            let groups = kept.chunks(cols).flat_map(|row| row.chunks(form.group()));
            let values = groups.flat_map(packed_int4).enumerate();
            values.map(|(index, value)| if keeps(index) { value } else { 0.0 }).collect()
        }
        Form::Int8 | Form::Int4 => {
            let groups = kept.chunks(cols).flat_map(|row| row.chunks(form.group()));
            groups.flat_map(|group| quantised(group, form, bits.is_some())).collect()
        }
    }
}

/// Quantises a group as `layout/mod.rs` describes it.
fn quantised(group: &[f32], form: Form, pruned: bool) -> Vec<f32> {
    let fold = |start: f32, pick: fn(f32, f32) -> f32| group.iter().copied().fold(start, pick);
    let (mut low, mut high) = (fold(f32::INFINITY, f32::min), fold(f32::NEG_INFINITY, f32::max));
    if form == Form::Int8 {
        let scale = scale_of(high.max(-low) / 127.0).to_f32();
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        return group.iter().map(|weight| (weight * inverse).round_ties_even() * scale).collect();
    }
    if pruned {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    let scale = scale_of((high - low) / 15.0);
    let scale = if pruned { f16::from_bits((scale.to_bits() + 15) & !15) } else { scale }.to_f32();
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let zero = (-low * inverse).round_ties_even().clamp(0.0, 15.0);
    let minimum = if pruned { -zero * scale } else { f16::from_f32(low).to_f32() };
    let code = |weight: f32| match pruned {
        true => ((weight * inverse).round_ties_even() + zero).clamp(0.0, 15.0),
        false => ((weight - minimum) * inverse).round_ties_even().clamp(0.0, 15.0),
    };
    group.iter().map(|&weight| code(weight) * scale + minimum).collect()
}

/// Quantises a group to sparse int4 as `layout/mod.rs` describes it. The values of pruned weights mean nothing.
fn packed_int4(group: &[f32]) -> Vec<f32> {
    let fold = |pick: fn(f32, f32) -> f32| group.iter().copied().fold(0.0, pick);
    let (low, high) = (fold(f32::min), fold(f32::max));
    // The lowest five bits of the scale are 0: it is rounded to nearest, halves down, and up where it is subnormal.
    let scale = scale_of((high - low) / 15.0);
    let half = if scale < f16::MIN_POSITIVE { 31 } else { 15 };
    let scale = f16::from_bits((scale.to_bits() + half) & !31);
    let is_coarse = scale < f16::MIN_POSITIVE;
    let scale = scale.to_f32();
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    // In quarters of a code, so that the range is in the middle of the codes; a whole code where the scale is subnormal.
    let zero = (4.0 * (7.5 - 0.5 * (low + high) * inverse)).clamp(0.0, 60.0).round_ties_even() as i32;
    let zero = if is_coarse { zero & !3 } else { zero };
    // In sixteenths of a code, of which the first are rounded to code 0.
    let place = |weight: f32| {
        (weight * (16.0 * inverse) + (4 * zero + 8) as f32).clamp(0.0, 255.0).round_ties_even() as i32
    };
    // One of three zero points, by the squared errors of the weights that are not 0.
    let errors = |step: i32| {
        let kept = group.iter().map(|&weight| place(weight)).filter(|&place| place != 4 * zero + 8);
        kept.map(|place| ((place + 4 * step).rem_euclid(16) - 8).pow(2)).sum::<i32>()
    };
    let steps: &[i32] = if is_coarse || zero == 0 || zero == 60 { &[0] } else { &[0, 1, -1] };
    let step = *steps.iter().min_by_key(|&&step| errors(step)).expect("there are steps");
    let code = |weight: f32| (place(weight) + 4 * step).clamp(0, 255) / 16;
    group.iter().map(|&weight| scale * (code(weight) as f32 - 0.25 * (zero + step) as f32)).collect()
}

/// A scale in f16. Subnormal ones are rounded up, so that the largest weight is not clipped.
fn scale_of(scale: f32) -> f16 {
    let rounded = f16::from_f32(scale);
    let is_clipped = scale < f16::MIN_POSITIVE.to_f32() && rounded.to_f32() < scale;
    f16::from_bits(rounded.to_bits() + u16::from(is_clipped))
}
