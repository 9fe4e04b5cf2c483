use super::{BLOCK_ROWS, Format, VECTOR_BYTES};
use crate::poison::Mapping;
use memmap2::MmapOptions;
use std::io;
use std::ops::Range;

/// A packed matrix `[rows, cols]`, dense or sparse. Immutable: share it with an `Arc`.
pub struct Matrix {
    rows: usize,
    cols: usize,
    format: Format,
    sparse: bool,
    kept: u64,
    /// Where each block starts in `buffer`, and where the last one ends.
    offsets: Vec<usize>,
    buffer: Mapping,
}

impl Matrix {
    /// An empty stream with room for the blocks that `sizes` gives, for the packer to fill.
    ///
    /// The first block is aligned to a vector, and a whole vector may be read behind the last byte
    /// of any block. The memory is a mapping of its own, taken at once, which costs less than page by page as
    /// it is written, and given back to the machine with the matrix.
    pub(super) fn with_blocks(
        rows: usize,
        cols: usize,
        format: Format,
        sparse: bool,
        sizes: &[usize],
    ) -> io::Result<Matrix> {
        let mut offsets = vec![0];
        offsets.extend(sizes.iter().scan(0, |at, size| {
            *at += size;
            Some(*at)
        }));
        let total = offsets[sizes.len()] + VECTOR_BYTES;
        let buffer = Mapping::new(MmapOptions::new().len(total).populate())?;
        Ok(Matrix { rows, cols, format, sparse, kept: 0, offsets, buffer })
    }

    /// Block starts and the bytes, for the packer.
    pub(super) fn parts_mut(&mut self) -> (&[usize], &mut [u8], &mut u64) {
        (&self.offsets, &mut self.buffer, &mut self.kept)
    }

    /// Rows of the weight.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the weight.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Precision and group.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether only surviving weights are stored; never in int4.
    pub fn is_sparse(&self) -> bool {
        self.sparse
    }

    /// Weights that survive; all of them where nothing is pruned.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Bytes that one multiplication reads.
    pub fn stream_bytes(&self) -> usize {
        self.offsets[self.blocks()] - self.offsets[0]
    }

    pub(crate) fn blocks(&self) -> usize {
        self.offsets.len() - 1
    }

    pub(crate) fn groups(&self) -> usize {
        self.format.groups(self.cols)
    }

    /// The stream from block `index` on; at least one vector longer than what belongs to blocks.
    pub(crate) fn block(&self, index: usize) -> &[u8] {
        &self.buffer[self.offsets[index]..]
    }

    /// Rows of block `index` that exist.
    pub(crate) fn block_rows(&self, index: usize) -> Range<usize> {
        let start = index * BLOCK_ROWS;
        start..(start + BLOCK_ROWS).min(self.rows)
    }

    /// The blocks of one of `parts` threads: contiguous, and about the same number of bytes for each.
    pub(crate) fn share(&self, part: usize, parts: usize) -> Range<usize> {
        let boundary = |part: usize| {
            let at = self.offsets[0] + self.stream_bytes() * part / parts;
            self.offsets[..self.blocks()].partition_point(|&offset| offset < at)
        };
        // Ends are starts of the next: every block belongs to one part.
        let end = if part + 1 == parts { self.blocks() } else { boundary(part + 1) };
        boundary(part)..end
    }
}
