//! Conversion of packed matrices back to f32.

use super::expand::{expand_bf16, expand_int4, expand_int8};
use super::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, Matrix, Precision, TILE_ROWS, VECTOR_BYTES};
use half::{bf16, f16};

const TILES: usize = BLOCK_ROWS / TILE_ROWS;

impl Matrix {
    /// Returns the weights that the kernels multiply by, `[rows, cols]` f32 row-major. Pruned weights are 0.
    pub fn unpack(&self) -> Vec<f32> {
        let format = self.format();
        let mut weights = vec![0f32; self.rows() * self.cols()];
        let group = if self.is_sparse() { format.expanded_group() } else { format.dense_group() };
        let mut expanded = vec![0u8; self.groups() * group];
        for block in 0..self.blocks() {
            let stream = self.block(block);
            if self.is_sparse() {
                expand(format, stream, self.groups(), &mut expanded);
            } else {
                let length = expanded.len();
                expanded.copy_from_slice(&stream[..length]);
            }
            for (lane, row) in self.block_rows(block).enumerate() {
                let row = &mut weights[row * self.cols()..][..self.cols()];
                let groups = expanded.chunks_exact(group);
                for (values, group) in row.chunks_mut(format.group()).zip(groups) {
                    for (col, value) in values.iter_mut().enumerate() {
                        *value = if self.is_sparse() && format.precision() == Precision::Int4 {
                            expanded_int4(group, lane, col)
                        } else {
                            weight(format, group, lane, col)
                        };
                    }
                }
            }
        }
        weights
    }
}

fn expand(format: Format, stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    match (format.precision(), format.group()) {
        (Precision::Bf16, _) => expand_bf16(stream, groups, out),
        (Precision::Int8, 64) => expand_int8::<64>(stream, groups, out),
        (Precision::Int8, _) => expand_int8::<32>(stream, groups, out),
        (Precision::Int4, 64) => expand_int4::<64>(stream, groups, out),
        (Precision::Int4, _) => expand_int4::<32>(stream, groups, out),
    }
}

/// Returns the weight of a row and column of a dense group.
fn weight(format: Format, group: &[u8], row: usize, col: usize) -> f32 {
    let (header, vectors) = group.split_at(format.dense_header());
    let half = |at: usize| f16::from_le_bytes([header[at], header[at + 1]]).to_f32();
    let (step, tile, lane) = (format.step(), row / TILE_ROWS, row % TILE_ROWS);
    let place = lane * step + col % step;
    match format.precision() {
        Precision::Bf16 => {
            let at = (col / step * TILES + tile) * VECTOR_BYTES + 2 * place;
            bf16::from_le_bytes([vectors[at], vectors[at + 1]]).to_f32()
        }
        Precision::Int8 => {
            let code = vectors[(col / step * TILES + tile) * VECTOR_BYTES + place];
            half(2 * row) * (f32::from(code) - 128.0)
        }
        Precision::Int4 => {
            let codes = vectors[col / step * VECTOR_BYTES + place];
            let code = codes >> (4 * tile) & 15;
            half(2 * row) * f32::from(code) + half(2 * (BLOCK_ROWS + row))
        }
    }
}

/// Returns the weight of a row and column of an expanded group of int4.
fn expanded_int4(group: &[u8], row: usize, col: usize) -> f32 {
    let (header, vectors) = group.split_at(EXPANDED_INT4_HEADER);
    let (header, _) = header.as_chunks::<4>();
    let (quarter, zero_point) =
        (f32::from_le_bytes(header[row]), i32::from_le_bytes(header[BLOCK_ROWS + row]));
    let (tile, lane) = (row / TILE_ROWS, row % TILE_ROWS);
    let code = vectors[(col / 4 * TILES + tile) * VECTOR_BYTES + lane * 4 + col % 4];
    quarter * (i32::from(code) - zero_point) as f32
}
