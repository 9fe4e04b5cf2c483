//! Expansion of sparse groups, and of dense ones of int4.

use super::int4::{header_of_sparse, nibbles, scale_upper_nibbles};
use super::integers::load_halves;
use super::{TILES, load, moves, shuffles, store};
use crate::cpu::levels::{avx512, avx512vbmi2};
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, TILE_ROWS, VECTOR_BYTES};
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
                    let mut at = stream.as_ptr();
                    let mut out = out.as_mut_ptr();
                    for _ in 0..groups {
                        // SAFETY: as in `bf16`.
                        unsafe {
                            let (scales, pruned) = header_of_sparse(at);
                            scales.store(out);
                            out = out.add(EXPANDED_INT4_HEADER);
                            let mut masks = at.add(2 * BLOCK_ROWS);
                            let mut first = masks.add(GROUP * BLOCK_ROWS / 8);
                            let mut second = first;
                            for _ in 0..GROUP / 4 {
                                let codes = $expand::take_nibbles::<0>(&tables, pruned[0], &mut first, masks);
                                store(out, codes);
                                let codes =
                                    $expand::take_nibbles::<1>(&tables, pruned[1], &mut second, masks.add(8));
                                store(out.add(VECTOR_BYTES), codes);
                                masks = masks.add(8 * TILES);
                                out = out.add(TILES * VECTOR_BYTES);
                            }
                            at = first.max(second);
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

avx512!(
    /// Expands dense groups to a byte for each code; those of the second tile stay in the upper nibbles. Before them are the scales and the
    /// minimums as f32.
    ///
    /// # Safety
    ///
    /// The contract of an `ExpandFn`, for dense groups.
    pub(super) unsafe fn dense_int4<const GROUP: usize>(
        stream: &[u8],
        groups: usize,
        out: &mut [u8],
    ) -> usize {
        let nibbles = nibbles();
        let mut at = stream.as_ptr();
        let mut out = out.as_mut_ptr();
        for _ in 0..groups {
            // SAFETY: a dense group is two f16 for each row and half a byte for each code; `out` has room for the groups, by the
            // contract.
            unsafe {
                let scales = scale_upper_nibbles(load_halves(at));
                let minimums = load_halves(at.add(2 * BLOCK_ROWS));
                at = at.add(4 * BLOCK_ROWS);
                for (index, floats) in [scales, minimums].as_flattened().iter().enumerate() {
                    _mm512_storeu_ps(out.add(index * VECTOR_BYTES).cast(), *floats);
                }
                out = out.add(EXPANDED_INT4_HEADER);
                for _ in 0..GROUP / 4 {
                    let both = load(at);
                    at = at.add(VECTOR_BYTES);
                    store(out, _mm512_and_si512(both, nibbles[0]));
                    store(out.add(VECTOR_BYTES), _mm512_and_si512(both, nibbles[1]));
                    out = out.add(TILES * VECTOR_BYTES);
                }
            }
        }
        at.addr() - stream.as_ptr().addr()
    }
);

avx512!(
    /// The scales and the minimums of a group that [`dense_int4`] expanded.
    ///
    /// # Safety
    ///
    /// `at` points to such a group.
    #[inline]
    pub(super) unsafe fn read_dense_int4_header(at: *const u8) -> [[__m512; TILES]; 2] {
        let at = at.cast::<f32>();
        // SAFETY: guaranteed by the caller.
        unsafe {
            [
                [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(TILE_ROWS))],
                [_mm512_loadu_ps(at.add(BLOCK_ROWS)), _mm512_loadu_ps(at.add(BLOCK_ROWS + TILE_ROWS))],
            ]
        }
    }
);
