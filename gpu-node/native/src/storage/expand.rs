//! Expansion of sparse groups: the reference for the kernels of every instruction set.

use super::{
    BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, Precision, TILE_ROWS, VECTOR_BYTES, read_scale_and_zero_point,
};

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

/// Expands `groups` groups of `GROUP` columns of int4: each code to a byte. Returns the number of bytes that were read.
pub(crate) fn expand_int4<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
    let mut at = 0;
    for expanded in out.chunks_exact_mut(format.expanded_group()).take(groups) {
        let (header, vectors) = expanded.split_at_mut(EXPANDED_INT4_HEADER);
        let (quarters, offsets) = header.split_at_mut(EXPANDED_INT4_HEADER / 2);
        let mut zero_points = [0; BLOCK_ROWS];
        for (row, zero_point) in zero_points.iter_mut().enumerate() {
            let quarter;
            (quarter, *zero_point) =
                read_scale_and_zero_point(u16::from_le_bytes(array(stream, at + 2 * row)));
            quarters[4 * row..][..4].copy_from_slice(&quarter.to_le_bytes());
            offsets[4 * row..][..4].copy_from_slice(&i32::from(*zero_point).to_le_bytes());
        }
        let masks = at + format.sparse_scales();
        at += format.sparse_header();
        let mut taken = [0; TILES];
        for (index, vector) in vectors.chunks_exact_mut(VECTOR_BYTES).enumerate() {
            let tile = index % TILES;
            let mask = u64::from_le_bytes(array(stream, masks + 8 * index));
            for (place, code) in vector.iter_mut().enumerate() {
                let row = tile * TILE_ROWS + place / format.step();
                if mask >> place & 1 == 1 {
                    *code = 4 * (stream[at + taken[tile]] >> (4 * tile) & 15);
                    taken[tile] += 1;
                } else {
                    *code = zero_points[row];
                }
            }
        }
        at += taken[0].max(taken[1]);
    }
    at
}

/// Returns the `N` bytes from `at` on.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}
