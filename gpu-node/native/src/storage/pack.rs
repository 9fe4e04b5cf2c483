use super::group::Group;
use super::instructions::{self, Compress, Work};
use super::quantise::{Codes, Row, Unfit, quantise};
use super::{BLOCK_ROWS, Format, LONGEST_GROUP, Mask, MaskError, Matrix, Precision};
use std::fmt;
use std::ops::Range;

/// Why a matrix cannot be packed.
#[derive(Debug, PartialEq)]
pub enum PackError {
    /// No rows, no columns, or another number of weights than rows times columns.
    Shape {
        /// As given.
        rows: usize,
        /// As given.
        cols: usize,
        /// Values that there are.
        weights: usize,
    },
    /// The mask does not belong to the shape.
    Mask(MaskError),
    /// A weight is not finite, or too large for the precision.
    Weight {
        /// Counted from 0.
        row: usize,
        /// Counted from 0.
        col: usize,
        /// The first that does not fit in its group.
        value: f32,
        /// What cannot hold it.
        precision: Precision,
    },
}

/// Packs `dense`, `[rows, cols]` f32 row-major: all of it, or only what `mask` keeps.
///
/// `pause` is called after each block, that is after [`BLOCK_ROWS`] rows. A weight that is not finite is
/// refused even where it is pruned, for it says that the source is broken.
pub fn pack(
    dense: &[f32],
    (rows, cols): (usize, usize),
    mask: Option<&[u8]>,
    format: Format,
    pause: &dyn Fn(),
) -> Result<Matrix, PackError> {
    let shape = PackError::Shape { rows, cols, weights: dense.len() };
    if dense.is_empty() || rows.checked_mul(cols) != Some(dense.len()) {
        return Err(shape);
    }
    let mask = mask.map(|bytes| Mask::new(bytes, rows, cols)).transpose().map_err(PackError::Mask)?;
    let source = Source { dense, rows, cols, mask, format };
    let is_sparse = mask.is_some() && format.stores_sparse();
    let mut matrix = Matrix::with_blocks(rows, cols, format, is_sparse, &source.sizes());
    let (offsets, buffer, kept) = matrix.parts_mut();
    *kept = instructions::run(Fill { source: &source, offsets, buffer, pause })?;
    Ok(matrix)
}

struct Source<'a> {
    dense: &'a [f32],
    rows: usize,
    cols: usize,
    mask: Option<Mask<'a>>,
    format: Format,
}

/// Writes the blocks of a source.
struct Fill<'a> {
    source: &'a Source<'a>,
    /// Where each block starts in the buffer, and where the last one ends.
    offsets: &'a [usize],
    buffer: &'a mut [u8],
    pause: &'a dyn Fn(),
}

impl Source<'_> {
    /// Bytes of every block.
    fn sizes(&self) -> Vec<usize> {
        let blocks = 0..self.rows.div_ceil(BLOCK_ROWS);
        match &self.mask {
            Some(mask) if self.format.stores_sparse() => {
                blocks.map(|block| self.sparse_block_size(mask, block)).collect()
            }
            _ => vec![self.format.groups(self.cols) * self.format.dense_group(); blocks.len()],
        }
    }

    fn sparse_block_size(&self, mask: &Mask<'_>, block: usize) -> usize {
        let format = self.format;
        let kept = self.rows_of(block).map(|row| mask.kept(row)).sum::<usize>();
        let bytes = if format.precision() == Precision::Bf16 { 2 } else { 1 };
        format.groups(self.cols) * format.sparse_header() + bytes * kept
    }

    /// Quantises one group of every row of a block; rows that do not exist are empty.
    #[inline(always)]
    fn read_group(&self, block: usize, index: usize, group: &mut Group) -> Result<u64, PackError> {
        let first_col = index * self.format.group();
        let cols = self.format.group().min(self.cols - first_col);
        let mut codes = Codes::EMPTY;
        let mut kept = 0;
        for row in self.rows_of(block) {
            let at = row * self.cols + first_col;
            let mut values = [0f32; LONGEST_GROUP];
            match <&[f32; LONGEST_GROUP]>::try_from(&self.dense[at..at + cols]) {
                // Of a length that the compiler knows, it is no call.
                Ok(whole) => values = *whole,
                Err(_) => values[..cols].copy_from_slice(&self.dense[at..at + cols]),
            }
            let mut word = 0;
            if let Some(mask) = &self.mask {
                word = mask.word(row, index, self.format.group());
                check_finite(&values).map_err(|unfit| self.refuse(row, first_col, &unfit))?;
                clear_pruned(&mut values, word);
                kept += u64::from(word.count_ones());
            } else {
                kept += cols as u64;
            }
            let values = Row { values: &values, cols, pruned: self.mask.is_some() };
            quantise(self.format.precision(), &values, &mut codes)
                .map_err(|unfit| self.refuse(row, first_col, &unfit))?;
            group.put(self.format, row % BLOCK_ROWS, &codes, word);
        }
        Ok(kept)
    }

    fn refuse(&self, row: usize, first_col: usize, unfit: &Unfit) -> PackError {
        let col = first_col + unfit.column;
        PackError::Weight {
            row,
            col,
            value: self.dense[row * self.cols + col],
            precision: self.format.precision(),
        }
    }

    fn rows_of(&self, block: usize) -> Range<usize> {
        let start = block * BLOCK_ROWS;
        start..(start + BLOCK_ROWS).min(self.rows)
    }
}

impl Work for Fill<'_> {
    type Output = Result<u64, PackError>;

    /// How many weights were kept.
    #[inline(always)]
    fn run<C: Compress>(self) -> Result<u64, PackError> {
        let Fill { source, offsets, buffer, pause } = self;
        let is_sparse = source.mask.is_some() && source.format.stores_sparse();
        let mut kept = 0;
        for (block, bounds) in offsets.windows(2).enumerate() {
            let mut out = &mut buffer[bounds[0]..bounds[1]];
            // Empty again: the last block may have fewer rows.
            let mut group = Group::new();
            for index in 0..source.format.groups(source.cols) {
                kept += source.read_group(block, index, &mut group)?;
                let written = if is_sparse {
                    group.write_sparse::<C>(source.format, out)
                } else {
                    group.write_dense(source.format, out)
                };
                out = &mut out[written..];
            }
            pause();
        }
        Ok(kept)
    }
}

/// Sets the weights to 0 whose bit is 0.
#[inline(always)]
fn clear_pruned(values: &mut [f32; LONGEST_GROUP], word: u64) {
    for (values, byte) in values.chunks_exact_mut(8).zip(word.to_le_bytes()) {
        for (value, keep) in values.iter_mut().zip(&KEEP[byte as usize]) {
            *value = f32::from_bits(value.to_bits() & keep);
        }
    }
}

/// For every byte of a mask, all ones for each bit that is set: eight weights at a time.
static KEEP: [[u32; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = if byte >> bit & 1 == 1 { !0 } else { 0 };
            bit += 1;
        }
        byte += 1;
    }
    table
};

#[inline(always)]
fn check_finite(values: &[f32; LONGEST_GROUP]) -> Result<(), Unfit> {
    let not_finite = |value: &f32| value.to_bits() & 0x7f80_0000 == 0x7f80_0000;
    if values.iter().fold(false, |any, value| any | not_finite(value)) {
        let column = values.iter().position(not_finite).unwrap_or(0);
        return Err(Unfit { column });
    }
    Ok(())
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Shape { rows, cols, weights } => write!(
                f,
                "a matrix of {rows} rows and {cols} columns needs as many weights as rows times columns and at least one; there are {weights}"
            ),
            PackError::Mask(error) => error.fmt(f),
            PackError::Weight { row, col, value, precision } => write!(
                f,
                "the weight in row {row}, column {col} is {value}, which {} cannot hold; the source is broken or needs another precision",
                precision.name()
            ),
        }
    }
}

impl std::error::Error for PackError {}
