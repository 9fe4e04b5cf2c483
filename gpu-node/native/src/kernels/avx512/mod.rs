//! AVX-512: Skylake-X and later. Where the processor has them, dot products of integers (VNNI, from Cascade
//! Lake on), expanding moves (VBMI2, from Ice Lake and Zen 4 on), dot products of bf16 pairs, and tiles (AMX).
//! All of them give the same bits in int8 and int4. In bf16 dot products of pairs and tiles have sums in orders of their own.

mod amx;
mod bf16;
mod expand;
mod int4;
mod int4_signed;
mod int8;
mod integers;
mod moves;
mod shuffles;
mod two_of_four;

use super::activations::{ChunkMut, encode_chunk};
use super::function_tables::{ByGroup, by_16_tokens, by_group_and_tokens, by_tokens};
use super::{
    Bf16Words, BlockSums, CHUNK_TOKENS, Expansion, Int4InPlanes, MAX_CHUNK_TOKENS, MaxPasses, MinPlaneTokens,
    MultiplyFns, NearFns, Panel,
};
use crate::cpu::levels::avx512;
use crate::prefetch::prefetch_line;
use crate::storage::TILE_ROWS;
use std::arch::x86_64::*;

/// One function for each number of tokens: the first one up to three tokens, the second one, with tiles, from
/// [`amx::integers::MIN_TOKENS`] on.
macro_rules! tiles_from_4 {
    ($few:ident::$few_fn:ident, $tiles_fn:ident, $group:literal) => {
        &[
            $few::$few_fn::<$group, 1>,
            $few::$few_fn::<$group, 2>,
            $few::$few_fn::<$group, 3>,
            amx::integers::$tiles_fn::<$group, 4>,
            amx::integers::$tiles_fn::<$group, 5>,
            amx::integers::$tiles_fn::<$group, 6>,
            amx::integers::$tiles_fn::<$group, 7>,
            amx::integers::$tiles_fn::<$group, 8>,
        ]
    };
}

/// AVX-512 alone: bf16 weights are multiplied as f32, and expanded by shuffles.
pub(crate) const AVX512: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Floats,
    min_plane_tokens: MinPlaneTokens::NEVER,
    max_passes: MaxPasses { bf16: 4, int8: 2, int4: 2 },
    encode,
    release: None,
    near: None,
    int4_in_planes: None,
    dense_bf16: by_tokens!(bf16::dense),
    dense_int8: by_group_and_tokens!(int8::dense),
    dense_int4: by_group_and_tokens!(int4::dense),
    sparse_bf16: by_tokens!(bf16::sparse_by_shuffles),
    sparse_int8: by_group_and_tokens!(int8::sparse),
    sparse_int4: by_group_and_tokens!(int4::sparse),
    expanded_int4: by_group_and_tokens!(int4::expanded),
    two_of_four_int8: by_group_and_tokens!(two_of_four::int8),
    expand_bf16: expand::by_shuffles::bf16,
    expand_int8: ByGroup { of_64: expand::by_shuffles::int8::<64>, of_32: expand::by_shuffles::int8::<32> },
    expand_int4: ByGroup {
        of_64: Expansion::Alone(expand::by_shuffles::int4::<64>),
        of_32: Expansion::Alone(expand::by_shuffles::int4::<32>),
    },
};

/// AVX-512 with dot products of integers.
pub(crate) const AVX512_VNNI: MultiplyFns = MultiplyFns {
    dense_int8: by_group_and_tokens!(int8::dense_vnni),
    dense_int4: by_group_and_tokens!(int4::dense_vnni),
    sparse_int8: by_group_and_tokens!(int8::sparse_vnni),
    sparse_int4: by_group_and_tokens!(int4::sparse_vnni),
    expanded_int4: by_group_and_tokens!(int4::expanded_vnni),
    two_of_four_int8: by_group_and_tokens!(two_of_four::int8_vnni),
    ..AVX512
};

/// AVX-512 with dot products of integers and expanding moves.
pub(crate) const AVX512_VBMI2: MultiplyFns = MultiplyFns {
    max_passes: MaxPasses { bf16: 32, int8: 32, int4: 4 },
    sparse_bf16: by_tokens!(bf16::sparse_by_moves),
    sparse_int8: by_group_and_tokens!(int8::sparse_vbmi2),
    sparse_int4: by_group_and_tokens!(int4::sparse_vbmi2),
    expanded_int4: by_group_and_tokens!(int4_signed::expanded),
    two_of_four_int8: by_group_and_tokens!(int8::sparse_vbmi2),
    expand_bf16: expand::by_moves::bf16,
    expand_int8: ByGroup { of_64: expand::by_moves::int8::<64>, of_32: expand::by_moves::int8::<32> },
    expand_int4: ByGroup {
        of_64: Expansion::WithProducts(int4_signed::multiply_and_expand::<64>),
        of_32: Expansion::WithProducts(int4_signed::multiply_and_expand::<32>),
    },
    ..AVX512_VNNI
};

/// AVX-512 with dot products of bf16 pairs: faster where they take as long as other multiply-adds.
pub(crate) const AVX512_BF16: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Pairs,
    dense_bf16: by_tokens!(bf16::dense_pairs),
    sparse_bf16: by_tokens!(bf16::sparse_pairs),
    ..AVX512_VBMI2
};

/// AVX-512 with AMX tiles for bf16, for int8 of four tokens and more, and for int4 of three chunks and more. For fewer tokens the
/// integer products of tiles cost more than they save.
pub(crate) const AMX: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Rows,
    release: Some(amx::release),
    min_plane_tokens: MinPlaneTokens { int8: amx::integers::MIN_TOKENS, int4: 2 * CHUNK_TOKENS + 1 },
    max_passes: MaxPasses { bf16: 1, int8: 1, ..AVX512_VBMI2.max_passes },
    near: Some(NearFns {
        bf16: by_16_tokens!(amx::bf16::near),
        int8: by_group_and_tokens!(amx::integers::dense_int8),
    }),
    int4_in_planes: Some(Int4InPlanes {
        expand_dense: ByGroup { of_64: expand::dense_int4::<64>, of_32: expand::dense_int4::<32> },
        dense: by_group_and_tokens!(amx::integers::dense_int4),
        expand_sparse: ByGroup { of_64: expand::by_moves::int4::<64>, of_32: expand::by_moves::int4::<32> },
        sparse: by_group_and_tokens!(amx::integers::sparse_int4),
    }),
    dense_bf16: by_16_tokens!(amx::bf16::dense),
    dense_int8: ByGroup {
        of_64: tiles_from_4!(int8::dense_vnni, dense_int8, 64),
        of_32: tiles_from_4!(int8::dense_vnni, dense_int8, 32),
    },
    sparse_bf16: by_16_tokens!(amx::bf16::sparse),
    sparse_int8: ByGroup {
        of_64: tiles_from_4!(int8::sparse_vbmi2, sparse_int8, 64),
        of_32: tiles_from_4!(int8::sparse_vbmi2, sparse_int8, 32),
    },
    two_of_four_int8: ByGroup {
        of_64: tiles_from_4!(int8::sparse_vbmi2, sparse_int8, 64),
        of_32: tiles_from_4!(int8::sparse_vbmi2, sparse_int8, 32),
    },
    ..AVX512_VBMI2
};

const _: () = {
    let Some(near) = &AMX.near else { panic!() };
    let chunk = AMX.dense_bf16.len();
    assert!(chunk == MAX_CHUNK_TOKENS && AMX.sparse_bf16.len() == chunk && near.bf16.len() == chunk);
};

/// Prefetch distance, bytes. On Zen 5, 2048 leaves a fifth of the bandwidth unused in all formats but dense bf16; on Zen 4
/// both are as fast.
const AHEAD: usize = 6144;
/// Steps of one iteration of a loop.
const STRANDS: usize = 2;
const TILES: usize = 2;

/// Products of a block, `[token][tile]`.
type Totals<const T: usize> = [[__m512; TILES]; T];

/// Returns the sums that a step is added to. At one token every second step has sums of its own: the latency
/// of a dot product needs four independent sums, and a step has two tiles.
const fn strand_of<const T: usize>(step: usize) -> usize {
    if T == 1 { step % STRANDS } else { 0 }
}

avx512!(
    unsafe fn encode(chunk: ChunkMut<'_>) {
        encode_chunk(chunk);
    }
);

/// Defines a [`BlockFn`](super::BlockFn) with the given constants, compiled for `$level`.
///
/// Its body adds the products of the groups to `$totals`. It reads the stream from `$at` on and the panel from
/// `$words` on.
macro_rules! block_fn {
    (
        $(#[$contract:meta])*
        $level:ident $name:ident<$($constant:ident),+>
        |$groups:ident, $panel:ident, $at:ident, $words:ident, $totals:ident| { $($body:tt)* }
    ) => {
        $level!(
            /// # Safety
            ///
            /// The contract of a `BlockFn`.
            $(#[$contract])*
            pub(super) unsafe fn $name<$(const $constant: usize),+>(
                stream: &[u8],
                $groups: usize,
                $panel: super::Panel<'_>,
                sums: &mut super::BlockSums,
            ) {
                let mut $totals = super::load_totals::<T>(sums);
                let mut $at = stream.as_ptr();
                let mut $words = $panel.words.as_ptr();
                // SAFETY: by the contract, the stream has the groups and a vector behind them, and the panel has their
                // words.
                unsafe { $($body)* }
                super::store_totals(&$totals, sums);
            }
        );
    };
}
use block_fn;

/// Repeats a block for each of `T` tokens. The compiler would unroll a loop only after it has assigned
/// registers, and would leave the sums in memory.
macro_rules! each_token {
    ($tokens:ident, $token:ident => $block:block) => {
        each_token!($tokens, $token => $block, 0 1 2 3 4 5 6 7)
    };
    ($tokens:ident, $token:ident => $block:block, $($number:literal)*) => {
        $(if $number < $tokens {
            const $token: usize = $number;
            $block
        })*
    };
}
use each_token;

/// Repeats a block for each of the [`STRANDS`], whose sums otherwise would lie in memory.
macro_rules! each_strand {
    ($strand:ident => $block:block) => {{
        {
            const $strand: usize = 0;
            $block
        }
        {
            const $strand: usize = 1;
            $block
        }
    }};
}
use each_strand;

avx512!(
    /// # Safety
    ///
    /// 64 bytes are readable.
    #[inline]
    unsafe fn load(at: *const u8) -> __m512i {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
);

avx512!(
    /// # Safety
    ///
    /// 64 bytes are writable.
    #[inline]
    unsafe fn store(at: *mut u8, vector: __m512i) {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm512_storeu_si512(at.cast(), vector) }
    }
);

avx512!(
    /// Prefetches what is read [`AHEAD`] bytes behind `at`; any address is allowed.
    #[inline]
    fn prefetch(at: *const u8) {
        prefetch_line(at.wrapping_add(AHEAD));
    }
);

avx512!(
    #[inline]
    fn load_totals<const T: usize>(sums: &BlockSums) -> Totals<T> {
        let mut totals = [[_mm512_setzero_ps(); TILES]; T];
        each_token!(T, TOKEN => {
            let at = sums.0[TOKEN].as_ptr();
            // SAFETY: a token has 16 sums for each of two tiles.
            totals[TOKEN] = unsafe { [_mm512_loadu_ps(at), _mm512_loadu_ps(at.add(TILE_ROWS))] };
        });
        totals
    }
);

avx512!(
    #[inline]
    fn store_totals<const T: usize>(totals: &Totals<T>, sums: &mut BlockSums) {
        each_token!(T, TOKEN => {
            let at = sums.0[TOKEN].as_mut_ptr();
            // SAFETY: as above.
            unsafe {
                _mm512_storeu_ps(at, totals[TOKEN][0]);
                _mm512_storeu_ps(at.add(TILE_ROWS), totals[TOKEN][1]);
            }
        });
    }
);
