//! The layout of matrices on a device, and packing. WGSL and CUDA kernels read the same layout.
//!
//! Rows are divided into blocks of [`BLOCK_ROWS`], columns into groups of 64 (both of int4: 32); rows and columns that do not
//! exist are padded. A lane of a kernel is a row of a block. All words have 32 bits, and all arrays run block after
//! block, group after group:
//!
//! | form | array | of a group |
//! |---|---|---|
//! | sparse | masks | a word for each column; bit r is 1 where the weight of row r is kept |
//! | | starts | a word: the index among `values` of the first value of the group |
//! | | values | bf16, two in a word: the kept weights, column after column, within a column row after row |
//! | sparse int4 | scales | two in a word, one for each row: 16 bits of a scale and a zero point |
//! | | masks | a word for each row; bit c is 1 where the weight of column c is kept |
//! | | starts | a word: the index among `values` of the first word of the group; a word with ten bits each: the number of kept weights before row 8, row 16 and row 24 |
//! | | values | codes of 4 bits, eight in a word: those of the kept weights, row after row, within a row column after column; the last word of a group is filled up with 0 |
//! | bf16 | words | for each pair of columns a word for each row |
//! | int8 | scales | f16, two in a word, one for each row |
//! | | words | for each four columns a word for each row: signed codes; a weight is `scale · code` |
//! | int4 | scales | a word for each row: scale and minimum, f16 |
//! | | words | for each eight columns a word for each row: a weight is `scale · code + minimum` |
//!
//! A weight of sparse int4 is `scale · (code − zero point / 4)`. Its scale is an f16 without its sign and its lowest five bits, in the
//! upper ten of the 16 bits; the zero point has the lower six. Scales, zero points and codes are those of the native engine in packed
//! form; those of int8 and int4 are those in dense form. int8 is stored dense even where weights are pruned; a pruned weight is exactly
//! 0.

mod block;
mod pack;

pub use pack::{Packed, pack};

/// Rows of a block: the bits of a mask.
pub const BLOCK_ROWS: usize = 32;

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Masks and the kept weights in bf16.
    Sparse,
    /// Masks and the kept weights in 4 bits, with scales and zero points.
    SparseInt4,
    /// All weights in bf16.
    Bf16,
    /// All weights in signed 8 bits, with scales.
    Int8,
    /// All weights in 4 bits, with scales and minimums.
    Int4,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 5] = [Form::Sparse, Form::SparseInt4, Form::Bf16, Form::Int8, Form::Int4];

    /// Columns of a group.
    pub fn group(self) -> usize {
        if matches!(self, Form::SparseInt4 | Form::Int4) { 32 } else { 64 }
    }

    /// The arrays of the form.
    pub(crate) fn buffers(self) -> usize {
        match self {
            Form::Sparse => 3,
            Form::SparseInt4 => 4,
            Form::Bf16 => 1,
            Form::Int8 | Form::Int4 => 2,
        }
    }

    /// Words of a group of a block in the largest array, at most.
    fn max_group_words(self) -> usize {
        BLOCK_ROWS
            * match self {
                Form::Sparse | Form::Bf16 => 32,
                Form::Int8 => 16,
                Form::SparseInt4 | Form::Int4 => 4,
            }
    }
}
