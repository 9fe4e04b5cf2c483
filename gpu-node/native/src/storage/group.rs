//! One group of a block's rows, from codes to the bytes of the stream.

use super::packing::{Packing, Portable, Vector};
use super::quantise::{Codes, scale_and_zero_point};
use super::quantised_group::PackedInt4Group;
use super::zero_points::choose_zero_points;
use super::{BLOCK_ROWS, Format, MAX_GROUP, Precision, TILE_ROWS, VECTOR_BYTES};

const TILES: usize = BLOCK_ROWS / TILE_ROWS;
/// Vectors of a group of bf16. Other formats have fewer.
const MAX_VECTORS: usize = MAX_GROUP / 2 * TILES;
/// Codes of a tile's group of int4, and a vector behind them.
const MAX_NIBBLES: usize = MAX_GROUP * TILE_ROWS + VECTOR_BYTES;

/// Codes, scales and masks of one group. Rows and columns that do not exist have codes of 0 and masks of 0.
pub(super) struct Group {
    codes: [Codes; BLOCK_ROWS],
    masks: [u64; BLOCK_ROWS],
    /// The codes in the order of the stream. An int4 code takes a byte here.
    vectors: [Vector; MAX_VECTORS],
    /// The kept codes, with room for a whole vector behind them.
    kept: [u8; (MAX_VECTORS + 1) * VECTOR_BYTES],
}

impl Group {
    pub(super) fn new() -> Group {
        Group {
            codes: [Codes::EMPTY; BLOCK_ROWS],
            masks: [0; BLOCK_ROWS],
            vectors: [[0; VECTOR_BYTES]; MAX_VECTORS],
            kept: [0; (MAX_VECTORS + 1) * VECTOR_BYTES],
        }
    }

    /// Returns the codes and the masks of the rows of the block. Dense groups ignore the masks.
    #[inline(always)]
    pub(super) fn rows_mut(&mut self) -> (&mut [Codes; BLOCK_ROWS], &mut [u64; BLOCK_ROWS]) {
        (&mut self.codes, &mut self.masks)
    }

    /// Moves the codes of every row to its lane of every vector.
    #[inline(always)]
    fn arrange<P: Packing>(&mut self, format: Format) {
        let (tiles, _) = self.codes.as_chunks::<TILE_ROWS>();
        for (tile, codes) in tiles.iter().enumerate() {
            let mut rows = [&codes[0].words; TILE_ROWS];
            for (row, codes) in rows.iter_mut().zip(codes) {
                *row = &codes.words;
            }
            for half in 0..format.steps().div_ceil(TILE_ROWS) {
                let vectors = self.vectors[half * TILE_ROWS * TILES + tile..].iter_mut().step_by(TILES);
                for (vector, step) in vectors.zip(P::transpose(&rows, half)) {
                    *vector = step;
                }
            }
        }
    }

    #[inline(always)]
    fn choose_zero_points(&mut self, format: Format) {
        let (vectors, _) = self.vectors[..TILES * format.steps()].as_chunks_mut::<TILES>();
        for (tile, rows) in self.codes.as_chunks_mut().0.iter_mut().enumerate() {
            choose_zero_points(rows, vectors, tile);
        }
    }

    /// The codes of packed int4, for other layouts.
    pub(super) fn packed_int4(&mut self, format: Format) -> PackedInt4Group {
        self.arrange::<Portable>(format);
        self.choose_zero_points(format);
        let mut codes = [[0; MAX_GROUP]; BLOCK_ROWS];
        for (row, codes) in codes.iter_mut().enumerate() {
            for (column, code) in codes[..format.group()].iter_mut().enumerate() {
                let vector = &self.vectors[column / 4 * TILES + row / TILE_ROWS];
                *code = vector[row % TILE_ROWS * 4 + column % 4];
            }
        }
        PackedInt4Group { scales: self.codes.each_ref().map(scale_and_zero_point), codes }
    }

    /// Writes all codes. Returns the number of bytes that were written.
    #[inline(always)]
    pub(super) fn write_dense<P: Packing>(&mut self, format: Format, out: &mut [u8]) -> usize {
        self.arrange::<P>(format);
        let (header, out) = out[..format.dense_group()].split_at_mut(format.dense_header());
        if format.precision() != Precision::Bf16 {
            write_halves(self.codes.iter().map(|codes| codes.scale.to_bits()), header);
        }
        if format.precision() == Precision::Int4 {
            let minimums = self.codes.iter().map(|codes| codes.minimum.to_bits());
            write_halves(minimums, &mut header[2 * BLOCK_ROWS..]);
            let (pairs, _) = self.vectors.as_chunks::<TILES>();
            for (out, [low, high]) in out.chunks_exact_mut(VECTOR_BYTES).zip(pairs) {
                write_nibbles(low, high, out);
            }
        } else {
            out.copy_from_slice(&self.vectors.as_flattened()[..out.len()]);
        }
        format.dense_group()
    }

    /// Writes the codes that the masks keep. Returns the number of bytes that were written.
    #[inline(always)]
    pub(super) fn write_sparse<P: Packing>(&mut self, format: Format, out: &mut [u8]) -> usize {
        self.arrange::<P>(format);
        if format.precision() == Precision::Int4 {
            self.choose_zero_points(format);
        }
        let (scales, rest) = out.split_at_mut(format.sparse_scales());
        match format.precision() {
            Precision::Bf16 => {}
            Precision::Int8 => write_halves(self.codes.iter().map(|codes| codes.scale.to_bits()), scales),
            Precision::Int4 => write_halves(self.codes.iter().map(scale_and_zero_point), scales),
        }
        let (masks_out, out) = rest.split_at_mut(format.sparse_header() - format.sparse_scales());
        let masks = self.masks_by_step(format);
        let bytes = TILE_ROWS * format.step() / 8;
        for (out, mask) in masks_out.chunks_exact_mut(bytes).zip(masks.as_flattened()) {
            out.copy_from_slice(&mask.to_le_bytes()[..bytes]);
        }
        let vectors = self.vectors.iter().zip(masks[..format.steps()].as_flattened());
        let kept = match format.precision() {
            Precision::Bf16 => {
                let mut kept = 0;
                for (vector, mask) in vectors {
                    P::words(vector, *mask as u32, vector_at(&mut self.kept, kept));
                    kept += 2 * mask.count_ones() as usize;
                }
                out[..kept].copy_from_slice(&self.kept[..kept]);
                kept
            }
            Precision::Int8 => {
                let kept = keep_bytes::<P>(vectors, &mut self.kept);
                out[..kept].copy_from_slice(&self.kept[..kept]);
                kept
            }
            Precision::Int4 => {
                let (first, second) = self.kept.split_at_mut(MAX_NIBBLES);
                let kept = [
                    keep_bytes::<P>(vectors.clone().step_by(TILES), first),
                    keep_bytes::<P>(vectors.skip(1).step_by(TILES), second),
                ];
                let longer = kept[0].max(kept[1]);
                first[kept[0]..longer].fill(0);
                second[kept[1]..longer].fill(0);
                write_nibbles(&first[..longer], &second[..longer], &mut out[..longer]);
                longer
            }
        };
        format.sparse_header() + kept
    }

    /// Returns the masks of each step's vectors, with bits in the order of the codes.
    #[inline(always)]
    fn masks_by_step(&self, format: Format) -> [[u64; TILES]; MAX_GROUP / 2] {
        let mut masks = [[0; TILES]; MAX_GROUP / 2];
        let (tiles, _) = self.masks.as_chunks::<TILE_ROWS>();
        for (tile, rows) in tiles.iter().enumerate() {
            for (step, mask) in transpose(*rows, format.step()).into_iter().enumerate() {
                if format.precision() == Precision::Bf16 {
                    masks[step][tile] = mask & 0xffff_ffff;
                    masks[TILE_ROWS + step][tile] = mask >> 32;
                } else {
                    masks[step][tile] = mask;
                }
            }
        }
        masks
    }
}

/// Transposes a matrix of 16 × 16 units of 4 bits, or two matrices of units of 2 bits that lie side by side
/// in the rows.
#[inline(always)]
fn transpose(mut rows: [u64; TILE_ROWS], unit: usize) -> [u64; TILE_ROWS] {
    for distance in [8, 4, 2, 1] {
        let shift = distance * unit;
        // Ones at the units whose index has the bit `distance` clear: `shift` of every `2 · shift` bits.
        let lower = u64::MAX / ((1 << shift) + 1);
        for row in 0..TILE_ROWS {
            if row & distance == 0 {
                let swapped = (rows[row] >> shift ^ rows[row + distance]) & lower;
                rows[row] ^= swapped << shift;
                rows[row + distance] ^= swapped;
            }
        }
    }
    rows
}

#[inline(always)]
fn write_halves(values: impl Iterator<Item = u16>, out: &mut [u8]) {
    for (out, value) in out.chunks_exact_mut(2).zip(values) {
        out.copy_from_slice(&value.to_le_bytes());
    }
}

#[inline(always)]
fn write_nibbles(low: &[u8], high: &[u8], out: &mut [u8]) {
    for (out, (low, high)) in out.iter_mut().zip(low.iter().zip(high)) {
        *out = low | high << 4;
    }
}

/// Writes the codes, of a byte, that each vector's mask keeps to the start of `out`, one after another. Returns their
/// number. There must be room for a vector behind them.
#[inline(always)]
fn keep_bytes<'a, P: Packing>(vectors: impl Iterator<Item = (&'a Vector, &'a u64)>, out: &mut [u8]) -> usize {
    let mut kept = 0;
    for (vector, mask) in vectors {
        P::bytes(vector, *mask, vector_at(out, kept));
        kept += mask.count_ones() as usize;
    }
    kept
}

#[inline(always)]
fn vector_at(bytes: &mut [u8], at: usize) -> &mut Vector {
    (&mut bytes[at..at + VECTOR_BYTES]).try_into().expect("the range is as long as a vector")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposition_swaps_the_two_indices_of_every_unit() {
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        let rows: [u64; TILE_ROWS] = std::array::from_fn(|_| {
            bits = bits.rotate_left(11).wrapping_mul(0x2545_f491_4f6c_dd1d);
            bits
        });
        for (unit, halves) in [(4, 1), (2, 2)] {
            let found = transpose(rows, unit);
            let at = |rows: &[u64; TILE_ROWS], row: usize, place: usize| {
                rows[row] >> (unit * place) & ((1 << unit) - 1)
            };
            for row in 0..TILE_ROWS {
                for place in 0..TILE_ROWS * halves {
                    let half = place / TILE_ROWS * TILE_ROWS;
                    assert_eq!(at(&found, row, place), at(&rows, place - half, half + row));
                }
            }
        }
    }
}
