//! Packing of dense f32 matrices and masks into blocks.

use super::group::Group;
use super::packing::Packing;
use super::quantise::{Pruned, Unrepresentable, Values, quantise};
use super::{
    Arena, BLOCK_ROWS, Counted, Format, KeptRule, MAX_GROUP, Mask, MaskError, Matrix, Precision, RowSource,
    TILE_ROWS,
};
use crate::cpu::Implementation;
use std::fmt;
use std::ops::Range;

/// Why a matrix cannot be packed.
#[derive(Debug, PartialEq)]
pub enum PackError {
    /// The matrix has no weights, or their number is not rows times columns.
    Shape {
        /// Rows as given.
        rows: usize,
        /// Columns as given.
        cols: usize,
        /// Number of weights that were given.
        weights: usize,
    },
    /// The mask does not match the shape.
    Mask(MaskError),
    /// A weight is not finite, or too large for the precision.
    Weight {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        col: usize,
        /// The first weight of its group that does not fit.
        value: f32,
        /// The precision that cannot hold it.
        precision: Precision,
    },
    /// The system has no memory for the matrix. Says why.
    Memory(String),
}

/// Packs `dense`, `[rows, cols]` f32 row-major: all weights, or only those that `mask` keeps.
///
/// A weight that is not finite is an error even where it is pruned, because it shows that the source is
/// broken.
pub fn pack(
    dense: &[f32],
    (rows, cols): (usize, usize),
    mask: Option<&[u8]>,
    format: Format,
) -> Result<Matrix, PackError> {
    if dense.is_empty() || rows.checked_mul(cols) != Some(dense.len()) {
        return Err(PackError::Shape { rows, cols, weights: dense.len() });
    }
    let mask = mask.map(|bytes| Mask::new(bytes, rows, cols)).transpose().map_err(PackError::Mask)?;
    pack_rows(&mut &*dense, (rows, cols), mask, format, &Arena::default(), &|| ())
}

/// As [`pack`], from rows that need not be in memory together, with a mask of the same shape.
///
/// Calls `pause` after each block, that is after [`BLOCK_ROWS`] rows.
pub fn pack_rows(
    weights: &mut dyn RowSource,
    shape: (usize, usize),
    mask: Option<Mask<'_>>,
    format: Format,
    memory: &Arena,
    pause: &dyn Fn(),
) -> Result<Matrix, PackError> {
    pack_rows_as(Form::Packed, weights, shape, mask, format, memory, pause)
}

/// How a pruned matrix is stored. Both forms of bf16 and of int8 have the same codes and scales, so products have the same
/// bits. In int4 the packed form is nearer to the weights, because in the dense form one of the codes has to be 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without its pruned weights.
    Packed,
    /// With zeros in their place.
    Dense,
}

/// As [`pack_rows`], with pruned weights stored in the given form.
pub fn pack_rows_as(
    form: Form,
    weights: &mut dyn RowSource,
    (rows, cols): (usize, usize),
    mask: Option<Mask<'_>>,
    format: Format,
    memory: &Arena,
    pause: &dyn Fn(),
) -> Result<Matrix, PackError> {
    let implementation = Implementation::fastest_without_permission();
    let is_sparse = form == Form::Packed && mask.is_some();
    let source = Source { rows, cols, mask, format, is_sparse };
    let sizes = implementation.block_sizes(&source);
    pause();
    let mut matrix = Matrix::with_blocks(rows, cols, format, is_sparse, &sizes, memory, pause)
        .map_err(|error| PackError::Memory(error.to_string()))?;
    let (offsets, buffer, kept) = matrix.parts_mut();
    *kept = implementation.fill_blocks(Fill { source: &source, weights, offsets, buffer, pause })?;
    if is_sparse && source.keeps_two_of_four() {
        matrix.set_two_of_four();
    }
    Ok(matrix)
}

/// The shape, the mask, the format and the form of a matrix to pack.
pub(super) struct Source<'a> {
    rows: usize,
    cols: usize,
    mask: Option<Mask<'a>>,
    format: Format,
    is_sparse: bool,
}

/// The work of writing the blocks of a source.
pub(super) struct Fill<'a> {
    source: &'a Source<'a>,
    weights: &'a mut dyn RowSource,
    /// Offset of each block in the buffer, and the end of the last one.
    offsets: &'a [usize],
    buffer: &'a mut [u8],
    pause: &'a dyn Fn(),
}

impl Source<'_> {
    /// Whether every row keeps two of every four columns, and all blocks and groups are whole.
    fn keeps_two_of_four(&self) -> bool {
        let rule = KeptRule { of: Counted::Columns(4), kept: 2 };
        let is_whole = self.rows.is_multiple_of(BLOCK_ROWS) && self.cols.is_multiple_of(self.format.group());
        is_whole && self.mask.is_some_and(|mask| rule.check(&mask, self.rows, self.cols).is_ok())
    }

    /// Returns the size of every block, bytes.
    #[inline(always)]
    pub(super) fn sizes(&self) -> Vec<usize> {
        let blocks = 0..self.rows.div_ceil(BLOCK_ROWS);
        match &self.mask {
            Some(mask) if self.is_sparse => blocks.map(|block| self.sparse_block_size(mask, block)).collect(),
            _ => vec![self.format.groups(self.cols) * self.format.dense_group(); blocks.len()],
        }
    }

    #[inline(always)]
    fn sparse_block_size(&self, mask: &Mask<'_>, block: usize) -> usize {
        let format = self.format;
        let kept = || self.rows_of(block).map(|row| mask.kept(row)).sum::<usize>();
        let values = match format.precision() {
            Precision::Bf16 => 2 * kept(),
            Precision::Int8 => kept(),
            Precision::Int4 => {
                (0..format.groups(self.cols)).map(|index| self.int4_values(mask, block, index)).sum()
            }
        };
        format.groups(self.cols) * format.sparse_header() + values
    }

    /// Returns the bytes of the values of a sparse group of int4: as many as the tile that keeps more.
    #[inline(always)]
    fn int4_values(&self, mask: &Mask<'_>, block: usize, index: usize) -> usize {
        let mut kept = [0; BLOCK_ROWS / TILE_ROWS];
        for (place, row) in self.rows_of(block).enumerate() {
            kept[place / TILE_ROWS] += mask.word(row, index, self.format.group()).count_ones() as usize;
        }
        kept[0].max(kept[1])
    }

    /// Quantises one group, of `N` columns, of every row of a block, whose weights are `weights`. Rows that do not exist
    /// stay empty. Returns the number of kept weights. `copies` has room for the rows.
    #[inline(always)]
    fn read_group<P: Packing, const N: usize>(
        &self,
        (block, weights): (usize, &[f32]),
        index: usize,
        copies: &mut [[f32; N]; BLOCK_ROWS],
        group: &mut Group,
    ) -> Result<u64, PackError> {
        let first_col = index * N;
        let cols = N.min(self.cols - first_col);
        let error_at = |weight: Unrepresentable| PackError::Weight {
            row: block * BLOCK_ROWS + weight.row,
            col: first_col + weight.column,
            value: weights[weight.row * self.cols + first_col + weight.column],
            precision: self.format.precision(),
        };
        let (codes, masks) = group.rows_mut();
        let mut kept = 0;
        let mut largest = [0; N];
        let rows = weights.chunks_exact(self.cols).enumerate();
        for (row, weights) in rows.clone() {
            let (weights, rest) = weights[first_col..].split_at(cols);
            P::prefetch(&rest[..rest.len().min(N)]);
            let mut padded = [0f32; N];
            // A whole group has a length that the compiler knows and is not copied.
            let whole = weights.try_into().unwrap_or_else(|_| {
                padded[..cols].copy_from_slice(weights);
                &padded
            });
            for (largest, value) in largest.iter_mut().zip(whole) {
                *largest = magnitude(value).max(*largest);
            }
            if let Some(mask) = &self.mask {
                masks[row] = mask.word(block * BLOCK_ROWS + row, index, N);
                P::keep(whole, masks[row], &mut copies[row]);
                kept += u64::from(masks[row].count_ones());
            } else {
                if cols < N {
                    copies[row] = padded;
                }
                kept += cols as u64;
            }
        }
        if largest.iter().fold(0, |all, largest| all.max(*largest)) >= NOT_FINITE {
            let wrong = |weights: &[f32]| weights.iter().position(|value| magnitude(value) >= NOT_FINITE);
            let places =
                rows.clone().filter_map(|(row, weights)| Some((row, wrong(&weights[first_col..][..cols])?)));
            let first = places.map(|(row, column)| Unrepresentable { row, column }).next();
            return Err(error_at(first.unwrap_or(Unrepresentable { row: 0, column: 0 })));
        }
        let is_copied = self.mask.is_some() || cols < N;
        let pruned = match self.mask {
            None => Pruned::None,
            Some(_) if self.is_sparse => Pruned::Omitted,
            Some(_) => Pruned::Coded,
        };
        let mut values = Values { rows: [None; BLOCK_ROWS], cols, pruned };
        for (row, weights) in rows {
            values.rows[row] =
                if is_copied { Some(&copies[row]) } else { weights[first_col..].first_chunk() };
        }
        quantise(self.format.precision(), &values, codes).map_err(error_at)?;
        Ok(kept)
    }

    fn rows_of(&self, block: usize) -> Range<usize> {
        let start = block * BLOCK_ROWS;
        start..(start + BLOCK_ROWS).min(self.rows)
    }
}

impl Fill<'_> {
    /// Writes the blocks. Returns the number of weights that were kept.
    #[inline(always)]
    pub(super) fn run<P: Packing>(self) -> Result<u64, PackError> {
        match self.source.format.group() {
            32 => self.run_groups::<P, 32>(),
            _ => self.run_groups::<P, MAX_GROUP>(),
        }
    }

    /// As [`Fill::run`], for groups of `N` columns.
    #[inline(always)]
    fn run_groups<P: Packing, const N: usize>(self) -> Result<u64, PackError> {
        let Fill { source, weights, offsets, buffer, pause } = self;
        let mut copies = [[0.0; N]; BLOCK_ROWS];
        let mut kept = 0;
        for (block, bounds) in offsets.windows(2).enumerate() {
            let values = weights.next(source.rows_of(block), source.cols);
            let mut out = &mut buffer[bounds[0]..bounds[1]];
            // A new group, because the last block may have fewer rows.
            let mut group = Group::new();
            for index in 0..source.format.groups(source.cols) {
                kept += source.read_group::<P, N>((block, values), index, &mut copies, &mut group)?;
                let written = if source.is_sparse {
                    group.write_sparse::<P>(source.format, out)
                } else {
                    group.write_dense::<P>(source.format, out)
                };
                out = &mut out[written..];
            }
            pause();
        }
        Ok(kept)
    }
}

/// The [`magnitude`] of infinity; those of NaN are larger.
const NOT_FINITE: u32 = 0x7f80_0000;

/// The bits of a value without its sign, which have the order of the magnitudes.
#[inline(always)]
fn magnitude(value: &f32) -> u32 {
    value.to_bits() & !(1 << 31)
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Shape { rows, cols, weights } => write!(
                f,
                "a matrix of {rows} rows and {cols} columns needs as many weights as rows times columns and at least one; there are {weights}"
            ),
            PackError::Mask(error) => error.fmt(f),
            PackError::Memory(why) => write!(f, "the machine has no memory for it ({why})"),
            PackError::Weight { row, col, value, precision } => write!(
                f,
                "the weight in row {row}, column {col} is {value}, which {} cannot hold; the source is broken or needs another precision",
                precision.name()
            ),
        }
    }
}

impl std::error::Error for PackError {}
