//! The primitives of packing in plain Rust, for the compiler to vectorise.

use super::{Packing, Vector, WORDS, Words};
use crate::storage::{TILE_ROWS, VECTOR_BYTES};

/// Plain Rust for every instruction set.
pub(in crate::storage) struct Portable;

impl Packing for Portable {
    #[inline(always)]
    fn prefetch(_: &[f32]) {}

    #[inline(always)]
    fn keep<const N: usize>(values: &[f32; N], mask: u64, out: &mut [f32; N]) {
        let bytes = values.chunks_exact(8).zip(mask.to_le_bytes());
        for (out, (values, byte)) in out.chunks_exact_mut(8).zip(bytes) {
            for (out, (value, keep)) in out.iter_mut().zip(values.iter().zip(&KEEP[byte as usize])) {
                *out = f32::from_bits(value.to_bits() & keep);
            }
        }
    }

    #[inline(always)]
    fn transpose(rows: &[&Words; TILE_ROWS], half: usize) -> [Vector; TILE_ROWS] {
        let mut vectors = [[0; VECTOR_BYTES]; TILE_ROWS];
        for (lane, row) in rows.iter().enumerate() {
            for (vector, word) in vectors.iter_mut().zip(&row[half * TILE_ROWS..][..TILE_ROWS]) {
                vector[4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
            }
        }
        vectors
    }

    #[inline(always)]
    fn bytes(codes: &Vector, mask: u64, out: &mut Vector) {
        let mut kept = 0;
        // Writes every code, and overwrites the ones that are not kept, so that there is no branch to
        // predict. `%` removes a bounds check: at most 63 codes were kept before, so the place is below 64.
        for (bit, code) in codes.iter().enumerate() {
            out[kept % VECTOR_BYTES] = *code;
            kept += (mask >> bit & 1) as usize;
        }
    }

    #[inline(always)]
    fn words(codes: &Vector, mask: u32, out: &mut Vector) {
        let (codes, _) = codes.as_chunks::<2>();
        let (out, _) = out.as_chunks_mut::<2>();
        let mut kept = 0;
        for (bit, code) in codes.iter().enumerate() {
            out[kept % WORDS] = *code;
            kept += (mask >> bit & 1) as usize;
        }
    }

    #[inline(always)]
    fn spread(values: &Vector, mask: u32, out: &mut [f32; WORDS]) {
        let (values, _) = values.as_chunks::<2>();
        let mut kept = 0;
        for (bit, out) in out.iter_mut().enumerate() {
            let is_kept = mask >> bit & 1;
            // The place is below 32, as in `bytes`.
            let value = u32::from(u16::from_le_bytes(values[kept % WORDS])) << 16;
            *out = f32::from_bits(value * is_kept);
            kept += is_kept as usize;
        }
    }
}

/// For every byte of a mask, eight words: all ones where the bit is set.
static KEEP: [[u32; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = if byte >> bit & 1 == 1 { !0 } else { 0 };
            bit += 1;
        }
        byte += 1;
    }
    table
};
