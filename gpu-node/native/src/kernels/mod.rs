//! Multiplication by packed matrices.
//!
//! [`MultiplyFns`] are one instruction set's functions over one block of rows; [`Multiplier`] runs them on a
//! pool of threads.

#![allow(unsafe_code)]

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

mod disjoint;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod expand_table;
mod expand_then_multiply;
mod function_tables;
mod multiply;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use crate::cpu::Implementation;
use crate::storage::{BLOCK_ROWS, Format, Precision};
use activations::ChunkMut;
pub(crate) use activations::fits_activations;
pub use activations::{Activations, Encoding, MAX_ACTIVATIONS};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::AVX2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{AMX, AVX512, AVX512_BF16};
pub(crate) use disjoint::Disjoint;
use function_tables::{ByGroup, ByTokens};
pub use multiply::{MAX_PRODUCTS, Multiplier, MultiplyError, Product};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::NEON;
pub(crate) use scalar::SCALAR;

/// Maximum number of tokens that one pass over the weights serves.
pub const CHUNK_TOKENS: usize = 8;

/// The multiplication functions of one instruction set.
///
/// Contract of each: the machine has the instruction set. The methods of [`Implementation`] call them.
#[derive(Debug)]
pub(crate) struct MultiplyFns {
    bf16_words: Bf16Words,
    /// Chunks of at least this many tokens have 16-bit inputs as two planes of bytes.
    min_plane_tokens: usize,
    encode: unsafe fn(ChunkMut<'_>),
    dense_bf16: ByTokens,
    dense_int8: ByGroup<ByTokens>,
    dense_int4: ByGroup<ByTokens>,
    sparse_bf16: ByTokens,
    sparse_int8: ByGroup<ByTokens>,
    expand_bf16: ExpandFn,
    expand_int8: ByGroup<ExpandFn>,
}

/// How the 32-bit words of a panel hold inputs that were rounded to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bf16Words {
    /// Two columns in a word, for instructions that multiply pairs.
    Pairs,
    /// One column in a word, as f32.
    Floats,
}

/// Adds the product of the first `groups` groups of a block and a panel to `sums[token][row]`.
///
/// Contract: the machine has the instruction set; `stream` starts with `groups` groups as `storage` writes
/// them and is at least 64 bytes longer; the panel has `groups` groups, and as many tokens as the function
/// was compiled for.
type BlockFn = unsafe fn(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums);

/// Writes the first `groups` sparse groups as dense ones. Returns the number of bytes that were read.
///
/// Contract: as for [`BlockFn`] without the panel, and `out` has room for the dense groups.
type ExpandFn = unsafe fn(stream: &[u8], groups: usize, out: &mut [u8]) -> usize;

/// The encoded activations of up to [`CHUNK_TOKENS`] tokens. [`Activations`] documents the layout.
#[derive(Clone, Copy)]
struct Panel<'a> {
    tokens: usize,
    words: &'a [u32],
    scales: &'a [f32],
    sums: &'a [i32],
}

impl<'a> Panel<'a> {
    /// Returns the group `index` of a panel of `groups` groups.
    fn group(self, index: usize, groups: usize) -> Panel<'a> {
        let words = self.words.len() / groups;
        Panel {
            tokens: self.tokens,
            words: &self.words[index * words..][..words],
            scales: &self.scales[index * self.tokens..][..self.tokens],
            sums: &self.sums[index * self.tokens..][..self.tokens],
        }
    }
}

/// Products of one block, `[token][row]` f32.
#[repr(align(64))]
struct BlockSums([[f32; BLOCK_ROWS]; CHUNK_TOKENS]);

impl Implementation {
    fn encode(&self, chunk: ChunkMut<'_>) {
        // SAFETY: the machine can run every implementation that is given out.
        unsafe { (self.multiply.encode)(chunk) }
    }

    /// Returns the function that multiplies blocks of `format` by a panel of `tokens` tokens.
    fn block_fn(&self, format: Format, sparse: bool, tokens: usize) -> BlockFn {
        let fns = &self.multiply;
        let by_tokens = match (format.precision(), sparse) {
            (Precision::Bf16, false) => &fns.dense_bf16,
            (Precision::Bf16, true) => &fns.sparse_bf16,
            (Precision::Int8, false) => fns.dense_int8.of(format.group()),
            (Precision::Int8, true) => fns.sparse_int8.of(format.group()),
            // Never stored sparse.
            (Precision::Int4, _) => fns.dense_int4.of(format.group()),
        };
        by_tokens[tokens - 1]
    }

    /// Returns the function that expands sparse groups of `format`; `None` for formats that are never sparse.
    fn expand_fn(&self, format: Format) -> Option<ExpandFn> {
        match format.precision() {
            Precision::Bf16 => Some(self.multiply.expand_bf16),
            Precision::Int8 => Some(*self.multiply.expand_int8.of(format.group())),
            Precision::Int4 => None,
        }
    }
}
