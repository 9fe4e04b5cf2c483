//! Sources of the weights that are packed.

use super::packing::{Packing, Vector, WORDS};
use super::{Mask, VECTOR_BYTES};
use crate::cpu::Implementation;
use std::ops::Range;

/// A matrix of f32 that is read once, from the first row to the last.
pub trait RowSource {
    /// Returns the next rows, `[rows, cols]` row-major.
    fn next(&mut self, rows: Range<usize>, cols: usize) -> &[f32];
}

/// A whole matrix, `[rows, cols]` row-major.
impl RowSource for &[f32] {
    fn next(&mut self, rows: Range<usize>, cols: usize) -> &[f32] {
        &self[rows.start * cols..rows.end * cols]
    }
}

/// A matrix that is given by a mask and its kept values, bf16 row by row; pruned weights are 0. Only a few
/// expanded rows are in memory at a time.
pub struct KeptRows<'a> {
    mask: Mask<'a>,
    values: &'a [u8],
    rows: Vec<f32>,
}

impl<'a> KeptRows<'a> {
    /// Creates the source. `values` has two bytes, little-endian, for every weight that the mask keeps.
    pub fn new(mask: Mask<'a>, values: &'a [u8]) -> KeptRows<'a> {
        KeptRows { mask, values, rows: Vec::new() }
    }
}

impl RowSource for KeptRows<'_> {
    fn next(&mut self, rows: Range<usize>, cols: usize) -> &[f32] {
        self.rows.resize(rows.len() * cols, 0.0);
        let spread = Spread { mask: &self.mask, values: self.values, rows, cols, out: &mut self.rows };
        self.values = Implementation::fastest_without_permission().spread_values(spread);
        &self.rows
    }
}

/// The work of one call of [`KeptRows::next`].
pub(super) struct Spread<'a, 'v> {
    mask: &'a Mask<'a>,
    values: &'v [u8],
    rows: Range<usize>,
    cols: usize,
    out: &'a mut [f32],
}

impl<'v> Spread<'_, 'v> {
    /// Writes the values of the rows to `out`. Returns the values that are left.
    #[inline(always)]
    pub(super) fn run<P: Packing>(self) -> &'v [u8] {
        let Spread { mask, mut values, rows, cols, out } = self;
        for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
            for (index, out) in out.chunks_mut(WORDS).enumerate() {
                let bits = mask.word(row, index, WORDS) as u32;
                let mut end: Vector = [0; VECTOR_BYTES];
                let vector = values.first_chunk().unwrap_or_else(|| {
                    end[..values.len()].copy_from_slice(values);
                    &end
                });
                let mut whole = [0.0; WORDS];
                P::spread(vector, bits, &mut whole);
                out.copy_from_slice(&whole[..out.len()]);
                values = &values[2 * bits.count_ones() as usize..];
            }
        }
        values
    }
}
