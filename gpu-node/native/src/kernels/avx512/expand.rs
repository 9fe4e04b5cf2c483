//! Expansion of sparse groups into dense ones.

use super::{TILES, load, load_mask32, load_mask64, prefetch, store};
use crate::cpu::levels::avx512;
use crate::storage::{BLOCK_ROWS, Format, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;
use std::hint::black_box;

avx512!(
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn bf16(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let pruned = black_box(_mm512_setzero_si512());
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            let masks = at;
            // SAFETY: as in `bf16::sparse`; `out` has room for the groups, by the contract.
            unsafe {
                at = at.add(Format::BF16.sparse_header());
                for index in 0..Format::BF16.steps() * TILES {
                    let (mask, kept) = load_mask32(masks.add(4 * index));
                    store(out, _mm512_mask_expand_epi16(pruned, mask, load(at)));
                    at = at.add(2 * kept);
                    out = out.add(VECTOR_BYTES);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

avx512!(
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    pub(super) unsafe fn int8<const GROUP: usize>(stream: &[u8], groups: usize, out: &mut [u8]) -> usize {
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: as in `bf16`.
            unsafe {
                store(out, load(at));
                out = out.add(VECTOR_BYTES);
                at = expand_int8::<GROUP>(at.add(2 * TILES * TILE_ROWS), out);
                out = out.add(GROUP * BLOCK_ROWS);
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

avx512!(
    /// Expands the values of a group whose masks begin at `masks` into `out`. Returns the end of the values.
    ///
    /// # Safety
    ///
    /// The contract of an `ExpandFn`.
    #[inline]
    pub(super) unsafe fn expand_int8<const GROUP: usize>(masks: *const u8, mut out: *mut u8) -> *const u8 {
        let pruned = black_box(_mm512_set1_epi8(-128));
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut at = masks.add(GROUP * BLOCK_ROWS / 8);
            for index in 0..GROUP / 4 * TILES {
                prefetch(at);
                let (mask, kept) = load_mask64(masks.add(8 * index));
                store(out, _mm512_mask_expand_epi8(pruned, mask, load(at)));
                at = at.add(kept);
                out = out.add(VECTOR_BYTES);
            }
            at
        }
    }
);
