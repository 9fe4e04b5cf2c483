use super::quantise::{Codes, Row, Unfit, quantise};
use super::{BLOCK_ROWS, Format, LONGEST_GROUP, Mask, MaskError, Matrix, Precision, TILE_ROWS, VECTOR_BYTES};
use std::fmt;
use std::thread;

const TILES: usize = BLOCK_ROWS / TILE_ROWS;

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
/// The blocks are shared between `threads` threads; the bytes do not depend on their number. A
/// weight that is not finite is refused even where it is pruned, for it says that the source is
/// broken.
pub fn pack(
    dense: &[f32],
    rows: usize,
    cols: usize,
    mask: Option<&[u8]>,
    format: Format,
    threads: usize,
) -> Result<Matrix, PackError> {
    let shape = PackError::Shape { rows, cols, weights: dense.len() };
    if dense.is_empty() || rows.checked_mul(cols) != Some(dense.len()) {
        return Err(shape);
    }
    let mask = mask.map(|bytes| Mask::new(bytes, rows, cols)).transpose().map_err(PackError::Mask)?;
    let source = Source { dense, rows, cols, mask, format };
    let threads = threads.clamp(1, rows.div_ceil(BLOCK_ROWS));
    let sizes = source.sizes(threads);
    let mut matrix = Matrix::with_blocks(rows, cols, format, mask.is_some(), &sizes);
    let (offsets, buffer, kept) = matrix.parts_mut();
    *kept = source.fill(offsets, buffer, threads)?;
    Ok(matrix)
}

struct Source<'a> {
    dense: &'a [f32],
    rows: usize,
    cols: usize,
    mask: Option<Mask<'a>>,
    format: Format,
}

impl Source<'_> {
    /// Bytes of every block.
    fn sizes(&self, threads: usize) -> Vec<usize> {
        let groups = self.format.groups(self.cols);
        let mut sizes = vec![groups * self.format.dense_group(); self.rows.div_ceil(BLOCK_ROWS)];
        if let Some(mask) = &self.mask {
            let share = sizes.len().div_ceil(threads);
            thread::scope(|scope| {
                for (part, sizes) in sizes.chunks_mut(share).enumerate() {
                    scope.spawn(move || {
                        for (index, size) in sizes.iter_mut().enumerate() {
                            *size = self.sparse_block_size(mask, part * share + index);
                        }
                    });
                }
            });
        }
        sizes
    }

    fn sparse_block_size(&self, mask: &Mask<'_>, block: usize) -> usize {
        let format = self.format;
        let mut size = 0;
        for group in 0..format.groups(self.cols) {
            let mut kept = [0; TILES];
            for row in self.rows_of(block) {
                let word = mask.word(row, group, format.group());
                kept[row % BLOCK_ROWS / TILE_ROWS] += word.count_ones() as usize;
            }
            size += format.sparse_header()
                + match format.precision() {
                    Precision::Bf16 => 2 * (kept[0] + kept[1]),
                    Precision::Int8 => kept[0] + kept[1],
                    Precision::Int4 => kept[0].max(kept[1]),
                };
        }
        size
    }

    /// Writes every block and returns how many weights were kept.
    fn fill(&self, offsets: &[usize], buffer: &mut [u8], threads: usize) -> Result<u64, PackError> {
        let blocks = offsets.len() - 1;
        let share = blocks.div_ceil(threads);
        let mut rest = &mut buffer[offsets[0]..];
        thread::scope(|scope| {
            let mut parts = Vec::new();
            for start in (0..blocks).step_by(share) {
                let end = (start + share).min(blocks);
                let (own, behind) = rest.split_at_mut(offsets[end] - offsets[start]);
                rest = behind;
                parts.push(scope.spawn(move || {
                    let mut out = own;
                    let mut kept = 0;
                    for block in start..end {
                        let (own, behind) = out.split_at_mut(offsets[block + 1] - offsets[block]);
                        kept += self.fill_block(block, own)?;
                        out = behind;
                    }
                    Ok(kept)
                }));
            }
            // The first failure in the order of the rows, whichever thread came upon its own first.
            parts
                .into_iter()
                .map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .sum()
        })
    }

    fn fill_block(&self, block: usize, mut out: &mut [u8]) -> Result<u64, PackError> {
        let mut group = GroupCodes::new();
        let mut kept = 0;
        for index in 0..self.format.groups(self.cols) {
            kept += self.read_group(block, index, &mut group)?;
            let written = match self.mask {
                Some(_) => group.write_sparse(self.format, out),
                None => group.write_dense(self.format, out),
            };
            out = &mut out[written..];
        }
        Ok(kept)
    }

    /// Quantises one group of every row of a block; rows that do not exist are empty.
    fn read_group(&self, block: usize, index: usize, group: &mut GroupCodes) -> Result<u64, PackError> {
        let first_col = index * self.format.group();
        let cols = self.format.group().min(self.cols - first_col);
        let mut kept = 0;
        for row in self.rows_of(block) {
            let at = row * self.cols + first_col;
            let source = &self.dense[at..at + cols];
            let mut values = [0f32; LONGEST_GROUP];
            values[..cols].copy_from_slice(source);
            let lane = row % BLOCK_ROWS;
            if let Some(mask) = &self.mask {
                let word = mask.word(row, index, self.format.group());
                check_finite(&values).map_err(|unfit| self.refuse(row, first_col, &unfit))?;
                clear_pruned(&mut values, word);
                group.masks[lane] = word;
                kept += u64::from(word.count_ones());
            } else {
                kept += cols as u64;
            }
            let values = Row { values: &values, cols, sparse: self.mask.is_some() };
            quantise(self.format.precision(), &values, &mut group.rows[lane])
                .map_err(|unfit| self.refuse(row, first_col, &unfit))?;
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

    fn rows_of(&self, block: usize) -> std::ops::Range<usize> {
        let start = block * BLOCK_ROWS;
        start..(start + BLOCK_ROWS).min(self.rows)
    }
}

/// The codes and masks of one group of a block.
struct GroupCodes {
    rows: [Codes; BLOCK_ROWS],
    masks: [u64; BLOCK_ROWS],
}

impl GroupCodes {
    fn new() -> GroupCodes {
        GroupCodes { rows: [const { Codes::EMPTY }; BLOCK_ROWS], masks: [0; BLOCK_ROWS] }
    }

    fn write_scales(&self, out: &mut [u8]) {
        for (row, scale) in self.rows.iter().zip(out.chunks_exact_mut(2)) {
            scale.copy_from_slice(&row.scale.to_le_bytes());
        }
    }

    fn write_dense(&self, format: Format, out: &mut [u8]) -> usize {
        let (header, vectors) = out.split_at_mut(format.dense_header());
        let step = format.step();
        let vectors = &mut vectors[..format.dense_group() - header.len()];
        match format.precision() {
            Precision::Bf16 => {
                for (index, vector) in vectors.chunks_exact_mut(VECTOR_BYTES).enumerate() {
                    for (place, value) in vector.chunks_exact_mut(2).enumerate() {
                        let row = index % TILES * TILE_ROWS + place / step;
                        let code = self.rows[row].codes[index / TILES * step + place % step];
                        value.copy_from_slice(&code.to_le_bytes());
                    }
                }
            }
            Precision::Int8 => {
                self.write_scales(header);
                for (index, vector) in vectors.chunks_exact_mut(VECTOR_BYTES).enumerate() {
                    for (place, code) in vector.iter_mut().enumerate() {
                        let row = index % TILES * TILE_ROWS + place / step;
                        *code = self.rows[row].codes[index / TILES * step + place % step] as u8;
                    }
                }
            }
            Precision::Int4 => {
                let (scales, minimums) = header.split_at_mut(2 * BLOCK_ROWS);
                self.write_scales(scales);
                for (row, minimum) in self.rows.iter().zip(minimums.chunks_exact_mut(2)) {
                    minimum.copy_from_slice(&row.minimum.to_le_bytes());
                }
                for (index, vector) in vectors.chunks_exact_mut(VECTOR_BYTES).enumerate() {
                    for (place, codes) in vector.iter_mut().enumerate() {
                        let (row, col) = (place / step, index * step + place % step);
                        let high = self.rows[row + TILE_ROWS].codes[col];
                        *codes = (self.rows[row].codes[col] | high << 4) as u8;
                    }
                }
            }
        }
        format.dense_group()
    }

    fn write_sparse(&self, format: Format, out: &mut [u8]) -> usize {
        self.write_sparse_header(format, out);
        let header = format.sparse_header();
        let values = &mut out[header..];
        let step = format.step();
        // A value is written whether it is kept or not, and one that is not is written over: no
        // branch to predict. The last of a block would have no room behind it, hence the scratch.
        let mut scratch = [0u16; BLOCK_ROWS * LONGEST_GROUP];
        match format.precision() {
            Precision::Bf16 | Precision::Int8 => {
                let mut kept = 0;
                for index in 0..format.steps() * TILES {
                    let first_row = index % TILES * TILE_ROWS;
                    self.append(first_row, index / TILES * step, step, &mut scratch, &mut kept);
                }
                if format.precision() == Precision::Bf16 {
                    for (value, code) in values.chunks_exact_mut(2).zip(&scratch[..kept]) {
                        value.copy_from_slice(&code.to_le_bytes());
                    }
                    return header + 2 * kept;
                }
                for (value, code) in values.iter_mut().zip(&scratch[..kept]) {
                    *value = *code as u8;
                }
                header + kept
            }
            Precision::Int4 => {
                let (low, high) = scratch.split_at_mut(TILE_ROWS * LONGEST_GROUP);
                let mut kept = [0; TILES];
                for index in 0..format.steps() {
                    self.append(0, index * step, step, low, &mut kept[0]);
                    self.append(TILE_ROWS, index * step, step, high, &mut kept[1]);
                }
                low[kept[0]..].fill(0);
                high[kept[1]..].fill(0);
                let length = kept[0].max(kept[1]);
                for (value, (low, high)) in values[..length].iter_mut().zip(low.iter().zip(high.iter())) {
                    *value = (low | high << 4) as u8;
                }
                header + length
            }
        }
    }

    fn write_sparse_header(&self, format: Format, out: &mut [u8]) {
        let (scales, masks) = out.split_at_mut(format.sparse_scales());
        let step = format.step();
        if format.precision() != Precision::Bf16 {
            self.write_scales(scales);
        }
        if format.precision() == Precision::Int4 {
            for (row, zero) in self.rows.iter().zip(&mut scales[2 * BLOCK_ROWS..]) {
                *zero = row.zero;
            }
        }
        let bytes = TILE_ROWS * step / 8;
        let ones = (1u64 << step) - 1;
        for index in 0..format.steps() * TILES {
            let rows = &self.masks[index % TILES * TILE_ROWS..][..TILE_ROWS];
            let mut mask = 0;
            for (lane, word) in rows.iter().enumerate() {
                mask |= (word >> (index / TILES * step) & ones) << (lane * step);
            }
            masks[index * bytes..][..bytes].copy_from_slice(&mask.to_le_bytes()[..bytes]);
        }
    }

    /// Appends what one vector keeps: `step` columns from `col` on of a tile's rows.
    #[inline(always)]
    fn append(&self, first_row: usize, col: usize, step: usize, out: &mut [u16], kept: &mut usize) {
        for row in first_row..first_row + TILE_ROWS {
            let bits = self.masks[row] >> col;
            for place in 0..step {
                out[*kept] = self.rows[row].codes[col + place];
                *kept += (bits >> place & 1) as usize;
            }
        }
    }
}

/// Sets the weights to 0 whose bit is 0.
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
