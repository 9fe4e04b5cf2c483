//! AVX-512 with VBMI2 (expanding moves) and VNNI (dot products of integers): Ice Lake, Zen 4 and later.
//!
//! An expanding move inserts pruned weights between the packed ones. It is the merging form, into a copy of a
//! register that holds the code of a pruned weight: the zeroing form waits for the previous value of its
//! destination. The register passes through [`black_box`](std::hint::black_box); otherwise the compiler would
//! see the zeros in it and choose the zeroing form. The compiler makes the move read memory directly, which
//! is as fast as from a register on Zen 4.

mod amx;
mod bf16;
mod expand;
mod int4;
mod int8;
mod integers;

use super::activations::{ChunkMut, encode_chunk};
use super::function_tables::{ByGroup, by_group_and_tokens, by_tokens};
use super::{Bf16Words, BlockSums, MultiplyFns, Panel};
use crate::cpu::levels::avx512;
use crate::storage::TILE_ROWS;
use std::arch::asm;
use std::arch::x86_64::*;

/// One function for each number of tokens: the first one up to three tokens, the second one, with tiles, from
/// four on.
macro_rules! tiles_from_4 {
    ($few:ident::$few_fn:ident, $many:ident::$many_fn:ident, $group:literal) => {
        [
            $few::$few_fn::<$group, 1>,
            $few::$few_fn::<$group, 2>,
            $few::$few_fn::<$group, 3>,
            $many::$many_fn::<$group, 4>,
            $many::$many_fn::<$group, 5>,
            $many::$many_fn::<$group, 6>,
            $many::$many_fn::<$group, 7>,
            $many::$many_fn::<$group, 8>,
        ]
    };
}

/// AVX-512 with bf16 weights multiplied as f32.
pub(crate) const AVX512: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Floats,
    min_plane_tokens: usize::MAX,
    encode,
    dense_bf16: by_tokens!(bf16::floats::dense),
    dense_int8: by_group_and_tokens!(int8::dense),
    dense_int4: by_group_and_tokens!(int4::dense),
    sparse_bf16: by_tokens!(bf16::floats::sparse),
    sparse_int8: by_group_and_tokens!(int8::sparse),
    expand_bf16: expand::bf16,
    expand_int8: ByGroup { of_64: expand::int8::<64>, of_32: expand::int8::<32> },
};

/// AVX-512 with dot products of bf16 pairs: faster where they take as long as other multiply-adds.
pub(crate) const AVX512_BF16: MultiplyFns = MultiplyFns {
    bf16_words: Bf16Words::Pairs,
    dense_bf16: by_tokens!(bf16::pairs::dense),
    sparse_bf16: by_tokens!(bf16::pairs::sparse),
    ..AVX512
};

/// AVX-512 with AMX tiles for the integer formats of several tokens.
pub(crate) const AMX: MultiplyFns = MultiplyFns {
    min_plane_tokens: amx::MIN_TOKENS,
    dense_int8: ByGroup {
        of_64: tiles_from_4!(int8::dense, amx::dense_int8, 64),
        of_32: tiles_from_4!(int8::dense, amx::dense_int8, 32),
    },
    dense_int4: ByGroup {
        of_64: tiles_from_4!(int4::dense, amx::dense_int4, 64),
        of_32: tiles_from_4!(int4::dense, amx::dense_int4, 32),
    },
    sparse_int8: ByGroup {
        of_64: tiles_from_4!(int8::sparse, amx::sparse_int8, 64),
        of_32: tiles_from_4!(int8::sparse, amx::sparse_int8, 32),
    },
    ..AVX512
};

/// Prefetch distance, bytes; measured.
const AHEAD: usize = 2048;
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

avx512!(
    /// Loads a vector's mask of 32 bits, and counts the values that it keeps.
    ///
    /// # Safety
    ///
    /// Four bytes are readable.
    #[inline]
    unsafe fn load_mask32(at: *const u8) -> (__mmask32, usize) {
        // SAFETY: guaranteed by the caller.
        let mask = unsafe { at.cast::<u32>().read_unaligned() };
        (mask, mask.count_ones() as usize)
    }
);

avx512!(
    /// Loads a vector's mask of 64 bits, and counts the values that it keeps. Two loads: from one load the
    /// compiler would move the mask from a general register to a mask register, which takes longer.
    ///
    /// # Safety
    ///
    /// Eight bytes are readable.
    #[inline]
    unsafe fn load_mask64(at: *const u8) -> (__mmask64, usize) {
        let mask;
        // SAFETY: only reads the eight bytes, which the caller guarantees to be readable.
        unsafe {
            asm!("kmovq {}, qword ptr [{}]", out(kreg) mask, in(reg) at, options(pure, readonly, nostack, preserves_flags));
            (mask, at.cast::<u64>().read_unaligned().count_ones() as usize)
        }
    }
);

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
        #[allow(unused_unsafe, reason = "unsafe in the oldest Rust that builds it")]
        // SAFETY: a prefetch reads no memory and accepts any address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
        }
    }
);

avx512!(
    #[inline]
    fn add_totals<const T: usize>(totals: &Totals<T>, sums: &mut BlockSums) {
        each_token!(T, TOKEN => {
            let at = sums.0[TOKEN].as_mut_ptr();
            // SAFETY: a token has 16 sums for each of two tiles.
            unsafe {
                let second = at.add(TILE_ROWS);
                _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), totals[TOKEN][0]));
                _mm512_storeu_ps(second, _mm512_add_ps(_mm512_loadu_ps(second), totals[TOKEN][1]));
            }
        });
    }
);
