//! Multiplication of encoded activations by packed matrices, shared between threads by blocks of rows.

use super::activations::fits_activations;
use super::aligned_buffer::AlignedBuffer;
use super::disjoint::Disjoint;
use super::{
    Activations, BlockFn, BlockSums, CHUNK_TOKENS, Encoding, Expansion, Int4InPlanes, MAX_GROUP_BYTES,
};
use crate::cpu::Implementation;
use crate::pool::{Panicked, Pool};
use crate::prefetch::prefetch_bytes;
use crate::storage::{Matrix, Precision, VECTOR_BYTES};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maximum number of matrices in one call of [`Multiplier::multiply_all`].
pub const MAX_PRODUCTS: usize = 4;

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

/// A matrix `[rows, cols]`, and its products `[tokens, rows]` f32 row-major.
pub type Product<'a> = (&'a Matrix, &'a mut [f32]);

/// Multiplies packed matrices on a pool of threads. Holds the inputs and all buffers: nothing is allocated
/// after [`Multiplier::new`].
pub struct Multiplier {
    implementation: &'static Implementation,
    pool: Pool,
    activations: Activations,
    /// For each thread.
    workspaces: Vec<Mutex<Workspace>>,
    /// For each thread's share of the blocks, how many of them are taken.
    taken: Vec<TakenBlocks>,
    max_cols: usize,
    /// Called by every thread after each block that it multiplied.
    pause: Option<Box<dyn Fn() + Send + Sync>>,
}

/// A thread's buffers for a block and several chunks of tokens.
struct Workspace {
    /// Expanded groups: [`LONG_SLICE_BYTES`] or one group, and a vector behind them.
    dense: AlignedBuffer<u8>,
    /// The products of each chunk.
    sums: Vec<BlockSums>,
}

/// A counter on a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
struct TakenBlocks(AtomicUsize);

/// Why a multiplication failed.
#[derive(Debug)]
pub enum MultiplyError {
    /// Inputs or outputs do not have the matrix's shape, or the buffers are too small for them.
    Shape(String),
    /// The work of a thread panicked.
    Panicked(Panicked),
}

impl Multiplier {
    /// Creates a multiplier with buffers for `max_tokens` tokens and matrices of up to `max_cols` columns.
    /// Fails where that exceeds [`MAX_ACTIVATIONS`](super::MAX_ACTIVATIONS).
    pub fn new(
        implementation: &'static Implementation,
        pool: Pool,
        max_tokens: usize,
        max_cols: usize,
    ) -> Result<Multiplier, MultiplyError> {
        let threads = pool.threads();
        if !fits_activations(max_tokens, max_cols) {
            return Err(MultiplyError::Shape(format!(
                "{max_tokens} tokens of {max_cols} columns need more than a gigabyte"
            )));
        }
        let workspaces = (0..threads).map(|_| Mutex::new(Workspace::new(max_tokens))).collect();
        let taken = (0..threads).map(|_| TakenBlocks::default()).collect();
        Ok(Multiplier {
            implementation,
            pool,
            activations: Activations::with_capacity(max_tokens, max_cols),
            workspaces,
            taken,
            max_cols,
            pause: None,
        })
    }

    /// Calls `pause` on every thread after each block of rows that it multiplied.
    pub(crate) fn pause_by(&mut self, pause: Box<dyn Fn() + Send + Sync>) {
        self.pause = Some(pause);
    }

    /// The implementation that multiplies.
    pub fn implementation(&self) -> &'static Implementation {
        self.implementation
    }

    /// The pool of threads, for other work between multiplications.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Encodes `inputs`, `[tokens, cols]` f32 row-major, for [`Multiplier::multiply`]. Once is enough for all
    /// matrices that multiply the same inputs.
    pub fn encode(&mut self, encoding: Encoding, cols: usize, inputs: &[f32]) -> Result<(), MultiplyError> {
        if cols == 0 || !inputs.len().is_multiple_of(cols) || inputs.is_empty() {
            let count = inputs.len();
            return Err(MultiplyError::Shape(format!(
                "{count} inputs are no whole tokens of {cols} columns"
            )));
        }
        self.check_room(inputs.len() / cols, cols)?;
        self.activations.encode(self.implementation, &mut self.pool, encoding, cols, inputs)?;
        Ok(())
    }

    /// Fails if the buffers are too small.
    pub(crate) fn check_room(&self, tokens: usize, cols: usize) -> Result<(), MultiplyError> {
        let (max_tokens, max_cols) = (self.activations.capacity(), self.max_cols);
        if tokens <= max_tokens && cols <= max_cols {
            return Ok(());
        }
        Err(MultiplyError::Shape(format!(
            "there is room for {max_tokens} tokens of {max_cols} columns, not for {tokens} of {cols}"
        )))
    }

    /// Multiplies the inputs that were encoded last. `outputs` is `[tokens, rows]` f32 row-major.
    pub fn multiply(&mut self, matrix: &Matrix, outputs: &mut [f32]) -> Result<(), MultiplyError> {
        self.multiply_all(&mut [(matrix, outputs)])
    }

    /// Multiplies the inputs that were encoded last by up to [`MAX_PRODUCTS`] matrices. Threads wait for each
    /// other once, not after every matrix.
    ///
    /// The result of a row does not depend on the number of threads, nor on the other rows. Up to
    /// 8 tokens, or 16 of bf16 with AMX, share one pass over the weights. For more tokens, chunks of them read each block
    /// from a cache, one after another.
    pub fn multiply_all(&mut self, products: &mut [Product<'_>]) -> Result<(), MultiplyError> {
        if products.len() > MAX_PRODUCTS {
            let count = products.len();
            return Err(MultiplyError::Shape(format!(
                "at most {MAX_PRODUCTS} matrices are multiplied at once, not {count}"
            )));
        }
        for (matrix, outputs) in &*products {
            self.check(matrix, outputs)?;
        }
        let parts = self.pool.threads();
        let mut matrix_products = [const { None }; MAX_PRODUCTS];
        for (product, (matrix, outputs)) in matrix_products.iter_mut().zip(products) {
            let (implementation, activations) = (self.implementation, &self.activations);
            *product =
                Some(MatrixProduct { implementation, matrix, activations, outputs: Disjoint::new(outputs) });
        }
        let (workspaces, taken, pause) = (&self.workspaces, &self.taken, &self.pause);
        taken.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
        self.pool.run(&|part| {
            let _releases = ReleaseAtEnd(self.implementation);
            let mut workspace = workspaces[part].lock().unwrap_or_else(PoisonError::into_inner);
            // Its own share first, then the rest of the shares whose threads are behind.
            for share in (0..parts).map(|offset| (part + offset) % parts) {
                let mut first = 0;
                let mut next = taken[share].0.fetch_add(1, Ordering::Relaxed);
                for product in matrix_products.iter().flatten() {
                    let blocks = product.matrix.share(share, parts);
                    while next - first < blocks.len() {
                        product.multiply_block(blocks.start + next - first, &mut workspace);
                        if let Some(pause) = pause {
                            self.implementation.release();
                            pause();
                        }
                        next = taken[share].0.fetch_add(1, Ordering::Relaxed);
                    }
                    first += blocks.len();
                }
            }
        })?;
        Ok(())
    }

    fn check(&self, matrix: &Matrix, outputs: &[f32]) -> Result<(), MultiplyError> {
        let (tokens, cols) = (self.activations.tokens(), self.activations.cols());
        let encoding = Encoding::of(matrix.format());
        if cols != matrix.cols() || encoding != self.activations.encoding() {
            return Err(MultiplyError::Shape(format!(
                "inputs were encoded as {:?} of {cols} columns; the matrix needs {encoding:?} of {}",
                self.activations.encoding(),
                matrix.cols()
            )));
        }
        if outputs.len() != tokens * matrix.rows() {
            return Err(MultiplyError::Shape(format!(
                "{tokens} tokens of {} rows are not {} outputs",
                matrix.rows(),
                outputs.len()
            )));
        }
        Ok(())
    }
}

/// Releases the thread's tiles when it is dropped, also where a product panics.
struct ReleaseAtEnd(&'static Implementation);

impl Drop for ReleaseAtEnd {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// One matrix of a [`Multiplier::multiply_all`].
struct MatrixProduct<'a> {
    implementation: &'static Implementation,
    matrix: &'a Matrix,
    activations: &'a Activations,
    outputs: Disjoint<'a, f32>,
}

impl MatrixProduct<'_> {
    /// Multiplies a block. A few chunks of tokens read it from memory or the second cache, one after another. For more
    /// chunks, a slice of its groups is expanded if it is sparse, and each chunk reads it from the nearest cache before
    /// the next slice.
    fn multiply_block(&self, block: usize, workspace: &mut Workspace) {
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

impl Workspace {
    /// Creates buffers for up to `max_tokens` tokens.
    fn new(max_tokens: usize) -> Workspace {
        let chunks = max_tokens.div_ceil(CHUNK_TOKENS).max(1);
        Workspace {
            dense: AlignedBuffer::zeros(LONG_SLICE_BYTES + MAX_GROUP_BYTES + VECTOR_BYTES),
            sums: vec![BlockSums::ZERO; chunks],
        }
    }
}

impl From<Panicked> for MultiplyError {
    fn from(panicked: Panicked) -> MultiplyError {
        MultiplyError::Panicked(panicked)
    }
}

impl fmt::Display for MultiplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MultiplyError::Shape(message) => f.write_str(message),
            MultiplyError::Panicked(panicked) => panicked.fmt(f),
        }
    }
}

impl std::error::Error for MultiplyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Format, pack};
    use std::sync::Arc;

    #[test]
    fn every_block_of_rows_is_followed_by_a_pause() {
        let matrix = pack(&vec![0.5; 130 * 64], (130, 64), None, Format::BF16).unwrap();
        let mut multiplier =
            Multiplier::new(Implementation::select(None).unwrap(), Pool::new(2).unwrap(), 1, 64).unwrap();
        let pauses = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pauses);
        multiplier.pause_by(Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        multiplier.encode(Encoding::of(matrix.format()), 64, &[1.0; 64]).unwrap();
        multiplier.multiply(&matrix, &mut [0.0; 130]).unwrap();
        assert_eq!(pauses.load(Ordering::Relaxed), 5);
    }
}
