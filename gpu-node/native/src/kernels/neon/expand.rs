//! Expansion of sparse groups into dense ones, by table lookups.

use super::super::expand_table::{EXPAND_BYTES, EXPAND_WORDS};
use super::{LANES, PIECES, TILES, load, load_halves, store_halves};
use crate::cpu::levels::neon;
use crate::storage::{BLOCK_ROWS, Format, TILE_ROWS, VECTOR_BYTES};
use std::arch::aarch64::*;

neon!(
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn bf16(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            let masks = at;
            // SAFETY: a load reads 16 bytes from a value on, at most 16 bytes beyond the stream, which a
            // vector follows; the table has an entry for every byte; `out` has room for the groups, by the
            // contract.
            unsafe {
                at = at.add(Format::BF16.sparse_header());
                for index in 0..Format::BF16.sparse_header() {
                    let mask = *masks.add(index);
                    let places = vld1q_u8(EXPAND_WORDS.0.get_unchecked(mask as usize).as_ptr());
                    vst1q_u8(out, vqtbl1q_u8(load(at), places));
                    at = at.add(2 * mask.count_ones() as usize);
                    out = out.add(16);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

neon!(
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn int8<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let offset = vdup_n_u8(128);
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: as in `bf16`.
            unsafe {
                out.copy_from_nonoverlapping(at, 2 * BLOCK_ROWS);
                out = out.add(2 * BLOCK_ROWS);
                let masks = at.add(2 * BLOCK_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                for index in 0..GROUP * BLOCK_ROWS / 8 {
                    let mask = *masks.add(index);
                    // Signed, so that a pruned weight is 0, which is what the lookup writes at its place.
                    let values = veor_u8(vld1_u8(at), offset);
                    vst1_u8(out, veor_u8(vtbl1_u8(values, places_of(mask)), offset));
                    at = at.add(mask.count_ones() as usize);
                    out = out.add(8);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

neon!(
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn int4<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let nibbles = [vdup_n_u8(0x0f), vdup_n_u8(0xf0)];
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: as in `bf16`.
            unsafe {
                let zeros = load(at.add(2 * BLOCK_ROWS));
                out.copy_from_nonoverlapping(at, 2 * BLOCK_ROWS);
                write_minimums(at, zeros, out.add(2 * BLOCK_ROWS));
                out = out.add(4 * BLOCK_ROWS);
                let mut masks = at.add(2 * BLOCK_ROWS + TILE_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                for _ in 0..GROUP / 4 {
                    let mut taken = [at; TILES];
                    for eight in 0..VECTOR_BYTES / 8 {
                        // The codes of 0 of two rows, four times each.
                        let rows = vcreate_u8(0x0101_0101_0000_0000 + 0x0202_0202_0202_0202 * eight as u64);
                        let zeros = vqtbl1_u8(zeros, rows);
                        let mut codes = vdup_n_u8(0);
                        for (tile, (taken, nibble)) in taken.iter_mut().zip(nibbles).enumerate() {
                            let mask = *masks.add(8 * tile + eight);
                            // The lookup leaves the places of pruned weights as they are.
                            let expanded = vtbx1_u8(zeros, vld1_u8(*taken), places_of(mask));
                            *taken = taken.add(mask.count_ones() as usize);
                            codes = vorr_u8(codes, vand_u8(expanded, nibble));
                        }
                        vst1_u8(out, codes);
                        out = out.add(8);
                    }
                    at = taken[0].max(taken[1]);
                    masks = masks.add(8 * TILES);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

neon!(
    /// Writes the minimums of all rows, f16: minus their codes of 0 times their scales.
    ///
    /// # Safety
    ///
    /// `scales` has an f16 for every row of the block, and `out` has room for one.
    #[inline]
    unsafe fn write_minimums(scales: *const u8, zeros: uint8x16_t, out: *mut u8) {
        let tiles = [vandq_u8(zeros, vdupq_n_u8(15)), vshrq_n_u8::<4>(zeros)];
        for piece in 0..PIECES {
            // Each code to the lowest byte of its lane: other bytes look up a byte that does not exist, which gives 0.
            let first = (piece * LANES % TILE_ROWS) as u32;
            let places = [first, first + 1, first + 2, first + 3].map(|place| place | 0xffff_ff00);
            // SAFETY: guaranteed by the caller.
            unsafe {
                let codes = vqtbl1q_u8(
                    tiles[piece / (PIECES / TILES)],
                    vreinterpretq_u8_u32(vld1q_u32(&raw const places[0])),
                );
                let codes = vcvtq_f32_u32(vreinterpretq_u32_u8(codes));
                let scales = vnegq_f32(load_halves(scales, piece));
                store_halves(out.add(2 * LANES * piece), vmulq_f32(codes, scales));
            }
        }
    }
);

neon!(
    #[inline]
    fn places_of(mask: u8) -> uint8x8_t {
        vcreate_u8(u64::from_le_bytes(EXPAND_BYTES.0[mask as usize]))
    }
);
