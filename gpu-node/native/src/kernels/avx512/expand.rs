//! Expansion of sparse groups into dense ones.

use super::int4::{SPARSE_SCALES, SparseHeader};
use super::integers::store_halves;
use super::{TILES, load, moves, prefetch, shuffles, store};
use crate::cpu::levels::{avx512, avx512vbmi2};
use crate::storage::{BLOCK_ROWS, Format, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Defines the functions that expand by `$expand`, compiled for `$level`.
macro_rules! expand_fns {
    ($name:ident, $expand:ident, $level:ident) => {
        pub(super) mod $name {
            use super::*;

            $level!(
                /// # Safety
                ///
                /// The contract of an `ExpandFn`.
                pub(in crate::kernels::avx512) unsafe fn bf16(
                    stream: &[u8],
                    groups: usize,
                    out: &mut [u8],
                ) -> usize {
                    let tables = $expand::words();
                    let mut at = stream.as_ptr();
                    let mut out = out.as_mut_ptr();
                    for _ in 0..groups {
                        let masks = at;
                        // SAFETY: the values of a group follow the masks that count them; `out` has room for the
                        // groups, by the contract.
                        unsafe {
                            at = at.add(Format::BF16.sparse_header());
                            for index in 0..Format::BF16.steps() * TILES {
                                store(out, $expand::take_words(&tables, &mut at, masks.add(4 * index)));
                                out = out.add(VECTOR_BYTES);
                            }
                        }
                    }
                    at.addr() - stream.as_ptr().addr()
                }
            );

            $level!(
                /// # Safety
                ///
                /// The contract of an `ExpandFn`.
                pub(in crate::kernels::avx512) unsafe fn int8<const GROUP: usize>(
                    stream: &[u8],
                    groups: usize,
                    out: &mut [u8],
                ) -> usize {
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

            $level!(
                /// # Safety
                ///
                /// The contract of an `ExpandFn`.
                pub(in crate::kernels::avx512) unsafe fn int4<const GROUP: usize>(
                    stream: &[u8],
                    groups: usize,
                    out: &mut [u8],
                ) -> usize {
                    let tables = $expand::bytes();
                    let high = _mm512_set1_epi8(0xf0u8.cast_signed());
                    let mut at = stream.as_ptr();
                    let mut out = out.as_mut_ptr();
                    for _ in 0..groups {
                        // SAFETY: as in `bf16`.
                        unsafe {
                            let header = SparseHeader::load(at);
                            store(out, load(at));
                            store_halves(out.add(VECTOR_BYTES), header.minimums());
                            out = out.add(2 * VECTOR_BYTES);
                            let tables = $expand::with_pruned(&tables, header.zeros);
                            let masks = at.add(SPARSE_SCALES);
                            at = masks.add(GROUP * BLOCK_ROWS / 8);
                            for step in 0..GROUP / 4 {
                                prefetch(at);
                                let (mut low_end, mut high_end) = (at, at);
                                let masks = masks.add(8 * TILES * step);
                                let first = $expand::take_bytes(&tables, &mut low_end, masks);
                                let second = $expand::take_bytes(&tables, &mut high_end, masks.add(8));
                                at = low_end.max(high_end);
                                // The upper nibbles of the second, the lower ones of the first.
                                store(out, _mm512_ternarylogic_epi32::<0xca>(high, second, first));
                                out = out.add(VECTOR_BYTES);
                            }
                        }
                    }
                    at.addr() - stream.as_ptr().addr()
                }
            );

            $level!(
                /// Expands the values of a group whose masks begin at `masks` into `out`. Returns the end of
                /// the values.
                ///
                /// # Safety
                ///
                /// The contract of an `ExpandFn`.
                #[inline]
                pub(in crate::kernels::avx512) unsafe fn expand_int8<const GROUP: usize>(
                    masks: *const u8,
                    mut out: *mut u8,
                ) -> *const u8 {
                    let tables = $expand::bytes();
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        let mut at = masks.add(GROUP * BLOCK_ROWS / 8);
                        for index in 0..GROUP / 4 * TILES {
                            prefetch(at);
                            store(out, $expand::take_bytes(&tables, &mut at, masks.add(8 * index)));
                            out = out.add(VECTOR_BYTES);
                        }
                        at
                    }
                }
            );
        }
    };
}

expand_fns!(by_shuffles, shuffles, avx512);
expand_fns!(by_moves, moves, avx512vbmi2);
