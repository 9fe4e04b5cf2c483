//! The layout of packed matrices in memory, and packing.
//!
//! Rows are divided into blocks of [`BLOCK_ROWS`], a block into two tiles of [`TILE_ROWS`], and columns into
//! groups of 64 (or 32). The unit is a vector of 64 bytes: the 16 rows of a tile times one *step* of 2
//! columns (bf16) or 4 (int8, int4), a row's columns side by side. A kernel keeps one row in each lane and
//! broadcasts the step's activations, so it never sums across lanes. A block is one stream, group after
//! group, so that a kernel reads memory in order:
//!
//! | part of a group | bytes | in |
//! | --- | --- | --- |
//! | scales, f16, one for each row | 64 | int8; int4, dense |
//! | minimums, f16, one for each row | 64 | int4, dense |
//! | scales and zero points, 16 bits for each row | 64 | int4, sparse |
//! | masks, one bit for each weight, in the order of the vectors | 4 × columns | sparse |
//! | values, step by step, first tile and second tile in turn | values that are stored | all |
//!
//! int8 codes are `weight / scale + 128`. int4 codes are nibbles: the low nibbles belong to the first tile,
//! the high ones to the second.
//!
//! A weight of dense int4 is `scale · code + minimum`. Where weights are pruned, one of the codes is exactly 0: the
//! minimum is minus that code times the scale.
//!
//! A weight of sparse int4 is `scale · (code − zero_point / 4)`. Its scale is an f16 without its sign and its lowest five
//! bits, in the upper ten of 16 bits; the zero point has the other six. So 0 need not be a code: no pruned weight is stored.
//! A group has as many bytes of values as the tile that keeps more of its weights; the nibbles behind the other tile's last
//! are 0.
//!
//! An expanded group of bf16 or int8 is a dense one. One of int4 has for each row an f32 that is a quarter of the scale and one
//! that is minus the zero point times that; and a byte for each weight, in the order of int8: `4 · code`, or the zero point where
//! the weight is pruned.

mod arena;
mod expand;
mod format;
mod group;
mod kept;
mod mask;
mod matrix;
mod pack;
pub(crate) mod packing;
mod quantise;
mod quantised_group;
mod rows;
mod unpack;
mod zero_points;

pub use arena::{Arena, Spare};
pub(crate) use expand::{expand_bf16, expand_int4, expand_int8};
pub(crate) use format::EXPANDED_INT4_HEADER;
pub use format::{Format, FormatError, Precision};
pub use kept::{Counted, KeptError, KeptRule};
pub use mask::{Mask, MaskError};
pub use matrix::Matrix;
pub use pack::{Form, PackError, pack, pack_rows, pack_rows_as};
pub(crate) use packing::PackingFns;
pub(crate) use quantise::read_scale_and_zero_point;
pub use quantised_group::{PackedInt4Group, QuantisedGroup, quantise_group, quantise_packed_int4};
pub use rows::{KeptRows, RowSource};

/// Rows of a block: two tiles.
pub const BLOCK_ROWS: usize = 32;
/// Rows of a tile: the 32-bit lanes of a 512-bit vector.
pub const TILE_ROWS: usize = 16;
/// Bytes of a vector.
pub const VECTOR_BYTES: usize = 64;
/// Columns of the longest group.
pub const MAX_GROUP: usize = 64;
