//! Packed matrices.

use super::arena::{Arena, Part};
use super::{BLOCK_ROWS, Format, VECTOR_BYTES};
use std::io;
use std::ops::Range;

/// A packed matrix `[rows, cols]`, dense or sparse. Immutable; share it with an `Arc`.
pub struct Matrix {
    rows: usize,
    cols: usize,
    format: Format,
    sparse: bool,
    two_of_four: bool,
    kept: u64,
    /// Offset of each block in `buffer`, and the end of the last one.
    offsets: Vec<usize>,
    buffer: Part,
}

impl Matrix {
    /// Creates a matrix with zeroed blocks of the given sizes, bytes, for the packer to fill.
    ///
    /// The first block is aligned to a vector, and a whole vector is readable behind the last byte of any
    /// block.
    pub(super) fn with_blocks(
        rows: usize,
        cols: usize,
        format: Format,
        sparse: bool,
        sizes: &[usize],
        memory: &Arena,
        pause: &dyn Fn(),
    ) -> io::Result<Matrix> {
        let mut offsets = vec![0];
        offsets.extend(sizes.iter().scan(0, |at, size| {
            *at += size;
            Some(*at)
        }));
        let total = offsets[sizes.len()] + VECTOR_BYTES;
        let buffer = memory.allocate(total, pause)?;
        Ok(Matrix { rows, cols, format, sparse, two_of_four: false, kept: 0, offsets, buffer })
    }

    /// Copies the matrix.
    pub(crate) fn copied(&self, memory: &Arena) -> io::Result<Matrix> {
        let mut buffer = memory.allocate(self.buffer.len(), &|| ())?;
        buffer.copy_from_slice(&self.buffer);
        let Matrix { rows, cols, format, sparse, two_of_four, kept, ref offsets, .. } = *self;
        Ok(Matrix { rows, cols, format, sparse, two_of_four, kept, offsets: offsets.clone(), buffer })
    }

    /// Returns block offsets, bytes and the count of kept weights, for the packer.
    pub(super) fn parts_mut(&mut self) -> (&[usize], &mut [u8], &mut u64) {
        (&self.offsets, &mut self.buffer, &mut self.kept)
    }

    /// Notes that every row of every block keeps two of every four columns, for the packer.
    pub(super) fn set_two_of_four(&mut self) {
        self.two_of_four = true;
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Precision and group of the weights.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether only kept weights are stored.
    pub fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// Whether the matrix is sparse and every row keeps two of every four columns. Blocks and groups are whole.
    pub(crate) fn keeps_two_of_four(&self) -> bool {
        self.two_of_four
    }

    /// Number of kept weights; all of them if nothing is pruned.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Bytes of all blocks, which one multiplication reads.
    pub fn stream_bytes(&self) -> usize {
        self.offsets[self.blocks()] - self.offsets[0]
    }

    pub(crate) fn blocks(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn groups(&self) -> usize {
        self.format.groups(self.cols)
    }

    /// The stream from block `index` on. A vector follows the last block.
    pub(crate) fn block(&self, index: usize) -> &[u8] {
        &self.buffer[self.offsets[index]..]
    }

    /// Bytes of block `index`.
    pub(crate) fn block_bytes(&self, index: usize) -> usize {
        self.offsets[index + 1] - self.offsets[index]
    }

    /// The rows of block `index`, without those behind the last row of the matrix.
    pub(crate) fn block_rows(&self, index: usize) -> Range<usize> {
        let start = index * BLOCK_ROWS;
        start..(start + BLOCK_ROWS).min(self.rows)
    }

    /// The blocks of thread `part` of `parts`: contiguous, and about the same number of bytes for each
    /// thread.
    pub(crate) fn share(&self, part: usize, parts: usize) -> Range<usize> {
        let boundary = |part: usize| {
            let at = self.offsets[0] + self.stream_bytes() * part / parts;
            self.offsets[..self.blocks()].partition_point(|&offset| offset < at)
        };
        // The end of a part is the start of the next one, so that every block belongs to one part.
        let end = if part + 1 == parts { self.blocks() } else { boundary(part + 1) };
        boundary(part)..end
    }
}
