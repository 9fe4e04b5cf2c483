//! Packing of a dense f32 matrix and a mask into the arrays of a form.

use super::block::{Arrays, Group, Unrepresentable};
use super::{BLOCK_ROWS, Form};
use copal_native::storage::{PackError, Precision, RowSource};
use std::ops::Range;

/// The arrays of consecutive rows of a matrix.
pub struct Packed {
    /// The rows; the first one is the first of a block.
    pub rows: Range<usize>,
    /// The arrays, in the order in which kernels bind them.
    pub words: Vec<Vec<u32>>,
}

/// Packs a matrix `[rows, cols]` in parts whose arrays have at most `max_bytes` each, unless one block has more. `bits` is
/// its mask as in a mask file, already checked; without one all weights are kept. Calls `sink` with each part, in order.
///
/// A weight that is not finite is an error even where it is pruned, because it shows that the source is broken.
pub fn pack<E: From<PackError>>(
    weights: &mut dyn RowSource,
    (rows, cols): (usize, usize),
    bits: Option<&[u8]>,
    (form, max_bytes): (Form, usize),
    mut sink: impl FnMut(Packed) -> Result<(), E>,
) -> Result<(), E> {
    let groups = cols.div_ceil(form.group());
    let block_bytes = 4 * groups * form.max_group_words();
    let part_rows = (max_bytes / block_bytes).max(1) * BLOCK_ROWS;
    for first in (0..rows).step_by(part_rows) {
        let part = first..rows.min(first + part_rows);
        let mut arrays = Arrays::new(form);
        for start in part.clone().step_by(BLOCK_ROWS) {
            let block = start..part.end.min(start + BLOCK_ROWS);
            let weights = weights.next(block.clone(), cols);
            for index in 0..groups {
                let group = read_group(weights, (&block, cols), bits, (form, index))?;
                arrays.push(&group).map_err(|Unrepresentable { row, col }| PackError::Weight {
                    row: start + row,
                    col: index * form.group() + col,
                    value: group.weights[row][col],
                    precision: precision_of(form),
                })?;
            }
        }
        sink(Packed { rows: part, words: arrays.words })?;
    }
    Ok(())
}

fn read_group(
    weights: &[f32],
    (block, cols): (&Range<usize>, usize),
    bits: Option<&[u8]>,
    (form, index): (Form, usize),
) -> Result<Group, PackError> {
    let first = index * form.group();
    let width = form.group().min(cols - first);
    let mut group = Group { cols: width, pruned: bits.is_some(), ..Group::EMPTY };
    for (row, weights) in block.clone().zip(weights.chunks_exact(cols)) {
        let at = row - block.start;
        let weights = &weights[first..first + width];
        if let Some(col) = weights.iter().position(|weight| !weight.is_finite()) {
            let (value, precision) = (weights[col], precision_of(form));
            return Err(PackError::Weight { row, col: first + col, value, precision });
        }
        let kept = bits.map_or(u64::MAX, |bits| word(bits, row, cols, first));
        group.kept[at] = kept & (u64::MAX >> (64 - width));
        for (col, (out, &weight)) in group.weights[at].iter_mut().zip(weights).enumerate() {
            *out = if kept >> col & 1 == 1 { weight } else { 0.0 };
        }
    }
    Ok(group)
}

/// Up to 64 bits of a row of a mask, from a column on that is a multiple of 8.
fn word(bits: &[u8], row: usize, cols: usize, first: usize) -> u64 {
    let stride = cols.div_ceil(8);
    let bytes = &bits[row * stride..][..stride][first / 8..];
    let mut word = [0; 8];
    let length = bytes.len().min(8);
    word[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(word)
}

fn precision_of(form: Form) -> Precision {
    match form {
        Form::Sparse | Form::Bf16 => Precision::Bf16,
        Form::Int8 => Precision::Int8,
        Form::SparseInt4 | Form::Int4 => Precision::Int4,
    }
}
