//! Expansion of sparse groups into dense ones: the reference for the kernels of every instruction set.

use super::{BLOCK_ROWS, Format, Precision, TILE_ROWS, VECTOR_BYTES};
use half::f16;

const TILES: usize = BLOCK_ROWS / TILE_ROWS;

/// Expands `groups` groups of bf16 into dense ones. Returns the number of bytes that were read.
pub(crate) fn expand_bf16(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let format = Format::BF16;
    let mut at = 0;
    for dense in out.chunks_exact_mut(format.dense_group()).take(groups) {
        let masks = at;
        at += format.sparse_header();
        for (index, vector) in dense.chunks_exact_mut(VECTOR_BYTES).enumerate() {
            let mask = u32::from_le_bytes(array(stream, masks + 4 * index));
            for (lane, value) in vector.chunks_exact_mut(2).enumerate() {
                if mask >> lane & 1 == 1 {
                    value.copy_from_slice(&stream[at..at + 2]);
                    at += 2;
                } else {
                    value.fill(0);
                }
            }
        }
    }
    at
}

/// Expands `groups` groups of `GROUP` columns of int8 into dense ones. Returns the number of bytes that were
/// read.
pub(crate) fn expand_int8<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let format = Format::new(Precision::Int8, GROUP).expect("a group that int8 has");
    let mut at = 0;
    for dense in out.chunks_exact_mut(format.dense_group()).take(groups) {
        let (scales, vectors) = dense.split_at_mut(format.dense_header());
        scales.copy_from_slice(&stream[at..at + scales.len()]);
        let masks = at + format.sparse_scales();
        at += format.sparse_header();
        for (index, vector) in vectors.chunks_exact_mut(VECTOR_BYTES).enumerate() {
            let mask = u64::from_le_bytes(array(stream, masks + 8 * index));
            for (lane, code) in vector.iter_mut().enumerate() {
                if mask >> lane & 1 == 1 {
                    *code = stream[at];
                    at += 1;
                } else {
                    *code = 128;
                }
            }
        }
    }
    at
}

/// Expands `groups` groups of `GROUP` columns of int4 into dense ones. Returns the number of bytes that were
/// read.
pub(crate) fn expand_int4<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
    let mut at = 0;
    for dense in out.chunks_exact_mut(format.dense_group()).take(groups) {
        let (header, vectors) = dense.split_at_mut(format.dense_header());
        let zeros: [u8; TILE_ROWS] = array(stream, at + 2 * BLOCK_ROWS);
        let (scales, minimums) = header.split_at_mut(2 * BLOCK_ROWS);
        scales.copy_from_slice(&stream[at..at + 2 * BLOCK_ROWS]);
        for (row, (scale, minimum)) in scales.chunks_exact(2).zip(minimums.chunks_exact_mut(2)).enumerate() {
            let zero = zeros[row % TILE_ROWS] >> (4 * (row / TILE_ROWS)) & 15;
            let scale = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
            minimum.copy_from_slice(&f16::from_f32(-f32::from(zero) * scale).to_le_bytes());
        }
        let masks = at + format.sparse_scales();
        at += format.sparse_header();
        for (step, vector) in vectors.chunks_exact_mut(VECTOR_BYTES).enumerate() {
            let mut taken = [0; TILES];
            for (place, codes) in vector.iter_mut().enumerate() {
                *codes = zeros[place / format.step()];
                for (tile, taken) in taken.iter_mut().enumerate() {
                    let nibble = 15 << (4 * tile);
                    let mask = u64::from_le_bytes(array(stream, masks + 8 * (TILES * step + tile)));
                    if mask >> place & 1 == 1 {
                        *codes = *codes & !nibble | stream[at + *taken] & nibble;
                        *taken += 1;
                    }
                }
            }
            at += taken[0].max(taken[1]);
        }
    }
    at
}

/// Returns the `N` bytes from `at` on.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}
