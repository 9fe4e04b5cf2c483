//! Masks of kept weights, as mask files store them.

use std::fmt;

/// The weights of a matrix that are kept: `[rows, ceil(cols / 8)]` bytes. Bit `j % 8` of byte `j / 8` of a
/// row (least significant first) is 1 where weight `j` is kept. Mask files have the same layout.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    bytes: &'a [u8],
    stride: usize,
}

/// Why bytes are not a mask of a matrix.
#[derive(Debug, PartialEq, Eq)]
pub enum MaskError {
    /// The number of bytes does not match the shape.
    Length {
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A bit behind the last column of a row is set.
    Tail {
        /// Row, from 0.
        row: usize,
    },
}

impl<'a> Mask<'a> {
    /// Creates the mask of a matrix `[rows, cols]`. Checks the length and the bits behind the last column.
    pub fn new(bytes: &'a [u8], rows: usize, cols: usize) -> Result<Mask<'a>, MaskError> {
        let stride = cols.div_ceil(8);
        let expected = rows.saturating_mul(stride);
        if bytes.len() != expected {
            return Err(MaskError::Length { expected, found: bytes.len() });
        }
        if !cols.is_multiple_of(8) {
            let beyond = !0u8 << (cols % 8);
            if let Some(row) = (0..rows).find(|row| bytes[(row + 1) * stride - 1] & beyond != 0) {
                return Err(MaskError::Tail { row });
            }
        }
        Ok(Mask { bytes, stride })
    }

    /// Counts the kept weights of `row`.
    #[inline(always)]
    pub(super) fn kept(&self, row: usize) -> usize {
        let bytes = &self.bytes[row * self.stride..][..self.stride];
        let (words, rest) = bytes.as_chunks::<8>();
        let in_words = words.iter().map(|word| u64::from_le_bytes(*word).count_ones()).sum::<u32>();
        (in_words + rest.iter().map(|byte| byte.count_ones()).sum::<u32>()) as usize
    }

    /// Counts the kept weights before `row` and `col`, in row-major order.
    pub(crate) fn kept_before(&self, row: usize, col: usize) -> usize {
        let rows_before = (0..row).map(|row| self.kept(row)).sum::<usize>();
        rows_before + (0..col).filter(|&col| self.keeps(row, col)).count()
    }

    /// Returns whether the weight in `row` and `col` is kept.
    pub(super) fn keeps(&self, row: usize, col: usize) -> bool {
        self.bytes[row * self.stride + col / 8] >> (col % 8) & 1 == 1
    }

    /// Returns the bits of `group` columns (32 or 64) of `row`, from column `group · index` on. Bits behind
    /// the last column are 0.
    #[inline(always)]
    pub(crate) fn word(&self, row: usize, index: usize, group: usize) -> u64 {
        let start = row * self.stride + index * group / 8;
        let end = (start + group / 8).min((row + 1) * self.stride);
        let bytes = &self.bytes[start..end];
        // Whole groups have lengths that the compiler knows.
        if let Ok(whole) = <[u8; 8]>::try_from(bytes) {
            return u64::from_le_bytes(whole);
        }
        if let Ok(half) = <[u8; 4]>::try_from(bytes) {
            return u64::from(u32::from_le_bytes(half));
        }
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    }
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaskError::Length { expected, found } => {
                write!(
                    f,
                    "the mask has {found} bytes; this shape needs {expected}: one bit a weight, whole bytes a row"
                )
            }
            MaskError::Tail { row } => write!(
                f,
                "row {row} of the mask keeps a weight behind its last column; the bits of a row's last byte that belong to no column must be 0"
            ),
        }
    }
}

impl std::error::Error for MaskError {}
