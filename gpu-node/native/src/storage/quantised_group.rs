//! Quantisation of groups for other layouts than that of [`pack`](super::pack), such as that of GPUs.

use super::group::Group;
use super::quantise::{Codes, Pruned, Unrepresentable, Values, quantise};
use super::{BLOCK_ROWS, Format, MAX_GROUP, Precision};
use half::f16;

/// A group of one block in codes, for layouts other than that of [`pack`](super::pack).
pub struct QuantisedGroup {
    /// The scale of each row.
    pub scales: [f16; BLOCK_ROWS],
    /// The minimum of each row; 0 with int8.
    pub minimums: [f16; BLOCK_ROWS],
    /// The codes of each row. int8: `weight / scale + 128`; int4: `(weight − minimum) / scale`.
    pub codes: [[u8; MAX_GROUP]; BLOCK_ROWS],
}

/// A group of one block in codes of packed int4, for layouts other than that of [`pack`](super::pack).
pub struct PackedInt4Group {
    /// The scale and the zero point of each row, in 16 bits as [`pack`](super::pack) stores them.
    pub scales: [u16; BLOCK_ROWS],
    /// The codes of each row: `weight / scale + zero point`. Those of pruned weights have no meaning.
    pub codes: [[u8; MAX_GROUP]; BLOCK_ROWS],
}

/// Quantises a group of `N` columns to int8 or int4 as [`pack`](super::pack) does in dense form. Pruned weights are 0, and so are the
/// rows and columns that do not exist; `cols` columns do. With `pruned`, 0 is a code.
///
/// An error is the row and the column of a weight that the precision cannot represent.
pub fn quantise_group<const N: usize>(
    precision: Precision,
    rows: [&[f32; N]; BLOCK_ROWS],
    cols: usize,
    pruned: bool,
) -> Result<QuantisedGroup, (usize, usize)> {
    assert!(precision != Precision::Bf16, "bf16 has no scales");
    let pruned = if pruned { Pruned::Coded } else { Pruned::None };
    let mut codes = [Codes::EMPTY; BLOCK_ROWS];
    quantise_rows(precision, rows, cols, pruned, &mut codes)?;
    Ok(QuantisedGroup {
        scales: codes.each_ref().map(|codes| codes.scale),
        minimums: codes.each_ref().map(|codes| codes.minimum),
        codes: codes.each_ref().map(bytes_of),
    })
}

/// Quantises a group of `N` columns to int4 as [`pack`](super::pack) does in packed form. Arguments and errors are those of
/// [`quantise_group`].
pub fn quantise_packed_int4<const N: usize>(
    rows: [&[f32; N]; BLOCK_ROWS],
    cols: usize,
) -> Result<PackedInt4Group, (usize, usize)> {
    let mut group = Group::new();
    let (codes, _) = group.rows_mut();
    quantise_rows(Precision::Int4, rows, cols, Pruned::Omitted, codes)?;
    Ok(group.packed_int4(Format::new(Precision::Int4, N).expect("other groups are not quantised")))
}

fn quantise_rows<const N: usize>(
    precision: Precision,
    rows: [&[f32; N]; BLOCK_ROWS],
    cols: usize,
    pruned: Pruned,
    out: &mut [Codes; BLOCK_ROWS],
) -> Result<(), (usize, usize)> {
    quantise(precision, &Values { rows: rows.map(Some), cols, pruned }, out)
        .map_err(|Unrepresentable { row, column }| (row, column))
}

/// The codes of one byte of a row.
fn bytes_of(codes: &Codes) -> [u8; MAX_GROUP] {
    let mut bytes = [0; MAX_GROUP];
    for (out, word) in bytes.as_chunks_mut().0.iter_mut().zip(codes.words) {
        *out = word.to_le_bytes();
    }
    bytes
}
