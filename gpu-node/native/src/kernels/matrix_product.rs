//! Multiplication of encoded activations by the blocks of one matrix.

use super::aligned_buffer::AlignedBuffer;
use super::disjoint::Disjoint;
use super::{Activations, BlockFn, BlockSums, CHUNK_TOKENS, Expansion, Int4InPlanes, MAX_GROUP_BYTES};
use crate::cpu::Implementation;
use crate::prefetch::prefetch_bytes;
use crate::storage::{Matrix, Precision, VECTOR_BYTES};

/// Bytes of the groups of a block that all chunks of tokens are multiplied by before the next groups: together
/// with a chunk's inputs they fit the nearest cache.
const SLICE_BYTES: usize = 16 << 10;

/// As [`SLICE_BYTES`], of groups that are expanded while the first chunk is multiplied. They fit the second cache with what
/// the chunks read beside them: int4 is multiplied no faster than that feeds it, and longer slices have fewer partial sums.
const LONG_SLICE_BYTES: usize = 256 << 10;

/// Bytes of the longest block that several chunks of tokens read whole: it stays in the second cache, of a megabyte at least.
const MAX_PASS_BYTES: usize = 512 << 10;

/// Chunks of tokens from which on prefetching dense bf16 pays: with fewer, too much of a slice is requested at once.
const MIN_PREFETCHED_CHUNKS: usize = 4;

/// A thread's buffers for a block and several chunks of tokens.
pub(super) struct Workspace {
    /// Expanded groups: [`LONG_SLICE_BYTES`] or one group, and a vector behind them.
    dense: AlignedBuffer<u8>,
    /// The products of each chunk.
    sums: Vec<BlockSums>,
}

impl Workspace {
    /// Creates buffers for up to `max_tokens` tokens.
    pub(super) fn new(max_tokens: usize) -> Workspace {
        let chunks = max_tokens.div_ceil(CHUNK_TOKENS).max(1);
        Workspace {
            dense: AlignedBuffer::zeros(LONG_SLICE_BYTES + MAX_GROUP_BYTES + VECTOR_BYTES),
            sums: vec![BlockSums::ZERO; chunks],
        }
    }
}

/// One matrix of a [`Multiplier::multiply_all`](super::Multiplier::multiply_all).
pub(super) struct MatrixProduct<'a> {
    pub(super) implementation: &'static Implementation,
    pub(super) matrix: &'a Matrix,
    pub(super) activations: &'a Activations,
    pub(super) outputs: Disjoint<'a, f32>,
}

impl MatrixProduct<'_> {
    /// Multiplies a block. A few chunks of tokens read it from memory or the second cache, one after another. For more
    /// chunks, a slice of its groups is expanded if it is sparse, and each chunk reads it from the nearest cache before
    /// the next slice.
    pub(super) fn multiply_block(&self, block: usize, workspace: &mut Workspace) {
        let stream = self.matrix.block(block);
        let chunks = self.activations.chunks();
        if chunks <= self.max_passes(block) {
            for chunk in 0..chunks {
                let panel = self.activations.panel(chunk);
                let sums = &mut workspace.sums[0];
                sums.clear(panel.tokens);
                let block_fn = self.implementation.matrix_fn(self.matrix, panel.tokens);
                // SAFETY: the stream has the format and sparsity that the function was chosen for and all groups of
                // the matrix, with a vector behind them; the panel was encoded for the matrix's columns.
                unsafe { block_fn(stream, self.matrix.groups(), panel, sums) };
                self.write(block, chunk, sums);
            }
            return;
        }
        let sums = &mut workspace.sums[..chunks];
        sums.iter_mut()
            .enumerate()
            .for_each(|(chunk, sums)| sums.clear(self.activations.chunk_range(chunk).len()));
        self.multiply_slices(stream, &mut workspace.dense, sums);
        for (chunk, sums) in sums.iter().enumerate() {
            self.write(block, chunk, sums);
        }
    }

    /// Returns the most chunks of tokens of which each reads the whole of a block.
    fn max_passes(&self, block: usize) -> usize {
        if self.matrix.is_sparse()
            && self.int4_in_planes().is_none()
            && self.matrix.block_bytes(block) <= MAX_PASS_BYTES
        {
            self.implementation.max_passes(self.matrix.format())
        } else {
            1
        }
    }

    /// Adds the products of a block and of every chunk to `sums[chunk]`.
    fn multiply_slices(&self, mut stream: &[u8], dense: &mut [u8], sums: &mut [BlockSums]) {
        let (groups, chunks) = (self.matrix.groups(), sums.len());
        let (format, expansion) = (self.matrix.format(), self.expansion());
        // Groups that are expanded alone are read at once, and chunks of bf16 are multiplied faster than memory brings them. Other kernels
        // of integers prefetch enough themselves, and more takes longer.
        let is_prefetched = match expansion {
            Some(Expansion::Alone(_)) => true,
            Some(Expansion::WithProducts(_)) => false,
            None => format.precision() == Precision::Bf16 && chunks >= MIN_PREFETCHED_CHUNKS,
        };
        let group_bytes = if expansion.is_some() { format.expanded_group() } else { format.dense_group() };
        let slice_bytes =
            if let Some(Expansion::WithProducts(_)) = expansion { LONG_SLICE_BYTES } else { SLICE_BYTES };
        // Slices of about the same length.
        let slices = (groups * group_bytes).div_ceil(slice_bytes).min(groups);
        let mut first = 0;
        for number in 1..=slices {
            let end = groups * number / slices;
            let length = (end - first) * group_bytes;
            assert!(expansion.is_none() || length + VECTOR_BYTES <= dense.len());
            let (slice, read, multiplied) = match expansion {
                Some(Expansion::Alone(expand)) => {
                    // SAFETY: the stream has these groups, and `dense` has room for them.
                    let read = unsafe { expand(stream, end - first, dense) };
                    (&*dense, read, 0)
                }
                Some(Expansion::WithProducts(multiply_and_expand)) => {
                    let panel = self.activations.panel(0).groups(first..end, groups);
                    assert_eq!(panel.tokens, CHUNK_TOKENS);
                    // SAFETY: as above; the panel was encoded for the matrix's columns and has all tokens of a chunk.
                    let read =
                        unsafe { multiply_and_expand(stream, end - first, panel, &mut sums[0], dense) };
                    (&*dense, read, 1)
                }
                None => (stream, length, 0),
            };
            stream = &stream[read..];
            // The next slice, or the first one of the next block, arrives meanwhile: a part of it beside each chunk.
            let next = if is_prefetched { read } else { 0 };
            for (chunk, sums) in sums.iter_mut().enumerate().skip(multiplied) {
                let part = next * chunk / chunks..next * (chunk + 1) / chunks;
                prefetch_bytes(stream.as_ptr().wrapping_add(part.start), part.len());
                let panel = self.activations.panel(chunk);
                let block_fn = match expansion {
                    None if format.precision() == Precision::Bf16 && !is_prefetched && chunk == 0 => {
                        self.implementation.dense_fn(format, panel.tokens)
                    }
                    None => self.implementation.near_fn(format, panel.tokens),
                    Some(_) => self.expanded_fn(panel.tokens),
                };
                // SAFETY: the slice is dense or expanded and has these groups, with a vector behind them; the panel
                // was encoded for the matrix's columns.
                unsafe { block_fn(slice, end - first, panel.groups(first..end, groups), sums) };
            }
            first = end;
        }
    }

    /// Returns how the matrix's groups are expanded; `None` where they are read as they are.
    fn expansion(&self) -> Option<Expansion> {
        let format = self.matrix.format();
        match self.int4_in_planes() {
            Some(fns) if self.matrix.is_sparse() => {
                Some(Expansion::Alone(*fns.expand_sparse.of(format.group())))
            }
            Some(fns) => Some(Expansion::Alone(*fns.expand_dense.of(format.group()))),
            None => self.matrix.is_sparse().then(|| self.implementation.expansion(format)),
        }
    }

    /// Returns the function that multiplies the matrix's groups after their expansion by a panel of `tokens` tokens.
    fn expanded_fn(&self, tokens: usize) -> BlockFn {
        let format = self.matrix.format();
        match self.int4_in_planes() {
            Some(fns) if self.matrix.is_sparse() => fns.sparse.of(format.group())[tokens - 1],
            Some(fns) => fns.dense.of(format.group())[tokens - 1],
            None => self.implementation.expanded_fn(format, tokens),
        }
    }

    /// The functions for a matrix of int4 whose inputs are planes, if there are functions for that alone.
    fn int4_in_planes(&self) -> Option<&'static Int4InPlanes> {
        let is_int4 = self.matrix.format().precision() == Precision::Int4;
        self.implementation
            .multiply
            .int4_in_planes
            .as_ref()
            .filter(|_| is_int4 && self.activations.in_planes())
    }

    /// Writes the products of a block's rows and a chunk.
    fn write(&self, block: usize, chunk: usize, sums: &BlockSums) {
        let rows = self.matrix.block_rows(block);
        for (token, sums) in self.activations.chunk_range(chunk).zip(&sums.0) {
            let start = token * self.matrix.rows() + rows.start;
            // SAFETY: the rows of this block, which no other thread writes.
            let outputs = unsafe { self.outputs.range(start..start + rows.len()) };
            outputs.copy_from_slice(&sums[..rows.len()]);
        }
    }
}
