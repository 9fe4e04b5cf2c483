//! Expanded int4 with signed codes, for dot products of unsigned inputs and signed codes: inputs plus 128. So the products of
//! zero points need no instructions for each token; what the 128 adds depends on the row alone. A group is expanded while
//! the first chunk of tokens is multiplied by it, which hides most of the time that expanding takes.

use super::int4::{Scales, header_of_sparse};
use super::integers::{add_scaled, dot_bytes_vnni, dot_signed_vnni, sums_of_strands, sums_to_strands};
use super::{BlockSums, Panel, STRANDS, TILES};
use super::{block_fn, each_strand, load, load_totals, moves, prefetch, store, store_totals, strand_of};
use crate::cpu::levels::{avx512vbmi2, avx512vnni};
use crate::kernels::CHUNK_TOKENS;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, VECTOR_BYTES};
use std::arch::x86_64::*;

/// The number that is added to inputs, so that they are not negative.
const BIAS: i32 = 128;
/// Steps of four columns whose expanded codes, which have six bits, are added up as bytes.
const SUMMED_BYTES: usize = 4;
const _: () = assert!(SUMMED_BYTES * 63 <= u8::MAX as usize);

avx512vbmi2!(
    /// As a [`BlockFn`](crate::kernels::BlockFn) of sparse groups and [`CHUNK_TOKENS`] tokens. Expands the groups into `out` too,
    /// for [`expanded`]. Returns the number of bytes that were read.
    ///
    /// # Safety
    ///
    /// The contract of a [`MultiplyAndExpandFn`](crate::kernels::MultiplyAndExpandFn).
    pub(super) unsafe fn multiply_and_expand<const GROUP: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
        out: &mut [u8],
    ) -> usize {
        const T: usize = CHUNK_TOKENS;
        let tables = moves::bytes();
        let minus_bias = _mm512_set1_epi8(-BIAS as i8);
        let mut totals = load_totals::<T>(sums);
        let (mut at, mut words, mut out) = (stream.as_ptr(), panel.words.as_ptr(), out.as_mut_ptr());
        // SAFETY: by the contract, the stream has the groups and a vector behind them, the panel has their words, and `out` has
        // room for the expanded groups.
        unsafe {
            for group in 0..groups {
                prefetch(at);
                let (scales, pruned) = header_of_sparse(at);
                let mut masks = at.add(2 * BLOCK_ROWS);
                let (mut first, mut second) =
                    (masks.add(GROUP * BLOCK_ROWS / 8), masks.add(GROUP * BLOCK_ROWS / 8));
                let header = out;
                out = out.add(EXPANDED_INT4_HEADER);
                let mut dots = scales.first_dots::<T>(panel, group);
                // A signed code is an expanded one less the zero point.
                let columns = _mm512_set1_epi32(BIAS * GROUP as i32);
                let mut offsets = [
                    _mm512_madd_epi16(scales.offsets[0], columns),
                    _mm512_madd_epi16(scales.offsets[1], columns),
                ];
                for _ in 0..GROUP / 4 / SUMMED_BYTES {
                    let mut bytes = [_mm512_setzero_si512(); TILES];
                    for _ in 0..SUMMED_BYTES {
                        prefetch(first);
                        prefetch(masks);
                        let codes = [
                            moves::take_nibbles::<0>(&tables, pruned[0], &mut first, masks),
                            moves::take_nibbles::<1>(&tables, pruned[1], &mut second, masks.add(8)),
                        ];
                        masks = masks.add(8 * TILES);
                        store(out, _mm512_sub_epi8(codes[0], pruned[0]));
                        store(out.add(VECTOR_BYTES), _mm512_sub_epi8(codes[1], pruned[1]));
                        out = out.add(TILES * VECTOR_BYTES);
                        bytes = [_mm512_add_epi8(bytes[0], codes[0]), _mm512_add_epi8(bytes[1], codes[1])];
                        dot_bytes_vnni(&mut dots, codes, words);
                        words = words.add(T);
                    }
                    offsets = [
                        _mm512_dpbusd_epi32(offsets[0], bytes[0], minus_bias),
                        _mm512_dpbusd_epi32(offsets[1], bytes[1], minus_bias),
                    ];
                }
                at = first.max(second);
                Scales { quarters: scales.quarters, offsets }.store(header);
                add_scaled(&dots, scales.quarters, panel, group, &mut totals);
            }
        }
        store_totals(&totals, sums);
        at.addr() - stream.as_ptr().addr()
    }
);

block_fn!(
    /// The groups are those of [`multiply_and_expand`].
    avx512vnni expanded<GROUP, T> |groups, panel, at, words, totals| {
        for group in 0..groups {
            let scales = Scales::load(at);
            at = at.add(EXPANDED_INT4_HEADER);
            let mut dots = [scales.offsets; T];
            let mut sums = sums_to_strands(&dots);
            for _ in 0..GROUP / 4 / STRANDS {
                each_strand!(STRAND => {
                    let pair = [load(at), load(at.add(VECTOR_BYTES))];
                    at = at.add(TILES * VECTOR_BYTES);
                    dot_signed_vnni(&mut sums[strand_of::<T>(STRAND)], pair, words);
                    words = words.add(T);
                });
            }
            sums_of_strands(&mut dots, &sums);
            add_scaled(&dots, scales.quarters, panel, group, &mut totals);
        }
    }
);
