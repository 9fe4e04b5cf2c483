//! Multiplication by packed matrices.
//!
//! [`MultiplyFns`] are one instruction set's functions over one block of rows; [`Multiplier`] runs them on a
//! pool of threads.

#![allow(unsafe_code)]

mod activations;
mod aligned_buffer;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

mod disjoint;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod expand_table;
mod expand_then_multiply;
mod function_tables;
mod matrix_product;
mod multiply;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use crate::cpu::Implementation;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, Format, MAX_GROUP, Matrix, Precision};
use activations::ChunkMut;
pub(crate) use activations::fits_activations;
pub use activations::{Activations, Encoding, MAX_ACTIVATIONS};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::AVX2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{AMX, AVX512, AVX512_BF16, AVX512_VBMI2, AVX512_VNNI};
pub(crate) use disjoint::Disjoint;
use function_tables::{ByGroup, ByTokens};
pub use multiply::{MAX_PRODUCTS, Multiplier, MultiplyError, Product};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{NEON, NEON_DOT};
pub(crate) use scalar::SCALAR;
use std::ops::Range;

/// Maximum number of tokens that one pass over the weights serves, by most functions.
pub const CHUNK_TOKENS: usize = 8;
/// Maximum number of tokens that one pass over the weights serves, by any function.
pub const MAX_CHUNK_TOKENS: usize = 16;
/// The largest 8-bit input.
const MAX_INT8_INPUT: i32 = 127;
/// Steps of four columns of int4 whose products with 8-bit inputs are added up in pairs, in 16 bits.
#[cfg(target_arch = "x86_64")]
const SUMMED_STEPS: usize = 8;
#[cfg(target_arch = "x86_64")]
const _: () = assert!(SUMMED_STEPS as i32 * 2 * 15 * (MAX_INT8_INPUT + 1) <= i16::MAX as i32);
/// As [`SUMMED_STEPS`], of expanded int4, whose bytes have six bits.
#[cfg(target_arch = "x86_64")]
const SUMMED_EXPANDED_STEPS: usize = 2;
#[cfg(target_arch = "x86_64")]
const _: () = assert!(SUMMED_EXPANDED_STEPS as i32 * 2 * 63 * (MAX_INT8_INPUT + 1) <= i16::MAX as i32);
/// Bytes that have room for a dense or expanded group of any format: 16-bit weights, and 16 bits more for each row.
const MAX_GROUP_BYTES: usize = 2 * BLOCK_ROWS * (MAX_GROUP + 1);
const _: () = assert!(EXPANDED_INT4_HEADER + BLOCK_ROWS * MAX_GROUP <= MAX_GROUP_BYTES);

/// The multiplication functions of one instruction set.
///
/// Contract of each: the machine has the instruction set. The methods of [`Implementation`] call them.
#[derive(Debug)]
pub(crate) struct MultiplyFns {
    bf16_words: Bf16Words,
    min_plane_tokens: MinPlaneTokens,
    max_passes: MaxPasses,
    encode: unsafe fn(ChunkMut<'_>),
    /// Called by each thread after its last multiplication of a call, and before a pause.
    release: Option<unsafe fn()>,
    dense_bf16: ByTokens,
    dense_int8: ByGroup<ByTokens>,
    dense_int4: ByGroup<ByTokens>,
    /// For dense groups of bf16 and int8 that several chunks read from the nearest cache; `None`: those for memory.
    near: Option<NearFns>,
    /// For int4 whose inputs are planes; `None`: the others read planes.
    int4_in_planes: Option<Int4InPlanes>,
    sparse_bf16: ByTokens,
    sparse_int8: ByGroup<ByTokens>,
    sparse_int4: ByGroup<ByTokens>,
    /// For groups of sparse int4 after their expansion.
    expanded_int4: ByGroup<ByTokens>,
    /// For matrices that keep two of every four columns.
    two_of_four_int8: ByGroup<ByTokens>,
    expand_bf16: ExpandFn,
    expand_int8: ByGroup<ExpandFn>,
    expand_int4: ByGroup<Expansion>,
}

/// See [`MultiplyFns::near`].
#[derive(Debug)]
struct NearFns {
    bf16: ByTokens,
    int8: ByGroup<ByTokens>,
}

/// Functions of int4 that several chunks of tokens are multiplied by: its groups are expanded to a byte for each code.
#[derive(Debug)]
struct Int4InPlanes {
    expand_dense: ByGroup<ExpandFn>,
    dense: ByGroup<ByTokens>,
    expand_sparse: ByGroup<ExpandFn>,
    sparse: ByGroup<ByTokens>,
}

/// For weights of a precision, the number of tokens from which on their integer inputs are planes of bytes.
#[derive(Debug)]
struct MinPlaneTokens {
    int8: usize,
    int4: usize,
}

impl MinPlaneTokens {
    /// For functions that read no planes.
    const NEVER: MinPlaneTokens = MinPlaneTokens { int8: usize::MAX, int4: usize::MAX };
}

/// For each precision, the most chunks of tokens for which sparse functions read a block again and again: each expands what it
/// multiplies in registers, beside its products. For more chunks, groups are expanded once and multiplied from the nearest cache.
#[derive(Debug)]
struct MaxPasses {
    bf16: usize,
    int8: usize,
    int4: usize,
}

impl MaxPasses {
    /// For functions that cannot expand in registers.
    const ONE: MaxPasses = MaxPasses { bf16: 1, int8: 1, int4: 1 };
}

/// How the 32-bit words of a panel hold inputs that were rounded to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bf16Words {
    /// Two columns in a word, for instructions that multiply pairs.
    Pairs,
    /// As pairs, but a token's words of a group lie side by side, for tiles.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86 has tiles"))]
    Rows,
    /// One column in a word, as f32.
    Floats,
}

/// Adds the product of the first `groups` groups of a block and a panel to `sums[token][row]`.
///
/// Contract: the machine has the instruction set; `stream` starts with `groups` groups as `storage` writes
/// them and is at least 64 bytes longer; the panel has `groups` groups, and as many tokens as the function
/// was compiled for.
type BlockFn = unsafe fn(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums);

/// Expands the first `groups` sparse groups: to dense ones, or of int4 to a byte for each weight. Returns the number of
/// bytes that were read.
///
/// Contract: as for [`BlockFn`] without the panel, and `out` has room for the expanded groups.
type ExpandFn = unsafe fn(stream: &[u8], groups: usize, out: &mut [u8]) -> usize;

/// As a [`BlockFn`] of [`CHUNK_TOKENS`] tokens, and expands the groups as an [`ExpandFn`] does.
///
/// Contract: both of theirs.
type MultiplyAndExpandFn =
    unsafe fn(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums, out: &mut [u8]) -> usize;

/// How groups are expanded that several chunks of tokens are multiplied by.
#[derive(Clone, Copy, Debug)]
enum Expansion {
    /// Before the first chunk.
    Alone(ExpandFn),
    /// While the first chunk is multiplied.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AVX-512 does"))]
    WithProducts(MultiplyAndExpandFn),
}

/// The encoded activations of a chunk of tokens. [`Activations`] documents the layout.
#[derive(Clone, Copy)]
struct Panel<'a> {
    tokens: usize,
    words: &'a [u32],
    scales: &'a [f32],
    sums: &'a [i32],
    input_sums: &'a [f32],
}

impl<'a> Panel<'a> {
    /// Returns some of the `groups` groups of a panel.
    fn groups(self, range: Range<usize>, groups: usize) -> Panel<'a> {
        let words = self.words.len() / groups;
        let places = range.start * self.tokens..range.end * self.tokens;
        Panel {
            tokens: self.tokens,
            words: &self.words[range.start * words..range.end * words],
            scales: &self.scales[places.clone()],
            sums: &self.sums[places.clone()],
            input_sums: &self.input_sums[places],
        }
    }

    /// Returns each of the `groups` groups of a panel.
    fn each_group(self, groups: usize) -> impl Iterator<Item = Panel<'a>> {
        let words = self.words.chunks_exact(self.words.len() / groups);
        let scales = self.scales.chunks_exact(self.tokens);
        let sums = self.sums.chunks_exact(self.tokens).zip(self.input_sums.chunks_exact(self.tokens));
        words.zip(scales).zip(sums).map(move |((words, scales), (sums, input_sums))| Panel {
            tokens: self.tokens,
            words,
            scales,
            sums,
            input_sums,
        })
    }
}

/// Products of one block, `[token][row]` f32. The last row is not used: with a power of two of them the sums of chunks of 8 tokens would
/// share half of the sets of the nearest cache.
#[derive(Clone)]
#[repr(align(64))]
struct BlockSums([[f32; BLOCK_ROWS]; MAX_CHUNK_TOKENS + 1]);

impl BlockSums {
    const ZERO: BlockSums = BlockSums([[0.0; BLOCK_ROWS]; MAX_CHUNK_TOKENS + 1]);

    /// Makes the sums of the first tokens zero.
    fn clear(&mut self, tokens: usize) {
        self.0[..tokens].fill([0.0; BLOCK_ROWS]);
    }
}

impl Implementation {
    fn encode(&self, chunk: ChunkMut<'_>) {
        // SAFETY: the machine can run every implementation that is given out.
        unsafe { (self.multiply.encode)(chunk) }
    }

    /// Returns the number of tokens of a chunk that was encoded for one pass over the weights.
    fn chunk_tokens(&self, encoding: Encoding) -> usize {
        match encoding {
            Encoding::Bf16 => self.multiply.dense_bf16.len(),
            Encoding::Int16 { .. } | Encoding::Int8 { .. } => CHUNK_TOKENS,
        }
    }

    /// Returns whether `tokens` inputs are planes of bytes.
    fn has_planes(&self, encoding: Encoding, tokens: usize) -> bool {
        let MinPlaneTokens { int8, int4 } = self.multiply.min_plane_tokens;
        match encoding {
            Encoding::Bf16 => false,
            Encoding::Int16 { .. } => tokens >= int8,
            Encoding::Int8 { .. } => tokens >= int4,
        }
    }

    /// Releases the calling thread's tiles.
    fn release(&self) {
        if let Some(release) = self.multiply.release {
            // SAFETY: as above.
            unsafe { release() }
        }
    }

    /// Returns the function that multiplies dense groups of `format` by a panel of `tokens` tokens.
    fn dense_fn(&self, format: Format, tokens: usize) -> BlockFn {
        let fns = &self.multiply;
        let by_tokens = match format.precision() {
            Precision::Bf16 => &fns.dense_bf16,
            Precision::Int8 => fns.dense_int8.of(format.group()),
            Precision::Int4 => fns.dense_int4.of(format.group()),
        };
        by_tokens[tokens - 1]
    }

    /// As [`Implementation::dense_fn`], for groups that several chunks read from the nearest cache.
    fn near_fn(&self, format: Format, tokens: usize) -> BlockFn {
        let Some(fns) = &self.multiply.near else { return self.dense_fn(format, tokens) };
        let by_tokens = match format.precision() {
            Precision::Bf16 => &fns.bf16,
            Precision::Int8 => fns.int8.of(format.group()),
            Precision::Int4 => return self.dense_fn(format, tokens),
        };
        by_tokens[tokens - 1]
    }

    /// Returns the function that multiplies expanded groups of `format` by a panel of `tokens` tokens.
    fn expanded_fn(&self, format: Format, tokens: usize) -> BlockFn {
        match format.precision() {
            Precision::Bf16 | Precision::Int8 => self.near_fn(format, tokens),
            Precision::Int4 => self.multiply.expanded_int4.of(format.group())[tokens - 1],
        }
    }

    /// Returns the function that multiplies a matrix's groups by a panel of `tokens` tokens.
    fn matrix_fn(&self, matrix: &Matrix, tokens: usize) -> BlockFn {
        let (fns, format) = (&self.multiply, matrix.format());
        let by_tokens = match format.precision() {
            Precision::Bf16 if matrix.is_sparse() => &fns.sparse_bf16,
            Precision::Int8 if matrix.keeps_two_of_four() => fns.two_of_four_int8.of(format.group()),
            Precision::Int8 if matrix.is_sparse() => fns.sparse_int8.of(format.group()),
            Precision::Int4 if matrix.is_sparse() => fns.sparse_int4.of(format.group()),
            _ => return self.dense_fn(format, tokens),
        };
        by_tokens[tokens - 1]
    }

    /// See [`MaxPasses`].
    fn max_passes(&self, format: Format) -> usize {
        let MaxPasses { bf16, int8, int4 } = self.multiply.max_passes;
        match format.precision() {
            Precision::Bf16 => bf16,
            Precision::Int8 => int8,
            Precision::Int4 => int4,
        }
    }

    /// Returns how sparse groups of `format` are expanded.
    fn expansion(&self, format: Format) -> Expansion {
        match format.precision() {
            Precision::Bf16 => Expansion::Alone(self.multiply.expand_bf16),
            Precision::Int8 => Expansion::Alone(*self.multiply.expand_int8.of(format.group())),
            Precision::Int4 => *self.multiply.expand_int4.of(format.group()),
        }
    }
}
