//! int8 weights, 16-bit inputs, integer sums within a group.

use super::integers::{
    Dots, add_dots, add_pairs, add_pairs_fused, add_pairs_vnni, add_scaled, join_strands, load_halves,
};
use super::{Panel, STRANDS, TILES};
use super::{block_fn, each_strand, each_token, load, moves, prefetch, shuffles, strand_of};
use crate::cpu::levels::{avx512, avx512vbmi2, avx512vnni};
use crate::storage::{BLOCK_ROWS, TILE_ROWS, VECTOR_BYTES};
use std::arch::x86_64::*;

/// Defines a dense kernel compiled for `$level`. `$add_pairs` adds products.
macro_rules! dense_fn {
    ($name:ident, $add_pairs:ident, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            for group in 0..groups {
                let scales = load_halves(at);
                at = at.add(2 * TILES * TILE_ROWS);
                let mut dots = start_at_zero_point::<T>(panel, group);
                for _ in 0..GROUP / 4 / STRANDS {
                    each_strand!(STRAND => {
                        prefetch(at);
                        prefetch(at.wrapping_add(VECTOR_BYTES));
                        let pair = [load(at), load(at.add(VECTOR_BYTES))];
                        at = at.add(TILES * VECTOR_BYTES);
                        add_dots!($add_pairs, T, &mut dots[strand_of::<T>(STRAND)], pair, words);
                        words = words.add(2 * T);
                    });
                }
                add_scaled(&join_strands(&dots), scales, panel, group, &mut totals);
            }
        });
    };
}

/// Defines a sparse kernel. As [`dense_fn`]; `$expand` expands the codes.
macro_rules! sparse_fn {
    ($name:ident, $add_pairs:ident, $expand:ident, $level:ident) => {
        block_fn!($level $name<GROUP, T> |groups, panel, at, words, totals| {
            let tables = $expand::bytes();
            for group in 0..groups {
                prefetch(at);
                let scales = load_halves(at);
                let mut masks = at.add(2 * TILES * TILE_ROWS);
                at = masks.add(GROUP * BLOCK_ROWS / 8);
                let mut dots = start_at_zero_point::<T>(panel, group);
                for _ in 0..GROUP / 4 / STRANDS {
                    each_strand!(STRAND => {
                        prefetch(at);
                        prefetch(masks);
                        let first = $expand::take_bytes(&tables, &mut at, masks);
                        let second = $expand::take_bytes(&tables, &mut at, masks.add(8));
                        masks = masks.add(8 * TILES);
                        add_dots!($add_pairs, T, &mut dots[strand_of::<T>(STRAND)], [first, second], words);
                        words = words.add(2 * T);
                    });
                }
                add_scaled(&join_strands(&dots), scales, panel, group, &mut totals);
            }
        });
    };
}

dense_fn!(dense, add_pairs, avx512);
dense_fn!(dense_vnni, add_pairs_vnni, avx512vnni);
sparse_fn!(sparse, add_pairs, shuffles, avx512);
sparse_fn!(sparse_vnni, add_pairs_fused, shuffles, avx512vnni);
sparse_fn!(sparse_vbmi2, add_pairs_vnni, moves, avx512vbmi2);

avx512!(
    /// int8 codes are the weights plus 128. The products of that offset are the same for all rows: they are
    /// subtracted here.
    ///
    /// # Safety
    ///
    /// The panel has the group `group`.
    #[inline]
    unsafe fn start_at_zero_point<const T: usize>(panel: Panel<'_>, group: usize) -> [Dots<T>; STRANDS] {
        let mut dots = [[[_mm512_setzero_si512(); TILES]; T]; STRANDS];
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller.
            let sum = unsafe { *panel.sums.get_unchecked(group * T + TOKEN) };
            dots[0][TOKEN] = [_mm512_set1_epi32(-128 * sum); TILES];
        });
        dots
    }
);
