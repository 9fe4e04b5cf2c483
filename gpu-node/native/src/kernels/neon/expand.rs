//! Expansion of sparse groups, by table lookups.

use super::super::expand_table::{EXPAND_BYTES, EXPAND_WORDS};
use super::{LANES, PIECES, TILES, floats_of, load};
use crate::cpu::levels::neon;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format};
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
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: as in `bf16`.
            unsafe {
                for piece in 0..PIECES {
                    write_scales(at, piece, out.cast());
                }
                out = out.add(EXPANDED_INT4_HEADER);
                let mut zeros = [vdup_n_u8(0); BLOCK_ROWS / 2];
                for (index, zeros) in zeros.iter_mut().enumerate() {
                    *zeros = zero_points_of(at.add(4 * index));
                }
                let mut masks = at.add(2 * BLOCK_ROWS);
                let mut taken = [masks.add(GROUP * BLOCK_ROWS / 8); TILES];
                for _ in 0..GROUP / 4 {
                    for (index, zeros) in zeros.into_iter().enumerate() {
                        let tile = index / (BLOCK_ROWS / 2 / TILES);
                        let mask = *masks.add(index);
                        let nibbles = vld1_u8(taken[tile]);
                        let nibbles =
                            if tile == 0 { vshl_n_u8::<2>(nibbles) } else { vshr_n_u8::<2>(nibbles) };
                        let codes = vand_u8(nibbles, vdup_n_u8(0x3c));
                        // The lookup leaves the places of pruned weights as they are.
                        vst1_u8(out, vtbx1_u8(zeros, codes, places_of(mask)));
                        taken[tile] = taken[tile].add(mask.count_ones() as usize);
                        out = out.add(8);
                    }
                    masks = masks.add(8 * TILES);
                }
                at = taken[0].max(taken[1]);
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

neon!(
    /// Writes a quarter of the scales of 4 rows of a sparse group, and their zero points.
    ///
    /// # Safety
    ///
    /// `header` points to a sparse group, and `out` has room for the header of an expanded one.
    #[inline]
    unsafe fn write_scales(header: *const u8, piece: usize, out: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let rows = vreinterpret_u16_u8(vld1_u8(header.add(2 * LANES * piece)));
            let scales = vand_u16(vshr_n_u16::<1>(rows), vdup_n_u16(0x7fe0));
            let zeros = vmovl_u16(vand_u16(rows, vdup_n_u16(0x3f)));
            let quarters = vmulq_n_f32(floats_of(vreinterpret_u8_u16(scales)), 0.25);
            vst1q_f32(out.add(LANES * piece), quarters);
            vst1q_u32(out.add(BLOCK_ROWS + LANES * piece).cast(), zeros);
        }
    }
);

neon!(
    /// The bytes of pruned weights of two rows, four times each.
    ///
    /// # Safety
    ///
    /// `rows` has the 16 bits of two rows of a sparse group.
    #[inline]
    unsafe fn zero_points_of(rows: *const u8) -> uint8x8_t {
        // SAFETY: guaranteed by the caller.
        let rows = unsafe { rows.cast::<u32>().read_unaligned() };
        let lowest_of_each = vcreate_u8(0x0202_0202_0000_0000);
        vtbl1_u8(vcreate_u8(u64::from(rows & 0x003f_003f)), lowest_of_each)
    }
);

neon!(
    #[inline]
    fn places_of(mask: u8) -> uint8x8_t {
        vcreate_u8(u64::from_le_bytes(EXPAND_BYTES.0[mask as usize]))
    }
);
