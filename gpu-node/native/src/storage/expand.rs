//! From a sparse group to a dense one: the definition that every other kernel is compared with.

use super::{BLOCK_ROWS, Format, Precision, TILE_ROWS, VECTOR_BYTES};

const TILES: usize = BLOCK_ROWS / TILE_ROWS;

/// Expands `groups` groups of bf16 into dense ones and returns the bytes that were read.
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

/// Expands `groups` groups of `GROUP` columns of int8 into dense ones and returns the bytes that
/// were read.
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

/// Expands `groups` groups of `GROUP` columns of int4 into dense ones of int8, with the zero point
/// taken off and the same scale, and returns the bytes that were read.
pub(crate) fn expand_int4<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
    let format = Format::new(Precision::Int4, GROUP).expect("a group that int4 has");
    let expanded = format.expanded();
    let mut at = 0;
    for dense in out.chunks_exact_mut(expanded.dense_group()).take(groups) {
        let (scales, vectors) = dense.split_at_mut(expanded.dense_header());
        scales.copy_from_slice(&stream[at..at + scales.len()]);
        let zeros = &stream[at + scales.len()..at + format.sparse_scales()];
        let masks = at + format.sparse_scales();
        at += format.sparse_header();
        let mut taken = [0; TILES];
        for (index, vector) in vectors.chunks_exact_mut(VECTOR_BYTES).enumerate() {
            let tile = index % TILES;
            let mask = u64::from_le_bytes(array(stream, masks + 8 * index));
            for (lane, code) in vector.iter_mut().enumerate() {
                *code = 128;
                if mask >> lane & 1 == 1 {
                    let nibble = stream[at + taken[tile]] >> (4 * tile) & 15;
                    *code = 128 + nibble - zeros[tile * TILE_ROWS + lane / format.step()];
                    taken[tile] += 1;
                }
            }
        }
        at += taken[0].max(taken[1]);
    }
    at
}

/// `N` bytes from `at` on.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}
