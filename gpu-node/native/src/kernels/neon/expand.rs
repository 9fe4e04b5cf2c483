//! Expansion of sparse groups into dense ones, by table lookups.

use super::super::expand_table::{EXPAND_BYTES, EXPAND_WORDS};
use super::load;
use crate::cpu::levels::neon;
use crate::storage::{BLOCK_ROWS, Format};
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
    #[inline]
    fn places_of(mask: u8) -> uint8x8_t {
        vcreate_u8(u64::from_le_bytes(EXPAND_BYTES.0[mask as usize]))
    }
);
