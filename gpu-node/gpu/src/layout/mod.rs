//! The layout of matrices on a device, and packing. WGSL and CUDA kernels read the same layout.
//!
//! Rows are divided into blocks of [`BLOCK_ROWS`], columns into groups of 64 (int4: 32); rows and columns that do not
//! exist are padded. A lane of a kernel is a row of a block. All words have 32 bits, and all arrays run block after
//! block, group after group:
//!
//! | form | array | of a group |
//! |---|---|---|
//! | sparse | masks | a word for each column; bit r is 1 where the weight of row r is kept |
//! | | starts | a word: the index among `values` of the first value of the group |
//! | | values | bf16, two in a word: the kept weights, column after column, within a column row after row |
//! | bf16 | words | for each pair of columns a word for each row |
//! | int8 | scales | f16, two in a word, one for each row |
//! | | words | for each four columns a word for each row: signed codes; a weight is `scale · code` |
//! | int4 | scales | a word for each row: scale and minimum, f16 |
//! | | words | for each eight columns a word for each row: a weight is `scale · code + minimum` |
//!
//! int8 and int4 are stored dense even where weights are pruned; a pruned weight is exactly 0. Scales, minimums and
//! codes are those of the native engine in dense form.

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
    /// All weights in bf16.
    Bf16,
    /// All weights in signed 8 bits, with scales.
    Int8,
    /// All weights in 4 bits, with scales and minimums.
    Int4,
}

impl Form {
    /// Every form.
    pub const ALL: [Form; 4] = [Form::Sparse, Form::Bf16, Form::Int8, Form::Int4];

    /// Columns of a group.
    pub fn group(self) -> usize {
        if self == Form::Int4 { 32 } else { 64 }
    }

    /// The arrays of the form.
    pub(crate) fn buffers(self) -> usize {
        match self {
            Form::Sparse => 3,
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
                Form::Int4 => 4,
            }
    }
}
